"""A student's file says how it is sampled: what is written is read back."""

import pytest
import torch
from understudy.files import CheckpointError, save_tensors
from understudy.files.student_file import StudentFile

FLOW = StudentFile("lcm", "Flux", "a.safetensors", "0" * 64, "flow", "lora", 3, 1.0, "lcm", "simple", shift=3.16)
LEVELS = tuple(3.16 * u / (1 + 2.16 * u) for u in torch.tensor([1.0, 2 / 3, 1 / 3, 0.0]).tolist())


def written(path, student, **changes):
    save_tensors({"x": torch.zeros(1)}, path, student.metadata() | changes)
    return path


def test_a_flow_s_noise_levels_are_read_to_the_last_bit(tmp_path):
    student = StudentFile(**{**vars(FLOW), "sigmas": LEVELS})
    read = StudentFile.read(written(tmp_path / "a.safetensors", student))
    assert read.shift == 3.16 and torch.equal(torch.tensor(read.sigmas), torch.tensor(LEVELS))
    assert read.metadata()["sigmas"].startswith("1, 0.863")


def test_a_file_without_them_has_none(tmp_path):
    assert StudentFile.read(written(tmp_path / "a.safetensors", FLOW)).sigmas is None


@pytest.mark.parametrize("levels", ["", "1, high, 0"])
def test_noise_levels_that_are_no_numbers_are_refused(tmp_path, levels):
    path = written(tmp_path / "a.safetensors", FLOW, sigmas=levels)
    with pytest.raises(CheckpointError, match="a.safetensors: its metadata cannot be read"):
        StudentFile.read(path)

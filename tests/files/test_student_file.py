"""A student's file says how it is sampled: what is written is read back."""

import pytest
import torch
from understudy.files import CheckpointError, save_tensors
from understudy.files.student_file import StudentFile

FLOW = StudentFile("lcm", "Flux", "a.safetensors", "0" * 64, "flow", "lora", 3, 1.0, "lcm", "simple", shift=3.16)
LEVELS = tuple(3.16 * u / (1 + 2.16 * u) for u in torch.tensor([1.0, 2 / 3, 1 / 3, 0.0]).tolist())


def written(path, student, **changes):
    said = student.metadata() | changes
    save_tensors({"x": torch.zeros(1)}, path, {key: text for key, text in said.items() if text is not None})
    return path


def test_a_flow_s_noise_levels_are_read_to_the_last_bit(tmp_path):
    student = StudentFile(**{**vars(FLOW), "sigmas": LEVELS})
    read = StudentFile.read(written(tmp_path / "a.safetensors", student))
    assert read.shift == 3.16 and torch.equal(torch.tensor(read.sigmas), torch.tensor(LEVELS))
    assert read.metadata()["sigmas"].startswith("1, 0.863")


def test_a_shift_by_size_is_read_back(tmp_path):
    sized = StudentFile(**vars(FLOW) | {"mu_low": 0.5, "mu_high": 1.15})
    read = StudentFile.read(written(tmp_path / "a.safetensors", sized))
    assert (read.mu_low, read.mu_high) == (0.5, 1.15)
    assert StudentFile.read(written(tmp_path / "b.safetensors", FLOW)).mu_low is None


def test_a_file_without_them_has_none(tmp_path):
    assert StudentFile.read(written(tmp_path / "a.safetensors", FLOW)).sigmas is None


@pytest.mark.parametrize("levels", ["", "1, high, 0"])
def test_noise_levels_that_are_no_numbers_are_refused(tmp_path, levels):
    path = written(tmp_path / "a.safetensors", FLOW, sigmas=levels)
    with pytest.raises(CheckpointError, match="a.safetensors: its metadata cannot be read"):
        StudentFile.read(path)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"steps": "0"}, "steps is 0, expected at least 1"),
        ({"steps": "-2"}, "steps is -2, expected at least 1"),
        ({"intervals": "0"}, "intervals is 0, expected at least 1"),
        ({"guidance": "nan"}, "guidance is nan, expected a number"),
        ({"guidance": "-1"}, "guidance is -1, expected at least 0"),
        ({"timestep_scaling": "inf"}, "timestep_scaling is inf, expected a number"),
        ({"sigmas": "1, 0.5, 0"}, "sigmas are 1, 0.5, 0, expected 4 numbers that fall to 0 for 3 steps"),
        ({"sigmas": "1, 0.5, 0.25, 0.1"}, "sigmas are 1, 0.5, 0.25, 0.1, expected 4"),
        ({"sigmas": "0.1, 0.5, 1, 0"}, "expected 4 numbers that fall to 0"),
        ({"sigmas": "1, nan, 0.25, 0"}, "expected 4 numbers that fall to 0"),
        ({"sigmas": "inf, 0.5, 0.25, 0"}, "sigmas are inf, 0.5, 0.25, 0, expected 4 numbers that fall to 0"),
        ({"shift": "0"}, "shift is 0, expected more than 0"),
        ({"shift": "-3"}, "shift is -3, expected more than 0"),
        ({"mu_low": "0.5"}, "it has mu_low and shift without mu_high, expected all of mu_low, mu_high, shift"),
        ({"mu_low": "0.5", "mu_high": "1.15", "shift": None}, "it has mu_low and mu_high without shift, expected all"),
        ({"mu_high": "1.15"}, "it has mu_high and shift without mu_low, expected all of mu_low, mu_high, shift"),
    ],
)
def test_what_no_student_can_be_is_refused(tmp_path, changes, says):
    path = written(tmp_path / "a.safetensors", FLOW, **changes)
    with pytest.raises(CheckpointError) as error:
        StudentFile.read(path)
    assert str(error.value).startswith(f"{path}: its metadata cannot be right: "), error.value
    assert says in str(error.value) and "export the student again" in str(error.value)


def test_an_embedded_guidance_and_keys_of_others_are_taken(tmp_path):
    path = written(tmp_path / "a.safetensors", FLOW, guidance="embedded", ss_network_dim="8", understudy_newer="1")
    assert StudentFile.read(path) == StudentFile(**{**vars(FLOW), "guidance": "embedded"})

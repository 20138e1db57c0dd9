"""A student's own file as Student sampler takes it: which of its noise levels are run, at a ``denoise`` below 1 too."""

import math

import pytest
import torch
from understudy.files import save_tensors
from understudy.files.student_file import StudentFile
from understudy.nodes.presets import row_of_file
from understudy.samplers.presets.settings import NATIVE, BySize, Mu

PLACES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of a flow's time, uniform as pd's
SIZED = BySize(0.5, 1.15)
SHIFTED = tuple(Mu(SIZED).sigma(u, NATIVE) for u in PLACES)


def sigmas(folder, denoise, tokens=NATIVE, **by_size):
    """What is run of a pd student of four steps."""
    student = StudentFile("pd", "Flux", "a", "0", "flow", "lora", 4, 1.0, "euler", "simple", sigmas=SHIFTED, **by_size)
    save_tensors({"x": torch.zeros(1)}, folder / "pd.safetensors", student.metadata())
    row, steps, cfg = row_of_file(str(folder / "pd.safetensors"), ["Flux"])
    assert (row.sampler, steps, cfg) == ("euler", 4, 1)
    return row.schedule.sigmas(None, steps, denoise, tokens)


@pytest.mark.parametrize(("denoise", "left"), [(1.0, 4), (0.75, 3), (0.5, 2), (0.3, 1)])
@pytest.mark.parametrize("tokens", [NATIVE, 1024])
def test_denoise_leaves_the_last_of_the_levels_that_the_student_learned(tmp_path, denoise, left, tokens):
    learned = torch.tensor(SHIFTED)
    torch.testing.assert_close(sigmas(tmp_path, denoise, tokens), learned[-left - 1 :])
    by_size = {"shift": math.exp(SIZED.high), "mu_low": SIZED.low, "mu_high": SIZED.high}
    here = torch.tensor([Mu(SIZED).sigma(u, tokens) for u in PLACES])
    torch.testing.assert_close(sigmas(tmp_path, denoise, tokens, **by_size), here[-left - 1 :], rtol=1e-5, atol=1e-6)


def test_a_denoise_that_leaves_no_step_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a denoise of 0.1 leaves none of the student's 4 steps: take more"):
        sigmas(tmp_path, 0.1)

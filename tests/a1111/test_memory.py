"""Twenty jobs in a row leave nothing behind: no latent, no picture, no network."""

import pytest

from . import watching
from .jobs import EVERY, small
from .test_txt2img import asked

JOBS, FEW = 20, 2
# Bytes of tensors that may be left of a job: less than the smallest that could leak, a latent of 4 x 4 x 4 numbers.
TENSORS = 4 * 4 * 4 * 4 // 2
# And of the whole process, whose heap breathes: less than a hundredth of the smallest oracle that people use.
PROCESS = 2 * 2**20
# Where a checkpoint is read twice a job, the heap breathes deeper: less than a tenth of what one network takes.
NETWORK = 50 * 2**20
# Whole-job and per-batch rules, redone and kept, and a teacher that fails.
KINDS = [
    asked(share=100.0, steps=1),
    asked(**EVERY, steps=1),
    asked(**EVERY, steps=1, keep_better=True),
    asked(**EVERY, steps=1, sampler="Broken"),
]


@pytest.fixture(scope="module")
def warm(a1111):
    run(a1111, 5)


def run(a1111, count: int, kinds=KINDS):
    """So many jobs, of these kinds by turns."""
    for place in range(count):
        small(a1111, *kinds[place % len(kinds)], batch_size=1, steps=1)


def growth(a1111, count: int = JOBS, kinds=KINDS) -> tuple[float, float]:
    """(bytes of tensors, bytes of the process) a job."""
    before = watching.held(a1111)
    run(a1111, count, kinds)
    after = watching.held(a1111)
    return (after["tensors"] - before["tensors"]) / count, (after["memory"] - before["memory"]) * 1024 / count


def test_twenty_jobs_leave_nothing_behind(a1111, warm):
    tensors, process = growth(a1111)
    assert tensors < TENSORS, tensors
    assert process < PROCESS, process


@pytest.mark.parametrize(
    ("kind", "most"),
    [({"teacher": "teacher.safetensors"}, NETWORK), ({"best_of": 2}, PROCESS), ({"sampler": "DDIM"}, PROCESS)],
    ids=["a switch", "two tries", "whole timesteps"],
)
def test_a_few_jobs_of_any_other_kind_leave_nothing_behind(a1111, warm, kind, most):
    kinds = [asked(share=100.0, steps=1, **kind)]
    run(a1111, FEW + 1, kinds)  # by then all of the host's caches of texts are full
    tensors, process = growth(a1111, FEW, kinds)
    assert tensors < TENSORS, tensors
    assert process < most, process


@pytest.mark.parametrize("leak", ["latent", "picture", "network"])
def test_a_leak_is_seen(a1111, warm, leak):
    watching.do(a1111, leak=leak)
    try:
        tensors, process = growth(a1111, 2)
    finally:
        watching.do(a1111, leak=None)
    assert tensors >= TENSORS
    assert leak != "network" or process >= PROCESS

"""Twenty jobs in a row leave nothing behind: no latent, no picture, no network."""

import pytest

from . import watching
from .test_txt2img import asked

JOBS = 20
# Bytes of tensors that may be left of a job, which is less than the smallest thing that could leak: a latent of
# 4 x 8 x 8 numbers. And of the whole process, whose heap breathes: a hundredth of a network of the size of an oracle's.
TENSORS, PROCESS = 4 * 8 * 8 * 4 // 2, 512 * 1024


@pytest.fixture(scope="module")
def warm(a1111):
    for values in jobs(8):
        a1111.make(*values)


def jobs(count: int):
    """Whole-job and per-batch rules, kept and redone, by turns."""
    kinds = [asked(), asked(rule="below score", score=100.0), asked(keep_better=True), asked(sampler="Broken")]
    return [kinds[place % len(kinds)] for place in range(count)]


def growth(a1111, count: int = JOBS) -> tuple[float, float]:
    """(bytes of tensors, bytes of the process) a job."""
    before = watching.seen(a1111)
    for values in jobs(count):
        a1111.make(*values)
    after = watching.seen(a1111)
    return (after["tensors"] - before["tensors"]) / count, (after["memory"] - before["memory"]) * 1024 / count


def test_twenty_jobs_leave_nothing_behind(a1111, warm):
    tensors, process = growth(a1111)
    assert tensors < TENSORS, tensors
    assert process < PROCESS, process


@pytest.mark.parametrize("leak", ["latent", "picture", "network"])
def test_a_leak_is_seen(a1111, warm, leak):
    watching.do(a1111, leak=leak)
    try:
        tensors, process = growth(a1111, 4)
    finally:
        watching.do(a1111, leak=None)
    assert tensors >= TENSORS
    assert leak != "network" or process >= PROCESS

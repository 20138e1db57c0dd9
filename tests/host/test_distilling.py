"""The trainer on small models of the host's families, loaded by the host itself."""

from pathlib import Path

import accelerate

from . import checkpoints
from .inside import failures

LIBRARIES = Path(accelerate.__file__).parents[1]


def run(host, script):
    checkpoint = host.models / "checkpoints" / checkpoints.CHECKPOINT
    return failures(host, script, LIBRARIES, checkpoint)


def test_small_models_of_the_host_s_families_are_distilled(host):
    failed = run(host, "inside_distilling.py")
    assert not failed, failed


def test_whole_runs_end_as_they_should(host):
    failed = run(host, "inside_distilling_runs.py")
    assert not failed, failed

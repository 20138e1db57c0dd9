"""The sampling nodes inside the host: every sampler, cut conditioning, counted evaluations, students, keep-better."""

import json
import subprocess
from pathlib import Path

import pytest

from .environment import PACK


@pytest.fixture(scope="module")
def results(host):
    """What each check of ``inside_teacher.py`` found, in the interpreter and with the code of the host."""
    script = Path(__file__).with_name("inside_teacher.py")
    done = subprocess.run(
        [str(host.python), str(script), str(host.checkout), str(PACK)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_all_checks_pass(results):
    failed = [f"{name}\n{error}" for name, error in results.items() if error is not None]
    assert len(results) > 20
    assert not failed, "\n".join(failed)

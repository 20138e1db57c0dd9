"""Checks that run in the host's own interpreter, with its code and without a server."""

import json
import subprocess
from pathlib import Path

from .environment import PACK


def failures(host, script: str, at_least: int, *more: object) -> str:
    """What failed of the checks of a script in this folder, with tracebacks; AssertionError if it has too few.

    more: arguments of the script after the host's folder and the pack's.
    """
    done = subprocess.run(
        [str(host.python), str(Path(__file__).with_name(script)), str(host.checkout), str(PACK), *map(str, more)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads(done.stdout.splitlines()[-1])
    assert len(results) >= at_least, sorted(results)
    return "\n".join(f"{name}\n{error}" for name, error in results.items() if error is not None)

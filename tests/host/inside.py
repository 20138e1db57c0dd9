"""Checks that run in the host's own interpreter, with its code and without a server."""

import json
import re
import subprocess
from pathlib import Path

from .environment import PACK


def failures(host, script: str, *more: object, count: int = 0) -> str:
    """What failed of the checks of a script in this folder, with tracebacks; AssertionError if one was not made.

    more: arguments of the script after the host's folder and the pack's. count: of the checks of a script that makes
    them of cases instead of functions.
    """
    path = Path(__file__).with_name(script)
    done = subprocess.run(
        [str(host.python), str(path), str(host.checkout), str(PACK), *map(str, more)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads(done.stdout.splitlines()[-1])
    written = set(re.findall(r"^def (check_\w+)", path.read_text(encoding="utf-8"), re.M))
    assert written or count, f"{script} has no checks"
    assert written <= {*results} and len(results) >= count, sorted(results)
    return "\n".join(f"{name}\n{error}" for name, error in results.items() if error is not None)

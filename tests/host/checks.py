"""The checks of a script that runs inside the host, and what became of them."""

import inspect
import json
import sys
import traceback
from contextlib import nullcontext

import torch


def run_checks(around=nullcontext):
    """Call each function ``check_…`` of the script within ``around()``; print for each None, or its traceback."""
    torch.set_num_threads(1)
    results = {}
    for name, check in inspect.getmembers(sys.modules["__main__"], inspect.isfunction):
        if name.startswith("check_"):
            try:
                with around():
                    check()
                results[name] = None
            except Exception:  # noqa: BLE001 - told to the test, which fails by it
                results[name] = traceback.format_exc()
    sys.stdout.write("\n" + json.dumps(results) + "\n")

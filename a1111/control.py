"""The job's ControlNet in the teacher's pass: a runner that holds it alone, with the job's own arguments.

One of two kinds is met. A1111's extension takes hold of the network when a job starts and lets go of it when the job
ends; Forge's built-in one puts itself in before every sampling.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

TITLE = "controlnet"
EVERY_SAMPLING = "process_before_every_sampling"
HOOKS = ("process", "before_process_batch", EVERY_SAMPLING)


def script_of(p):
    """The host's ControlNet script where one of its units is on in this job, else None."""
    for script in p.scripts.alwayson_scripts if p.scripts is not None else ():
        if script.title().lower() == TITLE:
            units = p.script_args[script.args_from : script.args_to]
            return script if any(map(_is_on, units)) else None
    return None


def _is_on(unit) -> bool:
    """A unit is the extension's object, or what an API request gives: there one that does not say is on."""
    return bool(unit.get("enabled", unit)) if isinstance(unit, dict) else bool(getattr(unit, "enabled", False))


def runner_of(script):
    """A script runner that holds this script alone."""
    from modules.scripts import ScriptRunner

    runner = ScriptRunner()
    runner.scripts, runner.alwayson_scripts = [script], [script]
    return runner


def give(q, p, script) -> set[str]:
    """Have the pass ``q`` run under the ControlNet of the job ``p``. The names of hooks that failed will be in the set.

    The pass gets a copy of the script, since what the script remembers of the job has to outlast the pass.
    """
    failed: set[str] = set()
    twin = _copy(script)
    for name in HOOKS:
        if hasattr(twin, name):
            setattr(twin, name, _noted(name, getattr(twin, name), failed))
    q.script_args, q.scripts = p.script_args, runner_of(twin)
    return failed


@contextmanager
def set_aside(p, script) -> Iterator[None]:
    """The network without the job's ControlNet, which takes hold of it again where the job goes on."""
    if script is None or _overrides(script, EVERY_SAMPLING):
        yield
        return
    from modules.processing import Processed

    runner_of(_copy(script)).postprocess(copy.copy(p), Processed(p, []))
    try:
        yield
    finally:
        if p.iteration + 1 < p.n_iter:
            runner_of(script).process(p)


def _overrides(script, name: str) -> bool:
    from modules.scripts import Script

    return getattr(type(script), name, None) is not getattr(Script, name, None)


def _copy(script):
    """With lists of its own: a script empties its in place."""
    twin = copy.copy(script)
    for name, value in vars(script).items():
        if isinstance(value, list):
            setattr(twin, name, list(value))
    return twin


def _noted(name: str, method, failed: set[str]):
    """The host swallows what a hook raises, so that a pass without ControlNet would look like one with it."""

    def call(*args, **kwargs):
        failed.add(name)
        result = method(*args, **kwargs)
        failed.discard(name)
        return result

    return call

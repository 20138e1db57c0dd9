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
SEEDS = ("seed", "subseed", "all_seeds")
# What the extensions call where a unit's pictures come from, beside "simple", and their option "Batch Option".
BATCH, MERGE = "batch", "merge"
SEPARATE = "Each ControlNet unit for each image in a batch"
SAVES_MAPS = "control_net_detectmap_autosaving"
COUNTS_PASSES = "ControlNet's batch mode would take the teacher's pass for the next of its pictures"
PLACES = "ControlNet has a picture for each place of the batch"
BY_PLACE = f"{PLACES}: untick 'ControlNet for the teacher' to do without"


def script_of(p):
    """The host's ControlNet script where one of its units is on in this job, else None."""
    for script in p.scripts.alwayson_scripts if p.scripts is not None else ():
        if script.title().lower() == TITLE:
            return script if _units_on(p, script) else None
    return None


def objection(p, script, wanted: bool) -> str:
    """Why nothing of the job can be redone, "" where it can: the pass has other pictures at other places.

    wanted: whether it is to be redone under the ControlNet.
    """
    if BATCH in _modes(p, script) and not _puts_itself_in(script):
        return COUNTS_PASSES
    return BY_PLACE if wanted and _is_by_place(p, script) else ""


def objection_to_tries(p) -> str:
    """Why no other try can be made of some of the batch's pictures, "" where it can."""
    script = script_of(p)
    return PLACES if script is not None and _is_by_place(p, script) else ""


def _is_by_place(p, script) -> bool:
    if _puts_itself_in(script):
        by_place = bool(_modes(p, script) & {BATCH, MERGE})
    else:
        by_place = SEPARATE in getattr(script, "ui_batch_option_state", ())
    return by_place and p.batch_size > 1


def _modes(p, script) -> set[str]:
    return {_mode(unit) for unit in _units_on(p, script)}


def _units_on(p, script) -> list:
    return [unit for unit in p.script_args[script.args_from : script.args_to] if _is_on(unit)]


def _is_on(unit) -> bool:
    """A unit is the extension's object, or what an API request gives: there one that does not say is on."""
    return bool(unit.get("enabled", unit)) if isinstance(unit, dict) else bool(getattr(unit, "enabled", False))


def _mode(unit) -> str:
    mode = unit.get("input_mode") if isinstance(unit, dict) else getattr(unit, "input_mode", None)
    return getattr(mode, "value", mode)


def settings_for_a_pass() -> dict[str, bool]:
    """What to override, so that the maps that the job saves are not saved by each pass as well."""
    from modules.shared import opts

    return {SAVES_MAPS: False} if opts.data.get(SAVES_MAPS) else {}


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
            setattr(twin, name, _noted(name, _with_seeds_of(p, getattr(twin, name)), failed))
    q.script_args, q.scripts = p.script_args, runner_of(twin)
    return failed


@contextmanager
def set_aside(p, script) -> Iterator[None]:
    """The network without the job's ControlNet, which takes hold of it again where the job goes on."""
    if script is None or _puts_itself_in(script):
        yield
        return
    from modules.processing import Processed

    twin = _copy(script)
    for maps in filter(_is_list, vars(twin).values()):
        maps.clear()  # which it would save now, and again at the job's end
    runner_of(twin).postprocess(copy.copy(p), Processed(p, []))
    try:
        yield
    finally:
        if p.iteration + 1 < p.n_iter:
            runner_of(script).process(p)


def _puts_itself_in(script) -> bool:
    from modules.scripts import Script

    return getattr(type(script), EVERY_SAMPLING, None) is not getattr(Script, EVERY_SAMPLING, None)


def _copy(script):
    """With lists of its own: a script empties its in place."""
    twin = copy.copy(script)
    for name, value in vars(script).items():
        if _is_list(value):
            setattr(twin, name, list(value))
    return twin


def _is_list(value) -> bool:
    return isinstance(value, list)


def _with_seeds_of(p, method):
    """A preprocessor that draws is seeded by the job, not by the pass, whose pictures and so seeds are others."""

    def call(q, *args, **kwargs):
        own = {name: getattr(q, name) for name in SEEDS}
        for name in SEEDS:
            setattr(q, name, getattr(p, name))
        try:
            return method(q, *args, **kwargs)
        finally:
            for name, value in own.items():
                setattr(q, name, value)

    return call


def _noted(name: str, method, failed: set[str]):
    """The host swallows what a hook raises, so that a pass without ControlNet would look like one with it."""

    def call(*args, **kwargs):
        failed.add(name)
        result = method(*args, **kwargs)
        failed.discard(name)
        return result

    return call

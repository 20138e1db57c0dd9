"""The Teacher's settings by the table: which row a model is, and the model sampled as that row says."""

from __future__ import annotations

from collections.abc import Iterable

from ..samplers.presets import STUDENTS, TEACHERS, Teacher, way_back
from ..samplers.presets.settings import Mu, Schedule
from .own_sampling import patched, same_sampling
from .presets import architecture_of, times_of, tokens_of

BY_TABLE, OWN = "by the table", "my own"


def row_of(model, presets: Iterable[str] = ()) -> Teacher:
    """The table's row for a MODEL, by its architecture; of several the one for the students of these presets.

    Raises ValueError where there is none, or more than one.
    """
    architecture = architecture_of(model)
    rows = [row for row in TEACHERS.values() if architecture in row.architectures]
    students = [STUDENTS[preset] for preset in presets if preset in STUDENTS]
    if students and len(rows) > 1:
        theirs = [row for row in rows if all(row.key in student.teachers for student in students)]
        rows = theirs or rows
    if len(rows) == 1:
        return rows[0]
    loaded = f"a model that ComfyUI loads as {type(model.model.model_config).__name__}"
    if not rows:
        raise ValueError(
            f"settings are 'by the table', but the table has no teacher for {loaded}; it has {', '.join(TEACHERS)}: "
            "set settings to 'my own'."
        )
    raise ValueError(
        f"settings are 'by the table', but for {loaded} the table has {' and '.join(row.key for row in rows)}: set "
        "settings to 'my own', or connect the latent of Student sampler, whose preset says which of them."
    )


def way_back_of(preset: str | None, row: Teacher, model, cells: tuple[int, int]) -> float | None:
    """The table's way back of this teacher for a student's image: of the student with the preset or, where none is
    known, the one that all students of this teacher share; None where they differ, and for another teacher's."""
    theirs = [student for student in STUDENTS.values() if row.key in student.teachers and preset in (student.key, None)]
    tokens = tokens_of(architecture_of(model), cells)
    ways = {way_back(student, row, tokens) for student in theirs}
    return ways.pop() if len(ways) == 1 else None


def with_patches(row: Teacher, model, cells: tuple[int, int]) -> tuple[object, list[str]]:
    """The MODEL with the row's patches, and what became of those that the user had set.

    A shift of the user's that says the same stays; another one gives way, for the row's steps and way back go with its
    own. Where the row has no patch, the user's stays: it may be what the model needs, as zero SNR is.
    """
    own, said = model.get_model_object("model_sampling"), []
    by_user = "model_sampling" in model.object_patches
    if row.patch is None:
        if by_user:
            said.append(f"the sampling that was patched into the model is kept: {row.key} has none of its own")
    else:
        architecture = architecture_of(model)
        mine = patched(model, row.patch, architecture, tokens_of(architecture, cells))
        if not same_sampling(own, mine.get_model_object("model_sampling")):
            model = mine
            if by_user:
                said.append(f"the table's {_shift(row, cells)} in the place of the sampling that was patched into the "
                            f"model; settings '{OWN}' keep that")  # fmt: skip
    if row.cfg_norm is not None:
        if _has_cfg_norm(model):
            said.append("the model's own CFGNorm is kept")
        else:
            from comfy_extras.nodes_cfg import CFGNorm

            model = CFGNorm.execute(model, row.cfg_norm).result[0]
    return model, said


def scheduler_of(model, sampler_name: str, schedule: Schedule, steps: int, cells: tuple[int, int]):
    """(steps) -> the whole schedule: the host's, as KSampler has it, or the table's."""
    from comfy.samplers import KSampler

    if isinstance(schedule, str):
        host = KSampler(model, steps, model.load_device, sampler_name, schedule, 1.0, model.model_options)
        return host.calculate_sigmas
    tokens = tokens_of(architecture_of(model), cells)
    return lambda count: schedule.sigmas(times_of(model), count, 1.0, tokens)


def described(row: Teacher, cells: tuple[int, int]) -> str:
    """What the table says, for the text on the node."""
    schedule = row.schedule if isinstance(row.schedule, str) else f"the schedule of {type(row.schedule).__name__}"
    patches = [] if row.patch is None else [_shift(row, cells)]
    patches += [] if row.cfg_norm is None else [f"CFGNorm {row.cfg_norm:g}"]
    said = [f"{row.steps} steps", f"cfg {row.cfg:g}", row.sampler, schedule, *patches]
    return f"{BY_TABLE}, as {row.key}, whatever the widgets say: {', '.join(said)}"


def _shift(row: Teacher, cells: tuple[int, int]) -> str:
    if isinstance(row.patch, Mu):
        return f"shift as mu {row.patch.at(tokens_of(row.architectures[0], cells)):.3g}"
    return f"shift {row.patch.value:g}"


def _has_cfg_norm(model) -> bool:
    options = model.model_options
    functions = [*options.get("sampler_post_cfg_function", ()), options.get("sampler_cfg_function")]
    return any(getattr(each, "__qualname__", "").startswith("CFGNorm.") for each in functions)

"""The Teacher's settings by the table: which row a model is, and the model sampled as that row says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch

from ..samplers.presets import STUDENTS, TEACHERS, Teacher, way_back
from ..samplers.presets.settings import Mu
from .presets import architecture_of, patched, times_of, tokens_of
from .seeds import preset_of
from .way_back import BY_SCORE, rollback_of, sigmas_from, words

BY_TABLE, OWN = "by the table", "my own"
# What the host tells a FLUX whose conditioning does not say it.
GUIDANCE = 3.5


class Sampled(NamedTuple):
    """How a shot is sampled: the MODEL, its noise levels, falling to 0, and what to say of both."""

    model: object
    sigmas: torch.Tensor
    said: tuple[str, ...]


def settled(inputs: dict, rejected: Iterable[bool], places: Iterable) -> dict:
    """The Teacher's inputs for one batch, with the table's ``row`` and what it says in the place of the widgets.

    rejected, places: of its images. The row is None with settings of one's own, and where nothing is redone. Raises as
    :func:`row_of`.
    """
    rest = {name: value for name, value in inputs.items() if name != "settings"}
    if inputs["settings"] == OWN or not any(rejected):
        return {**rest, "row": None}
    redone = [place for place, no in zip(places, rejected, strict=True) if no]
    row = row_of(inputs["model"], {preset_of(place.latent, place.row) for place in redone} - {None})
    return {**rest, "row": row, "steps": row.steps, "cfg": row.cfg, "sampler_name": row.sampler,
            "scheduler": row.schedule}  # fmt: skip


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
        "settings to 'my own', or connect the latent of Understudy Student Sampler, whose preset says which of them."
    )


def sampled(shot) -> Sampled:
    """How a shot of the Teacher is sampled, once its latent is known, on whose size shifts may depend."""
    take, cells = shot.take, tuple(shot.samples.shape[-2:])
    model, said = take.model, []
    if take.row is not None:
        model, patches = with_patches(take.row, take.model, cells)
        said += [_described(take.row, cells), *patches, *_guidance(take.row, take.positive)]
    scheduler = _scheduler(take, model, cells)
    sampling = model.get_model_object("model_sampling")
    if take.strategy == "regenerate":
        return Sampled(model, scheduler(take.steps).to(model.load_device), tuple(said))
    sigmas = sigmas_from(scheduler, sampling, take.steps, shot.rollback, take.rollback_mode)
    said.append(words(sampling, shot.rollback, take.rollback_mode, float(sigmas[0]), _origin(shot)))
    return Sampled(model, sigmas.to(model.load_device), tuple(said))


def rollback_of_shot(shot) -> float:
    """How far back a shot goes, once its latent is known."""
    return rollback_of(shot.take, shot.badness, _table_says(shot))


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
        if not _same(own, mine.get_model_object("model_sampling")):
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


def _table_says(shot) -> float | None:
    """The table's way back of this teacher for this student's image; None where it has none or is not asked."""
    take = shot.take
    if take.row is None or take.rollback_mode != "noise" or shot.preset not in STUDENTS:
        return None
    student = STUDENTS[shot.preset]
    if take.row.key not in student.teachers:
        return None
    return way_back(student, take.row, tokens_of(architecture_of(take.model), tuple(shot.samples.shape[-2:])))


def _origin(shot) -> str:
    """Where a shot's rollback comes from, for the text on the node; nothing where the widget alone says it."""
    take, start, source = shot.take, _table_says(shot), ""
    if start is not None:
        source = f", the table's for {shot.preset}"
    elif take.row is not None and take.rollback_mode == "noise":
        unknown = "no student's preset came with the latent"
        source = f", the widget's, as {f'the table has none for {shot.preset}' if shot.preset else unknown}"
    if take.strength != BY_SCORE:
        return source
    start = take.rollback if start is None else start
    worst = f"{take.rollback_worst:g} at the calibration's worst score"
    return f" by score, from {round(start, 2):g} at the threshold{source} to {worst}"


def _scheduler(take, model, cells: tuple[int, int]):
    """(steps) -> the whole schedule."""
    from comfy.samplers import KSampler

    if isinstance(take.scheduler, str):
        return KSampler(
            model, take.steps, model.load_device, take.sampler_name, take.scheduler, 1.0, model.model_options
        ).calculate_sigmas
    tokens = tokens_of(architecture_of(model), cells)
    return lambda steps: take.scheduler.sigmas(times_of(model), steps, 1.0, tokens)


def _described(row: Teacher, cells: tuple[int, int]) -> str:
    schedule = row.schedule if isinstance(row.schedule, str) else f"the schedule of {type(row.schedule).__name__}"
    patches = [] if row.patch is None else [_shift(row, cells)]
    patches += [] if row.cfg_norm is None else [f"CFGNorm {row.cfg_norm:g}"]
    said = [f"{row.steps} steps", f"cfg {row.cfg:g}", row.sampler, schedule, *patches]
    return f"{BY_TABLE}, as {row.key}, whatever the widgets say: {', '.join(said)}"


def _shift(row: Teacher, cells: tuple[int, int]) -> str:
    if isinstance(row.patch, Mu):
        return f"shift as mu {row.patch.at(tokens_of(row.architectures[0], cells)):.3g}"
    return f"shift {row.patch.value:g}"


def _guidance(row: Teacher, positive: list) -> Iterator[str]:
    found = {options.get("guidance", GUIDANCE) for _, options in positive}
    if row.guidance is not None and found != {row.guidance}:
        given = ", ".join("none" if value is None else f"{value:g}" for value in found)
        made = f"{row.key} is made for {row.guidance:g}"
        yield f"the conditioning has guidance {given}, but {made}: set it with FluxGuidance"


def _same(a, b) -> bool:
    """Whether two samplings have the same noise levels and tell the network the same of them."""
    half = torch.tensor(0.5)
    return (
        len(a.sigmas) == len(b.sigmas)
        and torch.allclose(a.sigmas.cpu(), b.sigmas.cpu(), rtol=1e-4)
        and torch.isclose(a.timestep(half).float(), b.timestep(half).float()).item()
    )


def _has_cfg_norm(model) -> bool:
    options = model.model_options
    functions = [*options.get("sampler_post_cfg_function", ()), options.get("sampler_cfg_function")]
    return any(getattr(each, "__qualname__", "").startswith("CFGNorm.") for each in functions)

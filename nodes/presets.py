"""The table's students in ComfyUI: which of them this host can sample, and with what."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import torch

from ..files.student_file import EMBEDDED, StudentFile
from ..samplers.presets import ARCHITECTURES, SAMPLERS, STUDENTS, Student
from ..samplers.presets.settings import NATIVE, BySize, Sampling, Sigmas
from .own_sampling import kept_patch, with_row_s_patch

# What a student's file calls these classes of the host's, and ours; others go by their own name there.
BASES = {"sd1": "SD15", "sdxl": "SDXL", "demo": "UnderstudyDemo"}


class Prepared(NamedTuple):
    """What one call of the host's `sample_custom` needs: name is the host's for the sampler, or the table's."""

    model: object
    name: str
    sampler: object
    sigmas: torch.Tensor
    cfg: float


def offered() -> list[str]:
    """The families whose class this ComfyUI has."""
    import comfy.supported_models as host

    return [
        key
        for key, student in STUDENTS.items()
        if not student.architectures or any(hasattr(host, name) for name in student.architectures)
    ]


def row_of_file(path: str, names: Collection[str]) -> tuple[Student, int, float]:
    """Preset, or the host's sampler with the file's noise levels or the host's scheduler, steps and guidance, from a
    student's own file. names: the `classes` of the MODEL.

    Raises CheckpointError for a file that is no student's, and ValueError for one that cannot be sampled here or is of
    a model of another class.
    """
    student = StudentFile.read(path)
    base = BASES.get(student.base, student.base)
    if base not in names:
        raise ValueError(
            f"{path} is a student of a model that ComfyUI loads as {base}, but this model is {next(iter(names))}: "
            "connect the model that it was distilled from, or one of its kind."
        )
    if student.guidance == EMBEDDED:
        raise ValueError(f"{path} takes the guidance scale as an input; fix it with 'understudy export --guidance'.")
    if student.sigmas is not None:
        schedule, of = Sigmas(student.sigmas), ()
        if student.mu_low is not None:
            schedule = Sigmas(student.sigmas, student.shift, BySize(student.mu_low, student.mu_high))
            of = (base,)  # which says how many tokens a latent has
        row = Student(
            key=path, architectures=of, sampler=student.sampler, schedule=schedule, steps=student.steps, cfgs=None
        )
    elif student.preset is None:
        row = Student(key=path, sampler=student.sampler, schedule=student.scheduler, steps=student.steps, cfgs=None)
    elif student.preset in STUDENTS:
        row = STUDENTS[student.preset].on_grid(student.intervals, student.timestep_scaling)
    else:
        raise ValueError(f"{path} is of the preset {student.preset!r}; this pack knows {', '.join(STUDENTS)}.")
    return row, student.steps, student.guidance


def prepare(
    row: Sampling, model, steps: int, cfg: float, denoise: float, cells: tuple[int, int] | None = None
) -> Prepared:
    """A MODEL as a row of the table has it sampled, but for a patch that it came with (see `patch_kept`).

    denoise: the fraction of the schedule to run. cells: height and width of its latents, without which they are of
    1024 x 1024 pixels.

    Raises ValueError for a model of another architecture, for steps or a denoise that the schedule does not have, and
    for a sampler or a scheduler that this ComfyUI does not have.
    """
    from comfy.samplers import KSampler

    schedulers = KSampler.SCHEDULERS if isinstance(row.schedule, str) else (row.schedule,)
    for name, known in ((row.sampler, [*KSampler.SAMPLERS, *SAMPLERS]), (row.schedule, schedulers)):
        if name not in known:
            raise ValueError(f"{row.key} asks for {name!r}, which this ComfyUI does not have.")
    architecture = _architecture(row, model)
    tokens = tokens_of(architecture, cells)
    model = with_row_s_patch(model, row.patch, architecture, tokens)
    if isinstance(row.schedule, str):
        host = KSampler(model, steps, model.load_device, row.sampler, row.schedule, denoise, model.model_options)
        sigmas = host.sigmas
    else:
        sigmas = row.schedule.sigmas(times_of(model), steps, denoise, tokens)
    sampler = _sampler(row.sampler, model, row.knobs)
    return Prepared(model, row.sampler, sampler, sigmas, cfg)


def patch_kept(row: Sampling, model, cells: tuple[int, int] | None = None) -> str | None:
    """What to say where the MODEL comes with another patch than the row's, which `prepare` leaves on it."""
    architecture = _architecture(row, model)
    return kept_patch(row, model, architecture, tokens_of(architecture, cells))


def classes(model) -> list[str]:
    """The names of the host's class for a MODEL and of those that it inherits from."""
    return [each.__name__ for each in type(model.model.model_config).__mro__]


def architecture_of(model) -> str | None:
    """The MODEL's architecture in the table, None for one that is not there."""
    return next((name for name in classes(model) if name in ARCHITECTURES), None)


def tokens_of(architecture: str | None, cells: tuple[int, int] | None) -> int:
    """The image's squares of 16 x 16 pixels, from the height and width of its latent; of 1024 x 1024 where unknown."""
    if cells is None or architecture is None:
        return NATIVE
    return ARCHITECTURES[architecture].latent.tokens(*cells)


def times_of(model) -> SimpleNamespace:
    """What a schedule of the table needs to know of the MODEL."""
    sampling = model.get_model_object("model_sampling")
    return SimpleNamespace(sigmas=sampling.sigmas, t_to_sigma=sampling.sigma)


def _architecture(row: Sampling, model) -> str | None:
    """Which of the row's architectures the model is; None for a row of any."""
    if not row.architectures:
        return None
    names = classes(model)
    for name in row.architectures:
        if name in names:
            return name
    raise ValueError(
        f"the preset {row.key} is for {row.about or row.key}, which ComfyUI loads as "
        f"{' or '.join(row.architectures)}, but this model is {names[0]}: choose another preset or model."
    )


def _sampler(name: str, model, knobs):
    """The host's KSAMPLER, of its own sampler or of ours with what it asks of the model."""
    from comfy.samplers import KSAMPLER, sampler_object

    if name not in SAMPLERS:
        return sampler_object(name)
    sampling = model.get_model_object("model_sampling")
    asked = inspect.signature(SAMPLERS[name]).parameters
    of_the_model = {
        "noise_scaling": sampling.noise_scaling, "sigma_to_t": sampling.timestep, "t_to_sigma": sampling.sigma
    }  # fmt: skip
    bound = {key: value for key, value in of_the_model.items() if key in asked}
    return KSAMPLER(partial(SAMPLERS[name], **bound, **knobs))

"""The table's students in ComfyUI: which of them this host can sample, and with what."""

from __future__ import annotations

import inspect
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import torch

from ..files.student_file import EMBEDDED, StudentFile
from ..samplers.boundary import TIMESTEP_SCALING, latent_consistency
from ..samplers.presets import ARCHITECTURES, SAMPLERS, STUDENTS, Student
from ..samplers.presets.settings import NATIVE, Lcm, Mu, Patch, Sampling, Shift
from ..samplers.schedules import GRID, grid_sigmas


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


def sampling_of_file(model, path: str, denoise: float) -> Prepared:
    """Steps, guidance and preset, or the host's sampler and scheduler, from a student's own file.

    Raises CheckpointError for a file that is no student's, and ValueError for one that cannot be sampled here.
    """
    student = StudentFile.read(path)
    if student.guidance == EMBEDDED:
        raise ValueError(f"{path} takes the guidance scale as an input; fix it with 'understudy export --guidance'.")
    if student.preset is None:
        row = Student(key=path, sampler=student.sampler, schedule=student.scheduler, steps=student.steps, cfgs=None)
    elif student.preset in STUDENTS:
        row = STUDENTS[student.preset].on_grid(student.intervals, student.timestep_scaling)
    else:
        raise ValueError(f"{path} is of the preset {student.preset!r}; this pack knows {', '.join(STUDENTS)}.")
    return prepare(row, model, student.steps, student.guidance, denoise)


def prepare(
    row: Sampling, model, steps: int, cfg: float, denoise: float, cells: tuple[int, int] | None = None
) -> Prepared:
    """A MODEL as a row of the table has it sampled. denoise: the fraction of the schedule to run. cells: height and
    width of its latents, without which they are of 1024 x 1024 pixels.

    Raises ValueError for a model of another architecture, for steps or a denoise that the schedule does not have, and
    for a sampler or a scheduler that this ComfyUI does not have.
    """
    from comfy.samplers import KSampler

    schedulers = KSampler.SCHEDULERS if isinstance(row.schedule, str) else (row.schedule,)
    for name, known in ((row.sampler, [*KSampler.SAMPLERS, *SAMPLERS]), (row.schedule, schedulers)):
        if name not in known:
            raise ValueError(f"{row.key} asks for {name!r}, which this ComfyUI does not have.")
    architecture = _architecture(row, model)
    tokens = NATIVE
    if cells is not None and architecture is not None:
        tokens = round(cells[0] * cells[1] * (ARCHITECTURES[architecture].latent.pixels / 16) ** 2)
    model = _patched(model, row.patch, architecture, tokens)
    if isinstance(row.schedule, str):
        host = KSampler(model, steps, model.load_device, row.sampler, row.schedule, denoise, model.model_options)
        sigmas = host.sigmas
    else:
        sampling = model.get_model_object("model_sampling")
        times = SimpleNamespace(sigmas=sampling.sigmas, t_to_sigma=sampling.sigma)
        sigmas = row.schedule.sigmas(times, steps, denoise, tokens)
    sampler = _sampler(row.sampler, model, row.knobs)
    return Prepared(model, row.sampler, sampler, sigmas, cfg)


def with_boundary_scaling(model, scaling: float = TIMESTEP_SCALING, grid: int = GRID):
    """A clone of the MODEL that samples as a latent consistency model: c_skip and c_out of Luo et al. 2023, for models
    that predict eps, v or x0, with the noise levels that the model has. Raises ValueError for other models."""
    from comfy.model_sampling import EPS, V_PREDICTION, X0, ModelSamplingDiscrete
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscreteDistilled

    own = model.get_model_object("model_sampling")
    if not isinstance(own, ModelSamplingDiscrete) or not isinstance(own, EPS):
        raise ValueError(
            f"the model samples as {type(own).__mro__[1].__name__}, but LCM students predict noise, v or x0 in "
            "discrete time: choose another preset or model."
        )
    prediction = next(kind for kind in (V_PREDICTION, X0, EPS) if isinstance(own, kind))  # all are EPS by inheritance

    class LatentConsistency(ModelSamplingDiscreteDistilled, prediction):
        original_timesteps = grid

        def calculate_denoised(self, sigma, model_output, model_input):
            x0 = super().calculate_denoised(sigma, model_output, model_input)
            return latent_consistency(model_input, x0, self.timestep(sigma), scaling)

    sampling = LatentConsistency(model.model.model_config)
    if len(own.sigmas) == sampling.num_timesteps:  # ModelSamplingDiscrete may have changed them, to zero SNR
        sampling.set_sigmas(grid_sigmas(own.sigmas, grid))
    clone = model.clone()
    clone.add_object_patch("model_sampling", sampling)
    return clone


def _architecture(row: Sampling, model) -> str | None:
    """Which of the row's architectures the model is; None for a row of any."""
    if not row.architectures:
        return None
    names = [each.__name__ for each in type(model.model.model_config).__mro__]
    for name in row.architectures:
        if name in names:
            return name
    raise ValueError(
        f"the preset {row.key} is for {row.about or row.key}, which ComfyUI loads as "
        f"{' or '.join(row.architectures)}, but this model is {names[0]}: choose another preset or model."
    )


def _patched(model, patch: Patch | None, architecture: str | None, tokens: int):
    """The MODEL as the host's own nodes patch it; LCM's boundary is ours."""
    from comfy_extras import nodes_model_advanced as host

    if patch is None:
        return model
    if isinstance(patch, Lcm):
        return with_boundary_scaling(model, patch.scaling, patch.grid)
    if isinstance(patch, Shift):
        return host.ModelSamplingSD3().patch(model, patch.value, ARCHITECTURES[architecture].multiplier)[0]
    if isinstance(patch, Mu):
        mu = patch.at(tokens)  # the same at both ends of the node's own interpolation
        return host.ModelSamplingFlux().patch(model, mu, mu, 1024, 1024)[0]
    return host.ModelSamplingDiscrete().patch(model, "x0", False)[0]


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

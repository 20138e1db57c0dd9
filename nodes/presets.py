"""How students of each kind are sampled in ComfyUI: one preset for each, or what a student's own file says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..files.student_file import EMBEDDED, StudentFile
from ..samplers.boundary import TIMESTEP_SCALING, boundary_scalings
from ..samplers.consistency import sample_consistency
from ..samplers.schedules import last_consistency_steps

# The grid of timesteps on which consistency students are distilled.
GRID = 50


@dataclass(frozen=True)
class Preset:
    """about: which students it is for, for the widget's tooltip. cfg: what to set there.

    prepare: ``(model, steps, cfg, denoise, **knobs) -> (model, sampler's name, KSAMPLER, sigmas, cfg)``; its knobs,
    where it has them, are ``grid`` and ``scaling``, which a student's own file may say.
    """

    about: str
    cfg: str
    prepare: Callable[..., tuple]


def sampling_of_file(model, path: str, denoise: float) -> tuple:
    """Steps, guidance and preset, or the host's sampler and scheduler, from a student's own file.

    Raises CheckpointError for a file that is no student's, and ValueError for one that cannot be sampled here.
    """
    student = StudentFile.read(path)
    if student.guidance == EMBEDDED:
        raise ValueError(f"{path} takes the guidance scale as an input; fix it with 'understudy export --guidance'.")
    arguments = model, student.steps, student.guidance, denoise
    if student.preset is None:
        return host_sampling(*arguments, sampler=student.sampler, scheduler=student.scheduler)
    if student.preset not in PRESETS:
        raise ValueError(f"{path} is of the preset {student.preset!r}; this pack knows {', '.join(PRESETS)}.")
    knobs = {"grid": student.intervals, "scaling": student.timestep_scaling}
    if student.preset == "consistency":
        del knobs["scaling"]
    return PRESETS[student.preset].prepare(
        *arguments, **{name: value for name, value in knobs.items() if value is not None}
    )


def host_sampling(model, steps: int, cfg: float, denoise: float, *, sampler: str, scheduler: str) -> tuple:
    """A sampler and a scheduler by the host's names, for students that any KSampler samples."""
    from comfy.samplers import KSampler, sampler_object

    for name, known in ((sampler, KSampler.SAMPLERS), (scheduler, KSampler.SCHEDULERS)):
        if name not in known:
            raise ValueError(f"the student's file asks for {name!r}, which this ComfyUI does not have.")
    host = KSampler(model, steps, model.load_device, sampler, scheduler, denoise, model.model_options)
    return model, sampler, sampler_object(sampler), host.sigmas, cfg


def consistency(model, steps: int, cfg: float, denoise: float, *, spacing: str, grid: int = GRID) -> tuple:
    """Plain denoised as consistency function, on the timesteps of the distillation (Starodubcev et al. 2023)."""
    from comfy.samplers import KSAMPLER

    sampling = model.get_model_object("model_sampling")
    sigmas = last_consistency_steps(sampling, steps, denoise, grid, spacing)
    sampler = KSAMPLER(with_noise_sampler(partial(sample_consistency, noise_scaling=sampling.noise_scaling)))
    return model, "consistency", sampler, sigmas, cfg


def demo(model, steps: int, cfg: float, denoise: float) -> tuple:
    """The embedded student: guidance is distilled into it."""
    return consistency(model, steps, 1.0, denoise, spacing="trailing")


def latent_consistency(
    model, steps: int, cfg: float, denoise: float, *, scaling: float = TIMESTEP_SCALING, grid: int = GRID
) -> tuple:
    """LCM, whole or as a LoRA: its boundary scaling on the timesteps of its grid, with the host's own sampler."""
    model = with_boundary_scaling(model, scaling, grid)
    return host_sampling(model, steps, cfg, denoise, sampler="lcm", scheduler="sgm_uniform")


PRESETS = {
    "demo": Preset("the embedded student", "always 1", demo),
    "LCM": Preset("a whole latent consistency model", "1 to 2", latent_consistency),
    "LCM-LoRA": Preset("a checkpoint with an LCM LoRA", "1 to 2", latent_consistency),
    "consistency": Preset(
        "consistency distillation without LCM's boundary scaling",
        "as it was distilled, such as 8",
        partial(consistency, spacing="leading"),
    ),
}


def with_noise_sampler(function: Callable) -> Callable:
    """``function`` as the host calls samplers; the noise sampler shows in its signature."""

    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None, noise_sampler=None):
        return function(model, x, sigmas, extra_args, callback, disable, noise_sampler=noise_sampler)

    return sample


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
            skip, out = boundary_scalings(self.timestep(sigma), x0.ndim, scaling)
            return skip * model_input + out * x0

    sampling = LatentConsistency(model.model.model_config)
    if len(own.sigmas) == sampling.num_timesteps:  # ModelSamplingDiscrete may have changed them, to zero SNR
        sampling.set_sigmas(own.sigmas.flip(0)[:: sampling.skip_steps][:grid].flip(0))
    clone = model.clone()
    clone.add_object_patch("model_sampling", sampling)
    return clone

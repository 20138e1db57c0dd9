"""A few-step student in one box: the right sampling, noise levels and guidance for each preset."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from comfy_api.latest import io

from ..samplers.boundary import TIMESTEP_SCALING, boundary_scalings
from ..samplers.consistency import sample_consistency
from ..samplers.schedules import last_consistency_steps
from ..student_file import EMBEDDED, StudentFile
from .display import shown
from .folders import NONE, student_files, student_path
from .latents import single
from .noise import starting_noise
from .patches import warning
from .sampling import Progress, runs_needed, sample_images
from .schema import schema
from .seeds import with_seed

# The grid of timesteps on which consistency students are distilled.
GRID = 50


class UnderstudyStudentSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyStudentSampler",
            display_name="Understudy Student Sampler",
            description="Samples a few-step student with the sampler, noise levels and guidance that its preset says.",
            search_aliases=["LCM", "consistency", "few step", "turbo", "fast sampler", "KSampler"],
            inputs=[
                io.Model.Input("model", tooltip="The student; for LCM-LoRA a checkpoint with that LoRA applied."),
                io.Conditioning.Input("positive", tooltip="What the image should show."),
                io.Conditioning.Input("negative", tooltip="What it should not show. Without effect at cfg 1."),
                io.Latent.Input(
                    "latent_image", tooltip="An empty latent, or the latent of an image with denoise below 1."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Seed of all noise. The starting noise is the same as KSampler's.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default="demo",
                    tooltip="How the student was distilled. demo: the embedded student. LCM: a whole latent "
                    "consistency model. LCM-LoRA: a checkpoint with an LCM LoRA. consistency: consistency "
                    "distillation without LCM's boundary scaling.",
                ),
                io.Int.Input("steps", default=4, min=1, max=GRID, tooltip="Network steps; 1 to 8 are usual."),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance scale. 1 means none and halves the cost. demo always runs at 1; LCM and LCM-LoRA "
                    "want 1 to 2; consistency wants the scale that it was distilled with, such as 8.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="1 makes a new image; below 1 keeps that much less of the noise, for image to image. "
                    "With demo and consistency, steps are at most 50 x denoise.",
                ),
                io.Combo.Input(
                    "settings_from",
                    options=[NONE, *student_files()],
                    default=NONE,
                    optional=True,
                    tooltip="A student's file that 'understudy export' wrote: it says how to sample it, and preset, "
                    "steps and cfg above are not used. The student itself still comes from model.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latent", tooltip="The student's latents, for a VAE Decode, with their seed for Teacher."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, settings_from=NONE, **inputs):
        """A file may be exported again under its name. A linked widget arrives as None: it may be any of the files."""
        names = student_files() if settings_from is None else {settings_from} - {NONE}
        return [Path(student_path(name)).stat().st_mtime_ns for name in names]

    @classmethod
    def execute(
        cls, model, positive, negative, latent_image, seed, preset, steps, cfg, denoise, settings_from=NONE
    ) -> io.NodeOutput:
        if settings_from == NONE:
            model, name, sampler, sigmas, cfg = PRESETS[preset](model, steps, cfg, denoise)
        else:
            model, name, sampler, sigmas, cfg = as_its_file_says(model, student_path(settings_from), denoise)
        latent = with_model_dimensions(model, single(latent_image, "latent_image"))
        samples = latent["samples"]
        batch = samples.shape[0]
        if batch == 0:
            raise ValueError("latent_image is an empty batch: it needs at least one latent.")
        indices = latent.get("batch_index")
        if indices is not None and len(indices) != batch:
            raise ValueError(
                f"{len(indices)} entries in the latent's batch_index, but {batch} latents; give one for each"
            )
        runs = runs_needed(model, name, sampler, latent, batch)
        samples, _ = sample_images(
            model,
            name,
            sampler,
            sigmas.to(model.load_device),
            cfg,
            positive,
            negative,
            latent,
            starting_noise(samples.shape, samples.dtype, seed, indices),
            seed,
            range(batch) if indices is None else indices,
            Progress(model, len(sigmas) - 1, runs),
        )
        text = warning(model, batch) if runs > 1 else None
        latent = with_seed({**latent, "samples": samples}, seed)
        return io.NodeOutput(latent, ui=shown(text, cls.hidden.unique_id) if text else None)


def with_model_dimensions(model, latent: dict) -> dict:
    """A latent as the host's KSampler prepares it: an empty one takes the model's channels and size."""
    from comfy.sample import fix_empty_latent_channels

    ratios = {key: latent[key] for key in ("downscale_ratio_spacial", "downscale_ratio_temporal") if key in latent}
    prepared = {key: value for key, value in latent.items() if key not in ratios}
    prepared["samples"] = fix_empty_latent_channels(model, latent["samples"], **ratios)
    return prepared


def as_its_file_says(model, path: str, denoise: float) -> tuple:
    """Steps, guidance and preset, or the host's sampler and scheduler, from a student's own file.

    Raises CheckpointError for a file that is no student's, and ValueError for one that cannot be sampled here.
    """
    student = StudentFile.read(path)
    if student.guidance == EMBEDDED:
        raise ValueError(f"{path} takes the guidance scale as an input; fix it with 'understudy export --guidance'.")
    arguments = model, student.steps, student.guidance, denoise
    if student.preset is None:
        return of_the_host(*arguments, sampler=student.sampler, scheduler=student.scheduler)
    if student.preset not in PRESETS:
        raise ValueError(f"{path} is of the preset {student.preset!r}; this pack knows {', '.join(PRESETS)}.")
    knobs = {"grid": student.intervals, "scaling": student.timestep_scaling}
    if student.preset == "consistency":
        del knobs["scaling"]
    return PRESETS[student.preset](*arguments, **{name: value for name, value in knobs.items() if value is not None})


def of_the_host(model, steps: int, cfg: float, denoise: float, *, sampler: str, scheduler: str) -> tuple:
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
    return of_the_host(model, steps, cfg, denoise, sampler="lcm", scheduler="sgm_uniform")


PRESETS: dict[str, Callable[..., tuple]] = {
    "demo": demo,
    "LCM": latent_consistency,
    "LCM-LoRA": latent_consistency,
    "consistency": partial(consistency, spacing="leading"),
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

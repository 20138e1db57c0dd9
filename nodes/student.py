"""A few-step student in one box: the right sampling, noise levels and guidance for each preset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from comfy_api.latest import io

from ..oracles.calibration_names import NONE
from ..receipts.numbers import counted
from ..samplers.presets import STUDENTS, Student
from .display import shown
from .folders import student_files, student_path
from .guidance import guidance_remarks
from .latent_space import require_latents, space_of
from .latents import single
from .noise import starting_noise
from .patches import warning
from .presets import Prepared, offered, prepare
from .sampling import Progress, runs_needed, sample_images
from .schema import require_ranges, schema
from .seeds import with_seed
from .student_choice import AUTO, choose


def preset_inputs() -> list:
    """How a student is sampled."""
    return [
        io.Combo.Input(
            "preset",
            options=[AUTO, *offered()],
            default=AUTO,
            tooltip="How the student was distilled. auto goes by the names of the files that model is made from, and "
            "says what it chose. Choose it yourself where files were renamed: LCM-LoRA for a checkpoint with an LCM "
            "LoRA, z-image-turbo for Z-Image-Turbo. The help page says which is for what, with which steps and cfg.",
        ),
        io.Int.Input(
            "steps",
            default=4,
            min=1,
            max=50,
            tooltip="Network steps, as the student was distilled for; the node says if it was for others.",
        ),
        io.Float.Input(
            "cfg",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip="Guidance scale; 1 means none and halves the cost. Most students are made for 1; the node "
            "says if this one is made for another.",
        ),
        io.Float.Input(
            "denoise",
            default=1.0,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="1 makes a new image; below 1 keeps that much less of the noise, for image to image. "
            "With demo, consistency and codi, steps are at most so many of the grid's; a student with a fixed schedule "
            "runs that much less of it.",
        ),
    ]


def student_inputs() -> list:
    """What a node that samples a student takes."""
    return [
        io.Model.Input("model", tooltip="The student; for LCM-LoRA a checkpoint with that LoRA applied."),
        io.Conditioning.Input("positive", tooltip="What the image should show."),
        io.Conditioning.Input("negative", tooltip="What it should not show. Without effect at cfg 1."),
        io.Latent.Input("latent_image", tooltip="An empty latent, or the latent of an image with denoise below 1."),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="Seed of all noise. The starting noise is the same as KSampler's.",
        ),
        *preset_inputs(),
        io.Combo.Input(
            "settings_from",
            options=[NONE, *student_files()],
            default=NONE,
            optional=True,
            tooltip="A student's file that 'understudy export' wrote: it says how to sample it, and preset, "
            "steps and cfg above are not used. The student itself still comes from model.",
        ),
    ]


class UnderstudyStudentSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyStudentSampler",
            display_name="Student sampler",
            description="Samples a few-step student with the sampler, noise levels and guidance that its preset says.",
            search_aliases=["LCM", "consistency", "few step", "turbo", "fast sampler", "KSampler"],
            inputs=student_inputs(),
            advanced=["settings_from"],  # which the widgets above would be overruled by
            outputs=[
                io.Latent.Output(
                    "latent",
                    tooltip="The student's latents, for a VAE Decode, with their seed, preset and"
                    " latent space for Teacher.",
                )
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def fingerprint_inputs(cls, settings_from=NONE, **inputs):
        return times_of_files(settings_from)

    @classmethod
    def execute(
        cls, model, positive, negative, latent_image, seed, preset, steps, cfg, denoise, settings_from=NONE
    ) -> io.NodeOutput:
        ready = prepared_student(cls.hidden, model, latent_image, preset, steps, cfg, denoise, settings_from)
        model, name, sampler, sigmas, cfg = ready.prepared
        latent, batch = ready.latent, len(ready.latent["samples"])
        said = [*ready.said, *guidance_remarks(ready.row, positive)]
        samples, indices = latent["samples"], latent.get("batch_index")
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
        if runs > 1 and (deaf := warning(model, batch)):
            said.append(deaf)
        latent = with_seed({**latent, "samples": samples}, seed, ready.key, space_of(model))
        return io.NodeOutput(latent, ui=shown("\n".join(said), cls.hidden.unique_id) if said else None)


class Ready(NamedTuple):
    """A student that can be sampled: its row, the latent as the model has it, and what its user should know."""

    prepared: Prepared
    row: Student
    latent: dict
    said: list[str]

    @property
    def key(self) -> str | None:
        """The preset's; None for settings of a file's own."""
        return self.row.key if self.row.key in STUDENTS else None


def prepared_student(
    hidden, model, latent_image: dict, preset: str, steps: int, cfg: float, denoise: float, settings_from: str = NONE
) -> Ready:
    """What the inputs of ``student_inputs`` ask for. Raises ValueError where they do not fit each other.

    hidden: of the node whose ``model`` it is; its graph says which files that is made from.
    """
    require_ranges(preset_inputs(), {"steps": [steps], "cfg": [cfg], "denoise": [denoise]})
    latent = with_model_dimensions(model, single(latent_image, "latent_image"))
    require_latents(latent, model, "latent_image")
    samples = latent["samples"]
    cells = tuple(samples.shape[-2:])
    row, steps, cfg, said = choose(hidden, model, cells, preset, steps, cfg, settings_from)
    if row.knobs.get("full_noise") and samples.any():
        raise ValueError(f"{row.key} starts from noise alone: give an empty latent instead of an image's.")
    prepared = prepare(row, model, steps, cfg, denoise, cells)
    said += denoise_remarks(row, model, prepared, steps, denoise, cells)
    batch, indices = len(samples), latent.get("batch_index")
    if batch == 0:
        raise ValueError("latent_image is an empty batch: it needs at least one latent.")
    if indices is not None and len(indices) != batch:
        raise ValueError(f"{len(indices)} entries in the latent's batch_index, but {batch} latents; give one for each")
    return Ready(prepared, row, latent, said)


def denoise_remarks(
    row: Student, model, prepared: Prepared, steps: int, denoise: float, cells: tuple[int, int]
) -> Iterator[str]:
    """What a denoise below 1 comes to where that is neither as many steps nor as much noise as it says."""
    if denoise == 1:
        return
    asked, run = f"a denoise of {denoise:g} in {counted(steps, 'step', 'steps')}", len(prepared.sigmas) - 1
    if run < steps:
        yield f"{asked} of a fixed schedule runs the last {run}."
    elif prepared.sigmas[0] == prepare(row, model, steps, row.cfg, 1.0, cells).sigmas[0]:
        yield f"{asked} starts from all the noise, as 1 does: take less, or more steps."


def times_of_files(settings_from: str | None) -> list[int]:
    """A file may be exported again under its name. A linked widget arrives as None: it may be any of the files."""
    names = student_files() if settings_from is None else {settings_from} - {NONE}
    return [Path(student_path(name)).stat().st_mtime_ns for name in names]


def with_model_dimensions(model, latent: dict) -> dict:
    """A latent as the host's KSampler prepares it: an empty one takes the model's channels and size."""
    from comfy.sample import fix_empty_latent_channels

    ratios = {key: latent[key] for key in ("downscale_ratio_spacial", "downscale_ratio_temporal") if key in latent}
    prepared = {key: value for key, value in latent.items() if key not in ratios}
    prepared["samples"] = fix_empty_latent_channels(model, latent["samples"], **ratios)
    return prepared

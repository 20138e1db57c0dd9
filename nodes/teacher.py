"""The node that lets the teacher redo the rejected images of a batch, and only those."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from comfy_api.latest import io

from ..oracles.scores import values_of
from ..samplers.rollback import noise_variance
from .display import shown
from .noise import starting_noise
from .patches import warning
from .pixels import check_images, decode, encode, extended, extended_to_multiple, like
from .sampling import Progress, runs_needed, sample_images
from .schema import schema
from .subset import Subset
from .types import Receipt, ReceiptSocket, ScoresSocket, ThresholdSocket

DECISIONS = {"refine": "refined", "regenerate": "regenerated"}
LAZY = ("model", "positive", "negative", "vae")


class UnderstudyTeacher(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        from comfy.samplers import KSampler

        return schema(
            node_id="UnderstudyTeacher",
            display_name="Understudy Teacher",
            description="Redoes the images whose score is below the threshold with the teacher model, each in its own "
            "noise. The others come out exactly as they came in, and if all pass, the teacher is not even loaded.",
            search_aliases=[
                "refine rejected",
                "adaptive sampler",
                "second pass",
                "conditional refine",
                "retry bad images",
            ],
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="The student's images, as a batch or a list."),
                ScoresSocket.Input("scores", tooltip="One score for each image, in the same order."),
                ThresholdSocket.Input("threshold", tooltip="Images that score below this go to the teacher."),
                io.Model.Input("model", lazy=True, tooltip="The teacher. Loaded only if an image is rejected."),
                io.Conditioning.Input(
                    "positive",
                    lazy=True,
                    tooltip="What the images should show, from the teacher's own text encoder. One for all, or a "
                    "list with one for each entry of a list of images.",
                ),
                io.Conditioning.Input("negative", lazy=True, tooltip="What the images should not show."),
                io.Vae.Input(
                    "vae", lazy=True, tooltip="The teacher's VAE: rejected images cross to the teacher in pixels."
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The student's latents. They give each image its place in the batch (for the noise) and "
                    "the noise mask; with start_from 'latent' also what the teacher starts from.",
                ),
                io.Combo.Input(
                    "start_from",
                    options=["images", "latent"],
                    default="images",
                    tooltip="images: encode the rejected images with the teacher's VAE, which always works. latent: "
                    "take the student's latents as they are, if both models share one latent space.",
                ),
                io.Combo.Input(
                    "strategy",
                    options=list(DECISIONS),
                    default="refine",
                    tooltip="refine: put noise on the student's image and let the teacher denoise it. regenerate: let "
                    "the teacher make the image anew, from the noise that the student started from.",
                ),
                io.Float.Input(
                    "rollback",
                    default=0.7,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="How far a refined image goes back towards noise. High changes more of the composition.",
                ),
                io.Combo.Input(
                    "rollback_mode",
                    options=["schedule", "noise_variance"],
                    default="schedule",
                    tooltip="What rollback means. schedule: a fraction of the schedule, as KSampler's denoise. "
                    "noise_variance: the share of the noise in the variance, as in the paper's Algorithm 1.",
                ),
                io.Int.Input(
                    "steps", default=12, min=1, max=10000, tooltip="The teacher's steps for each rejected image."
                ),
                io.Float.Input(
                    "cfg",
                    default=7.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="The teacher's guidance scale.",
                ),
                io.Combo.Input(
                    "sampler_name", options=KSampler.SAMPLERS, default="dpmpp_2m", tooltip="The teacher's sampler."
                ),
                io.Combo.Input(
                    "scheduler", options=KSampler.SCHEDULERS, default="normal", tooltip="The teacher's noise schedule."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The student's seed: with it each image is redone in its own starting noise.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images", is_output_list=True, tooltip="All images in their order, the rejected ones redone."
                ),
                io.Boolean.Output(
                    "refined", is_output_list=True, tooltip="For each image, whether the teacher redid it."
                ),
                ReceiptSocket.Output("receipt", tooltip="Decisions, network evaluations (counted) and seconds."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def check_lazy_status(cls, images, scores, threshold, **_):
        return list(LAZY) if any(sum(rejections(images, scores, threshold), [])) else []

    @classmethod
    def execute(cls, images, scores, threshold, latent=None, **inputs) -> io.NodeOutput:
        began = time.perf_counter()
        rejected = rejections(images, scores, threshold)
        inputs["latent"] = [None] if latent is None else latent
        for name, values in inputs.items():
            if len(values) not in (1, len(images)):
                raise ValueError(
                    f"{len(values)} entries in the list of {name}, but {len(images)} in the list of images; "
                    "give one for all, or one for each"
                )
        takes = [
            Take(batch, flags, **{name: values[place if len(values) > 1 else 0] for name, values in inputs.items()})
            for place, (batch, flags) in enumerate(zip(images, rejected, strict=True))
        ]
        done = redo(takes)
        settings = {name: values[0] for name, values in inputs.items() if name not in (*LAZY, "latent")}
        receipt = Receipt(
            decisions=tuple(DECISIONS[take.strategy] if no else "kept" for take in takes for no in take.rejected),
            evaluations=tuple(count for each in done for count in each.evaluations),
            seconds=time.perf_counter() - began,
            settings=settings,
        )
        warned = dict.fromkeys(warning(take.model, take.subset.batch) for take in takes if take.in_parts)
        text = "\n".join(filter(None, warned))
        return io.NodeOutput(
            [each.images for each in done],
            sum(rejected, []),
            receipt,
            ui=shown(text, cls.hidden.unique_id) if text else None,
        )


def rejections(images: Sequence[torch.Tensor], scores: Sequence, threshold: Sequence) -> list[list[bool]]:
    """For each batch of the list of images, which of its images the threshold rejects."""
    counts = check_images("images", images)
    values = values_of(scores, sum(counts))
    if any(each != threshold[0] for each in threshold):
        raise ValueError(f"a list of {len(threshold)} different thresholds; give one for all images.")
    flags = iter(threshold[0].rejected(values))
    return [[next(flags) for _ in range(count)] for count in counts]


@dataclass
class Take:
    """One batch of the list of images, and everything that the teacher needs to redo its rejected images.

    model, positive, negative and vae are None where no image of the whole list is rejected.
    """

    images: torch.Tensor
    rejected: list[bool]
    model: object
    positive: list | None
    negative: list | None
    vae: object
    start_from: str
    strategy: str
    rollback: float
    rollback_mode: str
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    seed: int
    latent: Mapping | None

    def __post_init__(self):
        from comfy.samplers import sampler_object

        self.sampler = sampler_object(self.sampler_name)
        self.subset = Subset([i for i, no in enumerate(self.rejected) if no], len(self.rejected))
        if self.latent is None and self.start_from == "latent":
            raise ValueError("start_from is 'latent', but no latent is connected: connect one or start from images.")
        latent = self.latent or {}
        counts = {"latents": len(latent.get("samples", self.rejected))}
        self.batch_index = latent.get("batch_index")
        if self.batch_index is not None:
            counts["entries in the latent's batch_index"] = len(self.batch_index)
        for what, count in counts.items():
            if count != self.subset.batch:
                raise ValueError(
                    f"{count} {what}, but {self.subset.batch} images: connect the latent that these images came from."
                )

    @property
    def runs(self) -> int:
        """How many sampling runs it takes."""
        count = len(self.subset.images)
        return runs_needed(self.sampler_name, self.sampler, self.latent or {}, count) if count else 0

    @property
    def in_parts(self) -> bool:
        """Whether the model samples a part of the batch at a time."""
        return self.runs > 1 or self.runs == 1 and not self.subset.whole

    @property
    def indices(self) -> list[int]:
        """The places of the rejected images in the student's whole batch, on which their noise depends."""
        return [i if self.batch_index is None else self.batch_index[i] for i in self.subset.images]

    def sigmas(self) -> torch.Tensor:
        """The teacher's noise levels, falling to 0, from the one that the image is put back to."""
        from comfy.model_sampling import CONST
        from comfy.samplers import KSampler

        whole = self.strategy == "regenerate" or self.rollback == 1
        denoise = 1.0 if whole or self.rollback_mode == "noise_variance" else self.rollback
        model, device = self.model, self.model.load_device
        host = KSampler(model, self.steps, device, self.sampler_name, self.scheduler, denoise, model.model_options)
        if whole or self.rollback_mode == "schedule":
            return host.sigmas
        sampling = model.get_model_object("model_sampling")
        lowest, highest = float(sampling.sigma_min), float(sampling.sigma_max)
        flow = isinstance(sampling, CONST)
        return noise_variance(host.calculate_sigmas, self.steps, self.rollback, lowest, highest, flow).to(device)

    def start(self, pixels: torch.Tensor) -> dict:
        """The rejected images' latents before noise, and their noise mask. pixels: their images for the VAE."""
        cut = {} if self.latent is None else self.subset.latent(self.latent)
        channels = self.model.get_model_object("latent_format").latent_channels
        size = tuple(side // self.vae.spacial_compression_encode() for side in pixels.shape[1:3])
        if self.start_from == "latent":
            samples, maker = cut["samples"], "the latent has"
        elif self.strategy == "refine" or "noise_mask" in cut:
            samples, maker = encode(self.vae, pixels), "the VAE makes"
        else:
            samples, maker = torch.zeros(len(pixels), channels, *size, dtype=_latent_dtype()), "a blank latent has"
        if samples.shape[1] != channels or tuple(samples.shape[-2:]) != size:
            raise ValueError(
                f"{maker} {samples.shape[1]} channels of {_text(samples.shape[-2:])} (height x width), but these "
                f"images in the teacher's latent space are {channels} channels of {_text(size)}: start from images, "
                "through the teacher's own VAE."
            )
        if self.strategy == "regenerate" and "noise_mask" not in cut:
            samples = torch.zeros_like(samples)
        start = {"samples": _with_model_dimensions(self.model, samples)}
        if "noise_mask" in cut:
            start["noise_mask"] = cut["noise_mask"]
            if start["noise_mask"].shape[-2:] == self.images.shape[1:3]:
                start["noise_mask"] = extended(start["noise_mask"], *pixels.shape[1:3], dims=(-2, -1))
        return start


class Redone(NamedTuple):
    """A whole batch after the teacher: its images, and network evaluations per image (0 where it was kept)."""

    images: torch.Tensor
    evaluations: list[int]


def redo(takes: Sequence[Take]) -> list[Redone]:
    """Each take after the teacher; kept images are those that came in, bit for bit."""
    from comfy.model_management import throw_exception_if_processing_interrupted

    done, progress = [], None
    for take in takes:
        chosen = take.subset.images
        evaluations = [0] * take.subset.batch
        images = take.images
        if chosen:
            throw_exception_if_processing_interrupted()
            progress = progress or Progress(take.model, take.steps, sum(each.runs for each in takes))
            pixels, counts = _redo(take, progress)
            images = images.clone()
            images[chosen] = pixels
            for i, count in zip(chosen, counts, strict=True):
                evaluations[i] = count
        done.append(Redone(images, evaluations))
    return done


def _redo(take: Take, progress: Progress) -> tuple[torch.Tensor, list[int]]:
    """The rejected images, redone, and their network evaluations."""
    subset = take.subset
    before = take.images[subset.images]
    pixels = extended_to_multiple(before[..., :3], take.vae.spacial_compression_encode())
    start = take.start(pixels)
    samples = start["samples"]
    noise = starting_noise((subset.batch, *samples.shape[1:]), samples.dtype, take.seed, take.batch_index)
    samples, evaluations = sample_images(
        take.model,
        take.sampler_name,
        take.sampler,
        take.sigmas(),
        take.cfg,
        subset.conditioning(take.positive, samples.shape[2:]),
        subset.conditioning(take.negative, samples.shape[2:]),
        start,
        noise[subset.images],
        take.seed,
        take.indices,
        progress,
        rows=subset,
    )
    return like(before, decode(take.vae, samples)), evaluations


def _with_model_dimensions(model, samples: torch.Tensor) -> torch.Tensor:
    """As the host's KSampler prepares latents: video models get a dimension for frames."""
    from comfy.sample import fix_empty_latent_channels

    return fix_empty_latent_channels(model, samples)


def _latent_dtype() -> torch.dtype:
    """The type that the host's Empty Latent Image makes; hosts before 0.9 always make float32."""
    from comfy import model_management

    return getattr(model_management, "intermediate_dtype", lambda: torch.float32)()


def _text(sides: Sequence[int]) -> str:
    return " x ".join(str(side) for side in sides)

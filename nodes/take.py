"""What belongs to the images that the teacher redoes: their latents, masks, noise and places in the student's batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ..samplers.presets import Teacher
from ..samplers.presets.settings import Schedule
from .batches import split
from .latent_space import require_space
from .pixels import encode, extended, extended_to_multiple
from .seeds import BatchNoise, made_with, noise_of_image
from .subset import Subset
from .teacher_settings import rollback_of_shot

CONDITIONING = ("positive", "negative")


class Place(NamedTuple):
    """Where an image stands in the student's batch of ``batch`` images: image ``row`` of ``latent``, or, where there
    is none, of the whole list of images."""

    latent: Mapping | None
    row: int
    batch: int

    def noise(self, seed: int) -> BatchNoise:
        """The batch's noise by this seed and the latent's batch_index."""
        indices = (self.latent or {}).get("batch_index")
        return BatchNoise(seed, self.batch, None if indices is None else tuple(indices))


def places_of(latents: Sequence[Mapping | None], counts: Sequence[int]) -> list[tuple[Place, ...]]:
    """For each batch of a list of images, the Places of its images; counts: how many each batch has.

    latents: one for each image, in batches of any size; or one batch for every entry of the list; or [None].
    Raises ValueError for other counts.
    """
    if latents[0] is None:
        found = [Place(None, row, sum(counts)) for row in range(sum(counts))]
    else:
        found = [Place(latent, row, len(latent["samples"])) for latent in latents for row in range(_checked(latent))]
    if len(latents) == 1 and set(counts) == {len(found)}:
        found *= len(counts)
    if len(found) != sum(counts):
        raise ValueError(
            f"{len(found)} latents, but {sum(counts)} images: connect the latent that these images came from."
        )
    return list(split(found, counts))


def _checked(latent: Mapping) -> int:
    count, indices = len(latent["samples"]), latent.get("batch_index")
    if indices is not None and len(indices) != count:
        raise ValueError(f"{len(indices)} entries in the latent's batch_index, but {count} latents; give one for each.")
    return count


@dataclass
class Take:
    """One batch of the list of images, and everything that the teacher needs to redo its rejected images.

    listed: the inputs that came as a list with one for each batch of images. Those are for the images of this batch,
    and the others for the whole batches in which the images have their Places.
    model, positive, negative and vae are None where no image of the whole list is rejected.
    row: the table's, whose settings these are; scheduler may then be a schedule of its own. badness: how far below the
    threshold each image's score is, 0 to 1; None where the way back does not depend on it.
    """

    images: torch.Tensor
    rejected: list[bool]
    places: Sequence[Place]
    listed: frozenset[str]
    model: object
    positive: list | None
    negative: list | None
    vae: object
    start_from: str
    strategy: str
    rollback_mode: str
    rollback: float
    strength: str
    rollback_worst: float
    steps: int
    cfg: float
    sampler_name: str
    scheduler: Schedule
    seed_from: str
    seed: int
    row: Teacher | None = None
    badness: Sequence[float] | None = None

    def __post_init__(self):
        from comfy.samplers import sampler_object

        self.sampler = sampler_object(self.sampler_name)
        if self.places[0].latent is None and self.start_from == "latent":
            raise ValueError("start_from is 'latent', but no latent is connected: connect one or start from images.")
        self.shots = [Shot(self, image) for image, no in enumerate(self.rejected) if no]

    @property
    def chosen(self) -> list[int]:
        return [shot.image for shot in self.shots]

    def encode(self):
        """Give each shot its latent before noise, and its noise mask."""
        pixels = extended_to_multiple(self.images[self.chosen][..., :3], self.vae.spacial_compression_encode())
        cuts = [shot.cut() for shot in self.shots]
        masked = any("noise_mask" in cut for cut in cuts)
        channels = self.model.get_model_object("latent_format").latent_channels
        size = tuple(side // self.vae.spacial_compression_encode() for side in pixels.shape[1:3])
        if self.start_from == "latent":
            for shot in self.shots:
                require_space(shot.space, self.model)
            samples, maker = [cut["samples"] for cut in cuts], "the latent has"
        elif self.strategy == "refine" or masked:
            samples, maker = encode(self.vae, pixels).split(1), "the VAE makes"
        else:
            blank = torch.zeros(1, channels, *size, dtype=_latent_dtype())
            samples, maker = [blank] * len(pixels), "a blank latent has"
        for shot, cut, sample in zip(self.shots, cuts, samples, strict=True):
            if sample.shape[1] != channels or tuple(sample.shape[-2:]) != size:
                raise ValueError(
                    f"{maker} {sample.shape[1]} channels of {_text(sample.shape[-2:])} (height x width), but these "
                    f"images in the teacher's latent space are {channels} channels of {_text(size)}: start from "
                    "images, through the teacher's own VAE."
                )
            shot.mask = cut.get("noise_mask")
            if shot.mask is not None and shot.mask.shape[-2:] == self.images.shape[1:3]:
                shot.mask = extended(shot.mask, *pixels.shape[1:3], dims=(-2, -1))
            if self.strategy == "regenerate" and shot.mask is None:
                sample = torch.zeros_like(sample)
            shot.samples = _with_model_dimensions(self.model, sample)


@dataclass
class Shot:
    """One rejected image: ``image`` is its place in its take, ``place`` that in the student's batch.

    noise, row: the noise of a whole batch, and which of its images this one is.
    seed_travelled: whether that came with the student's latent.
    samples, mask: its latent [1, C, ...] and noise mask, or None, from ``Take.encode``; then the teacher's.
    in_parts: the model sampled it without some images of its whole batch.
    preset, space: the student that made its latent and the space that this is of, None where that is not known.
    said: how it was sampled.
    """

    take: Take
    image: int
    samples: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    evaluations: int = 0
    in_parts: bool = False
    said: Sequence[str] = ()
    noise: BatchNoise = field(init=False)
    row: int = field(init=False)

    def __post_init__(self):
        take, self.place = self.take, self.take.places[self.image]
        found = noise_of_image(self.place.latent, self.place.row) if take.seed_from == "latent" else None
        self.seed_travelled = found is not None
        self.noise, self.row = found or (self.place.noise(take.seed), self.place.row)
        key, _ = made_with(self.place.latent, self.place.row) or ({}, 0)
        self.preset, self.space = key.get("preset"), key.get("space")

    @property
    def index(self) -> int:
        """The place in the student's whole batch, on which the noise depends."""
        return self.noise.index(self.row)

    @property
    def badness(self) -> float | None:
        """How far below the threshold its score is, if that counts."""
        return None if self.take.badness is None else self.take.badness[self.image]

    @property
    def rollback(self) -> float:
        """How far back it goes, once its latent is known."""
        return rollback_of_shot(self)

    def place_in_batch(self, name: str) -> tuple[int, int]:
        """The image's place in, and the size of, the batch that this input of the node is for."""
        whole = name not in self.take.listed
        return (self.place.row, self.place.batch) if whole else (self.image, len(self.take.images))

    def cut(self) -> dict:
        """The image's own latent and noise mask; empty without a latent."""
        if self.place.latent is None:
            return {}
        present = {key: value for key, value in self.place.latent.items() if value is not None}
        cut = Subset([self.place.row], self.place.batch).latent(present)
        if "noise_mask" in cut and cut["samples"].ndim == 4:
            cut["noise_mask"] = cut["noise_mask"].reshape(-1, 1, *cut["noise_mask"].shape[-2:])[:1]
        return cut

    def agrees_in(self) -> tuple:
        """What two images must have in common to be sampled in one batch, the model first.

        The batches' sizes are part of it, since what holds something for each image is spread over those.
        """
        take, mask = self.take, self.mask
        if mask is not None:  # the frames of a video are no batch
            mask = (*mask.shape[1:], mask.dtype) if len(mask) == 1 else id(mask)
        conditioning = (id(take.positive), id(take.negative))
        sizes = tuple(self.place_in_batch(name)[1] for name in (*CONDITIONING, "model"))
        rollback = None if take.strategy == "regenerate" else (self.rollback, take.rollback_mode)
        table = take.row and (take.row.key, self.preset)
        levels = (table, rollback, take.steps, take.cfg, take.sampler_name)
        shape = (*self.samples.shape, self.samples.dtype)
        return (id(take.model), conditioning, sizes, *levels, take.scheduler, self.noise.seed, shape, mask)


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

"""What belongs to the images that the teacher redoes: their latents, masks, noise and places in the student's batch."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from .latent_space import require_space
from .masks import fitted_mask, joint_mask
from .noise import needs_one_seed
from .pixels import encode, extended_to_multiple, resized
from .places import Place
from .seeds import BatchNoise, made_with, noise_of_image
from .subset import Subset
from .way_back import MODES, rollback_of, words


@dataclass(kw_only=True)
class Take(ABC):
    """One batch of the list of images, and everything that the teacher needs to redo its rejected images.

    listed: the inputs that came as a list with one for each batch of images. Those are for the images of this batch,
    and the others for the whole batches in which the images have their Places.
    masks: for each image what may change of it, [H, W] in 0 to 1, or None for all of it.
    badness: for each how far below the threshold its score is, 0 to 1; None where the way back does not depend on it.
    shared: by all takes of one run of the node, for MODELs that it patches.
    What comes in lazily is None where no image of the whole list is rejected.
    """

    images: torch.Tensor
    rejected: list[bool]
    places: Sequence[Place]
    listed: frozenset[str]
    masks: Sequence[torch.Tensor | None]
    vae: object
    start_from: str
    strategy: str
    rollback_mode: str
    rollback: float
    strength: str
    rollback_worst: float
    upscale_by: float
    seed_from: str
    seed: int
    badness: Sequence[float] | None = None
    shared: dict = field(default_factory=dict)

    # The node's inputs that may hold something for each image; the first brings the MODEL, with its patches.
    INPUTS: ClassVar[tuple[str, ...]]
    # A NOISE of the host for all images, in place of their seeds.
    noise: ClassVar[object] = None

    def __post_init__(self):
        if self.start_from == "latent" and self.places[0].latent is None:
            raise ValueError("start_from is 'latent', but no latent is connected: connect one or start from images.")
        if self.start_from == "latent" and self.upscale_by != 1:
            raise ValueError(
                f"start_from is 'latent' and upscale_by is {self.upscale_by:g}, but an image is enlarged in pixels: "
                "start from images, or set upscale_by to 1."
            )
        self.shots = [Shot(self, image) for image, no in enumerate(self.rejected) if no]

    # From the subclass: the teacher's MODEL; the host's GUIDER of it, with the conditioning of whole batches; what the
    # host calls the sampler, and its SAMPLER.
    model: ClassVar[object]
    guider: ClassVar[object]
    sampler_name: ClassVar[str]
    sampler: ClassVar[object]

    @abstractmethod
    def input_of(self, condition: str) -> str:
        """The node's input that this entry of the guider's conditioning comes from."""

    @abstractmethod
    def sigmas_of(self, shot: Shot) -> torch.Tensor:
        """The teacher's noise levels for this image, falling, from the one that it is put back to."""

    @abstractmethod
    def agrees_in(self) -> tuple:
        """What images of two takes must have in common, besides what is theirs, to be sampled in one batch."""

    def published(self, shot: Shot) -> float | None:
        """How far back this image goes where the widget does not say it; None where it does."""
        return None

    def said(self, shot: Shot, start: float) -> list[str]:
        """How an image was sampled, from the noise level ``start`` on."""
        if self.strategy == "regenerate" or self.rollback_mode not in MODES:
            return []
        sampling = self.model.get_model_object("model_sampling")
        why = self.source(shot)
        if shot.badness is not None:
            first = rollback_of(self, 0.0, self.published(shot))
            worst = f"{self.rollback_worst:g} at the calibration's worst score"
            if self.rollback_worst < first:
                worst += ", which is less far"
            why = f" by score, from {first:g}{why} at the threshold to {worst}"
        return [words(sampling, shot.rollback, self.rollback_mode, start, why)]

    def source(self, shot: Shot) -> str:
        """Where the way back of a threshold's image comes from, in words, if not from the widget alone."""
        return ""

    @functools.cached_property
    def one_seed(self) -> bool:
        """Whether images of different seeds are sampled apart."""
        return needs_one_seed(self.guider, self.sampler)

    @property
    def chosen(self) -> list[int]:
        return [shot.image for shot in self.shots]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width at which the images are redone, before they are extended for the VAE."""
        return tuple(round(side * self.upscale_by) for side in self.images.shape[1:3])

    def encode(self):
        """Give each shot its latent before noise, and its noise mask."""
        multiple = self.vae.spacial_compression_encode()
        pixels = extended_to_multiple(resized(self.images[self.chosen][..., :3], self.size), multiple)
        cuts = [shot.cut() for shot in self.shots]
        for shot, cut in zip(self.shots, cuts, strict=True):
            found = (cut.get("noise_mask"), self.masks[shot.image])
            own, given = (mask if mask is None else self._fitted(mask, pixels) for mask in found)
            shot.mask = joint_mask(own, given, pixels.shape[1:3])
        masked = any(shot.mask is not None for shot in self.shots)
        channels = self.model.get_model_object("latent_format").latent_channels
        size = tuple(side // multiple for side in pixels.shape[1:3])
        if self.start_from == "latent":
            for shot in self.shots:
                require_space(
                    shot.space, self.model, "start_from is 'latent', but the student's latent", "start from images"
                )
            samples, maker = [cut["samples"] for cut in cuts], "the latent has"
        elif self.strategy == "refine" or masked:
            samples, maker = encode(self.vae, pixels).split(1), "the VAE makes"
        else:
            blank = torch.zeros(1, channels, *size, dtype=_latent_dtype())
            samples, maker = [blank] * len(pixels), "a blank latent has"
        for shot, sample in zip(self.shots, samples, strict=True):
            if sample.shape[1] != channels or tuple(sample.shape[-2:]) != size:
                raise ValueError(
                    f"{maker} {sample.shape[1]} channels of {_text(sample.shape[-2:])} (height x width), but these "
                    f"images in the teacher's latent space are {channels} channels of {_text(size)}: start from "
                    "images, through the teacher's own VAE."
                )
            if self.strategy == "regenerate" and shot.mask is None:
                sample = torch.zeros_like(sample)
            shot.samples = _with_model_dimensions(self.model, sample)
            shot.rollback = rollback_of(self, shot.badness, self.published(shot))

    def _fitted(self, mask: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        return fitted_mask(mask, self.images.shape[1:3], self.size, pixels.shape[1:3])


@dataclass
class Shot:
    """One rejected image: ``image`` is its place in its take, ``place`` that in the student's batch.

    noise, row: the noise of a whole batch, and which of its images this one is.
    seed_travelled: whether that came with the student's latent.
    preset, space: the student that made its latent, and the space that this is of; None where that is not known.
    badness: how far below the threshold its score is, if the way back depends on that.
    samples, mask, rollback: its latent [1, C, ...], its noise mask, or None, and how far it goes back towards noise,
    from ``Take.encode``; samples are then the teacher's.
    in_parts: the model sampled it without some images of its whole batch. said: how it was sampled.
    """

    take: Take
    image: int
    samples: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    evaluations: int = 0
    in_parts: bool = False
    said: Sequence[str] = ()
    place: Place = field(init=False)
    noise: BatchNoise = field(init=False)
    row: int = field(init=False)
    rollback: float = field(init=False)
    badness: float | None = field(init=False)
    preset: str | None = field(init=False)
    space: str | None = field(init=False)

    def __post_init__(self):
        take = self.take
        self.place, self.rollback = take.places[self.image], take.rollback
        self.badness = None if take.badness is None else take.badness[self.image]
        key, _ = made_with(self.place.latent, self.place.row) or ({}, 0)
        self.preset, self.space = key.get("preset"), key.get("space")
        travels = take.seed_from == "latent" and take.noise is None
        found = noise_of_image(self.place.latent, self.place.row) if travels else None
        self.seed_travelled = found is not None
        seed = take.seed if take.noise is None else take.noise.seed
        self.noise, self.row = found or (self.place.noise(seed), self.place.row)

    @property
    def index(self) -> int:
        """The place in the student's whole batch, on which the noise depends."""
        return self.noise.index(self.row)

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

        The batches' sizes are part of it, since what holds something for each image is spread over those. The seed is
        not, for each image is sampled in its own noise, unless something reads the one seed of a run.
        """
        take, mask = self.take, self.mask
        if mask is not None:  # the frames of a video are no batch
            mask = (*mask.shape[1:], mask.dtype) if len(mask) == 1 else id(mask)
        sizes = tuple(self.place_in_batch(name)[1] for name in take.INPUTS)
        levels = (take.strategy, take.rollback_mode, self.rollback)
        seed = self.noise.seed if take.one_seed else None
        shape = (*self.samples.shape, self.samples.dtype)
        return (id(take.model), take.agrees_in(), take.upscale_by, sizes, levels, seed, shape, mask)


def subsets(shots: Sequence[Shot], conditions: Iterable[str]) -> dict[str, Subset]:
    """For each entry of a guider's conditioning, which images of its batches the shots are.

    Entries whose images are the same share one Subset, so that a ControlNet which they share is cut once.
    """
    made: dict[tuple, Subset] = {}
    found = {}
    for condition in conditions:
        subset = subset_of(shots, shots[0].take.input_of(condition))
        found[condition] = made.setdefault((tuple(subset.images), subset.batch), subset)
    return found


def subset_of(shots: Sequence[Shot], name: str) -> Subset:
    """Which images of the batch that this input of the node is for the shots are."""
    return Subset([shot.place_in_batch(name)[0] for shot in shots], shots[0].place_in_batch(name)[1])


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

"""How alike an image is to the one it was made from: a second oracle for editing, which must not lose its source."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import OracleError, check_images
from .preprocess import covering
from .scores import image_id

MEASURES = ("ssim", "clip")
WINDOW, WINDOW_SIGMA = 11, 1.5  # of structural similarity
K1, K2 = 0.01, 0.03


class Measure(ABC):
    """Compares pictures. ``network`` holds its weights, if any; ``fingerprint`` is of what makes its numbers."""

    family: str
    unit: str
    most: float  # of a picture and itself
    fingerprint: str
    network: nn.Module

    @abstractmethod
    def __call__(self, images: Tensor, sources: Sequence[Tensor]) -> Tensor:
        """One number for each of ``images`` ``[B, 3, H, W]`` and its own of ``sources`` ``[3, h, w]``, in [0, 1]."""


class StructuralSimilarity(Measure):
    """SSIM (Wang et al. 2004, eq. 13), the mean over colours and places: 1 for the same picture, at least -1.

    Windows are Gaussian, 11 pixels wide, and lie inside the picture. Computed in float64 on the CPU. A source of
    another size is cut to the image's proportions around its middle and resized.
    """

    family, unit, most = "ssim", "structural similarity, 1 for the same picture", 1.0
    fingerprint = hashlib.sha256(b"ssim: gaussian 11 x 11, sigma 1.5, inside, mean of three channels").hexdigest()

    def __init__(self):
        self.network = nn.Identity()

    def __call__(self, images: Tensor, sources: Sequence[Tensor]) -> Tensor:
        height, width = images.shape[-2:]
        if min(height, width) < WINDOW:
            raise OracleError(f"SSIM needs pictures of at least {WINDOW} x {WINDOW} pixels; got {width} x {height}")
        # One by one: five maps of float64 for each would be gigabytes of a large batch.
        pairs = zip(images, sources, strict=True)
        return torch.stack([ssim(image[None], covering(source[None], height, width))[0] for image, source in pairs])


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity ``[B]`` of pictures ``[B, C, H, W]`` in [0, 1] with sides of at least 11."""
    return ssim_map(x, y).mean((1, 2, 3)).float()


def ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """The same of each window, by the place of its middle: ``[B, C, H - 10, W - 10]``, float64."""
    place = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(place**2) / (2 * WINDOW_SIGMA**2))
    weights /= weights.sum()

    def local(maps: Tensor) -> Tensor:
        flat = maps.flatten(0, 1)[:, None]
        found = F.conv2d(F.conv2d(flat, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
        return found.unflatten(0, maps.shape[:2]).squeeze(2)

    x, y = x.double().cpu(), y.double().cpu()
    mean_x, mean_y = local(x), local(y)
    spread_x, spread_y = local(x * x) - mean_x * mean_x, local(y * y) - mean_y * mean_y
    shared = local(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    luminance = (mean_x * mean_y + mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (shared + shared + c2) / (spread_x + spread_y + c2)
    return luminance * structure


class ClipCosine(Measure):
    """100 times the cosine of CLIP's embeddings of two pictures, which may have any sizes: 100 for the same picture.

    ``path``: a whole CLIP or its image half, in OpenAI's, OpenCLIP's or transformers' layout; each picture is prepared
    as the package of that layout does. Raises FileNotFoundError, or ``CheckpointError`` for what is no CLIP.
    """

    family, unit, most = "clip-likeness", "100 x cosine of image embeddings", 100.0

    def __init__(self, path: str | Path, dtype: torch.dtype = torch.float32):
        from ..files import sha256
        from .activation import identity, in_openai_layout
        from .clip import load_image_tower
        from .preprocess import openai_clip, transformers_clip
        from .tensors import TensorFile

        file = TensorFile(path)
        self.network = load_image_tower(file, dtype)
        self.prepare = openai_clip if in_openai_layout(file) else transformers_clip
        told = f"{self.family} {identity(file, sha256(path), self.network)}"
        self.fingerprint = hashlib.sha256(told.encode()).hexdigest()

    def __call__(self, images: Tensor, sources: Sequence[Tensor]) -> Tensor:
        # Each by itself, on both sides: so that no score depends on what else is scored.
        embedded = [self._embedded(image) for image in images]
        known = {id(source): source for source in sources}  # one source may be that of all
        own = {key: self._embedded(source) for key, source in known.items()}
        pairs = zip(embedded, sources, strict=True)
        return torch.stack([100 * F.cosine_similarity(each, own[id(source)], dim=0) for each, source in pairs])

    @torch.no_grad()
    def _embedded(self, picture: Tensor) -> Tensor:
        pixels = self.prepare(picture[None].cpu(), self.network.config.image_size)
        weight = self.network.visual_projection.weight
        return self.network(pixel_values=pixels.to(weight)).image_embeds[0].float().cpu()


class Likeness:
    """How alike each image is to its source; called as an :class:`~understudy.oracles.base.Oracle` is.

    ``sources`` ``[3 or 4, h, w]`` in [0, 1]: one for all images, or one for each by its place among all of them, so
    that any part of the images is compared with its own sources. Alpha does not count; prompts are not read.
    Raises :class:`OracleError` without a source.
    """

    passes = 1
    reads_prompts = False

    def __init__(self, measure: Measure, sources: Sequence[Tensor]):
        if not sources:
            raise OracleError("there is no source to compare with; expected one for all images, or one for each")
        self.measure = measure
        self.sources = [source[:3].detach().float().clamp(0, 1) for source in sources]
        self.against = hashlib.sha256(" ".join(map(image_id, self.sources)).encode()).hexdigest()

    @property
    def family(self) -> str:
        return self.measure.family

    @property
    def unit(self) -> str:
        return self.measure.unit

    @property
    def fingerprint(self) -> str:
        """Of the measure alone: a calibration holds for any sources."""
        return self.measure.fingerprint

    @property
    def network(self) -> nn.Module:
        return self.measure.network

    def require_count(self, images: int) -> None:
        """Raise :class:`OracleError` unless there is one source for all, or one for each of that many images."""
        if len(self.sources) not in (1, images):
            raise OracleError(
                f"{len(self.sources)} sources for {images} images; expected one for all, or one for each in the same "
                "order. Where only some of the images are scored, give those images' sources alone"
            )

    def remarks(self, prompts: Sequence[str]) -> list[str]:
        return []

    def __call__(self, images: Tensor, prompts: Sequence[str], places: Sequence[int] | None = None) -> Tensor:
        """Likeness ``[B]`` (float32, CPU) of ``images`` ``[B, 3 or 4, H, W]`` in [0, 1]; higher is more alike.

        places: the images' numbers among all, 0, 1, 2 ... without. Raises :class:`OracleError` as an oracle does, and
        where an image has no source.
        """
        check_images(images, prompts, places)
        if places is None:
            self.require_count(len(images))
            places = range(len(images))
        return self.measure(images[:, :3].detach().float().clamp(0, 1), [self._source(place) for place in places])

    def _source(self, place: int) -> Tensor:
        if len(self.sources) == 1:
            return self.sources[0]
        if not 0 <= place < len(self.sources):
            raise OracleError(f"image {place + 1} has no source: there are {len(self.sources)}, one for each image")
        return self.sources[place]

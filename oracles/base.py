"""The oracle interface: images and prompts in, one score per image out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from .family import Family

# Devices that lack float64, which resizing needs, or may lack it; there it is done on the CPU.
WITHOUT_FLOAT64 = ("mps", "xpu", "privateuseone")


class OracleError(ValueError):
    """Images, prompts or scores that an oracle cannot work with."""


class NoScore(OracleError):
    """An oracle gave NaN or infinity. ``reason`` says which oracle and what, ``image`` is the image's place, from 0."""

    def __init__(self, reason: str, image: int, prompt: str, advice: str = "use float32 or another image"):
        super().__init__(f"{reason} for image {image + 1}, prompt {prompt!r}; {advice}")
        self.reason, self.image, self.prompt, self.advice = reason, image, prompt, advice


def check_images(images: torch.Tensor, prompts: Sequence[str], places: Sequence[int] | None = None) -> None:
    """Raise :class:`OracleError` unless ``images`` is a float ``[B, 3 or 4, H, W]`` in [0, 1] with one prompt each.

    places: the images' places among all, for the messages; None: 0, 1, 2 ...
    """
    import torch

    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
        raise OracleError(f"images are {kind}; expected a floating-point tensor [B, 3, H, W] in [0, 1]")
    if images.ndim != 4 or images.shape[1] not in (3, 4) or 0 in images.shape[2:]:
        raise OracleError(f"images have shape {list(images.shape)}; expected [B, 3, H, W], or 4 channels with alpha")
    if len(images) == 0:
        raise OracleError("there are no images; expected a batch of at least one")
    if isinstance(prompts, str) or len(prompts) != len(images):
        count = "one string" if isinstance(prompts, str) else f"{len(prompts)} prompts"
        raise OracleError(f"{count} for {len(images)} images; expected a list with one prompt per image")
    places = range(len(images)) if places is None else places
    if len(places) != len(images):
        raise OracleError(f"{len(places)} places for {len(images)} images; expected one for each")
    for place, image in zip(places, images, strict=True):
        low, high = image.aminmax()
        # The comparison is written so that NaN fails it too.
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise OracleError(
                f"image {place + 1} has values from {low:g} to {high:g}; expected [0, 1], so look at what made it"
            )


class Oracle(ABC):
    """Scores an image for a prompt; higher is better, deterministic, independent of the rest of the batch.

    ``record`` is what is known of its family, given by :func:`~understudy.oracles.load_oracle`. ``network`` is the one
    module that holds all weights, so that a host can move it between devices; scoring follows it there.
    ``fingerprint`` is the SHA-256 of the file, or of that and what else makes its scores: the encoder's file, an
    activation that is told from outside the file.
    """

    record: Family
    fingerprint: str
    against: str | None = None  # what its scores depend on beside image and prompt: a hash of the images' sources
    network: torch.nn.Module
    # Numbers of the network's input that go through it together on a CPU: four images of 224 x 224, one of 384 x 384.
    # What a layer of a large one makes of more no longer fits the processor's caches, which costs more than larger
    # products save (a tenth at 16 images, of ViT-L and ViT-H), and in bfloat16 takes gigabytes of an so400m.
    cpu_numbers = 4 * 3 * 224**2

    @property
    def family(self) -> str:
        return self.record.name

    @property
    def unit(self) -> str:
        """What the numbers are."""
        return self.record.unit

    @property
    def reads_prompts(self) -> bool:
        """Or are images scored by themselves?"""
        return self.record.reads_prompts

    @abstractmethod
    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """The network's own input for images ``[B, 3 or 4, H, W]`` in [0, 1], float32: resized, cropped, normalised.

        A fourth channel is alpha, which counts as in the family's own package.
        """

    @abstractmethod
    def score_prepared(self, pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Scores ``[B]`` of what :meth:`prepare` made, on the network's device."""

    def token_limit(self) -> int | None:
        """How many tokens of a prompt are read, the first and the last of the text included; None: no limit."""
        return None

    def token_count(self, prompt: str) -> int:
        """How many tokens a whole prompt has."""
        return 0

    def require_count(self, images: int) -> None:
        """Raise :class:`OracleError` unless that many images can be scored, be it in parts; any oracle of files can."""
        return

    def remarks(self, prompts: Sequence[str]) -> list[str]:
        """What a user should know about these prompts: that some are cut, or empty."""
        found, limit = [], self.token_limit()
        if limit is None:
            return found
        if cut := sum(self.token_count(prompt) > limit for prompt in dict.fromkeys(prompts)):
            found.append(f"{self.family} reads the first {limit} tokens of a prompt; {cut} longer ones are cut")
        if "" in (prompt.strip() for prompt in prompts):
            found.append("an empty prompt is scored as an empty text, which says little")
        return found

    def __call__(
        self, images: torch.Tensor, prompts: Sequence[str], places: Sequence[int] | None = None
    ) -> torch.Tensor:
        """Scores ``[B]`` (float32, CPU) of ``images`` ``[B, 3 or 4, H, W]`` in [0, 1] for one prompt each.

        places: the images' numbers among all, where these are some of a larger batch: for error messages, and for an
        oracle that has something of its own for each image. None: 0, 1, 2 ...
        Raises :class:`OracleError` for other shapes, types, ranges or counts, and :class:`NoScore`.
        """
        check_images(images, prompts, places)
        return self._finished(self._prepared(images), prompts, places)

    def mixed(self, images: Sequence[torch.Tensor], prompts: Sequence[str]) -> torch.Tensor:
        """As a call, for images ``[1, 3 or 4, H, W]`` of different sizes."""
        if len(images) != len(prompts):
            raise OracleError(f"{len(prompts)} prompts for {len(images)} images; expected one prompt per image")
        for index, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            check_images(image, [prompt], [index])
        import torch

        return self._finished(torch.cat([self._prepared(image) for image in images]), prompts)

    def _prepared(self, images: torch.Tensor) -> torch.Tensor:
        import torch

        device = next(self.network.parameters()).device
        place = "cpu" if device.type in WITHOUT_FLOAT64 else device
        with torch.no_grad():
            return self.prepare(images.detach().to(place, torch.float32).clamp(0, 1)).to(device)

    def _finished(
        self, pixels: torch.Tensor, prompts: Sequence[str], places: Sequence[int] | None = None
    ) -> torch.Tensor:
        import torch

        batch = max(1, self.cpu_numbers // pixels[0].numel()) if pixels.device.type == "cpu" else len(pixels)
        places = range(len(pixels)) if places is None else places
        with torch.no_grad():
            parts = [
                self.score_prepared(part, prompts[start : start + len(part)]).float().cpu()
                for start, part in zip(range(0, len(pixels), batch), pixels.split(batch), strict=True)
            ]
        scores = torch.cat(parts)
        for place, prompt, value in zip(places, prompts, scores.tolist(), strict=True):
            if not math.isfinite(value):
                given = "no number (NaN)" if math.isnan(value) else f"{value}"
                raise NoScore(f"{self.family} gave {given}", place, prompt)
        return scores

"""The oracle interface: images and prompts in, one score per image out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch


class OracleError(ValueError):
    """Images, prompts or scores that an oracle cannot work with."""


def check_images(images: torch.Tensor, prompts: Sequence[str], first: int = 0) -> None:
    """Raise :class:`OracleError` unless ``images`` is a float ``[B, 3, H, W]`` in [0, 1] with one prompt each.

    first: the number of the first image, for the messages.
    """
    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
        raise OracleError(f"images are {kind}; expected a floating-point tensor [B, 3, H, W] in [0, 1]")
    if len(images) == 0:
        raise OracleError("there are no images; expected a batch of at least one")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise OracleError(f"images have shape {list(images.shape)}; expected [B, 3, H, W]")
    if isinstance(prompts, str) or len(prompts) != len(images):
        count = "one string" if isinstance(prompts, str) else f"{len(prompts)} prompts"
        raise OracleError(f"{count} for {len(images)} images; expected a list with one prompt per image")
    for index, image in enumerate(images, start=first):
        low, high = image.aminmax()
        # The comparison is written so that NaN fails it too.
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise OracleError(
                f"image {index} has values from {low:g} to {high:g}; expected [0, 1], so look at what made it"
            )


class Oracle(ABC):
    """Scores an image for a prompt; higher is better, deterministic, independent of the rest of the batch.

    ``family`` and ``unit`` say what the numbers are, ``fingerprint`` is the SHA-256 of the file, and ``network`` is the
    one module that holds all weights, so that a host can move it between devices; scoring follows it there.
    """

    family: str
    unit: str
    fingerprint: str
    network: torch.nn.Module

    @abstractmethod
    def score(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Scores ``[B]`` of images ``[B, 3, H, W]`` in [0, 1], already checked and on the network's device."""

    def __call__(self, images: torch.Tensor, prompts: Sequence[str], first: int = 0) -> torch.Tensor:
        """Scores ``[B]`` (float32, CPU) of ``images`` ``[B, 3, H, W]`` in [0, 1] for one prompt each.

        first: the number of the first image, where these are a part of a larger batch, for error messages.
        Raises :class:`OracleError` for other shapes, types, ranges or counts, and for a score that is not a number.
        """
        check_images(images, prompts, first)
        device = next(self.network.parameters()).device
        with torch.no_grad():
            scores = self.score(images.detach().to(device).clamp(0, 1), prompts).float().cpu()
        for index, value in enumerate(scores.tolist()):
            if value != value:
                raise OracleError(
                    f"{self.family} gave no number (NaN) for image {first + index}, prompt {prompts[index]!r}; "
                    "use another precision or another image"
                )
        return scores

"""What the trainer needs of a teacher, whatever its architecture."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..process import Process


class Teacher(ABC):
    """A frozen latent text-to-image model.

    Embeddings are dicts of tensors with the batch as first dimension; what is in them is its own affair.
    """

    kind: str  # "sd1", "sdxl" or "demo"
    unet: nn.Module  # what a student starts from; always called through `call`
    process: Process
    fingerprint: str  # SHA-256 of the checkpoint
    file: str  # the checkpoint's name
    device: torch.device
    text_dtype: torch.dtype = torch.float32  # of the text encoders, and so of the embeddings
    latent_channels: int
    default_size: int  # side of its pictures in pixels
    factor: int = 8  # pixels to a latent

    @property
    def maker(self) -> str:
        """A name for everything that latents and embeddings follow from."""
        return self.fingerprint

    def is_of(self, said: str) -> bool:
        """Whether it is the checkpoint of this fingerprint."""
        return said == self.fingerprint

    def too_long(self, prompts: Sequence[str]) -> str:
        """How many of the prompts are longer than what it reads of one; empty for none."""
        return ""

    @abstractmethod
    def encode(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Scaled latents [B, C, H / factor, W / factor] of pixels [B, 3, H, W] in [0, 1].

        generator: draws from the autoencoder's posterior, where it has one; without it, the mode.
        """

    @abstractmethod
    def decode(self, latents: Tensor, clamp: bool = True) -> Tensor:
        """Pixels [B, 3, H, W] of scaled latents, in [0, 1] unless ``clamp`` is off; gradients flow through."""

    @abstractmethod
    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Embeddings of prompts, without gradients."""

    @abstractmethod
    def unconditional(self, count: int) -> dict[str, Tensor]:
        """Embeddings of the branch without a prompt, ``count`` rows, for guidance."""

    @abstractmethod
    def sizes(self, height: int, width: int, count: int) -> dict[str, Tensor]:
        """What else the architecture is told about the picture's size in pixels; may be empty."""

    @abstractmethod
    def call(self, unet: nn.Module, noisy: Tensor, t: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
        """The prediction [B, C, h, w] of ``unet``, this architecture's or a wrapper of it, at timesteps t [B].

        embeddings: from `embed` and `sizes`, and for a network that takes it, "guidance" [B], LCM's w = cfg - 1; with a
        "condition" [B, 3, H, W] in [0, 1] any network but the teacher's own gets that, too.
        """

    def under_condition(self, unet: nn.Module, told: dict[str, Tensor]) -> Callable:
        """``unet`` as it is called: a student's with the "condition" of ``told``, which is taken out of it.

        The teacher's own network takes none.
        """
        condition = told.pop("condition", None)
        return unet if condition is None or unet is self.unet else partial(unet, condition=condition)

    def with_guidance_input(self, width: int) -> nn.Module:
        """A float32 copy of the UNet that also reads a guidance scale, and as yet ignores it.

        Raises ValueError for an architecture whose UNet has no such input.
        """
        raise ValueError(f"a student of the {self.kind} architecture cannot embed the guidance scale; train without it")

    def rest(self) -> None:  # noqa: B027 - small networks stay where they are
        """Keep only the UNet in the device's memory, and no text encoders: what will be needed is embedded before.

        The unconditional branch stays at hand, and the autoencoder comes back when it is used.
        """

    def metadata(self, network: nn.Module) -> dict[str, str]:
        """What this architecture's loaders need to find in a file of ``network``'s weights."""
        return {}

    def control_metadata(self) -> dict[str, str]:
        """The same of a ControlNet for it."""
        return {}

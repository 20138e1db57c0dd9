"""What the trainer needs of a teacher, whatever its architecture."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import WINDOW, RecipeError
from ..process import Process
from .padding import cut, pad

EXAMPLES = (
    "a portrait photo of an old fisherman, soft morning light",
    "a red fox in the snow, photograph",
    "a watercolour painting of a harbour with small boats",
    "a bowl of oranges on a wooden table, still life",
)


class Teacher(ABC):
    """A frozen latent text-to-image model.

    Embeddings are dicts of tensors with the batch as first dimension; what is in them is its own affair. Where prompts
    have lengths, the names of those [B, L, ...] stand in ``padded``, and "mask" [B, L] among them is 1 where a prompt's
    own tokens are, which come first, and 0 where it was padded.
    """

    kind: str  # "sd1", "sdxl" or "demo"
    unet: nn.Module  # what a student starts from; always called through `call`
    process: Process
    fingerprint: str  # SHA-256 of the checkpoint
    file: str  # the checkpoint's name
    device: torch.device
    text_dtype: torch.dtype = torch.float32  # of the text encoders, and so of the embeddings
    clip_skip: int | None = None  # layer of CLIP that is read, from the end, where it is not the architecture's own
    latent_channels: int
    default_size: int  # side of its pictures in pixels
    factor: int = 8  # pixels to a latent
    shared: tuple[str, ...] = ()  # modules of its network that students have as they are, as files hold them once
    examples: tuple[str, ...] = EXAMPLES  # prompts for a look at a student
    padded: tuple[str, ...] = ()  # embeddings with a length of their own for each prompt, one of them "mask"; see join
    keeps_lengths: bool = False  # embeddings are never padded, so that only those of equal sizes share a pass
    attention_block: str = "mid_block.attentions.0.transformer_blocks.0.attn1"  # of `unet`: whose map guides it

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

    def read_texts_as(self, clip_skip: int | None, max_tokens: int) -> None:
        """Have prompts read as ``teacher.clip_skip`` and ``teacher.max_tokens`` of a recipe say, from now on.

        Raises RecipeError where the architecture has no such choice.
        """
        if clip_skip is not None or max_tokens != WINDOW:
            raise RecipeError(
                f"teacher.clip_skip and teacher.max_tokens are for the text encoders of SD 1.x and SDXL, and "
                f"{self.file} is of the {self.kind} architecture; leave them out"
            )

    @property
    def text_plan(self) -> tuple:
        """What embeddings follow from, beside the checkpoint and the prompt."""
        return (self.text_dtype,)

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

    def separate(self, embeddings: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """A batch of embeddings as single ones, without the batch's dimension and, of those with lengths, padding."""
        count = len(next(iter(embeddings.values())))
        rows = [{key: value[at] for key, value in embeddings.items()} for at in range(count)]
        return [cut(row, self.padded) for row in rows]

    def collate(self, rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Single embeddings, as :meth:`separate` gives them, as a batch; those with lengths are padded to the longest.

        Raises RuntimeError for others of several shapes.
        """
        rows = self._as_long(rows, 0)
        return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}

    def join(self, batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Batches of what the network is told, one below the other; embeddings with lengths are padded as above."""
        batches = self._as_long(batches, 1)
        return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}

    def _as_long(self, parts: Sequence[Mapping[str, Tensor]], dim: int) -> list[dict[str, Tensor]]:
        """The parts with embeddings of one length in dimension ``dim``."""
        return pad(parts, self.padded, dim)

    def order(self, embeddings: Mapping[str, Tensor]) -> list[int]:
        """Places of a batch in the order in which :meth:`call` has them go through the network."""
        return list(range(len(next(iter(embeddings.values())))))

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

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """[C, ...] of the latents of a picture of so many pixels."""
        return self.latent_channels, height // self.factor, width // self.factor

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


class WaitingTeacher(Teacher):
    """One whose ``unet`` is read when it is first asked for, which is to be after texts were embedded and `rest`."""

    @abstractmethod
    def outline(self) -> nn.Module:
        """What ``unet`` is going to be, on torch's meta device, without its weights.

        Raises CheckpointError where the checkpoint's headers show that it is not complete.
        """


class FromPath(ABC):
    """What a kind of teacher has besides that is found by what a path holds."""

    @classmethod
    def knows(cls, path: Path) -> bool:
        """Whether a path holds one of these, by names and headers alone."""
        return False

    @classmethod
    @abstractmethod
    def load(
        cls,
        path: Path,
        device: torch.device,
        dtype: torch.dtype,
        vae: Path | None,
        prediction: str,
        zero_snr: bool,
        empty: str,
    ) -> Teacher:
        """What a path holds; arguments and errors are `load_teacher`'s."""

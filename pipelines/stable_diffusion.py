"""SD 1.x and SDXL as a :class:`LatentModel`: diffusers' networks, no diffusers pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..predictor import Predictor
from ..samplers.denoisers import DiscreteDenoiser
from .model import LatentModel

if TYPE_CHECKING:
    from diffusers import ControlNetModel


@dataclass(frozen=True)
class TextEncoder:
    """A CLIP text encoder and its tokenizer."""

    network: nn.Module
    tokenizer: Any


@dataclass(frozen=True)
class Facts:
    """What a checkpoint says of itself, known before any network is read.

    guidance_width: of the UNet's input for the guidance scale, None without one.
    """

    alphas_cumprod: torch.Tensor
    prediction: str
    empty_negative_is_zero: bool
    guidance_width: int | None = None


@dataclass(frozen=True)
class Components:
    """Everything that a checkpoint holds; one text encoder for SD 1.x, two for SDXL."""

    unet: nn.Module
    vae: nn.Module
    texts: tuple[TextEncoder, ...]
    alphas_cumprod: torch.Tensor
    prediction: str
    empty_negative_is_zero: bool


@dataclass(frozen=True)
class Control:
    """A ControlNet and how strongly it counts: its residuals are multiplied by ``strength``."""

    network: ControlNetModel
    strength: float = 1.0

    def residuals(self, x, t, hint, context, pooled=None, time_ids=None) -> dict:
        """What a UNet is called with beside the rest, for ``hint`` ``[B, 3, H, W]`` in [0, 1] (Zhang et al. 2023)."""
        added = None if pooled is None else {"text_embeds": pooled, "time_ids": time_ids}
        down, middle = self.network(
            x,
            t,
            encoder_hidden_states=context,
            controlnet_cond=hint.to(x.dtype),
            conditioning_scale=self.strength,
            added_cond_kwargs=added,
            return_dict=False,
        )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


class StableDiffusion(LatentModel):
    """``negative`` is the text of the unconditional branch; ``control`` steers by the images' hints.

    The autoencoder runs in float32, the rest as loaded.
    """

    def __init__(
        self,
        components: Components,
        device: torch.device,
        negative: str = "",
        *,
        control: Control | None = None,
        predictor: Predictor | None = None,
    ):
        self.components, self.device, self.negative, self.control = components, device, negative, control
        if control is not None:
            control.network.to(device)
        self.unet, self.vae = components.unet.to(device), components.vae.to(device)
        self.network, self.predictor = self.unet, None if predictor is None else predictor.to(device)
        for text in components.texts:
            text.network.to(device)
        self.dtype = self.unet.dtype
        self.embeds_guidance = self.unet.config.time_cond_proj_dim is not None
        self.denoiser = DiscreteDenoiser(self._network, components.alphas_cumprod, components.prediction)

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        pixels = 2 ** (len(self.vae.config.block_out_channels) - 1)
        for side in size:
            if side < 1 or side % pixels:
                raise ValueError(f"size {size[1]}x{size[0]}: width and height must be multiples of {pixels}")
        return self.unet.config.in_channels, size[0] // pixels, size[1] // pixels

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        posterior = self.vae.encode(images.float() * 2 - 1).latent_dist
        return posterior.mode() * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        # One at a time: decoding is where memory peaks, and a batch makes it no faster.
        images = [self.vae.decode(one[None] / self.vae.config.scaling_factor).sample for one in latents.float()]
        return (torch.cat(images) / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def conditioning(self, prompts: Sequence[str], cfg: float, size: tuple[int, int]) -> dict[str, dict]:
        shared = {}
        if len(self.components.texts) > 1:
            shared["time_ids"] = time_ids(size, len(prompts), self.device)
        if self.embeds_guidance:
            shared["guidance"] = torch.full((len(prompts),), cfg - 1.0, device=self.device)
        conditioning = {"cond": {**self._encoded(prompts), **shared}}
        if cfg != 1 and not self.embeds_guidance:
            unconditional = self._encoded([self.negative] * len(prompts))
            if self.components.empty_negative_is_zero and not self.negative:
                unconditional = {key: torch.zeros_like(value) for key, value in unconditional.items()}
            conditioning["uncond"] = {**unconditional, **shared}
        return conditioning

    def remarks(self, prompts: Sequence[str]) -> list[str]:
        """What there is to say of these prompts: how many are longer than what its text encoders read."""
        said = too_long(self.components.texts, prompts)
        return [f"{said}; the rest of them does not count."] if said else []

    def _encoded(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        return text_states(self.components.texts, prompts, self.device)

    def _network(self, x, t, context, pooled=None, time_ids=None, guidance=None, hint=None) -> torch.Tensor:
        width, x = self.unet.config.time_cond_proj_dim, x.to(self.dtype)
        steered = {} if hint is None else self.control.residuals(x, t, hint, context, pooled, time_ids)
        return run_unet(self.unet, x, t, width, context, pooled, time_ids, guidance, steered)


def text_states(
    texts: Sequence[TextEncoder],
    prompts: Sequence[str],
    device: torch.device,
    clip_skip: int | None = None,
    windows: int = 1,
) -> dict[str, torch.Tensor]:
    """``context`` [B, 77, D] of prompts and, of two encoders (SDXL), ``pooled`` [B, P]; they are on ``device``.

    clip_skip: the layer that is read, counted from the last one, which is 1; as trained, SDXL's is 2 and SD 1.x's 1,
    which is normalised whichever it is. windows: how many times 75 tokens are read of a prompt, each between a start
    and an end of its own as ComfyUI reads long prompts, and the pooled text is the first one's. With several,
    ``context`` [B, 77 n, D] holds those of the longest prompt, shorter ones repeated, and ``mask`` [B, 77 n] is 1 in a
    prompt's own and 0 in its repetitions.
    """
    contexts, pooled = [], None
    for text in texts:
        cut = [token_windows(text.tokenizer, prompt, windows) for prompt in prompts]
        ids = torch.tensor([window for found in cut for window in found], device=device)
        output = text.network(ids, output_hidden_states=True)
        layer = _layer(text.network, output, clip_skip, penultimate=len(texts) > 1)
        counts = [len(found) for found in cut]
        contexts.append([part.flatten(0, 1) for part in layer.split(counts)])
        if len(texts) > 1:
            pooled = torch.stack([part[0] for part in output[0].split(counts)])
    rows = [torch.cat(parts, dim=-1) for parts in zip(*contexts, strict=True)]
    encoded = {"context": torch.stack(repeated(rows))}
    if windows > 1:
        encoded["mask"] = torch.stack([_own(len(row), encoded["context"]) for row in rows])
    return encoded if pooled is None else {**encoded, "pooled": pooled}


def token_windows(tokenizer, prompt: str, most: int) -> list[list[int]]:
    """A prompt's token ids in windows of the tokenizer's length, at most so many; what is beyond is left out."""
    length = tokenizer.model_max_length
    if most == 1:
        return [tokenizer(prompt, padding="max_length", max_length=length, truncation=True)["input_ids"]]
    inner, words = length - 2, tokenizer(prompt, add_special_tokens=False)["input_ids"]
    windows = []
    for start in range(0, max(len(words), 1), inner)[:most]:
        window = [tokenizer.bos_token_id, *words[start : start + inner], tokenizer.eos_token_id]
        windows.append(window + [tokenizer.pad_token_id] * (length - len(window)))
    return windows


def repeated(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Contexts [L, ...] of several lengths at one, each repeated whole: to attention as if each were there once."""
    longest = math.lcm(*(len(row) for row in rows))
    return [row.repeat(longest // len(row), *[1] * (row.ndim - 1)) for row in rows]


def _layer(network: nn.Module, output, clip_skip: int | None, penultimate: bool) -> torch.Tensor:
    """What is read of a text encoder's output, [N, 77, D]."""
    if clip_skip is None and not penultimate:
        return output.last_hidden_state
    states = output.hidden_states[-(clip_skip or 2)]  # SDXL reads the last layer but one of both encoders
    if penultimate:
        return states
    norm = next(module for name, module in network.named_modules() if name.endswith("final_layer_norm"))
    return norm(states)


def _own(count: int, context: torch.Tensor) -> torch.Tensor:
    """[L] with ones in the first ``count`` places of a context [B, L, D]."""
    return (torch.arange(context.shape[1], device=context.device) < count).to(context.dtype)


def too_long(texts: Sequence[TextEncoder], prompts: Sequence[str], windows: int = 1) -> str:
    """How many different prompts are longer than the text encoders read in so many windows; empty for none."""
    tokenize, prompts = texts[0].tokenizer, set(prompts)
    limit = windows * (tokenize.model_max_length - 2)
    # Two of a window's tokens are its own, and each of the others is at least a byte.
    long = [prompt for prompt in prompts if len(prompt.encode()) > limit]
    cut = sum(len(tokenize(prompt, truncation=True, max_length=limit + 3)["input_ids"]) > limit + 2 for prompt in long)
    verb = "is" if cut == 1 else "are"
    of = f"{windows} times " if windows > 1 else ""
    return (
        f"{cut} of {len(prompts)} prompts {verb} longer than the {of}{tokenize.model_max_length} tokens that the text "
        "encoder reads"
        if cut
        else ""
    )


def time_ids(size: tuple[int, int], count: int, device: torch.device) -> torch.Tensor:
    """``[count, 6]``: original size, crop corner, target size, in pixels (Podell et al. 2023, section 2.2)."""
    return torch.tensor([[*size, 0, 0, *size]], dtype=torch.float32, device=device).expand(count, -1)


def run_unet(
    unet: nn.Module,
    x,
    t,
    guidance_width: int | None,
    context,
    pooled=None,
    time_ids=None,
    guidance=None,
    steered: Mapping = MappingProxyType({}),
) -> torch.Tensor:
    """The output of a diffusers UNet, or of a wrapper of one. ``guidance`` [B] is LCM's w = cfg - 1; ``steered`` is
    what a ControlNet adds.
    """
    added = None if pooled is None else {"text_embeds": pooled, "time_ids": time_ids}
    embedded = None if guidance is None else guidance_embedding(guidance, guidance_width).to(x.dtype)
    return unet(x, t, encoder_hidden_states=context, added_cond_kwargs=added, timestep_cond=embedded, **steered).sample


def guidance_embedding(guidance: torch.Tensor, width: int) -> torch.Tensor:
    """``[B, width]``: sines and cosines of 1000 w (Luo et al. 2023, latent consistency models, section 4.2)."""
    half = width // 2
    rates = torch.exp(torch.arange(half, device=guidance.device) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
    angles = 1000 * guidance[:, None].float() * rates
    embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
    return nn.functional.pad(embedding, (0, width % 2))


def ends_in_noise(alphas_cumprod: torch.Tensor) -> bool:
    """Whether the last timestep is noise alone, or all but; that of the usual schedules is far from it."""
    return bool(alphas_cumprod[-1] < 1e-6)


def zero_terminal_snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """A schedule rescaled so that the last timestep is all but pure noise (Lin et al. 2024, algorithm 1)."""
    root = alphas_cumprod.sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    # Exactly 0 would be an infinite sigma; this is the value that ComfyUI puts in its place.
    return torch.cat([root[:-1] ** 2, root.new_tensor([4.8973451890853435e-08])])

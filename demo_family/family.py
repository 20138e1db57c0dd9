"""Load the demo family's networks for use without ComfyUI: diffusers' own classes, filled from one file each.

A teacher or student file holds ``unet.*`` (UNet2DConditionModel) and ``text.weight`` (one row for each token id of
``language``), and its metadata the UNet's config; the autoencoder's file holds AutoencoderTiny's keys.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..files import save_tensors
from .language import TOKENS, VOCABULARY_SIZE, parse, token_ids

FOLDER = Path(__file__).parent
LATENT_CHANNELS, LATENT_SIDE = 8, 8
TEXT_WIDTH = 64
TIMESTEPS = 1000
CHUNK = 16  # pictures that the autoencoder takes at once: on a CPU, larger activations cost more in page faults
UNET_CONFIG = {
    "sample_size": LATENT_SIDE,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    # Attention on 4x4 places alone: on 8x8 it would cost more than all the rest, and details are local.
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [64, 128],
    "layers_per_block": 1,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 32,
    "class_embed_type": "projection",
    "projection_class_embeddings_input_dim": TOKENS * TEXT_WIDTH,
}


class SceneNetwork(nn.Module):
    """A text-conditional v-prediction network on 8x8 latents: the UNet and the table of its token embeddings.

    The text reaches the UNet twice: its words through cross-attention, and all of them in a row, as a pooled text is,
    through the time embedding.
    """

    def __init__(self, config: dict | None = None):
        super().__init__()
        from diffusers import UNet2DConditionModel

        self.config = dict(config or UNET_CONFIG)
        self.unet = UNet2DConditionModel(**self.config)
        self.text = nn.Embedding(VOCABULARY_SIZE, TEXT_WIDTH)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor, joins: tuple[list[Tensor], Tensor] | None = None) -> Tensor:
        """v [B, 8, 8, 8] for noisy latents x [B, 8, 8, 8], timesteps t [B] in [0, 1000) and token ids [B, 8].

        joins: what a ``control.SceneControl`` adds to the skips and the middle.
        """
        words, (skips, middle) = self.text(tokens), joins or (None, None)
        added = {"down_block_additional_residuals": skips, "mid_block_additional_residual": middle}
        return self.unet(x, t, encoder_hidden_states=words, class_labels=words.flatten(1), **added).sample


def autoencoder() -> nn.Module:
    """An untrained autoencoder in TAESD's architecture: pixels [B, 3, 64, 64] in [0, 1] to latents [B, 8, 8, 8]."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(latent_channels=LATENT_CHANNELS)


def encode(vae: nn.Module, pixels: Tensor) -> Tensor:
    """Latents [B, 8, 8, 8] of pixels [B, 3, 64, 64] in [0, 1]."""
    return torch.cat([vae.encode(part * 2 - 1).latents for part in pixels.split(CHUNK)])


def decode(vae: nn.Module, latents: Tensor) -> Tensor:
    """Pixels [B, 3, 64, 64] in [0, 1] of latents [B, 8, 8, 8]."""
    pixels = torch.cat([vae.decode(part).sample for part in latents.split(CHUNK)])
    return (pixels / 2 + 0.5).clamp(0, 1)


def tokens_of(prompts: Sequence[str]) -> Tensor:
    """Token ids [B, 8] of free texts; an empty text is the unconditional one. Raises PromptError."""
    return torch.tensor([token_ids(parse(p) if p.strip() else None) for p in prompts]).view(-1, TOKENS)


@dataclass
class Part:
    """One loaded part of the family: its network and the autoencoder that both parts share."""

    network: SceneNetwork
    vae: nn.Module

    @property
    def device(self) -> torch.device:
        return self.network.text.weight.device


def load(part: str = "student", device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Part:
    """The "student" or the "teacher", ready for inference."""
    if part not in ("student", "teacher"):
        raise ValueError(f"the demo family has a student and a teacher; got {part!r}")
    network = load_network(FOLDER / f"{part}.safetensors")
    return Part(_ready(network, device, dtype), _ready(load_autoencoder(FOLDER / "vae.safetensors"), device, dtype))


def load_network(path: Path) -> SceneNetwork:
    """A teacher or student from its file, in fp32 on the CPU."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        network = SceneNetwork(json.loads(file.metadata()["config"]))
        network.load_state_dict({key: file.get_tensor(key).float() for key in file.keys()})
    return network


def load_autoencoder(path: Path) -> nn.Module:
    """The autoencoder from its file, in fp32 on the CPU."""
    from safetensors.torch import load_file

    vae = autoencoder()
    vae.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    return vae


def save(network: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write weights as fp16 safetensors, whole or not at all."""
    state = {key: value.detach().to("cpu", torch.float16).contiguous() for key, value in network.state_dict().items()}
    save_tensors(state, path, metadata)


def _ready(network: nn.Module, device: str | torch.device, dtype: torch.dtype) -> nn.Module:
    network = network.eval().requires_grad_(False).to(device)
    return network if dtype == torch.float32 else network.to(dtype)  # they come in float32

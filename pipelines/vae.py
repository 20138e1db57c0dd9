"""Autoencoders of SD 1.x and SDXL: in a checkpoint, in a file of their own, or in a diffusers folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..files import CheckpointError, Header, fill, read_header
from .folder_files import read_json, weight_files
from .layout import SD1, SDXL, VAE, Architecture, vae_config
from .renaming import original_shape, original_tensor, original_vae_names

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


def vae_files(path: Path) -> list[Path]:
    """The files that an autoencoder is read from."""
    return weight_files(_folder(path)) if path.is_dir() else [path]


def read_vae(path: str | Path, architecture: Architecture) -> dict:
    """Arguments of diffusers' AutoencoderKL for what lies there; reads no weights.

    Raises FileNotFoundError, or CheckpointError for what is no autoencoder of these latents.
    """
    path, shapes = Path(path), {}
    for file in vae_files(path):
        named, header = _names(file)
        for other in (SD1, SDXL):
            text = other.texts[-1].prefix
            if other is not architecture and any(key.startswith(text) for key in header.shapes):
                raise CheckpointError(
                    f"{path} is a checkpoint of {other.name}, whose autoencoder has other latents; expected one of "
                    f"{architecture.name}"
                )
        shapes |= {f"{VAE}{name}": original_shape(key, name, header.shapes[key]) for key, name in named.items()}
    try:
        config = vae_config(architecture, shapes)
    except CheckpointError as error:
        raise CheckpointError(f"{path} holds no autoencoder of {architecture.name}: {error}") from error
    if config["latent_channels"] != architecture.latent_channels:
        raise CheckpointError(
            f"{path} is an autoencoder of {config['latent_channels']} channels; {architecture.name} has latents of "
            f"{architecture.latent_channels}"
        )
    _require_scaling(path, architecture)
    return config


def load_vae(path: str | Path, architecture: Architecture) -> AutoencoderKL:
    """The autoencoder in float32, with the scale of the architecture's latents. Raises as :func:`read_vae`."""
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
    from safetensors import safe_open

    path = Path(path)
    config, weights = read_vae(path, architecture), {}
    for file in vae_files(path):
        named, header = _names(file)
        with safe_open(file, framework="pt") as opened:

            def read(key: str, opened=opened, header=header) -> torch.Tensor | None:
                return opened.get_tensor(key) if key in header.shapes else None

            weights |= {f"{VAE}{name}": original_tensor(key, name, read) for key, name in named.items()}
    with torch.device("meta"):
        network = AutoencoderKL(**config)
    return fill(path, network, convert_ldm_vae_checkpoint(weights, config), torch.float32, adopt=True)


def _folder(path: Path) -> Path:
    return path / "vae" if (path / "vae").is_dir() else path


def _names(file: Path) -> tuple[dict[str, str], Header]:
    """The original layout's names of the autoencoder's tensors, without ``VAE``, by the file's own; and the header."""
    header = read_header(file)
    inside = any(key.startswith(VAE) for key in header.shapes)
    prefixes = (VAE,) if inside else ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
    named = original_vae_names(key for key in header.shapes if key.startswith(prefixes))
    return {key: name.removeprefix(VAE) for key, name in named.items()}, header


def _require_scaling(path: Path, architecture: Architecture) -> None:
    config = _folder(path) / "config.json"
    scaling = read_json(config).get("scaling_factor") if config.is_file() else None
    if scaling not in (None, architecture.vae_scaling):
        raise CheckpointError(
            f"{path} scales latents by {scaling:g}, {architecture.name} by {architecture.vae_scaling:g}: it is another "
            "architecture's autoencoder"
        )

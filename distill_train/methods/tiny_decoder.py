"""TAESD's decoder: from latents to pixels at a fraction of the full autoencoder's cost."""

from pathlib import Path

from torch import nn

from ...files import CheckpointError, fill, read_header


def load_tiny_decoder(path: Path, latent_channels: int) -> nn.Module:
    """Scaled latents [B, C, h, w] to pixels [B, 3, 8 h, 8 w], nominally in [-1, 1]; frozen, float32.

    path: ``taesd_decoder.safetensors`` as it is published and as it lies in ComfyUI's models/vae_approx, or diffusers'
    AutoencoderTiny. Raises FileNotFoundError, or CheckpointError for another file.
    """
    import torch
    from diffusers import AutoencoderTiny
    from safetensors.torch import load_file

    header = read_header(path)
    with torch.device("meta"):
        decoder = AutoencoderTiny(latent_channels=latent_channels).decoder
    weights = load_file(path)
    if any(key.startswith("decoder.layers.") for key in header.shapes):
        found = {k.removeprefix("decoder."): v for k, v in weights.items() if k.startswith("decoder.")}
    elif all(key.split(".")[0].isdigit() for key in header.shapes):
        # The published file counts the clamp in front as a layer.
        found = {f"layers.{int(k.split('.')[0]) - 1}.{k.split('.', 1)[1]}": v for k, v in weights.items()}
    else:
        raise CheckpointError(f"{path} is no TAESD decoder; expected taesd_decoder.safetensors")
    return fill(path, decoder, found, torch.float32)

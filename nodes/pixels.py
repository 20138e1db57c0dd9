"""Images into a VAE and back: any size and alpha go in, and the same size and channels come out."""

from __future__ import annotations

import torch


def extended(tensor: torch.Tensor, height: int, width: int, dims: tuple[int, int]) -> torch.Tensor:
    """The tensor with its last row and column, along ``dims``, repeated up to ``height`` and ``width``."""
    for dim, side in zip(dims, (height, width), strict=True):
        if tensor.shape[dim] < side:
            places = torch.arange(side, device=tensor.device).clamp(max=tensor.shape[dim] - 1)
            tensor = tensor.index_select(dim, places)
    return tensor


def extended_to_multiple(images: torch.Tensor, multiple: int) -> torch.Tensor:
    """Images [B, H, W, C], their edges repeated up to sides that a VAE can take without cropping."""
    height, width = (-(-side // multiple) * multiple for side in images.shape[1:3])
    return extended(images, height, width, (1, 2))


def encode(vae, pixels: torch.Tensor) -> torch.Tensor:
    """Latents of images [B, H, W, 3]; a video VAE takes them one by one, since it reads a batch as one video."""
    if getattr(vae, "latent_dim", 2) == 3:
        return torch.cat([vae.encode(image[None]) for image in pixels])
    return vae.encode(pixels)


def decode(vae, samples: torch.Tensor) -> torch.Tensor:
    """Images [B, H, W, 3] of latents; a video VAE's single frames count as images."""
    images = vae.decode(samples)
    if images.ndim == 5:
        images = images.reshape(-1, *images.shape[-3:])
    if images.shape[0] != samples.shape[0]:
        raise ValueError(
            f"the VAE made {images.shape[0]} images of {samples.shape[0]} latents; use a model that makes images."
        )
    return images


def fitted_to(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """``after`` in the size, type and channels of ``before`` [B, H, W, 3 or 4]; alpha is that of ``before``."""
    height, width = before.shape[1:3]
    pixels = after[:, :height, :width, :3].to(before)
    return torch.cat([pixels, before[..., 3:]], dim=-1)

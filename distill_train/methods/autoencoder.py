"""Train the demo family's autoencoder on rendered scenes."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ...models.demo import checker, family
from ...models.demo.render import SIDE, render
from ..config import Strict
from ..randomness import generator
from ..scene_data import draw_scenes
from .base import Method


class Autoencoder(Method):
    """Reconstruction under noisy latents of unit variance.

    loss = mean |x - D(E(x) + n e)| + edge * mean |grad x - grad D(...)| + unit * (mean_c(m_c^2) + mean_c((s_c - 1)^2)):
    the noise makes the latent space smooth, the last term gives each channel mean 0 and standard deviation 1 over the
    batch, so that the diffusion network needs no scale factor. The networks are convolutions alone, so most steps see
    crops, at a fraction of the cost; the last ``whole`` share of them sees whole pictures.
    """

    class Settings(Strict):
        latent_noise: float = 0.05
        unit: float = 0.1
        edge: float = 1.0
        crop: int = 32
        whole: float = 0.1
        measured: int = 512

    def __init__(self, settings, recipe, device):
        super().__init__(settings, recipe, device)
        self.network = _Pair(family.autoencoder(), settings.latent_noise).to(memory_format=torch.channels_last)

    def loss(self, network: nn.Module, step: int) -> Tensor:
        g = generator(self.recipe.seed, "step", step)
        scenes = draw_scenes(self.recipe.loop.batch_size, g)
        pixels = render(scenes, g)
        if step < (1 - self.settings.whole) * self.recipe.loop.steps:
            pixels = _cropped(pixels, self.settings.crop, g)
        side = pixels.shape[-1] // (SIDE // family.LATENT_SIDE)
        noise = torch.randn(len(scenes), family.LATENT_CHANNELS, side, side, generator=g).to(self.device)
        pixels = pixels.to(self.device, memory_format=torch.channels_last)
        latents, restored = network(pixels, noise)
        target = pixels * 2 - 1
        deviation = latents.float().std(dim=(0, 2, 3)) - 1
        unit = latents.float().mean(dim=(0, 2, 3)).square().mean() + deviation.square().mean()
        edges = sum((restored.diff(dim=d) - target.diff(dim=d)).abs().mean() for d in (-1, -2))
        return (restored - target).abs().mean() + self.settings.edge * edges + self.settings.unit * unit

    def measure(self, network: nn.Module):
        g = generator(self.recipe.seed, "measure")
        scenes = draw_scenes(self.settings.measured, g, split="calibration")
        pixels = render(scenes, g).to(self.device)
        latents = torch.cat([family.encode(network.vae, part) for part in pixels.split(64)])
        restored = torch.cat([family.decode(network.vae, part) for part in latents.split(64)])
        exact = sum(checker.exact(restored, scenes)) / len(scenes)
        error = (restored - pixels).abs().mean().item()
        grid = torch.stack([pixels[:32], restored[:32]], dim=1).flatten(0, 1)
        return grid, {"exact": exact, "l1": error, "latent_std": latents.std().item()}

    def export(self, network: nn.Module, path: Path) -> None:
        family.save(network.vae, path, {"understudy": "demo-vae"})


def _cropped(pixels: Tensor, side: int, g: torch.Generator) -> Tensor:
    """One random square [B, 3, side, side] of each picture."""
    corners = torch.randint(pixels.shape[-1] - side + 1, (len(pixels), 2), generator=g).tolist()
    return torch.stack([p[:, y : y + side, x : x + side] for p, (y, x) in zip(pixels, corners, strict=True)])


class _Pair(nn.Module):
    """Encoder and decoder in one forward pass, so that the loop sees one network."""

    def __init__(self, vae: nn.Module, latent_noise: float):
        super().__init__()
        self.vae, self.latent_noise = vae, latent_noise

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.vae.encode(pixels * 2 - 1).latents
        return latents, self.vae.decode(latents + self.latent_noise * noise).sample

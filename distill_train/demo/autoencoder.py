"""Train the demo family's autoencoder on rendered scenes."""

from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...demo_family import checker, family
from ...demo_family.render import SIDE, render
from ..config import RecipeError, Strict
from ..data.randomness import generator
from ..methods.base import Method
from .scenes import draw_scenes


class Autoencoder(Method):
    """Reconstruction under noisy latents of unit variance.

    loss = mean w (e^2 + |e|) / mean w + unit * (mean_c(m_c^2) + mean_c((s_c - 1)^2)), e the error of D(E(x) + n eps).
    The weight w lifts the few pixels in and around the things; the noise makes the latent space smooth; the last
    term gives each channel mean 0 and standard deviation 1 over the batch, so that no scale factor is needed. The
    networks are convolutions alone, so most steps see crops, at a fraction of the cost. They lie around outlines: there
    the shapes differ, and small stars, which are learned last, have the longest outlines for their size. A share of the
    steps, and the end of the run, see whole pictures, whose borders lie elsewhere.
    """

    name = "autoencoder"
    summary = "the demo family's autoencoder"
    source = "TAESD's architecture"

    class Settings(Strict):
        warm_start: Path | None = Field(None, description="folder with TAEF2 to start from; random weights without it")
        latent_noise: float = Field(
            0.05, description="noise on the latents while training: the larger, the smoother their space"
        )
        unit: float = Field(
            0.1, description="weight of the term that gives each channel mean 0 and standard deviation 1"
        )
        foreground: float = Field(8.0, description="how much more pixels in and around the things weigh")
        crop: int = Field(24, description="side of the crops that most steps see")
        whole: float = Field(0.1, description="share of the steps that see whole pictures")
        whole_at_end: float = Field(0.05, description="share of the run, at its end, that sees whole pictures only")
        measured: int = Field(256, description="pictures that are measured")

    def __init__(self, settings, recipe, device):
        super().__init__(settings, recipe, device)
        vae = _variance_preserving(family.autoencoder())
        if settings.warm_start is not None:
            _take_over(vae, family.FOLDER / settings.warm_start)
        self.network = _Pair(vae, settings.latent_noise).to(memory_format=torch.channels_last)

    def loss(self, network: nn.Module, step: int) -> Tensor:
        g = generator(self.recipe.seed, "step", step)
        scenes = draw_scenes(self.recipe.loop.batch_size, g)
        pixels = render(scenes, g)
        if not self._whole(step, g):
            pixels = _cropped(pixels, self.settings.crop, g)
        side = pixels.shape[-1] // (SIDE // family.LATENT_SIDE)
        noise = torch.randn(len(scenes), family.LATENT_CHANNELS, side, side, generator=g).to(self.device)
        pixels = pixels.to(self.device, memory_format=torch.channels_last)
        latents, restored = network(pixels, noise)
        target = pixels * 2 - 1
        deviation = latents.std(dim=(0, 2, 3)) - 1
        unit = latents.mean(dim=(0, 2, 3)).square().mean() + deviation.square().mean()
        background = target.flatten(2).median(dim=2).values[:, :, None, None]
        things = ((target - background).abs() > 0.1).any(dim=1, keepdim=True).float()
        # The ground close by as well: else a notch that is filled in costs less than a tip that is lost.
        weight = 1 + self.settings.foreground * F.max_pool2d(things, 5, stride=1, padding=2)
        error = restored - target
        return (weight * (error.square() + error.abs())).mean() / weight.mean() + self.settings.unit * unit

    def _whole(self, step: int, g: torch.Generator) -> bool:
        at_end = step >= (1 - self.settings.whole_at_end) * self.recipe.loop.steps
        return at_end or torch.rand((), generator=g).item() < self.settings.whole

    def measure(self, network: nn.Module):
        g = generator(self.recipe.seed, "measure")
        scenes = draw_scenes(self.settings.measured, g, split="calibration")
        pixels = render(scenes, g).to(self.device)
        latents = family.encode(network.vae, pixels)
        restored = family.decode(network.vae, latents)
        exact = sum(checker.exact(restored, scenes)) / len(scenes)
        error = (restored - pixels).abs().mean().item()
        grid = torch.stack([pixels[:32], restored[:32]], dim=1).flatten(0, 1)
        return grid, {"exact": exact, "l1": error, "latent_std": latents.std().item()}

    def export(self, network: nn.Module, path: Path) -> None:
        family.save(network.vae, path, {"understudy": "demo-vae"})


def _variance_preserving(vae: nn.Module) -> nn.Module:
    """He initialisation, with residual branches at zero.

    PyTorch's own shrinks the signal by more than half at each of the ten plain convolutions, there being no
    normalisation in this architecture, and thousands of steps go into growing it again.
    """
    for name, module in vae.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if name.endswith("conv.4"):  # the last convolution of a residual block
                nn.init.zeros_(module.weight)
    return vae


def _take_over(vae: nn.Module, folder: Path) -> None:
    """Start from TAEF2, the same architecture trained on photographs: all but what touches its 32 latent channels.

    folder: holds taef2_encoder.safetensors and taef2_decoder.safetensors (madebyollin/taesd, MIT).
    Raises RecipeError if they are missing.
    """
    from safetensors.torch import load_file

    state = vae.state_dict()
    for half, shift in (("encoder", 0), ("decoder", 1)):  # the published decoder counts its clamp as a layer
        path = folder / f"taef2_{half}.safetensors"
        if not path.exists():
            raise RecipeError(f"there is no {path}; get it from madebyollin/taesd, or leave out settings.warm_start")
        for key, value in load_file(path).items():
            layer, _, rest = key.partition(".")
            ours = f"{half}.layers.{int(layer) - shift}.{rest}"
            if ours in state and state[ours].shape == value.shape:
                state[ours] = value.float()
    vae.load_state_dict(state)


def _cropped(pixels: Tensor, side: int, g: torch.Generator) -> Tensor:
    """One square [B, 3, side, side] of each picture, around a random pixel of an outline."""
    across = F.pad((pixels[:, :, :, 1:] - pixels[:, :, :, :-1]).abs().amax(dim=1), (0, 1))
    down = F.pad((pixels[:, :, 1:] - pixels[:, :, :-1]).abs().amax(dim=1), (0, 0, 0, 1))
    outline = (torch.maximum(across, down) > 0.1).flatten(1).float()
    at = torch.multinomial(outline, 1, generator=g)[:, 0]
    room = pixels.shape[-1] - side
    corners = [(min(max(i // SIDE - side // 2, 0), room), min(max(i % SIDE - side // 2, 0), room)) for i in at.tolist()]
    return torch.stack([p[:, y : y + side, x : x + side] for p, (y, x) in zip(pixels, corners, strict=True)])


class _Pair(nn.Module):
    """Encoder and decoder in one forward pass, so that the loop sees one network."""

    def __init__(self, vae: nn.Module, latent_noise: float):
        super().__init__()
        self.vae, self.latent_noise = vae, latent_noise

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.vae.encode(pixels * 2 - 1).latents
        return latents, self.vae.decode(latents + self.latent_noise * noise).sample

"""What the demo family's teachers share: scenes, some without their text so that they can be guided, and the loss."""

import json
from abc import abstractmethod
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...demo_family import family
from ..config import Strict
from ..data.randomness import generator
from ..methods.base import Method
from ..process import Level, Process
from .preview import measure_scenes
from .scenes import LatentSet, load_vae


class Denoising(Method):
    """Mean of weight |output - y|^2, y being what the network would return if it knew the picture and the noise.

    Subclasses say the ``process``, its times and their weight.
    """

    class Settings(Strict):
        vae: Path = Field(Path("vae.safetensors"), description="the autoencoder")
        pictures: int = Field(50_000, description="how many scenes are drawn and encoded")
        pictures_seed: int = Field(2, description="of the scenes")
        unconditional: float = Field(0.1, description="share of the samples that lose their text")
        cfg: float = Field(3.0, description="guidance scale of the samples that are measured")
        measured: int = Field(256, description="samples that are measured")
        block_out_channels: tuple[int, ...] = Field((64, 128), description="the network's width at each level")
        layers_per_block: int = Field(1, description="residual blocks at each level")

    process: Process

    def __init__(self, settings, recipe, device):
        super().__init__(settings, recipe, device)
        shape = {"block_out_channels": list(settings.block_out_channels), "layers_per_block": settings.layers_per_block}
        self.network = family.SceneNetwork(family.UNET_CONFIG | shape)

    def prepare(self, directory: Path) -> None:
        self.vae = load_vae(self.settings.vae, self.device)
        made_of = self.settings.vae, self.settings.pictures, self.settings.pictures_seed
        self.data = LatentSet.of_renders(*made_of, self.device, directory.parent / "cache")

    @abstractmethod
    def draw_times(self, count: int, g: torch.Generator) -> Tensor:
        """Times [B] of the process, on the CPU."""

    def weight(self, level: Level) -> Tensor | float:
        """Of those times in the loss, a number or [B, 1, 1, 1]."""
        return 1.0

    def loss(self, network: nn.Module, step: int) -> Tensor:
        g = generator(self.recipe.seed, "step", step)
        x0, tokens = self.data.draw(self.recipe.loop.batch_size, g)
        t = self.draw_times(len(x0), g).to(self.device)
        noise = torch.randn(x0.shape, generator=g).to(self.device)
        dropped = (torch.rand(len(x0), generator=g) < self.settings.unconditional).to(self.device)
        tokens = tokens.masked_fill(dropped[:, None], 0)
        level = self.process.level(t)
        output = network(level.noisy(x0, noise), self.process.network_time(t), tokens).float()
        squared = F.mse_loss(output, self.process.output(x0, noise, t), reduction="none")
        return (self.weight(level) * squared).mean()

    def measure(self, network: nn.Module):
        settings, model = self.settings, self.process.denoiser(network)
        return measure_scenes(model, self.vae, settings.measured, self.recipe.seed, steps=[16], cfg=settings.cfg)

    def export(self, network: nn.Module, path: Path) -> None:
        family.save(network, path, {"understudy": "demo-teacher", "config": json.dumps(network.config), **self.said()})

    def said(self) -> dict[str, str]:
        """What else the file's metadata say."""
        return {}

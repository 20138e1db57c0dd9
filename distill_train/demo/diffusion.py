"""Train the demo teacher: v-prediction with dropped texts, so that it can be guided."""

from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...demo_family import family
from ...samplers.denoisers import scaled_linear
from ..config import Strict
from ..data.randomness import generator
from ..methods.base import Method
from .preview import measure_scenes
from .scenes import LatentSet, load_vae


class Diffusion(Method):
    """``v = alpha eps - sigma x0``; loss = mean weight(t) |v_hat - v|^2, t uniform.

    The weight is min(SNR, gamma) / (SNR + 1), the min-SNR weighting for v-prediction (Hang et al. 2023).
    """

    name = "diffusion"
    summary = "the demo family's teacher"
    source = "Salimans and Ho 2022, v-prediction"

    class Settings(Strict):
        vae: Path = Field(Path("vae.safetensors"), description="the autoencoder")
        pictures: int = Field(50_000, description="how many scenes are drawn and encoded")
        pictures_seed: int = Field(2, description="of the scenes")
        unconditional: float = Field(0.1, description="share of the samples that lose their text")
        min_snr_gamma: float = Field(5.0, description="ceiling of the signal-to-noise ratio in the weight; 0: weight 1")
        cfg: float = Field(3.0, description="guidance scale of the samples that are measured")
        measured: int = Field(256, description="samples that are measured")
        block_out_channels: tuple[int, ...] = Field((64, 128), description="the network's width at each level")
        layers_per_block: int = Field(1, description="residual blocks at each level")

    def __init__(self, settings, recipe, device):
        super().__init__(settings, recipe, device)
        shape = {"block_out_channels": list(settings.block_out_channels), "layers_per_block": settings.layers_per_block}
        self.network = family.SceneNetwork(family.UNET_CONFIG | shape)
        self.alphas_cumprod = scaled_linear().float().to(device)

    def prepare(self, directory: Path) -> None:
        self.vae = load_vae(self.settings.vae, self.device)
        made_of = self.settings.vae, self.settings.pictures, self.settings.pictures_seed
        self.data = LatentSet.of_renders(*made_of, self.device, directory.parent / "cache")

    def loss(self, network: nn.Module, step: int) -> Tensor:
        g = generator(self.recipe.seed, "step", step)
        x0, tokens = self.data.draw(self.recipe.loop.batch_size, g)
        t = torch.randint(family.TIMESTEPS, (len(x0),), generator=g).to(self.device)
        noise = torch.randn(x0.shape, generator=g).to(self.device)
        dropped = (torch.rand(len(x0), generator=g) < self.settings.unconditional).to(self.device)
        tokens = tokens.masked_fill(dropped[:, None], 0)
        squared_alpha = self.alphas_cumprod[t][:, None, None, None]
        alpha, sigma = squared_alpha.sqrt(), (1 - squared_alpha).sqrt()
        v = network(alpha * x0 + sigma * noise, t, tokens)
        gamma = self.settings.min_snr_gamma
        weight = (squared_alpha / sigma**2).clamp(max=gamma) * sigma**2 if gamma else 1.0
        return (weight * F.mse_loss(v.float(), alpha * noise - sigma * x0, reduction="none")).mean()

    def measure(self, network: nn.Module):
        return measure_scenes(
            network, self.vae, self.settings.measured, self.recipe.seed, steps=[16], cfg=self.settings.cfg
        )

    def export(self, network: nn.Module, path: Path) -> None:
        family.save(network, path, {"understudy": "demo-teacher", "config": _json(network.config)})


def _json(config: dict) -> str:
    import json

    return json.dumps(config)

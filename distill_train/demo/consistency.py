"""Guided consistency distillation (methods: Song et al. 2023; Luo et al. 2023): the demo student."""

import json
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from ...demo_family import family
from ...demo_family.sampling import denoiser
from ...samplers.denoisers import scaled_linear
from ..config import Strict
from ..data.randomness import generator
from ..methods.base import Method
from ..students.ema import Ema
from .preview import measure_scenes
from .scenes import LatentSet, load_network, load_vae


class Consistency(Method):
    """f(z_t, t) of the student matches f of its average at z_s, one guided DDIM step of the teacher nearer to the data.

    The timesteps are ``intervals`` equal parts of the schedule, 1000/n - 1, ..., and 0 is the boundary where f is the
    identity: alpha_bar := 1 at the end, so that no c_skip and c_out are needed. The teacher is guided with a fixed
    scale and the student is not, so the guidance is distilled in and a student step costs one evaluation.
    The distance is sqrt(mean (a - b)^2 + c^2) - c with c = huber * sqrt(dimensions): a pseudo-Huber of the root mean
    square. The published one has the sum in the mean's place; the demo student was trained with this.
    """

    name = "consistency"
    summary = "the demo family's student"
    source = "Song et al. 2023; Luo et al. 2023"

    class Settings(Strict):
        vae: Path = Field(Path("vae.safetensors"), description="the autoencoder")
        teacher: Path = Field(Path("teacher.safetensors"), description="the network to distil")
        pictures: int = Field(50_000, description="how many scenes are drawn and encoded")
        pictures_seed: int = Field(2, description="of the scenes")
        intervals: int = Field(50, description="timesteps of the grid")
        cfg: float = Field(3.0, description="guidance scale of the teacher")
        huber: float = Field(0.00054, description="of the distance, times sqrt(dimensions)")
        target_ema: float = Field(0.95, description="decay of the target's average")
        measured: int = Field(256, description="samples that are measured")

    def __init__(self, settings, recipe, device):
        super().__init__(settings, recipe, device)
        self.teacher = load_network(settings.teacher, "demo-teacher").eval().requires_grad_(False).to(device)
        self.network = load_network(settings.teacher, "demo-teacher")
        self.network.text.requires_grad_(False)  # one text table for both, as students share the teacher's encoder
        self.target = Ema(self.network.to(device), settings.target_ema, warmup=False)
        self.alphas_cumprod = scaled_linear().float().to(device)
        stride = family.TIMESTEPS // settings.intervals
        self.timesteps = torch.arange(settings.intervals + 1, device=device) * stride - 1  # [-1, 19, ..., 999]

    def prepare(self, directory: Path) -> None:
        self.vae = load_vae(self.settings.vae, self.device)
        made_of = self.settings.vae, self.settings.pictures, self.settings.pictures_seed
        self.data = LatentSet.of_renders(*made_of, self.device, directory.parent / "cache")

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma), each [B, 1, 1, 1], at timesteps t [B]; t = -1 is the data itself."""
        squared = torch.where(t < 0, 1.0, self.alphas_cumprod[t.clamp(min=0)])[:, None, None, None]
        return squared.sqrt(), (1 - squared).sqrt()

    def denoise(self, network: nn.Module, z: Tensor, t: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(x0, eps) that a v-prediction network gives at z, t."""
        alpha, sigma = self.levels(t)
        v = network(z, t.clamp(min=0), tokens).float()
        return alpha * z - sigma * v, sigma * z + alpha * v

    def loss(self, network: nn.Module, step: int) -> Tensor:
        g = generator(self.recipe.seed, "step", step)
        x0, tokens = self.data.draw(self.recipe.loop.batch_size, g)
        at = torch.randint(1, len(self.timesteps), (len(x0),), generator=g).to(self.device)
        t, s = self.timesteps[at], self.timesteps[at - 1]
        noise = torch.randn(x0.shape, generator=g).to(self.device)
        alpha, sigma = self.levels(t)
        z = alpha * x0 + sigma * noise
        # The target first: its weights stand in for the student's, of which no graph may exist yet.
        with torch.no_grad():
            target = self.target_at(z, t, s, tokens)
        student, _ = self.denoise(network, z, t, tokens)
        c = self.settings.huber * student[0].numel() ** 0.5
        return ((student - target).square().mean(dim=(1, 2, 3)) + c**2).sqrt().sub(c).mean()

    def target_at(self, z: Tensor, t: Tensor, s: Tensor, tokens: Tensor) -> Tensor:
        """f of the averaged student, after one DDIM step of the guided teacher from t to s; the identity at s = -1."""
        x, e = self.denoise(
            self.teacher, z.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([tokens, torch.zeros_like(tokens)])
        )
        (x, x_free), (e, e_free) = x.chunk(2), e.chunk(2)
        x, e = x_free + self.settings.cfg * (x - x_free), e_free + self.settings.cfg * (e - e_free)
        alpha, sigma = self.levels(s)
        z = alpha * x + sigma * e
        with self.target.applied():
            target, _ = self.denoise(self.network, z, s, tokens)
        return torch.where((s < 0)[:, None, None, None], z, target)

    def after_step(self) -> None:
        self.target.update()

    def measure(self, network: nn.Module):
        model = denoiser(network)
        return measure_scenes(model, self.vae, self.settings.measured, self.recipe.seed, steps=[1, 2, 4], cfg=None)

    def export(self, network: nn.Module, path: Path) -> None:
        metadata = {"understudy": "demo-student", "config": json.dumps(network.config)}
        family.save(
            network, path, metadata | {"cfg": str(self.settings.cfg), "intervals": str(self.settings.intervals)}
        )

    def state_dict(self):
        return {"target": self.target.state_dict()}

    def load_state_dict(self, state) -> None:
        self.target.load_state_dict(state["target"])

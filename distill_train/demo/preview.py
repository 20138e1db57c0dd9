"""Sample a demo network on calibration scenes: a grid to look at and the share that the checker finds exact."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...demo_family import checker, family
from ...demo_family.sampling import sample_student, sample_teacher, start
from ...samplers.denoisers import DiscreteDenoiser, FlowDenoiser
from ...samplers.schedules import trailing_sigmas
from ..data.randomness import generator
from .scenes import draw_scenes, tokens_for


def measure_scenes(
    model: DiscreteDenoiser | FlowDenoiser,
    vae: nn.Module,
    count: int,
    seed: int,
    steps: Sequence[int],
    cfg: float | None,
) -> tuple[Tensor, dict[str, float]]:
    """Pictures [N, 3, 64, 64] and ``exact@n`` for each number of steps, same scenes and noise.

    cfg: a teacher's guidance scale; None samples as a student, by consistency sampling without guidance.
    """
    g = generator(seed, "preview")
    scenes = draw_scenes(count, g, split="calibration")
    device = next(vae.parameters()).device
    noise = torch.randn(count, family.LATENT_CHANNELS, *[family.LATENT_SIDE] * 2, generator=g).to(device)
    tokens = tokens_for(scenes).to(device)
    shown, figures = [], {}
    for n in steps:
        latents = sample(model, noise, tokens, n, cfg)
        pictures = family.decode(vae, latents)
        figures[f"exact@{n}"] = sum(checker.exact(pictures, scenes)) / count
        shown.append(pictures[: 64 // len(steps) // 8 * 8])
    return torch.cat(shown), figures


def sample(
    model: DiscreteDenoiser | FlowDenoiser, noise: Tensor, tokens: Tensor, steps: int, cfg: float | None
) -> Tensor:
    """Latents [B, 8, 8, 8] from noise, as a student (cfg None) or as a guided teacher."""
    if cfg is None:
        return sample_student(model, noise, tokens, steps)
    sigmas = trailing_sigmas(model, steps)
    return sample_teacher(model, start(model, noise, sigmas), tokens, sigmas, cfg)

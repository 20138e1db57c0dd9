"""The host's samplers as the teacher's: which there are, and where those start that know whole timesteps alone."""

from __future__ import annotations

import importlib
import importlib.util

import torch

from .choices import AUTOMATIC, RefusedChoice

UNIPC = "UniPC"


def samplers() -> list[str]:
    """Those that can be told where to start: at any sigma, or at any of the network's timesteps."""
    from modules import sd_samplers

    known = _listed("sd_samplers_kdiffusion", "samplers_data_k_diffusion") | _by_timesteps()
    known |= _listed("sd_samplers_lcm", "samplers_data_lcm")
    return [sampler.name for sampler in sd_samplers.all_samplers if sampler.name in known]


def schedulers() -> list[str]:
    from modules import sd_schedulers

    return [scheduler.label for scheduler in sd_schedulers.schedulers]


def goes_by_timesteps(sampler: str) -> bool:
    return sampler in _by_timesteps()


def require_sampling(sampler: str, scheduler: str, steps: int) -> None:
    """Raises RefusedChoice for what the host's samplers cannot do, or would do in another way and not say so."""
    from modules import sd_schedulers, shared

    if sampler not in samplers():
        raise RefusedChoice(f"the host has no sampler {sampler!r} that can be told where to start")
    # By their names and by their labels; some hosts let users hide them, and Automatic asks for none.
    known = sd_schedulers.schedulers_map
    if scheduler != AUTOMATIC and scheduler not in known:
        raise RefusedChoice(f"the host has no schedule {scheduler!r}; there are: {', '.join(schedulers())}")
    if not goes_by_timesteps(sampler):  # in Forge Neo UniPC does not
        return
    if known.get(scheduler) is not known.get(AUTOMATIC):
        raise RefusedChoice(f"{sampler} has its own schedule, and none is {scheduler!r}: choose {AUTOMATIC!r}")
    if sampler == UNIPC and steps < shared.opts.uni_pc_order:
        order = f"{shared.opts.uni_pc_order}, its order in the host's settings"
        raise RefusedChoice(f"steps is {steps}; with {UNIPC} the teacher needs at least {order}")


def is_flow(sampler) -> bool:
    """Whether in the loaded network noise takes the picture's place, as in flow models, and is not added to it."""
    from modules import shared

    half, nothing, picture = torch.full((1,), 0.5), torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    predictor = getattr(sampler.model_wrap, "predictor", None)
    if predictor is None and hasattr(shared.sd_model, "forge_objects"):
        predictor = shared.sd_model.forge_objects.unet.model.predictor
    if predictor is not None:
        return float(predictor.noise_scaling(half, nothing, picture)) < 1
    mix = getattr(shared.sd_model, "add_noise_to_latent", None)
    return mix is not None and float(mix(picture, nothing, half)) < 1


def points_of(sampler: str, steps: int) -> int:
    """How many timesteps it takes for so many steps: UniPC counts the steps by them, the others go between them."""
    return steps if sampler == UNIPC else steps + 1


def timesteps_from(alphas_cumprod: torch.Tensor, noise: float, points: int) -> tuple[torch.Tensor, float]:
    """Rising timesteps [points] up to the one that is nearest to this share of noise, and the sigma there.

    alphas_cumprod: the network's, one for each of its timesteps. The lowest is no start: no step would be left.
    """
    amounts = 1 - alphas_cumprod.double()
    start = max(int((amounts - noise).abs().argmin()), 1)
    sigma = float((amounts[start] / (1 - amounts[start])).sqrt())
    return torch.linspace(0, start, points, device=alphas_cumprod.device).round().long(), sigma


def _by_timesteps() -> set[str]:
    return _listed("sd_samplers_timesteps", "samplers_data_timesteps")


def _listed(module: str, name: str) -> set[str]:
    """The samplers in a list of one of the host's modules, none where it has no such module."""
    if importlib.util.find_spec(f"modules.{module}") is None:
        return set()
    return {sampler.name for sampler in getattr(importlib.import_module(f"modules.{module}"), name)}

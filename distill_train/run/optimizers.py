"""The optimizers that recipes name, and the learning rate over a run."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from ..config import Loop, Recipe, RecipeError
from ..methods.base import Stage


def require_installed(optimizer: str) -> None:
    """Raises RecipeError for loop.optimizer where it needs a library that is not installed."""
    if optimizer == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit  # noqa: F401 - some that are there do not load
        except ImportError as error:
            raise RecipeError(
                "loop.optimizer is adamw8bit, which needs bitsandbytes; pip install bitsandbytes, or use adamw"
            ) from error


def make_optimizer(loop: Loop, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's optimizer, which :func:`require_installed` has looked for."""
    arguments = {"lr": loop.lr, "betas": loop.betas, "weight_decay": loop.weight_decay}
    if loop.optimizer == "radam":
        return torch.optim.RAdam(parameters, decoupled_weight_decay=True, **arguments)
    if loop.optimizer == "adamw8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(parameters, **arguments)
    return torch.optim.AdamW(parameters, fused=True, **arguments)


def state_bytes(loop: Loop, parameters: Iterable[nn.Parameter]) -> int:
    """What the optimizer will keep of float32 parameters from its first step on: two averages of each value."""
    return sum(p.numel() for p in parameters) * (2 if loop.optimizer == "adamw8bit" else 8)


def learning_rate(recipe: Recipe, step: int, stage: Stage | None = None) -> float:
    """A linear warmup to the peak; then half a cosine down to zero, the peak to the end, or the peak and a late fall.

    "wsd" (warmup, stable, decay) falls linearly over the last fifth, so runs of other lengths share their beginning.
    step: of the run. stage: the part of the run with a curve of its own; the whole run without it.
    """
    loop = recipe.loop
    start, stop = (0, loop.steps) if stage is None else (stage.start, stage.stop)
    step, steps = step - start, stop - start
    if step < loop.warmup:
        return loop.lr * (step + 1) / loop.warmup
    if loop.decay == "constant":
        return loop.lr
    if loop.decay == "wsd":
        return loop.lr * min(1.0, (steps - step) / (0.2 * steps))
    done = (step - loop.warmup) / max(1, steps - loop.warmup)
    return loop.lr * 0.5 * (1 + math.cos(math.pi * done))

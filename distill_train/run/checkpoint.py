"""What a checkpoint holds, and how it comes back."""

from pathlib import Path
from typing import Any

import torch

from ..config import RecipeError
from ..students.adapters import from_peft
from ..students.lora import ADAPTER
from ..students.sharding import is_sharded, whole
from .training import Training


def saved_state(training: Training) -> dict[str, Any]:
    """Everything on which later steps depend; weights that do not train are left out. Every process calls it."""
    weights, optimizers = _training_weights(training), [optimizer.state_dict() for optimizer in training.optimizers]
    if is_sharded(training.accelerator):
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        weights = {key: _kept(whole(value), training.main) for key, value in weights.items()}
        (optimizer,) = training.optimizers
        optimizers = [get_optimizer_state_dict(training.network, optimizer, options=_whole())]
    return {
        "step": training.step,
        "stage": training.stage,
        "network": weights,
        "ema": training.ema.state_dict(),
        "optimizers": optimizers,
        "scaler": training.scaler.state_dict(),
        "method": training.method.state_dict(),
        "random": torch.get_rng_state(),
    }


def load_state(training: Training, state: dict[str, Any], directory: Path) -> None:
    """Put back what :func:`saved_state` gave, from the run in a directory. Raises RecipeError for another network's."""
    weights, saved = _training_weights(training), from_peft(state["network"], ADAPTER)
    optimizers = state.get("optimizers") or [state["optimizer"]]  # of earlier checkpoints, with one alone
    # In the same order, too: averages and optimizers know them by their place.
    if list(weights) != list(saved):
        raise RecipeError(f"the checkpoint in {directory} is of another network; start a new run")
    if is_sharded(training.accelerator):
        from torch.distributed.checkpoint.state_dict import set_model_state_dict, set_optimizer_state_dict

        set_model_state_dict(training.network, {**training.network.state_dict(), **saved}, options=_whole())
        for optimizer, before in zip(training.optimizers, optimizers, strict=True):
            set_optimizer_state_dict(training.network, optimizer, before, options=_whole())
    else:
        with torch.no_grad():
            for key, value in weights.items():
                value.copy_(saved[key])
        for optimizer, before in zip(training.optimizers, optimizers, strict=True):
            optimizer.load_state_dict(before)
    training.ema.load_state_dict(state["ema"])
    training.scaler.load_state_dict(state["scaler"])
    training.method.load_state_dict(state["method"])
    torch.set_rng_state(state["random"])
    training.step, training.stage = state["step"], state["stage"]


def _training_weights(training: Training) -> dict[str, torch.Tensor]:
    frozen = {name for name, parameter in training.network.named_parameters() if not parameter.requires_grad}
    return {key: value for key, value in training.network.state_dict().items() if key not in frozen}


def _kept(value: torch.Tensor, main: bool) -> torch.Tensor:
    return value.cpu() if main else torch.empty(0)  # the others do not write it


def _whole():
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True)

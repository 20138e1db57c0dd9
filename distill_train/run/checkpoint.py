"""What a checkpoint holds, and how it comes back."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn

from ..config import RecipeError
from ..methods.base import Method
from ..students.adapters import from_peft
from ..students.ema import Ema
from ..students.lora import ADAPTER
from ..students.sharding import is_sharded, whole
from .directory import Run


class Trained(Protocol):
    """What a checkpoint is of, as the loop's ``Trainer`` has it."""

    network: nn.Module
    optimizers: Sequence
    ema: Ema
    scaler: torch.amp.GradScaler
    method: Method
    run: Run
    step: int
    stage: int
    main: bool


def saved_state(trainer: Trained) -> dict[str, Any]:
    """Everything on which later steps depend; weights that do not train are left out. Every process calls it."""
    weights, optimizers = _training_weights(trainer), [optimizer.state_dict() for optimizer in trainer.optimizers]
    if is_sharded(trainer.accelerator):
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        weights = {key: _kept(whole(value), trainer.main) for key, value in weights.items()}
        (optimizer,) = trainer.optimizers
        optimizers = [get_optimizer_state_dict(trainer.network, optimizer.optimizer, options=_whole())]
    return {
        "step": trainer.step,
        "stage": trainer.stage,
        "network": weights,
        "ema": trainer.ema.state_dict(),
        "optimizers": optimizers,
        "scaler": trainer.scaler.state_dict(),
        "method": trainer.method.state_dict(),
        "random": torch.get_rng_state(),
    }


def load_state(trainer: Trained, state: dict[str, Any]) -> None:
    """Put back what :func:`saved_state` gave. Raises RecipeError for the state of another network."""
    weights, saved = _training_weights(trainer), from_peft(state["network"], ADAPTER)
    optimizers = state.get("optimizers") or [state["optimizer"]]  # of earlier checkpoints, with one alone
    # In the same order, too: averages and optimizers know them by their place.
    if list(weights) != list(saved):
        raise RecipeError(f"the checkpoint in {trainer.run.directory} is of another network; start a new run")
    if is_sharded(trainer.accelerator):
        from torch.distributed.checkpoint.state_dict import set_model_state_dict, set_optimizer_state_dict

        set_model_state_dict(trainer.network, {**trainer.network.state_dict(), **saved}, options=_whole())
        for optimizer, before in zip(trainer.optimizers, optimizers, strict=True):
            set_optimizer_state_dict(trainer.network, optimizer.optimizer, before, options=_whole())
    else:
        with torch.no_grad():
            for key, value in weights.items():
                value.copy_(saved[key])
        for optimizer, before in zip(trainer.optimizers, optimizers, strict=True):
            optimizer.load_state_dict(before)
    trainer.ema.load_state_dict(state["ema"])
    trainer.scaler.load_state_dict(state["scaler"])
    trainer.method.load_state_dict(state["method"])
    torch.set_rng_state(state["random"])
    trainer.step, trainer.stage = state["step"], state["stage"]


def _training_weights(trainer: Trained) -> dict[str, torch.Tensor]:
    frozen = {name for name, parameter in trainer.network.named_parameters() if not parameter.requires_grad}
    return {key: value for key, value in trainer.network.state_dict().items() if key not in frozen}


def _kept(value: torch.Tensor, main: bool) -> torch.Tensor:
    return value.cpu() if main else torch.empty(0)  # the others do not write it


def _whole():
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True)

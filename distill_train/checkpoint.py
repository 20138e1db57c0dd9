"""What a checkpoint holds, and how it comes back."""

from typing import TYPE_CHECKING, Any

import torch

from .config import RecipeError
from .student import whole

if TYPE_CHECKING:
    from .loop import Trainer


def saved_state(trainer: "Trainer") -> dict[str, Any]:
    """Everything on which later steps depend; weights that do not train are left out. Every process calls it."""
    weights, optimizer = _training_weights(trainer), trainer.optimizer.state_dict()
    if _is_sharded(trainer):
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        weights = {key: _kept(whole(value), trainer.main) for key, value in weights.items()}
        optimizer = get_optimizer_state_dict(trainer.network, trainer.optimizer.optimizer, options=_whole())
    return {
        "step": trainer.step,
        "stage": trainer.stage,
        "network": weights,
        "ema": trainer.ema.state_dict(),
        "optimizer": optimizer,
        "scaler": trainer.scaler.state_dict(),
        "method": trainer.method.state_dict(),
        "random": torch.get_rng_state(),
    }


def load_state(trainer: "Trainer", state: dict[str, Any]) -> None:
    """Put back what :func:`saved_state` gave. Raises RecipeError for the state of another network."""
    weights = _training_weights(trainer)
    if weights.keys() != state["network"].keys():
        raise RecipeError(f"the checkpoint in {trainer.run.directory} is of another network; start a new run")
    if _is_sharded(trainer):
        from torch.distributed.checkpoint.state_dict import set_model_state_dict, set_optimizer_state_dict

        set_model_state_dict(trainer.network, {**trainer.network.state_dict(), **state["network"]}, options=_whole())
        set_optimizer_state_dict(trainer.network, trainer.optimizer.optimizer, state["optimizer"], options=_whole())
    else:
        with torch.no_grad():
            for key, value in weights.items():
                value.copy_(state["network"][key])
        trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.ema.load_state_dict(state["ema"])
    trainer.scaler.load_state_dict(state["scaler"])
    trainer.method.load_state_dict(state["method"])
    torch.set_rng_state(state["random"])
    trainer.step, trainer.stage = state["step"], state["stage"]


def _training_weights(trainer: "Trainer") -> dict[str, torch.Tensor]:
    frozen = {name for name, parameter in trainer.network.named_parameters() if not parameter.requires_grad}
    return {key: value for key, value in trainer.network.state_dict().items() if key not in frozen}


def _kept(value: torch.Tensor, main: bool) -> torch.Tensor:
    return value.cpu() if main else torch.empty(0)  # the others do not write it


def _is_sharded(trainer: "Trainer") -> bool:
    return trainer.accelerator.distributed_type.value == "FSDP"


def _whole():
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True)

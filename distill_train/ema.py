"""An exponential moving average of a network's weights."""

import copy

import torch
from torch import nn


class Ema:
    """``average = decay * average + (1 - decay) * weights``, all tensors in one fused call.

    The decay is warmed up as ``min(decay, (1 + n) / (10 + n))`` after n updates, so that early averages are not stuck
    at the initial weights.
    """

    def __init__(self, network: nn.Module, decay: float, warmup: bool = True):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay, self.warmup, self.updates = decay, warmup, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        self.updates += 1
        torch._foreach_lerp_(list(self.network.parameters()), [p.detach() for p in network.parameters()], 1 - decay)

    def state_dict(self) -> dict:
        return {"weights": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        self.network.load_state_dict(state["weights"])
        self.updates = state["updates"]

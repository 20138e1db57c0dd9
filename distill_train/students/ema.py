"""An exponential moving average of the weights that train, usable in the network's place."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def standing_in(parameters: Iterable[nn.Parameter], weights: Iterable[Tensor]) -> Iterator[None]:
    """Within, ``parameters`` have the values ``weights``: storages change places, nothing is copied.

    A graph that was made before must not be walked back through inside.
    """
    pairs = list(zip(parameters, weights, strict=True))
    own = [parameter.data for parameter, _ in pairs]
    try:
        _put_in([(parameter, value) for parameter, value in pairs])
        yield
    finally:
        _put_in([(parameter, value) for (parameter, _), value in zip(pairs, own, strict=True)])


def _put_in(pairs: list[tuple[nn.Parameter, Tensor]]) -> None:
    for parameter, value in pairs:
        parameter.data = value
    torch.clear_autocast_cache()  # it knows parameters by identity, and would hand out the casts of the other values


class Ema:
    """``average = decay * average + (1 - decay) * weights`` of the parameters that train, in one fused call.

    The decay is warmed up as ``min(decay, (1 + n) / (10 + n))`` after n updates, so that early averages are not stuck
    at the initial weights. With a decay of 0 the weights themselves are the average, and no memory is taken.

    The average is float32 whatever the weights are: in bfloat16 one of 0.99 stands still, as its steps are smaller than
    half the distance to the next number. offload: it lies in main memory, which each update brings the weights to
    and waits for; :meth:`applied` takes the room for it on the device while it lasts.
    """

    def __init__(self, network: nn.Module, decay: float, warmup: bool = True, offload: bool = False):
        # None without a need: FSDP frees a network's own parameters only when nobody else holds them.
        self.parameters = [p for p in network.parameters() if p.requires_grad] if decay else []
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self.weights = [_copy(p, "cpu" if offload else p.device) for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        self.updates += 1
        if self.weights:
            now = [p.detach().to(w) for p, w in zip(self.parameters, self.weights, strict=True)]
            torch._foreach_lerp_(self.weights, now, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the network has the averaged weights."""
        # Even where they are its own: a pass without gradients leaves casts behind that have none.
        present = [w.to(p) for p, w in zip(self.parameters, self.weights, strict=True)]
        with standing_in(self.parameters, present):
            yield

    @torch.no_grad()
    def restart(self) -> None:
        """Begin again from the present weights."""
        self.updates = 0
        for average, parameter in zip(self.weights, self.parameters, strict=True):
            average.copy_(parameter)

    def state_dict(self) -> dict:
        return {"weights": self.weights, "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        for average, saved in zip(self.weights, state["weights"], strict=True):
            average.copy_(saved)


def _copy(parameter: nn.Parameter, device: torch.device | str) -> Tensor:
    return parameter.detach().to(device, torch.float32, copy=True)

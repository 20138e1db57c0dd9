"""LoRA (Hu et al. 2021) beside a network: what an adapter adds is added to the outputs of the network's layers."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle


class Pair(NamedTuple):
    """The two factors at one layer: ``down`` [r, in, ...], ``up`` [out, r, ...]."""

    down: Tensor
    up: Tensor


class Adapters(nn.Module):
    """A network with named adapters on it; calling this calls the network.

    ``base`` is no part of this module: it keeps its names, keys, weights and type, and only adapters are in
    ``parameters()`` and ``state_dict()``, in float32. Any layer will do that is called with a tensor and says its
    sizes, as ``nn.Linear`` and ``nn.Conv2d`` do, quantised ones and a host's own included. ``active`` names the
    adapters that act; those of several that share a layer add up. A copy of the base would be adapted, too.
    """

    def __init__(self, base: nn.Module):
        super().__init__()
        self._base = (base,)  # in a tuple, as a module would be registered
        self._hooks: dict[tuple[str, str], RemovableHandle] = {}
        self.pairs = nn.ModuleDict()
        self.active: tuple[str, ...] = ()

    @property
    def base(self) -> nn.Module:
        return self._base[0]

    def add(self, name: str, targets: Sequence[str], rank: int, alpha: float | None = None) -> None:
        """A new adapter, active at once, which as yet adds nothing; its scale is alpha / rank, 1 without alpha.

        targets: names of layers of the base, or ends of their names at a dot. Raises ValueError for a name that is
        taken, targets that name no layer, and a layer without sizes.
        """
        ends = tuple(f".{target}" for target in targets)
        layers = [at for at, _ in self.base.named_modules() if f".{at}".endswith(ends)]
        if not layers:
            raise ValueError(f"{', '.join(targets)} names no layer of this network")
        self._add_to(layers, name, rank, (alpha or rank) / rank)

    def add_like(self, other: str, name: str) -> None:
        """A new adapter on another one's layers, of its rank and scale. Raises ValueError for a name that is taken."""
        pairs = self.pairs[other]
        first = next(iter(pairs.values()))
        self._add_to([_layer(at) for at in pairs], name, len(first.down), first.scale)

    def _add_to(self, layers: Sequence[str], name: str, rank: int, scale: float) -> None:
        if name in self.pairs:
            raise ValueError(f"there is an adapter {name!r} already; choose another name")
        adapter = nn.ModuleDict()
        for at in layers:
            layer = self.base.get_submodule(at)
            pair = LowRank(at, layer, rank, scale)
            adapter[_registered(at)] = pair
            self._hooks[name, at] = layer.register_forward_hook(partial(self._add, name, pair))
        self.pairs[name] = adapter
        self.active = (*self.active, name)

    def drop(self, name: str, layers: Iterable[str]) -> None:
        """Take an adapter off some of its layers again."""
        for at in layers:
            self._hooks.pop((name, at)).remove()
            del self.pairs[name][_registered(at)]

    def forward(self, *arguments, **named):
        return self.base(*arguments, **named)

    @contextmanager
    def only(self, *names: str) -> Iterator[nn.Module]:
        """Within, no other adapters act; without names, the base is as it was loaded."""
        before, self.active = self.active, names
        try:
            yield self
        finally:
            self.active = before

    def train(self, mode: bool = True):
        self.base.train(mode)  # diffusers recomputes activations in training alone
        return super().train(mode)

    def factors(self, name: str) -> dict[str, Pair]:
        """An adapter's factors by the name of their layer."""
        return {_layer(at): Pair(pair.down, pair.up) for at, pair in self.pairs[name].items()}

    def _add(self, name: str, pair: "LowRank", layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor):
        return pair(arguments[0], output) if name in self.active else None


class LowRank(nn.Module):
    """``output + scale * up(down(x))`` at one layer: ``down`` as its own weight with r outputs, ``up`` [out, r]."""

    def __init__(self, name: str, layer: nn.Module, rank: int, scale: float):
        super().__init__()
        self.scale, self.convolution = scale, {}
        if hasattr(layer, "in_features"):
            inputs, outputs = (layer.in_features,), layer.out_features
        elif hasattr(layer, "in_channels"):
            if layer.groups != 1 or layer.padding_mode != "zeros":
                raise ValueError(f"{name} is a convolution in groups or with another padding than zeros; leave it out")
            inputs, outputs = (layer.in_channels, *layer.kernel_size), layer.out_channels
            self.convolution = {key: getattr(layer, key) for key in ("stride", "padding", "dilation")}
        else:
            raise ValueError(f"{name} is a {type(layer).__name__}, which does not say its sizes; name layers that do")
        ones = (1,) * (len(inputs) - 1)
        self.down = nn.Parameter(torch.empty(rank, *inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank, *ones))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor, output: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            return self._added(x, output)
        # Where the base computes in less, the sum is rounded once.
        return self._added(x.to(self.down.dtype), output.to(self.down.dtype)).to(output.dtype)

    def _added(self, x: Tensor, output: Tensor) -> Tensor:
        if self.convolution:
            return self._added_to_picture(F.conv2d(x, self.down, **self.convolution), output).to(output.dtype)
        inner = F.linear(x, self.down).flatten(0, -2)
        # In one product, so that the output is read and written once.
        return torch.addmm(output.flatten(0, -2), inner, self.up.T, alpha=self.scale).view_as(output)

    def _added_to_picture(self, inner: Tensor, output: Tensor) -> Tensor:
        """The same of a convolution's [B, r, H, W] and [B, out, H, W], in whichever layout that is."""
        up = self.up.flatten(1)
        if output.is_contiguous():
            batch = up.expand(len(output), -1, -1)
            return torch.baddbmm(output.flatten(2), batch, inner.flatten(2), alpha=self.scale).view_as(output)
        rows = output.movedim(1, -1)  # channels last, so this copies nothing
        added = torch.addmm(rows.flatten(0, -2), inner.movedim(1, -1).flatten(0, -2), up.T, alpha=self.scale)
        return added.view_as(rows).movedim(-1, 1)


def from_peft(weights: Mapping[str, Tensor], name: str, adapter: str = "default") -> dict[str, Tensor]:
    """A network's training weights under peft's names as :class:`Adapters` has them; others as they are."""
    ends = {f".lora_{half}.{adapter}.weight": factor for half, factor in (("A", "down"), ("B", "up"))}
    renamed = {}
    for key, value in weights.items():
        for end, factor in ends.items():
            if key.endswith(end):
                key = f"pairs.{name}.{_registered(key.removesuffix(end))}.{factor}"
                break
        renamed[key] = value
    return renamed


def layer_of(parameter: str) -> str:
    """Which layer of the base a parameter of :class:`Adapters` is for; the names of others as they are."""
    match = re.fullmatch(r"pairs\.[^.]+\.(.+)\.(?:down|up)", parameter)
    return _layer(match[1]) if match else parameter


def _registered(name: str) -> str:
    """A layer's name as one that a module may have, which holds no dot."""
    return name.replace(".", "/")


def _layer(registered: str) -> str:
    return registered.replace("/", ".")

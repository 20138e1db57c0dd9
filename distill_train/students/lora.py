"""A student that is a LoRA on its teacher: one network in memory."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ...files import preview
from ...pipelines.lora import Change
from ..config import RecipeError, StudentSettings
from ..teachers import Teacher
from ..teachers.architectures import ARCHITECTURES
from .adapters import Adapters
from .base import Student, recompute_activations
from .kohya import Layers, adapter_changes, kohya_shapes, kohya_tensors, lora_metadata
from .written import Shapes

ADAPTER = "student"
# What gets a LoRA where the recipe names nothing. Not all need be there, as in a network of one level.
USUAL = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"),
)


class Lora(Student):
    """The teacher's own network with an adapter, which does not act while it teaches.

    The export is a LoRA as kohya's trainer writes it or, of an architecture of which nothing loads one, the network
    with the LoRA in its weights.
    """

    def __init__(self, teacher, settings, frozen, guidance_width=None):
        super().__init__(teacher, settings, frozen)
        self.layers, self.network = _adapted(teacher, teacher.unet, settings)
        self.network.train()

    @classmethod
    def require(cls, teacher, unet, settings):
        with torch.device("meta"):
            _adapted(teacher, unet, settings)

    @staticmethod
    def preset(whole: str) -> str:
        return f"{whole}-LoRA"

    @property
    def alpha(self) -> float:
        """Of the LoRA, whose scale is alpha / rank."""
        return lora_alpha(self.settings)

    def add(self, name: str) -> None:
        """Another adapter, like the student's own, that acts where :meth:`use` says so."""
        self.network.add_like(ADAPTER, name)
        self.use()

    @staticmethod
    def part(name: str = ADAPTER) -> str:
        """The name of an adapter's module in the network, for a turn."""
        return f"pairs.{name}"

    def use(self, name: str = ADAPTER) -> None:
        """From here on this adapter alone acts, also when a backward pass recomputes activations."""
        self.network.active = (name,)

    @contextmanager
    def teaching(self) -> Iterator[nn.Module]:
        with self.network.only():
            yield self.network.base

    def exported(self) -> tuple[dict[str, Tensor], Shapes]:
        changed = adapter_changes(self.network.factors(ADAPTER), self.alpha)
        if self.layers is None:
            return merged(self.network.base, changed)
        return kohya_tensors(changed, self.layers), kohya_shapes(changed, self.layers)

    def metadata(self) -> dict[str, str]:
        if self.layers is None:
            return {"trained": "full", "keys": "diffusers", **self.teacher.metadata(self.network.base)}
        said = {"trained": "lora", "keys": "kohya", "rank": str(self.settings.rank), "alpha": f"{self.alpha:g}"}
        return said | lora_metadata(self.teacher.kind, self.settings.rank, self.alpha)

    def save_memory(self) -> None:
        recompute_activations(self.network.base)


def merged(network: nn.Module, changes: Mapping[str, Change]) -> tuple[dict[str, Tensor], Shapes]:
    """A network's weights with a LoRA in them, and their shapes."""
    weights = network.state_dict()
    weights |= {f"{layer}.weight": change.applied(weights[f"{layer}.weight"]) for layer, change in changes.items()}
    return weights, {key: tuple(value.shape) for key, value in weights.items()}


def lora_alpha(settings: StudentSettings) -> float:
    """Of a LoRA by these settings: its rank where they say nothing."""
    return float(settings.alpha or settings.rank)


def _adapted(teacher: Teacher, unet: nn.Module, settings: StudentSettings) -> tuple[Layers | None, Adapters]:
    """A teacher's network under a new adapter, and what of it a LoRA file can be for; None where there are none."""
    architecture = ARCHITECTURES.get(teacher.kind)
    if architecture is None and settings.train == "control":
        raise RecipeError(f"nothing loads a LoRA of the {teacher.kind} family; train all weights (student.base = full)")
    layers, network = architecture and Layers.of(unet, architecture), Adapters(unet.requires_grad_(False))
    add_adapter(network, settings, USUAL, teacher.file)
    return layers, network


def add_adapter(network: Adapters, settings: StudentSettings, usual: Sequence[str], file: str) -> None:
    """The student's adapter on what the settings name, or else on what is ``usual``, of the network in a file.

    Raises RecipeError for a target that names no layer, unless it is usual, and for a layer that cannot have one.
    """
    names = [f".{at}" for at, _ in network.base.named_modules()]
    try:
        for target in settings.targets:
            if target not in usual and not any(name.endswith(f".{target}") for name in names):
                raise ValueError(f"{target} names no layer of {file}; the usual ones are {preview(usual, len(USUAL))}")
        network.add(ADAPTER, settings.targets or usual, settings.rank, lora_alpha(settings))
    except ValueError as error:
        raise RecipeError(f"student.targets: {error}") from error

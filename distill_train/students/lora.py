"""A student that is a LoRA on its teacher: one network in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..config import RecipeError, StudentSettings
from ..teachers import Teacher
from ..teachers.architectures import ARCHITECTURES
from .adapters import Adapters
from .base import Student, recompute_activations
from .kohya import Layers, adapter_changes, kohya_shapes, kohya_tensors, lora_metadata
from .written import Shapes

ADAPTER = "student"


class Lora(Student):
    """The teacher's own network with an adapter, which does not act while it teaches."""

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
        return _alpha(self.settings)

    @contextmanager
    def teaching(self) -> Iterator[nn.Module]:
        with self.network.only():
            yield self.network.base

    def exported(self) -> tuple[dict[str, Tensor], Shapes]:
        changed = adapter_changes(self.network.factors(ADAPTER), self.alpha)
        return kohya_tensors(changed, self.layers), kohya_shapes(changed, self.layers)

    def metadata(self) -> dict[str, str]:
        said = {"trained": "lora", "keys": "kohya", "rank": str(self.settings.rank), "alpha": f"{self.alpha:g}"}
        return said | lora_metadata(self.teacher.kind, self.settings.rank, self.alpha)

    def save_memory(self) -> None:
        recompute_activations(self.network.base)


def _whole(settings: StudentSettings) -> str:
    return f"student.{'base' if settings.train == 'control' else 'train'} = full"


def _alpha(settings: StudentSettings) -> float:
    return float(settings.alpha or settings.rank)


def _adapted(teacher: Teacher, unet: nn.Module, settings: StudentSettings) -> tuple[Layers, Adapters]:
    """A teacher's network under a new adapter, and what of it a LoRA can be for."""
    if teacher.kind not in ARCHITECTURES:
        raise RecipeError(f"nothing loads a LoRA of the {teacher.kind} family; train all weights ({_whole(settings)})")
    layers, network = Layers.of(unet, ARCHITECTURES[teacher.kind]), Adapters(unet.requires_grad_(False))
    # The usual ones need not all be there, as in a network of one level; of others one that is not is misspelt.
    usual = StudentSettings.model_fields["targets"].default
    names = [f".{at}" for at, _ in unet.named_modules()]
    try:
        for target in settings.targets:
            if target not in usual and not any(name.endswith(f".{target}") for name in names):
                raise ValueError(f"{target} names no layer of {teacher.file}; the usual ones are {', '.join(usual)}")
        network.add(ADAPTER, settings.targets, settings.rank, _alpha(settings))
    except ValueError as error:
        raise RecipeError(f"student.targets: {error}") from error
    return layers, network

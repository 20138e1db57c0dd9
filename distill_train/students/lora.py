"""A student that is a LoRA on its teacher: one network in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from ..config import RecipeError
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
        if teacher.kind not in ARCHITECTURES:
            raise RecipeError(f"nothing loads a LoRA of the {teacher.kind} family; train all weights (full)")
        self.layers = Layers.of(teacher.unet, ARCHITECTURES[teacher.kind])
        self.network = Adapters(teacher.unet.requires_grad_(False))
        try:
            self.network.add(ADAPTER, settings.targets, settings.rank, self.alpha)
        except ValueError as error:
            raise RecipeError(f"student.targets: {error}") from error
        self.network.train()

    @staticmethod
    def preset(whole: str) -> str:
        return f"{whole}-LoRA"

    @property
    def alpha(self) -> float:
        """Of the LoRA, whose scale is alpha / rank."""
        return float(self.settings.alpha or self.settings.rank)

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

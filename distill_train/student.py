"""What trains: a copy of the teacher's UNet, or a LoRA on the teacher itself."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .config import RecipeError, StudentSettings
from .exports.lora import Layers, Shapes, changes_of_peft, kohya_shapes, kohya_tensors, lora_metadata
from .teachers import Teacher

ADAPTER = "default"


def whole(value: Tensor) -> Tensor:
    """A tensor of which processes may hold a part each; then all of them have to ask."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


class Student:
    """``network`` is what the loop trains; only what trains has ``requires_grad``, in float32.

    As a LoRA it is the teacher's own UNet with an adapter, which :meth:`teaching` switches off: one network in memory.
    guidance_width: of an added input for the guidance scale, in a copy only; None for none.
    """

    def __init__(self, teacher: Teacher, settings: StudentSettings, guidance_width: int | None = None):
        self.teacher, self.settings = teacher, settings
        self.adapters: list[nn.Module] = []
        if settings.train == "lora":
            if teacher.kind == "demo":
                raise RecipeError("nothing loads a LoRA of the demo family; use student.train = full")
            self.layers = Layers.of(teacher.unet, teacher.kind == "sdxl")
            self.network = self._with_adapter(teacher.unet)
        else:
            self.network = self._copy(guidance_width).requires_grad_(True)
            if teacher.kind == "demo":
                self.network.text.requires_grad_(False)  # one text table for both, as students share the text encoder
        self.network.train()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those that train."""
        return [p for p in self.network.parameters() if p.requires_grad]

    @property
    def alpha(self) -> float:
        """Of the LoRA, whose scale is alpha / rank."""
        return float(self.settings.alpha or self.settings.rank)

    @contextmanager
    def teaching(self) -> Iterator[nn.Module]:
        """Within, the teacher's UNet as it was loaded."""
        if not self.adapters:
            yield self.teacher.unet.to(self.teacher.device)
            return
        try:
            self._switch(False)
            yield self.network
        finally:
            self._switch(True)

    def rest_teacher(self) -> None:
        """Move a UNet that only teaches out of the device's memory until it teaches again."""
        if not self.adapters:
            self.teacher.unet.to("cpu")

    def exported(self) -> tuple[dict[str, Tensor], Shapes]:
        """The weights to hand on, and the shapes that the teacher's layers ask of them.

        They are the whole network's, or the adapter's as kohya's trainer writes a LoRA. Of a network that several
        processes share in parts, all of them have to ask.
        """
        if self.adapters:
            from peft import get_peft_model_state_dict

            weights = get_peft_model_state_dict(self.network, adapter_name=ADAPTER)
        else:
            weights = self.network.state_dict()
        # One after the other into main memory, as no device may have room for all.
        weights = {key: whole(value).cpu() for key, value in weights.items()}
        if not self.adapters:
            return weights, {key: tuple(value.shape) for key, value in weights.items()}
        changes = changes_of_peft(weights, self.alpha)
        return kohya_tensors(changes, self.layers), kohya_shapes(changes, self.layers)

    def metadata(self) -> dict[str, str]:
        """What a file of these weights says about them."""
        if not self.adapters:
            return {"trained": "full", "keys": "diffusers", **self.teacher.metadata(self.network)}
        said = {"trained": "lora", "keys": "kohya", "rank": str(self.settings.rank), "alpha": f"{self.alpha:g}"}
        return said | lora_metadata(self.teacher.kind, self.settings.rank, self.alpha)

    def save_memory(self) -> None:
        """Recompute activations in the backward pass."""
        from diffusers import ModelMixin

        for module in self.network.modules():
            if isinstance(module, ModelMixin):
                module.enable_gradient_checkpointing()

    def _copy(self, guidance_width: int | None) -> nn.Module:
        import copy

        if guidance_width is not None:
            return self.teacher.with_guidance_input(guidance_width).float()
        return copy.deepcopy(self.teacher.unet).float()

    def _with_adapter(self, network: nn.Module) -> nn.Module:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer

        settings = self.settings
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=self.alpha,
            target_modules=list(settings.targets),
            init_lora_weights=True,
        )
        try:
            inject_adapter_in_model(config, network, ADAPTER)
        except ValueError as error:
            raise RecipeError(f"student.targets names no layer of this teacher: {error}") from error
        for name, parameter in network.named_parameters():
            parameter.requires_grad_("lora_" in name)
            if "lora_" in name:
                parameter.data = parameter.data.float()
        self.adapters = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
        return network

    def _switch(self, on: bool) -> None:
        for layer in self.adapters:
            layer.enable_adapters(on)
        torch.clear_autocast_cache()

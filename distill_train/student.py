"""What trains: a copy of the teacher's UNet, or a LoRA on the teacher itself."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .config import RecipeError, StudentSettings
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

    def state_dict(self) -> dict[str, Tensor]:
        """The weights to hand on: the whole network's, or the adapter's under peft's names.

        Of a network that several processes share in parts, all of them have to ask.
        """
        if self.adapters:
            from peft import get_peft_model_state_dict

            weights = get_peft_model_state_dict(self.network, adapter_name=ADAPTER)
        else:
            weights = self.network.state_dict()
        # One after the other into main memory, as no device may have room for all.
        return {key: whole(value).cpu() for key, value in weights.items()}

    def metadata(self) -> dict[str, str]:
        """What a file of these weights says about them."""
        if not self.adapters:
            return {"trained": "full", "keys": "diffusers", **self.teacher.metadata(self.network)}
        rank, alpha = self.settings.rank, self.settings.alpha or self.settings.rank
        return {"trained": "lora", "keys": "peft", "rank": str(rank), "alpha": f"{alpha:g}"}

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
            lora_alpha=settings.alpha or settings.rank,
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

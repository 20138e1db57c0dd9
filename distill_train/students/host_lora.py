"""A student that is a LoRA on a network of ComfyUI's own, under the names that its loader knows."""

import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from ...files import preview
from ..config import RecipeError
from ..recompute import recompute_blocks
from .adapters import Adapters
from .base import Student
from .lora import ADAPTER, Lora, add_adapter
from .written import Shapes

log = logging.getLogger(__name__)
WORKING = re.compile(r"attn|attention|mlp|ffn?\b|feed_forward|linear[12]\b")  # names of what does a block's work
STEERING = re.compile(r"norm|mod(?!el)|ada|emb")  # and of what says how: scales and shifts by time and text


class HostLora(Lora):
    """``network`` is `Adapters` on a teacher of the kind that ComfyUI loads; what it wraps is called as that is."""

    def __init__(self, teacher, settings, frozen, guidance_width=None):
        Student.__init__(self, teacher, settings, frozen)
        self.network = _adapted(teacher.unet, settings, teacher.file)
        self.network.train()
        if not settings.targets:
            self._leave_out_idle()

    @classmethod
    def require(cls, teacher, unet, settings):
        with torch.device("meta"):
            _adapted(unet, settings, teacher.file)

    def exported(self) -> tuple[dict[str, Tensor], Shapes]:
        """``<layer>.lora_A.weight`` [r, in, ...], ``.lora_B.weight`` [out, r, ...] and ``.alpha`` [] of each layer.

        The layer's name is ``diffusion_model.`` and its path in the host's network.
        """
        tensors = {}
        for layer, pair in self.network.factors(ADAPTER).items():
            tensors[f"{layer}.lora_A.weight"] = pair.down
            tensors[f"{layer}.lora_B.weight"] = pair.up
            tensors[f"{layer}.alpha"] = torch.tensor(self.alpha)
        return tensors, {key: tuple(value.shape) for key, value in tensors.items()}

    def metadata(self) -> dict[str, str]:
        return {"trained": "lora", "keys": "comfyui", "rank": str(self.settings.rank), "alpha": f"{self.alpha:g}"} | (
            self.teacher.metadata(self.network)
        )

    def _leave_out_idle(self) -> None:
        """Take out, of the usual layers, those on which what the network says does not depend.

        In some networks those are the last block's for the text, of which nothing is read any more.
        """
        teacher, side = self.teacher, 8 * self.teacher.factor
        noise = torch.zeros(1, *teacher.latent_shape(side, side), device=teacher.device)
        half = teacher.process.times(torch.tensor([0.5], device=teacher.device), noise.shape[-2:])
        time = teacher.process.network_time(half)
        answer = teacher.call(self.network.to(teacher.device), noise, time, teacher.unconditional(1))
        factors = {layer: pair.up for layer, pair in self.network.factors(ADAPTER).items()}
        found = torch.autograd.grad(answer.sum(), list(factors.values()), allow_unused=True)
        idle = [layer for layer, gradient in zip(factors, found, strict=True) if gradient is None]
        if idle:
            log.info("no LoRA for %s, on which what the network says does not depend", preview(idle))
        self.network.drop(ADAPTER, idle)

    def save_memory(self) -> None:
        recompute_blocks(self.network.base.diffusion_model, self.parameters, self._as_now)

    def _as_now(self) -> Callable[[], AbstractContextManager]:
        """What a block that works again in the backward pass is to be within: the same adapters act, ComfyUI trains."""
        active = self.network.active

        @contextmanager
        def around():
            with self.teacher.host.training(), self.network.only(*active):
                yield

        return around


def usual_targets(network: nn.Module) -> list[str]:
    """The names of the layers of a network's blocks that do its attention and feed-forward, by the words that the
    field names them with; norms, embeddings and what modulates are not among them. Empty where there are no such names.
    """
    blocks = tuple(f"{name}." for name, module in network.named_modules() if isinstance(module, nn.ModuleList))
    return [
        name
        for name, layer in network.named_modules()
        if name.startswith(blocks)
        and (hasattr(layer, "in_features") or hasattr(layer, "in_channels"))
        and WORKING.search(name)
        and not STEERING.search(name)
    ]


def _adapted(network: nn.Module, settings, file: str) -> Adapters:
    adapters = Adapters(network.requires_grad_(False))
    usual = usual_targets(network)
    if not settings.targets and not usual:
        raise RecipeError(
            f"no layers of {file} are named as attention and feed-forward usually are; say in student.targets which "
            "are to have a LoRA"
        )
    add_adapter(adapters, settings, usual, file)
    return adapters

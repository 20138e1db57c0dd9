"""Attention guidance of a teacher (SFERD, AAAI 2024): away from what it sees of a picture blurred where it looks."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ...files import preview
from ...samplers.attention_guidance import blurred_where_attended, column_sums, scaled_blur
from ..config import AttentionSettings, RecipeError
from ..process import Process
from ..teachers import Teacher
from .classifier_free import ClassifierFree, Conditioning, Run


class AttentionGuidance:
    """``x0 + w (x_bar - x0_b(z~))``, with ``samplers.attention_guidance`` saying what x_bar and z~ are.

    Branch b is the unconditional one under a scale of classifier-free guidance, x0 then being the guided one: three
    passes instead of two. Without, it is the only one: two instead of one. Raises RecipeError where the teacher has no
    self-attention of the name that the settings, or else its architecture, say.
    """

    def __init__(self, classifier_free: ClassifierFree, teacher: Teacher, settings: AttentionSettings):
        self.classifier_free, self.teacher, self.settings = classifier_free, teacher, settings
        self.block = guiding_block(teacher, teacher.unet, settings)

    def __call__(
        self, run: Run, process: Process, z: Tensor, t: Tensor, given: Conditioning, cfg
    ) -> tuple[Tensor, Tensor]:
        """(x0, eps) at z, t, each of z's shape. run: calls the teacher's UNet, alone or under a ControlNet. cfg: a
        scale or [B]; 1 is none."""
        attention, level = self.teacher.unet.get_submodule(self.block), process.level(t, z.ndim)
        order: list[int] = []

        def noted(z: Tensor, t: Tensor, told: Conditioning) -> Tensor:
            order.extend(self.teacher.order(told))
            return run(z, t, told)

        with recording(attention) as recorder:
            output, weak, told = self.classifier_free.branches(noted, z, t, given, cfg)
        sums = recorder.take()[torch.tensor(order).argsort().to(z.device)]
        x0, eps = process.x0_and_eps(output, z, t)
        branch, _ = process.x0_and_eps(weak, z, t)
        blur = scaled_blur(*z.shape[-2:], self.settings.kernel, self.settings.sigma)
        blurred = blurred_where_attended(branch, sums[-len(z) :], *blur)
        shifted = z + level.alpha * (blurred - branch)
        again, _ = process.x0_and_eps(run(shifted, t, told), shifted, t)
        away = self.settings.weight * (blurred - again)
        return x0 + away, eps - level.alpha / level.sigma * away


def guiding_block(teacher: Teacher, unet: nn.Module, settings: AttentionSettings) -> str:
    """The name of the self-attention in the teacher's ``unet`` whose map guides it. Raises as the class above."""
    block, known = settings.block or teacher.attention_block, self_attentions(unet)
    if block not in known:
        raise RecipeError(
            f"[attention]: the teacher {teacher.file} has no self-attention {block!r}; "
            + (f"expected one of {preview(known)}" if known else "it needs a UNet with attention, so leave it out")
        )
    return block


class Recorder:
    """Keeps the column sums of an attention's maps, of as many passes as there are until they are taken."""

    def __init__(self):
        self.passes: list[Tensor] = []

    def note(self, attention: nn.Module, hidden_states: Tensor) -> None:
        q, k = attention.to_q(hidden_states), attention.to_k(hidden_states)
        self.passes.append(column_sums(q, k, attention.heads))

    def take(self) -> Tensor:
        """[B, N], the rows of one pass below those of another."""
        sums, self.passes = torch.cat(self.passes), []
        return sums


class RecordingProcessor:
    """Attention processor of diffusers' that does what another does. A hook would not do, of which a compiled block
    takes no notice."""

    def __init__(self, processor, recorder: Recorder):
        self.processor, self.recorder = processor, recorder

    def __call__(self, attention: nn.Module, hidden_states: Tensor, *arguments, **options) -> Tensor:
        self.recorder.note(attention, hidden_states)
        return self.processor(attention, hidden_states, *arguments, **options)


@contextmanager
def recording(attention: nn.Module) -> Iterator[Recorder]:
    """Within, the maps of an attention, of diffusers or of ComfyUI, are looked at; afterwards it is as before."""
    recorder = Recorder()
    if not hasattr(attention, "set_processor"):
        hook = attention.register_forward_pre_hook(lambda attention, given: recorder.note(attention, given[0]))
        try:
            yield recorder
        finally:
            hook.remove()
        return
    before = attention.processor
    attention.set_processor(RecordingProcessor(before, recorder))
    try:
        yield recorder
    finally:
        attention.set_processor(before)


def self_attentions(network: nn.Module) -> list[str]:
    """The names of a UNet's self-attentions, be it of diffusers or of ComfyUI."""
    return [name for name, module in network.named_modules() if _is_self_attention(name, module)]


def _is_self_attention(name: str, module: nn.Module) -> bool:
    if not all(hasattr(module, part) for part in ("to_q", "to_k", "heads")):
        return False
    return not getattr(module, "is_cross_attention", not name.endswith(".attn1"))  # diffusers' say so themselves

"""Attention guidance of a teacher (SFERD, AAAI 2024): away from what it sees of a picture blurred where it looks."""

from collections.abc import Iterator
from contextlib import contextmanager

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
        with recording(attention) as recorder:
            output, weak, told = self.classifier_free.branches(run, z, t, given, cfg)
        x0, eps = process.x0_and_eps(output, z, t)
        branch, _ = process.x0_and_eps(weak, z, t)
        blur = scaled_blur(*z.shape[-2:], self.settings.kernel, self.settings.sigma)
        blurred = blurred_where_attended(branch, recorder.sums[-len(z) :], *blur)
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
    """Attention processor that does what another does, and keeps the column sums of the last map, [B, N]."""

    def __init__(self, processor):
        self.processor, self.sums = processor, None

    def __call__(self, attention: nn.Module, hidden_states: Tensor, *arguments, **options) -> Tensor:
        q, k = attention.to_q(hidden_states), attention.to_k(hidden_states)
        self.sums = column_sums(q, k, attention.heads)
        return self.processor(attention, hidden_states, *arguments, **options)


@contextmanager
def recording(attention: nn.Module) -> Iterator[Recorder]:
    """Within, one of diffusers' attentions keeps its map's column sums; its own processor is back afterwards."""
    before = attention.processor
    attention.set_processor(recorder := Recorder(before))
    try:
        yield recorder
    finally:
        attention.set_processor(before)


def self_attentions(network: nn.Module) -> list[str]:
    """The names of a network's self-attentions of diffusers."""
    from diffusers.models.attention_processor import Attention

    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, Attention) and not module.is_cross_attention
    ]

"""Attention guidance of a teacher (SFERD, AAAI 2024): away from what it sees of a picture blurred where it looks."""

import torch
from torch import Tensor

from ...samplers.attention_guidance import blurred_where_attended, scaled_blur
from ..config import AttentionSettings
from ..process import Process
from ..teachers import Teacher
from .classifier_free import ClassifierFree, Conditioning, Run
from .maps import map_of


class AttentionGuidance:
    """``x0 + w (x_bar - x0_b(z~))``, with ``samplers.attention_guidance`` saying what x_bar and z~ are.

    Branch b is the unconditional one under a scale of classifier-free guidance, x0 then being the guided one: three
    passes instead of two. Without, it is the only one: two instead of one. Raises RecipeError where the teacher has no
    self-attention of the name that the settings, or else its architecture, say.
    """

    def __init__(self, classifier_free: ClassifierFree, teacher: Teacher, settings: AttentionSettings):
        self.classifier_free, self.teacher, self.settings = classifier_free, teacher, settings
        self.map = map_of(teacher, teacher.unet, settings.block)

    def __call__(
        self, run: Run, process: Process, z: Tensor, t: Tensor, given: Conditioning, cfg
    ) -> tuple[Tensor, Tensor]:
        """(x0, eps) at z, t, each of z's shape. run: calls the teacher's network, alone or under a ControlNet. cfg: a
        scale or [B]; 1 is none."""
        level, order = process.level(t, z.ndim), []

        def noted(z: Tensor, t: Tensor, told: Conditioning) -> Tensor:
            order.extend(self.teacher.order(told))
            return run(z, t, told)

        with self.map.recording(run, z, t, given) as recorder:
            output, weak, told = self.classifier_free.branches(noted, z, t, given, cfg)
        sums = recorder.take()[torch.tensor(order).argsort().to(z.device)]
        x0, eps = process.x0_and_eps(output, z, t)
        branch, _ = process.x0_and_eps(weak, z, t)
        blurred = self._blurred(branch, sums[-len(z) :])
        shifted = z + level.alpha * (blurred - branch)
        again, _ = process.x0_and_eps(run(shifted, t, told), shifted, t)
        away = self.settings.weight * (blurred - again)
        return x0 + away, eps - level.alpha / level.sigma * away

    def _blurred(self, x0: Tensor, sums: Tensor) -> Tensor:
        """x_bar. Latents of the autoencoders of videos have one frame, which is blurred as a picture."""
        picture = x0.squeeze(2) if x0.ndim == 5 else x0
        blur = scaled_blur(*picture.shape[-2:], self.settings.kernel, self.settings.sigma)
        return blurred_where_attended(picture, sums, *blur).view_as(x0)

"""A ControlNet by plain denoising (Zhang et al. 2023): a teacher under a condition picture."""

import torch
from pydantic import Field
from torch import Tensor, nn

from ..config import Strict
from ..data.batch import Batch
from ..data.randomness import Draws
from .distances import l2
from .distillation import Distillation


class ControlNet(Distillation):
    """``|output - target|^2`` with what the teacher's network predicts, eps, v, x0 or a flow, t uniform.

    Some samples lose their text, so that the network can still be guided; the condition is never dropped.
    """

    name = "controlnet"
    summary = "a ControlNet for many steps: no distillation, but a teacher under a condition picture"
    source = "Zhang et al. 2023"
    trains, bases = ("control",), ("frozen", "lora", "full")
    asks_teacher, shown_steps = False, (4, 8, 20)

    class Settings(Strict):
        drop_text: float = Field(0.1, ge=0, le=1, description="share of the samples that lose their text")

    def batch_loss(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        x0, given = batch.latents, self.conditioning(batch)
        t = self.process.times(1 - draws.uniform("time", 0, 1), x0.shape[-2:])
        dropped = draws.uniform("text", 0, 1) < self.settings.drop_text
        nothing = {key: free.to(given[key]) for key, free in self.teacher.unconditional(len(x0)).items()}
        # Joined first, as texts may have several lengths.
        for key, both in self.teacher.join([{key: given[key] for key in nothing}, nothing]).items():
            told, free = both.chunk(2)
            given[key] = torch.where(dropped.view(-1, *[1] * (free.ndim - 1)), free, told)
        eps = draws.normal("noise", x0.shape[1:])
        z = self.process.level(t, x0.ndim).noisy(x0, eps)
        return l2(self._output(network, z, t, given), self.process.output(x0, eps, t))

    def sample(self, network, noise, given, steps):
        return self.preview.dpmpp(network, noise, given, steps)

    def usage(self) -> dict[str, str]:
        guidance = f"{self.recipe.samples.teacher_cfg:g}"
        return {"steps": "20", "guidance": guidance, "sampler": "dpmpp_2m", "scheduler": "sgm_uniform"}

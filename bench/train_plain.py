"""The loop that train_speed.py and train_steps.py hold the trainer against.

Latent consistency distillation of a LoRA as scripts have it: peft's adapters, a network for the teacher and one for the
student, and two passes for guidance.
"""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn

Told = dict  # what diffusers' UNet is called with besides the latents and their timesteps


class PlainLoop:
    """nothing: what the branch without a prompt is told, of one sample. half: of autocast, None for none."""

    def __init__(self, teacher: nn.Module, student: nn.Module, alphas_cumprod, nothing: Told, half=None):
        self.teacher, self.student, self.alphas_cumprod = teacher, student, alphas_cumprod
        self.nothing, self.half = nothing, half
        self.parameters = [p for p in student.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.0)

    def step(self, parts: list[tuple[torch.Tensor, Told]]) -> None:
        """parts: latents, and what the networks are told with them, of a part of the batch each."""
        for latents, told in parts:
            with nullcontext() if self.half is None else torch.autocast("cpu", self.half):
                loss = self._loss(latents, told) / len(parts)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _loss(self, latents, told):
        count = len(latents)
        t = 20 * torch.randint(1, 51, (count,)) - 1
        s = (t - 20).clamp(min=0)
        w = torch.empty(count, 1, 1, 1).uniform_(3.0, 15.0)
        alpha, sigma = self._level(t)
        z = alpha * latents + sigma * torch.randn_like(latents)
        prediction = self._consistency(z, t, told)
        with torch.no_grad():
            x0, eps = self._x0(self.teacher, z, t, told)
            x0_free, eps_free = self._x0(self.teacher, z, t, expanded(self.nothing, count))
            alpha, sigma = self._level(s)
            nearer = alpha * (x0 + w * (x0 - x0_free)) + sigma * (eps + w * (eps - eps_free))
            target = self._consistency(nearer, s, told)
        return (F.mse_loss(prediction, target, reduction="none") + 0.001**2).sqrt().sub(0.001).mean()

    def _x0(self, network, z, t, told):
        alpha, sigma = self._level(t)
        eps = network(z, t, **told).sample.float()
        return (z - sigma * eps) / alpha, eps

    def _level(self, t):
        squared = self.alphas_cumprod[t][:, None, None, None]
        return squared.sqrt(), (1 - squared).sqrt()

    def _consistency(self, z, t, told):
        scaled = 10.0 * t[:, None, None, None]
        skip, out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25).sqrt()
        return skip * z + out * self._x0(self.student, z, t, told)[0]


def expanded(told: Told, count: int) -> Told:
    """What one sample is told, for so many."""
    return {
        key: expanded(value, count) if isinstance(value, dict) else value.expand(count, *value.shape[1:])
        for key, value in told.items()
    }

"""Trainings that cannot go on, and how that is noticed."""

import torch
from torch import Tensor, nn

from ...files import preview
from ..methods.base import Method
from ..students.adapters import layer_of

SMALLEST_SCALE = 1e-3  # of a loss in fp16: halved from 65536 some 26 times, each for a step whose gradients overflowed


class TrainingError(ValueError):
    """A training that cannot go on; the message names the step and the batch."""


class FiniteWatch:
    """Remembers the first step whose loss or gradient is no number, without waiting for the device at each."""

    def __init__(self, method: Method, scaler: torch.amp.GradScaler, device: torch.device):
        self.method, self.scaler = method, scaler
        self.broken = torch.tensor(-1, device=device)

    def note(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """step: how many there were with this one."""
        fine = torch.isfinite(loss)
        if not self.scaler.is_enabled():  # in fp16 it skips steps whose gradients overflow
            fine = fine & torch.isfinite(norm)
        self.broken = torch.where((self.broken < 0) & ~fine, step, self.broken)

    def require(self, step: int) -> None:
        """Raises TrainingError if any of the steps up to this one was broken, or fp16 does not suffice for them."""
        if self.scaler.is_enabled() and self.scaler.get_scale() < SMALLEST_SCALE:
            raise TrainingError(
                f"the gradients of the last steps up to {step} all overflow in fp16, and none of them was taken; "
                "start again with loop.precision = bf16 or fp32"
            )
        broken = int(self.broken)
        if broken < 0:
            return
        size = self.method.recipe.loop.batch_size  # of all processes, as one's gradient is soon everybody's
        names = list(self.method.names(broken - 1, range((broken - 1) * size, broken * size)))
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise TrainingError(
            f"the loss or its gradient is not a finite number at step {broken}"
            + (f", batch {shown}" if names else "")
            + "; continue from the last checkpoint with a lower loop.lr or loop.grad_clip: --resume --set loop.lr=VALUE"
        )


def require_gradients(network: nn.Module) -> None:
    """Raises TrainingError for what is to train, but has no part in the loss."""
    idle = dict.fromkeys(layer_of(name) for name, p in network.named_parameters() if p.requires_grad and p.grad is None)
    if idle:
        raise TrainingError(
            f"the loss does not depend on {preview(idle)}, which should train; of a LoRA, leave layers that the "
            "network does not call out of student.targets"
        )

"""What trains, and what a step makes of it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..methods.base import Method, Turn
from ..students.ema import Ema
from ..students.sharding import whole
from ..teachers.precision import autocast, laid_out, prefer_speed
from .failures import FiniteWatch, require_gradients
from .optimizers import learning_rate, make_optimizer
from .processes import device_of, own_parts

if TYPE_CHECKING:
    from accelerate import Accelerator


class Training:
    """The network of a method whose data are prepared, its optimizers and its average, at a step of a stage.

    ``forward`` is the network as the processes share it, with gradients for all of them.
    """

    def __init__(self, method: Method, accelerator: "Accelerator"):
        self.method, self.accelerator, self.recipe = method, accelerator, method.recipe
        self.device, self.main = device_of(accelerator), accelerator.is_main_process
        self.stages, self.turns = method.stages(), method.turns()
        self.step = self.stage = 0
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.recipe.loop.precision == "fp16")
        self.watch = FiniteWatch(method, self.scaler, self.device)
        prefer_speed(self.device)
        self.network = laid_out(method.network, self.device).to(self.device)
        averaged, loop = self.network.get_submodule(self.turns[0].part), self.recipe.loop
        self.ema = Ema(averaged, loop.ema, offload=loop.ema_offload)
        self.forward, self.optimizers = self._shared()
        # Only now, as a sharded network has other parameters than the one that it was made of.
        self.parameters = [self._parameters(turn) for turn in self.turns]
        self.unproven = True  # whether all that trains has a part in the losses

    def _shared(self) -> tuple[nn.Module, list]:
        """The network and an optimizer for each turn, as the processes share them."""
        from accelerate.utils import DistributedDataParallelKwargs

        if len(self.turns) > 1:  # else processes wait for gradients of what has none in a turn
            self.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        optimizers = [make_optimizer(self.recipe.loop, self._parameters(turn)) for turn in self.turns]
        network, *prepared = self.accelerator.prepare(self.network, *optimizers)
        # Not the wrappers, which the scaler of fp16 would have to ask in every step whether a gradient overflowed.
        return network, [wrapper.optimizer for wrapper in prepared]

    def _parameters(self, turn: Turn) -> list[nn.Parameter]:
        """What trains in a turn."""
        return [p for p in self.network.get_submodule(turn.part).parameters() if p.requires_grad]

    def advance(self) -> list[tuple[Tensor, Tensor]]:
        """One step. Returns this process's last loss and gradient's norm of each turn, both on the device."""
        if self.step >= self.stages[self.stage].stop:
            self._begin_next_stage()
        figures = []
        for at, turn in enumerate(self.turns):
            for again in range(turn.times):
                loss, norm = self.take_turn(at, again)
                self.watch.note(self.step + 1, loss, norm)
            figures.append((loss, norm))
        self.unproven = False
        self.ema.update()
        self.method.after_step()
        self.step += 1
        return figures

    def take_turn(self, at: int, again: int = 0) -> tuple[Tensor, Tensor]:
        """An update of a turn of the step, of which there may be several: its loss and its gradient's norm."""
        turn, optimizer, parameters = self.turns[at], self.optimizers[at], self.parameters[at]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step, self.stages[self.stage])
        loss = torch.zeros((), device=self.device)
        batch = self.step * turn.times + again
        parts = own_parts(batch, self.recipe.loop, self.accelerator)
        with self._alone(at):
            for number, indices in enumerate(parts, start=1):
                with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.forward):
                    with self.autocast():
                        part = turn.loss(self.forward, batch, indices) / len(parts)
                    self.accelerator.backward(self.scaler.scale(part))
                loss += part.detach()
        if self.unproven:
            require_gradients(self.network.get_submodule(turn.part))
        self.scaler.unscale_(optimizer)
        norm = whole(self.accelerator.clip_grad_norm_(parameters, self.recipe.loop.grad_clip))
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad()
        return loss, norm

    def rehearse(self, size: int) -> None:
        """The passes of a part of so many samples, forward and back in each turn; nothing is learned from it.

        They are the batch's last, which have the longest texts where lengths differ. Gradients stay until
        :meth:`forget_gradients`, as they do from one part of a step to the next.
        """
        end = (self.step + 1) * self.recipe.loop.batch_size
        for at, turn in enumerate(self.turns):
            with self._alone(at):
                with self.autocast():
                    # Without the other processes, which may have other sizes to try.
                    loss = turn.loss(self.network, self.step, range(end - size, end))
                loss.backward()

    def forget_gradients(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def settle(self, **found: int | bool) -> None:
        """Go on by a recipe whose [loop] says what was found."""
        loop = self.recipe.loop.model_copy(update=found)
        self.recipe = self.method.recipe = self.recipe.model_copy(update={"loop": loop})

    @contextmanager
    def _alone(self, at: int) -> Iterator[None]:
        """Within, only what trains in that turn takes gradients."""
        others = [p for number, parameters in enumerate(self.parameters) if number != at for p in parameters]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def _begin_next_stage(self) -> None:
        """The student so far is the next stage's teacher and its student's beginning."""
        with torch.no_grad():
            for parameter, average in zip(self.ema.parameters, self.ema.weights, strict=True):
                parameter.copy_(average)
        self.ema.restart()
        for optimizer in self.optimizers:
            optimizer.state.clear()
        self.stage += 1
        self.method.begin(self.stage)

    def autocast(self):
        # Not Accelerator's own mixed precision: that is one for the whole process, a recipe's is its own.
        return autocast(self.device, self.recipe.loop.precision)

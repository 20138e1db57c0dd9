"""The loop that every method runs in."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, nn

from ...files import preview
from ..config import Recipe, RecipeError
from ..methods import make_method
from ..methods.base import Turn
from ..students.adapters import layer_of
from ..students.ema import Ema
from ..students.sharding import is_sharded, whole
from ..teachers.precision import autocast
from .checkpoint import load_state, saved_state
from .directory import Run
from .grid import save_grid
from .optimizers import learning_rate, make_optimizer, require_installed
from .progress import Tracker, installed_tracker, memory, progress_bar
from .stopping import Stopped, StopRequest

NOTHING_YET = "–"  # in the bar, before the first step that is logged
SMALLEST_SCALE = 1e-3  # of a loss in fp16: halved from 65536 some 26 times, each for a step whose gradients overflowed


class TrainingError(ValueError):
    """A training that cannot go on; the message names the step and the batch."""


def train(recipe: Recipe, directory: Path, resume: bool = False, device: str = "auto", make=None) -> Path:
    """Train as the recipe says and return the exported file.

    directory: the run's directory. With ``resume`` the newest checkpoint in it is continued, to the same weights as an
    unbroken run on one CPU process. device: "auto", "cpu" or "cuda". make: ``(recipe, device) -> Method``, for networks
    and data of one's own; make_method without it.
    Raises RecipeError for a wrong recipe, TrainingError when the loss is not a number, and Stopped after Ctrl-C.
    """
    return Trainer(recipe, directory, resume, device, make).train()


class Trainer:
    """One process's part of a training: everything that steps need, made or read back.

    samples_at_most: of the data, for an estimate. data_seconds: what it took to make or load them.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: Path,
        resume: bool = False,
        device: str = "auto",
        make=None,
        samples_at_most: int | None = None,
    ):
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

        self.recipe, loop = recipe, recipe.loop
        if device == "cuda" and not torch.cuda.is_available():
            raise RecipeError("device is cuda, but torch finds no CUDA device here; use --device cpu")
        waiting = InitProcessGroupKwargs(timeout=timedelta(hours=1))  # for a checkpoint that the main process writes
        # The recipe alone says how to train, whatever `accelerate config` has put into the launcher's environment.
        self.accelerator = Accelerator(
            cpu=device == "cpu", mixed_precision="no", dynamo_backend="no", kwargs_handlers=[waiting]
        )
        self.accelerator.gradient_accumulation_steps = 1
        self.device, self.main = self.accelerator.device, self.accelerator.is_main_process
        if self.device.type == "cpu":
            self.device = torch.device("cpu")  # launchers number it, and safetensors knows no cpu:0
        parts = self.accelerator.num_processes * loop.accumulate
        if loop.batch_size % parts:
            raise RecipeError(
                f"loop.batch_size is {loop.batch_size}; expected a multiple of {parts}, for "
                f"{self.accelerator.num_processes} processes and loop.accumulate = {loop.accumulate}"
            )
        self.tracker_kind = installed_tracker(loop.tracker)
        require_installed(loop.optimizer)
        if resume:
            Run.resume(directory, recipe)
        elif self.main:  # the others may come here when it has already begun
            Run.require_new(directory)
        torch.manual_seed(recipe.seed)  # initial weights; all later draws have generators of their own
        self.method = (make or make_method)(recipe, self.device)
        self.method.require_parts(parts)
        self.stages, self.turns = self.method.stages(), self.method.turns()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=loop.precision == "fp16")
        self._require_whole_weights()
        self.method.samples_at_most = samples_at_most
        started = time.monotonic()
        self.method.prepare(directory)
        self.data_seconds = time.monotonic() - started
        self.network = self.method.network.to(self.device)
        self.optimizers = [make_optimizer(loop, self._training(turn)) for turn in self.turns]
        self.ema = Ema(self.network.get_submodule(self.turns[0].part), loop.ema)
        self.step = self.stage = 0
        if len(self.turns) > 1:  # else processes wait for gradients of what has none in a turn
            self.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.forward, *self.optimizers = self.accelerator.prepare(self.network, *self.optimizers)
        # Only now, as a sharded network has other parameters than the one that it was made of.
        self.parameters = [self._training(turn) for turn in self.turns]
        self.unproven = True  # whether all that trains has a part in the losses
        with self.accelerator.main_process_first():
            self.run = Run.start(directory, recipe) if self.main and not resume else Run.resume(directory, recipe)
        if resume:
            self._restore()
            if self.main:
                self.run.write_recipe(recipe)
        self.broken = torch.tensor(-1, device=self.device)
        self.ask_at = 0  # the step after which processes ask each other again whether to stop
        self.asked = self.step, time.monotonic()  # when they did last

    def train(self) -> Path:
        loop = self.recipe.loop
        tracker = closing(Tracker(self.tracker_kind if self.main else "none", self.run.directory, self.step))
        with tracker as track, StopRequest() as request, progress_bar(self.main) as progress:
            fields = {"loss": NOTHING_YET, "speed": NOTHING_YET, "memory": 0.0}
            bar = progress.add_task(self.recipe.export, total=loop.steps, completed=self.step, **fields)
            since, started = self.step, time.monotonic()
            while self.step < loop.steps:
                figures = self.advance()
                progress.update(bar, completed=self.step)
                ended = self.step == self.stages[self.stage].stop
                if self.step % loop.log_every == 0 or ended:
                    self._require_finite()
                    speed = (self.step - since) * loop.batch_size / (time.monotonic() - started)
                    entry = self._log_entry(figures, speed)
                    self._log(entry, track)
                    shown = {"loss": f"{entry['loss']:.4g}", "speed": f"{speed:.3g}", "memory": entry["memory_gib"]}
                    progress.update(bar, **shown)
                    since, started = self.step, time.monotonic()
                stopping = self._stop(request.asked)
                # Not when it is to stop: a launcher gives its processes half a minute, and a grid may take longer.
                if ended or (self.step % loop.sample_every == 0 and not stopping):
                    self._require_finite()
                    if measured := self.measure():
                        self._log({"step": self.step, **measured}, track)
                    since, started = self.step, time.monotonic()
                    self.ask_at = self.step
                    stopping = self._stop(request.asked)
                if self.step % loop.checkpoint_every == 0 or ended or stopping:
                    self._require_finite()
                    if ended and self.step < loop.steps:
                        self.export(f"-{self.stages[self.stage].name}")
                    self.save()
                if stopping and self.step < loop.steps:
                    raise Stopped(
                        f"stopped at step {self.step} of {loop.steps}, saved in {self.run.directory}; "
                        "go on with --resume"
                    )
        return self.export()

    def advance(self) -> list[tuple[Tensor, Tensor]]:
        """One step. Returns this process's loss and the gradient's norm, both on the device, of each turn."""
        if self.step >= self.stages[self.stage].stop:
            self._begin_next_stage()
        figures = [self._take(at) for at in range(len(self.turns))]
        self.scaler.update()
        self.unproven = False
        self.ema.update()
        self.method.after_step()
        self.step += 1
        for loss, norm in figures:
            self._watch(loss, norm)
        return figures

    def _take(self, at: int) -> tuple[Tensor, Tensor]:
        """A turn of the step: its loss and its gradient's norm."""
        turn, optimizer, parameters = self.turns[at], self.optimizers[at], self.parameters[at]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step, self.stages[self.stage])
        loss = torch.zeros((), device=self.device)
        parts = self._parts()
        with self._alone(at):
            for number, indices in enumerate(parts, start=1):
                with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.forward):
                    with self.autocast():
                        part = turn.loss(self.forward, self.step, indices) / len(parts)
                    self.accelerator.backward(self.scaler.scale(part))
                loss += part.detach()
        if self.unproven:
            self._require_gradients(turn)
        self.scaler.unscale_(optimizer)
        norm = whole(self.accelerator.clip_grad_norm_(parameters, self.recipe.loop.grad_clip))
        self.scaler.step(optimizer)
        optimizer.zero_grad()
        return loss, norm

    def _training(self, turn: Turn) -> list[nn.Parameter]:
        """What trains in a turn."""
        return [p for p in self.network.get_submodule(turn.part).parameters() if p.requires_grad]

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

    def autocast(self):
        # Not Accelerator's own mixed precision: that is one for the whole process, a recipe's is its own.
        return autocast(self.device, self.recipe.loop.precision)

    def measure(self) -> dict:
        """Samples of the averaged student: a grid in the run's samples, and figures."""
        with torch.no_grad(), self.autocast(), self.ema.applied():
            grid, measures = self.method.measure(self.network)
        self.network.train()
        if grid is not None and self.main:
            path = self.run.directory / "samples" / f"step-{self.step:08d}.png"
            save_grid(grid, path, self.method.columns, self.method.headings)
        return measures

    def save(self) -> None:
        """Write a checkpoint of everything from here on."""
        state = saved_state(self)
        if self.main:
            self.run.save_checkpoint(self.step, state, self.recipe.loop.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    def _restore(self) -> None:
        state = self.run.load_checkpoint(truncate_log=self.main)
        if state is not None:
            load_state(self, state)

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

    def _parts(self) -> list[range]:
        """Global indices of this process's samples of the step, in parts of equal size."""
        size = self.recipe.loop.batch_size
        share = size // self.accelerator.num_processes
        start = self.step * size + self.accelerator.process_index * share
        part = share // self.recipe.loop.accumulate
        return [range(at, at + part) for at in range(start, start + share, part)]

    def export(self, name: str = "") -> Path:
        """Write the averaged weights; ``name`` goes into the file's name."""
        path = self.run.directory / "exports" / self.recipe.export
        path = path.with_stem(path.stem + name)
        with self.ema.applied():
            if is_sharded(self.accelerator):
                self.method.export_sharded(self.network, path, write=self.main)
            elif self.main:
                self.method.export(self.network, path)
        self.accelerator.wait_for_everyone()
        return path

    def _log_entry(self, figures: list[tuple[Tensor, Tensor]], speed: float) -> dict:
        entry = {"step": self.step}
        for at, (turn, (loss, norm)) in enumerate(zip(self.turns, figures, strict=True)):
            of = f" {turn.part}" if at else ""
            entry |= {f"loss{of}": self.accelerator.reduce(loss, "mean").item(), f"grad_norm{of}": norm.item()}
        entry |= {
            "lr": self.optimizers[0].param_groups[0]["lr"],
            "samples_per_second": speed,
            "memory_gib": memory(self.device),
        }
        if self.scaler.is_enabled():
            entry["loss_scale"] = self.scaler.get_scale()
        name = self.stages[self.stage].name
        return entry | ({"stage": name} if name else {})

    def _log(self, entry: dict, track: Tracker) -> None:
        if self.main:
            self.run.log(entry)
            track(entry)

    def _stop(self, asked: bool) -> bool:
        """Whether any process was asked to stop; the same answer in all of them.

        They ask each other about once a second, as each time the device has to be waited for.
        """
        processes = self.accelerator.num_processes
        if processes == 1:
            return asked
        if self.step < self.ask_at:
            return False
        (step, then), now = self.asked, time.monotonic()
        told = torch.tensor([float(asked), (now - then) / max(1, self.step - step)], device=self.device)
        anyone, seconds = self.accelerator.reduce(told, "sum").tolist()  # seconds: of a step, summed like the requests
        self.ask_at, self.asked = self.step + max(1, int(processes / max(seconds, 1e-3))), (self.step, now)
        return anyone > 0

    def _watch(self, loss: Tensor, norm: Tensor) -> None:
        """Remember the first step whose loss or gradient is no number, without waiting for the device."""
        fine = torch.isfinite(loss)
        if self.recipe.loop.precision != "fp16":  # where the scaler skips steps whose gradients overflow
            fine = fine & torch.isfinite(norm)
        self.broken = torch.where((self.broken < 0) & ~fine, self.step, self.broken)

    def _require_finite(self) -> None:
        if self.scaler.is_enabled() and self.scaler.get_scale() < SMALLEST_SCALE:
            raise TrainingError(
                f"the gradients of the last steps up to {self.step} all overflow in fp16, and none of them was taken; "
                "start again with loop.precision = bf16 or fp32"
            )
        step = int(self.broken)
        if step < 0:
            return
        size = self.recipe.loop.batch_size  # of all processes, as one's gradient is soon everybody's
        names = list(self.method.names(step - 1, range((step - 1) * size, step * size)))
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise TrainingError(
            f"the loss or its gradient is not a finite number at step {step}"
            + (f", batch {shown}" if names else "")
            + "; continue from the last checkpoint with a lower loop.lr or loop.grad_clip: --resume --set loop.lr=VALUE"
        )

    def _require_gradients(self, turn: Turn) -> None:
        """Raises TrainingError for what is to train, but has no part in the loss."""
        named = self.network.get_submodule(turn.part).named_parameters()
        idle = dict.fromkeys(layer_of(name) for name, p in named if p.requires_grad and p.grad is None)
        if idle:
            raise TrainingError(
                f"the loss does not depend on {preview(idle)}, which should train; of a LoRA, leave layers that the "
                "network does not call out of student.targets"
            )

    def _require_whole_weights(self) -> None:
        if not is_sharded(self.accelerator):
            return
        self.method.require_shards()
        several = len(self.stages) > 1 or len(self.turns) > 1
        averages = self.recipe.loop.ema or self.method.keeps_averages
        if averages or self.scaler.is_enabled() or several:
            raise RecipeError(
                "with FSDP no process holds whole weights to average: set loop.ema = 0 and settings.target_ema = 0, "
                "loop.precision to bf16 or fp32, and train one stage in one turn"
            )

"""The loop that every method runs in."""

import time
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from ..config import Recipe
from ..students.sharding import is_sharded
from .checkpoint import load_state, saved_state
from .directory import Run
from .fitting import fit
from .grid import save_grid
from .memory import memory
from .processes import StopVote, start_process
from .progress import Tracker, installed_tracker, progress_bar
from .setup import MakeMethod, open_run, require_startable, trainable_method
from .stopping import Stopped, StopRequest
from .training import Training

NOTHING_YET = "–"  # in the bar, before the first step that is logged


def train(
    recipe: Recipe, directory: Path, resume: bool = False, device: str = "auto", make: MakeMethod | None = None
) -> Path:
    """Train as the recipe says and return the exported file.

    directory: the run's directory. With ``resume`` the newest checkpoint in it is continued, to the same weights as an
    unbroken run on one CPU process. device: "auto", "cpu" or "cuda". make: for networks and data of one's own;
    make_method without it.
    Raises RecipeError for a wrong recipe, TrainingError when the loss is not a number, and Stopped after Ctrl-C.
    """
    return set_up(recipe, directory, resume, device, make).train()


def set_up(
    recipe: Recipe, directory: Path, resume: bool = False, device: str = "auto", make: MakeMethod | None = None
) -> "Trainer":
    """All that :func:`train` trains with, made or read back; it takes the same and raises the same."""
    accelerator = start_process(device)
    recipe = Run.with_found(directory, recipe) if resume else recipe
    require_startable(recipe, directory, resume, accelerator)
    method = trainable_method(recipe, accelerator, make)
    method.prepare(directory)
    training = Training(method, accelerator)
    fit(training)
    trainer = Trainer(training, open_run(directory, training.recipe, resume, accelerator))
    if resume:
        trainer.go_on()
    return trainer


class Trainer:
    """One process's part of a training, in a run's directory."""

    def __init__(self, training: Training, run: Run):
        self.training, self.run = training, run
        self.method, self.recipe = training.method, training.recipe
        self.accelerator, self.main = training.accelerator, training.main

    def go_on(self) -> None:
        """Take over what the newest checkpoint has; what the run is made by from here on is noted."""
        state = self.run.load_checkpoint(truncate_log=self.main)
        if state is not None:
            load_state(self.training, state, self.run.directory)
        if self.main:
            self.run.write_recipe(self.recipe)

    def train(self) -> Path:
        loop, training = self.recipe.loop, self.training
        stop_vote = StopVote(self.accelerator, training.step)
        kind = installed_tracker(loop.tracker) if self.main else "none"
        tracker = closing(Tracker(kind, self.run.directory, training.step))
        with tracker as track, StopRequest() as request, progress_bar(self.main) as progress:
            fields = {"loss": NOTHING_YET, "speed": NOTHING_YET, "memory": 0.0}
            bar = progress.add_task(self.recipe.export, total=loop.steps, completed=training.step, **fields)
            since, started = training.step, time.monotonic()
            while training.step < loop.steps:
                figures = training.advance()
                step, stage = training.step, training.stages[training.stage]
                progress.update(bar, completed=step)
                ended = step == stage.stop
                if step % loop.log_every == 0 or ended:
                    training.watch.require(step)
                    speed = (step - since) * loop.batch_size / (time.monotonic() - started)
                    entry = self._log_entry(figures, speed)
                    self._log(entry, track)
                    shown = {"loss": f"{entry['loss']:.4g}", "speed": f"{speed:.3g}", "memory": entry["memory_gib"]}
                    progress.update(bar, **shown)
                    since, started = step, time.monotonic()
                stopping = stop_vote(step, request.asked)
                # Not when it is to stop: a launcher gives its processes half a minute, and a grid may take longer.
                if ended or (step % loop.sample_every == 0 and not stopping):
                    training.watch.require(step)
                    if measured := self.measure():
                        self._log({"step": step, **measured}, track)
                    since, started = step, time.monotonic()
                    stop_vote.ask_next(step)
                    stopping = stop_vote(step, request.asked)
                if step % loop.checkpoint_every == 0 or ended or stopping:
                    training.watch.require(step)
                    if ended and step < loop.steps:
                        self.export(f"-{stage.name}")
                    self.save()
                if stopping and step < loop.steps:
                    raise Stopped(
                        f"stopped at step {step} of {loop.steps}, saved in {self.run.directory}; go on with --resume"
                    )
        return self.export()

    def measure(self) -> dict:
        """Samples of the averaged student: a grid in the run's samples, and figures."""
        training = self.training
        with torch.no_grad(), training.autocast(), training.ema.applied():
            grid, measures = self.method.measure(training.network)
        training.network.train()
        if grid is not None and self.main:
            path = self.run.directory / "samples" / f"step-{training.step:08d}.png"
            save_grid(grid, path, self.method.columns, self.method.headings)
        return measures

    def save(self) -> None:
        """Write a checkpoint of everything from here on."""
        state = saved_state(self.training)
        if self.main:
            self.run.save_checkpoint(self.training.step, state, self.recipe.loop.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    def export(self, name: str = "") -> Path:
        """Write the averaged weights; ``name`` goes into the file's name."""
        path = self.run.directory / "exports" / self.recipe.export
        path = path.with_stem(path.stem + name)
        with self.training.ema.applied():
            if is_sharded(self.accelerator):
                self.method.export_sharded(self.training.network, path, write=self.main)
            elif self.main:
                self.method.export(self.training.network, path)
        self.accelerator.wait_for_everyone()
        return path

    def _log_entry(self, figures: list[tuple[Tensor, Tensor]], speed: float) -> dict:
        training = self.training
        entry = {"step": training.step}
        for at, (turn, (loss, norm)) in enumerate(zip(training.turns, figures, strict=True)):
            of = f" {turn.part.rpartition('.')[2]}" if at else ""
            entry |= {f"loss{of}": self.accelerator.reduce(loss, "mean").item(), f"grad_norm{of}": norm.item()}
        entry |= {
            "lr": training.optimizers[0].param_groups[0]["lr"],
            "samples_per_second": speed,
            "memory_gib": memory(training.device),
        }
        if training.scaler.is_enabled():
            entry["loss_scale"] = training.scaler.get_scale()
        name = training.stages[training.stage].name
        return entry | ({"stage": name} if name else {})

    def _log(self, entry: dict, track: Tracker) -> None:
        if self.main:
            self.run.log(entry)
            track(entry)

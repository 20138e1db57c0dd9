"""``understudy train --estimate``: what a recipe will take, from ten measured steps and a few samples of its data."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ..config import Recipe, RecipeError
from .checkpoint import saved_state
from .first_samples import Extent, make_first_samples
from .fitting import fit
from .loop import Trainer
from .memory import memory
from .processes import start_process
from .setup import open_run, require_startable, trainable_method
from .sizes import size
from .training import Training

WARMUP, MEASURED = 2, 10


@dataclass(frozen=True)
class Estimate:
    """GiB of memory, and bytes and seconds for the whole run.

    The memory is what torch held of a CUDA device at most, without the driver's own part, and elsewhere the most that
    the process was seen to take between steps. The cache holds latents and embeddings; it and ``data_seconds``, which
    fills it, are extrapolated from the first samples and are for a run that finds nothing cached. The
    grid's first time includes the teacher's pictures. Steps of later stages have another time, measured in the second.
    """

    device: str
    parts: int
    recomputed: bool
    memory_gib: float
    checkpoint_bytes: int
    export_bytes: int
    disk_bytes: int
    free_bytes: int  # of that disk
    cache_bytes: float
    data_seconds: float
    step_seconds: tuple[float, ...]  # of the first stage, and of the later ones
    sample_seconds: tuple[float, float]  # of the first grid, and of each other one
    total_seconds: float

    def summary(self) -> str:
        """A few lines for a person."""
        steps = " then ".join(f"{seconds:.3g} s" for seconds in self.step_seconds)
        first, other = self.sample_seconds
        return "\n".join(
            [
                f"memory      {self.memory_gib:.2f} GiB on {self.device}, sample grid included; loop.accumulate = "
                f"{self.parts}, loop.checkpointing = {str(self.recomputed).lower()}",
                f"disk        {size(self.disk_bytes)}: checkpoints of {size(self.checkpoint_bytes)}, "
                f"exports of {size(self.export_bytes)}; and a cache of about {size(self.cache_bytes)}; "
                f"{size(self.free_bytes)} are free",
                f"time        {_duration(self.total_seconds)}: {steps} a step, {first:.3g} s for the first sample grid "
                f"and {other:.3g} s for each other; about {_duration(self.data_seconds)} before it for the data, less "
                "what is cached already",
            ]
        )


def estimate(recipe: Recipe, directory: Path, device: str = "auto") -> Estimate:
    """Run the first steps of ``recipe``, and of its second stage, beside ``directory``; nothing is left behind.

    Raises what training would, and RecipeError in one of several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError("--estimate measures one process; run it without accelerate launch")
    loop, directory = recipe.loop, directory.absolute()
    with _folder(directory.with_name(f".estimate-{directory.name}")) as folder:
        # With a cache of its own: what is cached already would take no time.
        accelerator = start_process(device)
        require_startable(recipe, folder / "run", False, accelerator)
        method = trainable_method(recipe, accelerator)
        device = method.device
        extent = Extent()
        method.make_source = lambda cache: make_first_samples(method, extent, cache)
        data_seconds = _timed(device, lambda: method.prepare(folder / "run"))
        training = Training(method, accelerator)
        fit(training)
        trainer = Trainer(training, open_run(folder / "run", training.recipe, False, accelerator))
        stages, used = training.stages, []
        step_seconds = [_steps(training, stages[0].stop, used)]
        sample_seconds = _timed(device, trainer.measure), _timed(device, trainer.measure)
        used.append(memory(device))
        export_seconds = _timed(device, trainer.export)
        export = _bytes(trainer.run.directory / "exports")
        if len(stages) > 1:  # from which on the student's earlier weights teach, and lie in memory and in checkpoints
            training.step = stages[0].stop
            step_seconds.append(_steps(training, stages[1].stop, used))
        # Of a checkpoint only the size: it may have tens of GiB. The export says how fast the disk is.
        counter = _Counter()
        save_seconds = _timed(device, lambda: torch.save(saved_state(training), counter))
        save_seconds += export_seconds * counter.bytes / export
        used.append(memory(device))
        ends = {stage.stop for stage in stages}
        grids = len(ends | set(range(loop.sample_every, loop.steps + 1, loop.sample_every)))
        saves = len(ends | set(range(loop.checkpoint_every, loop.steps + 1, loop.checkpoint_every)))
        stepping = stages[0].stop * step_seconds[0] + (loop.steps - stages[0].stop) * step_seconds[-1]
        sampling = sample_seconds[0] + (grids - 1) * sample_seconds[1]
        cache = folder / "cache"
        captions = sum(_bytes(texts) for texts in cache.glob("*/text"))  # each is embedded once
        return Estimate(
            device=str(device),
            parts=training.recipe.loop.accumulate,
            recomputed=training.recipe.loop.checkpointing,
            memory_gib=max(used),
            checkpoint_bytes=counter.bytes,
            export_bytes=export,
            # While one is written, the oldest is still there.
            disk_bytes=counter.bytes * (min(loop.keep_checkpoints, saves) + 1) + export * len(stages),
            free_bytes=shutil.disk_usage(folder).free,
            cache_bytes=(_bytes(cache) - captions) / extent.samples + captions / extent.captions,
            data_seconds=data_seconds + extent.seconds,
            step_seconds=tuple(step_seconds),
            sample_seconds=sample_seconds,
            total_seconds=stepping + sampling + saves * save_seconds,
        )


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """A folder that is empty at first and gone afterwards; one that a killed estimate has left goes, too."""
    if path.exists():
        shutil.rmtree(path)
    made = [parent for parent in path.parents if not parent.exists()]
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path)
        for parent in made:
            if not any(parent.iterdir()):
                parent.rmdir()


class _Counter:
    """A file that only counts what is written to it."""

    bytes = 0

    def write(self, data) -> int:
        size = memoryview(data).nbytes
        self.bytes += size
        return size

    def flush(self) -> None:
        pass


def _steps(training: Training, stop: int, used: list[float]) -> float:
    """Seconds for a step of the present stage, which ends at ``stop``; adds to the memory that was seen in use."""
    for _ in range(min(WARMUP, stop - training.step - 1)):
        training.advance()
    measured = min(MEASURED, stop - training.step)
    seconds = _timed(training.device, lambda: [training.advance() for _ in range(measured)]) / measured
    used.append(memory(training.device))
    return seconds


def _timed(device: torch.device, work) -> float:
    _wait(device)
    started = time.monotonic()
    work()
    _wait(device)
    return time.monotonic() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min"

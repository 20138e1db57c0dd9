"""``understudy train --estimate``: what a recipe will take, from ten measured steps."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from .config import Recipe
from .loop import Trainer
from .progress import memory

WARMUP, MEASURED = 2, 10


@dataclass(frozen=True)
class Estimate:
    """Of one process: GiB of memory, and bytes and seconds for the whole run.

    The memory is the most that tensors take on a CUDA device, and elsewhere what the process takes. The cache holds
    latents and embeddings, and the time to fill it is ``data_seconds``.
    """

    device: str
    memory_gib: float
    checkpoint_bytes: int
    export_bytes: int
    disk_bytes: int
    cache_bytes: int
    data_seconds: float
    step_seconds: float
    sample_seconds: float
    total_seconds: float

    def summary(self) -> str:
        """A few lines for a person."""
        return "\n".join(
            [
                f"memory      {self.memory_gib:.2f} GiB on {self.device}, sample grid included",
                f"disk        {_size(self.disk_bytes)}: checkpoints of {_size(self.checkpoint_bytes)}, "
                f"exports of {_size(self.export_bytes)}; and a cache of {_size(self.cache_bytes)}",
                f"time        {_duration(self.total_seconds)}: {self.step_seconds:.3g} s a step, "
                f"{self.sample_seconds:.3g} s a sample grid; data took {_duration(self.data_seconds)} "
                "and is cached for the run",
            ]
        )


def estimate(recipe: Recipe, directory: Path, device: str = "auto") -> Estimate:
    """Run the first steps of ``recipe`` beside ``directory``, where its cache is then used by the run itself.

    Nothing else is left behind. Raises what training would.
    """
    loop = recipe.loop
    cache = directory.parent / "cache"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".estimate-", dir=directory.parent) as folder:
        started = time.monotonic()
        trainer = Trainer(recipe, Path(folder), device=device)
        data_seconds = time.monotonic() - started
        steps = min(WARMUP, loop.steps - 1)
        for _ in range(steps):
            trainer.advance()
        measured = min(MEASURED, loop.steps - steps)
        step_seconds = _timed(trainer, lambda: [trainer.advance() for _ in range(measured)]) / measured
        sample_seconds = _timed(trainer, trainer.measure)
        save_seconds = _timed(trainer, trainer.save)
        checkpoint = _bytes(trainer.run.directory / "checkpoints")
        trainer.export()
        export = _bytes(trainer.run.directory / "exports")
        used = memory(trainer.device)
        grids, saves = -(-loop.steps // loop.sample_every), -(-loop.steps // loop.checkpoint_every)
        return Estimate(
            device=str(trainer.device),
            memory_gib=used,
            checkpoint_bytes=checkpoint,
            export_bytes=export,
            # While one is written, the oldest is still there.
            disk_bytes=checkpoint * (min(loop.keep_checkpoints, saves) + 1) + export * len(trainer.stages),
            cache_bytes=_bytes(cache),
            data_seconds=data_seconds,
            step_seconds=step_seconds,
            sample_seconds=sample_seconds,
            total_seconds=loop.steps * step_seconds + grids * sample_seconds + saves * save_seconds,
        )


def _timed(trainer: Trainer, work) -> float:
    _wait(trainer.device)
    started = time.monotonic()
    work()
    _wait(trainer.device)
    return time.monotonic() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min"

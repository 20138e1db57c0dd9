"""What a training shows while it runs, and where its figures go."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..config import RecipeError


def progress_bar(shown: bool):
    """A rich progress bar on stderr with loss, samples/s, memory and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  {task.fields[speed]} samples/s  {task.fields[memory]:.1f} GiB"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        speed_estimate_period=600,  # seconds; one step may take many
        disable=not shown,
    )


def installed_tracker(kind: str) -> str:
    """What loop.tracker comes to here: "tensorboard", "trackio" or "none".

    Raises RecipeError for one that is asked for by name and not installed.
    """
    installed = [name for name in ("tensorboard", "trackio") if find_spec(name)]
    if kind == "auto":
        return installed[0] if installed else "none"
    if kind != "none" and kind not in installed:
        raise RecipeError(f"loop.tracker is {kind}, which is not installed; pip install {kind}, or use none")
    return kind


class Tracker:
    """Figures for TensorBoard, in the run's directory, or for trackio, or for nothing ("none").

    step: where the run goes on; what was tracked after it does not count.
    """

    def __init__(self, kind: str, directory: Path, step: int = 0):
        self.writer = self.board = None
        if kind == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1 if step else None)
        elif kind == "trackio":
            import trackio

            self.board = trackio
            trackio.init(project="understudy", name=directory.name, resume="allow" if step else "never")

    def __call__(self, entry: Mapping[str, Any]) -> None:
        """Pass on the numbers of a log entry."""
        figures = {k: v for k, v in entry.items() if isinstance(v, (int, float)) and k != "step"}
        if self.writer is not None:
            for name, value in figures.items():
                self.writer.add_scalar(name, value, entry["step"])
        elif self.board is not None:
            self.board.log(figures, step=entry["step"])

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        elif self.board is not None:
            self.board.finish()

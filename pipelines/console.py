"""What the commands show: progress on stderr while they work, the table on stdout afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..files import GRID_FILE
from ..report import Report, table
from .adaptive_run import Watcher
from .processes import Processes


class _Bars(Watcher):
    def __init__(self, progress, images: int):
        self.progress = progress
        self.images = progress.add_task("images", total=images)
        self.steps = progress.add_task("", total=None)

    def stage(self, name: str, images: int) -> None:
        noun = "image" if images == 1 else "images"
        self.progress.reset(self.steps, description=f"{name}, {images} {noun}", total=1)

    def step(self, step: int, steps: int) -> None:
        self.progress.update(self.steps, completed=step, total=steps)

    def done(self, images: int) -> None:
        self.progress.advance(self.images, images)


@contextmanager
def progress(processes: Processes, images: int) -> Iterator[Watcher]:
    """Two bars on stderr: images done, and the steps of the stage at work. Only the main process shows them."""
    if not processes.is_main:
        yield Watcher()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        # Other processes work at the same time, on as many images each.
        yield _Bars(bars, -(-images // processes.count))


def show(report: Report, out: Path) -> None:
    """Print the table and where the files are."""
    from rich.console import Console

    console = Console()
    console.print(table(report))
    console.print(f"Pictures and report: {out} (begin with {out / GRID_FILE})", soft_wrap=True, highlight=False)

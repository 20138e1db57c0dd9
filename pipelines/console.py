"""What the commands show: progress on stderr while they work, the table on stdout afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..oracles.calibration import Calibration
from ..oracles.statistics import interval_text
from ..oracles.threshold import percent_text
from ..receipts.folder import GRID_FILE
from ..receipts.report import Report, table
from .adaptive_run import Watcher
from .processes import Processes
from .score import Result


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


def plain_console(**options):
    """Rich's console for lines that hold names and prompts, in which `[x]` and `:x:` are what they are."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False, **options)


def show(report: Report, out: Path) -> None:
    """Print the table and where the files are."""
    from rich.console import Console

    Console().print(table(report))
    plain_console().print(f"Pictures and report: {printable(str(out))} (begin with {printable(str(out / GRID_FILE))})")


def show_remark(remark: str) -> None:
    """Print one line on stderr."""
    plain_console(stderr=True).print(f"note: {remark}")


class Counter:
    """A bar on stderr; as a context it is what to call with (done, total).

    It appears with the first call, so that a request that is refused shows one line and nothing else.
    """

    def __init__(self, what: str, *columns):
        from rich.console import Console
        from rich.progress import Progress

        self.bars = Progress(*(columns or Progress.get_default_columns()), console=Console(stderr=True), transient=True)
        self.task = self.bars.add_task(what, total=None)

    def __call__(self, done: int, total: int | None) -> None:
        self.bars.start()
        self.bars.update(self.task, completed=done, total=total)

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *_) -> None:
        if self.bars.live.is_started:
            self.bars.stop()


def byte_counter(name: str) -> Counter:
    """A counter of bytes, with speed and time left."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    return Counter(name, *columns, TimeRemainingColumn())


def show_calibration(calibration: Calibration, out: Path) -> None:
    """Print every tenth percentile with its 95 % interval, and which share of the scores is below it."""
    from rich.console import Console
    from rich.table import Table

    shown = Table("percentile", "score", "95 % interval", "below", title=f"{calibration.n} images")
    for k in range(10, 100, 10):
        value = calibration.value_at(k)
        interval, below = interval_text(calibration.interval(k), 4), percent_text(calibration.share_below(value))
        shown.add_row(str(k), f"{value:.4f}", interval, below)
    Console().print(shown)
    plain_console().print(f"Calibration: {printable(str(out))}")


def printable(text: str) -> str:
    """Text with what is no character, as in a file name that is not UTF-8, in escapes."""
    return text.encode(errors="backslashreplace").decode()


def show_scored(result: Result, out: Path) -> None:
    """Print what became of the pictures, which were skipped, and the remarks."""
    console = plain_console()
    skipped = f", {len(result.skipped)} skipped" if result.skipped else ""
    for path, reason in result.skipped.items():
        console.print(f"skipped {printable(path)}: {printable(reason)}")
    console.print(f"{result.scored} pictures scored{skipped}: {printable(str(out))}")
    for remark in result.remarks:
        console.print(f"note: {remark}")

"""A published oracle into models/oracles, when the panel's button is pressed and never otherwise."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from threading import Lock, Thread

from ..oracles.download import DownloadError, download
from ..oracles.family import Published
from ..oracles.published import PUBLISHED, encoder_for, family_of
from .words import BUSY

SECONDS = 0.5  # between two looks at how far it is
_busy = Lock()


def offered() -> list[str]:
    """The names of those that score by themselves: a bare head needs a second file that this host has no folder for."""
    return [entry.name for entry in PUBLISHED if family_of(entry) and encoder_for(entry) is None]


def fetched(entry: Published, folder: Path) -> Iterator[tuple[str, bool]]:
    """What to show (HTML) while the file comes and at the end, and whether it is there now."""
    if not _busy.acquire(blocking=False):
        yield BUSY, False
        return
    thread = _Fetch(entry, folder)
    thread.start()
    while thread.is_alive():
        yield html.escape(thread.progress()), False
        thread.join(SECONDS)
    if thread.error is None:
        yield f"{html.escape(entry.file)} is in models/oracles. Licence: {html.escape(entry.licence)}.", True
    else:
        yield html.escape(f"{entry.file} was not fetched: {thread.error}"), False


class _Fetch(Thread):
    """The host's process ends without waiting for it; what has arrived is kept and gone on with."""

    def __init__(self, entry: Published, folder: Path):
        super().__init__(daemon=True)
        self.entry, self.folder = entry, folder
        self.done, self.total = 0, entry.size
        self.error: str | None = "it broke off; the host's log says why"

    def run(self) -> None:
        try:
            download(self.entry, self.folder, self._at)
            self.error = None
        except DownloadError as error:
            self.error = str(error)
        finally:
            _busy.release()

    def _at(self, done: int, total: int | None) -> None:
        self.done, self.total = done, total or self.total

    def progress(self) -> str:
        of = f" of {self.total / 1e6:,.0f}" if self.total else ""
        return f"{self.entry.file}: {self.done / 1e6:,.0f}{of} MB"

"""Hashes of large files, remembered by the file's size and time of change, so that it need not be read again."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

from .headers import sha256
from .text import write_whole

LARGE = 1 << 26  # bytes; what is smaller is read in less than a tenth of a second
# A file that changes twice within a tick of its file system's clock may keep its stamp.
SETTLED = 2_000_000_000  # nanoseconds


def stamp(path: Path) -> list[int] | None:
    """A file's size and time of change, by which to know it again; None if it changed just now. Raises OSError."""
    about = path.stat()
    if time.time_ns() - about.st_mtime_ns < SETTLED:
        return None
    return [about.st_size, about.st_mtime_ns]


def known_sha256(path: Path) -> str:
    """:func:`files.sha256`, from memory where a large file is still the one that was hashed. Raises OSError.

    The memory is a small file for each below ``~/.cache/understudy/hashes``, or ``XDG_CACHE_HOME``
    in the place of ``~/.cache``; without the right to write there a file is hashed every time.
    """
    mark = stamp(path)
    if mark is None or mark[0] < LARGE:
        return sha256(path)
    name = hashlib.sha256("\n".join(map(str, (path.resolve(), *mark))).encode()).hexdigest()[:32]
    noted = _folder() / name
    if noted.is_file():
        return noted.read_text(encoding="ascii")
    digest = sha256(path)
    with suppress(OSError):  # a home that cannot be written to costs the time alone
        write_whole(noted, digest)
    return digest


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "understudy" / "hashes"

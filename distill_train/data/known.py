"""Files that were read before and have not changed since, so that they need not be read again."""

import time
from pathlib import Path

from ...files import sha256
from .cache import Cache

# A file that changes twice within a tick of its file system's clock may keep its stamp.
SETTLED = 2_000_000_000  # nanoseconds


def stamp(path: Path) -> list[int] | None:
    """A file's size and time of change, by which to know it again; None if it changed just now. Raises OSError."""
    about = path.stat()
    if time.time_ns() - about.st_mtime_ns < SETTLED:
        return None
    return [about.st_size, about.st_mtime_ns]


def known_sha256(path: Path, cache: Cache) -> str:
    """A file's hash, from the cache where the file is still the one that was hashed. Raises OSError."""
    mark = stamp(path)
    if mark is None:
        return sha256(path)
    key = cache.key(path.resolve(), *mark)
    noted = cache.read_note("hashes", key)
    if noted is None:
        noted = sha256(path)
        cache.write_note("hashes", key, noted)
    return noted

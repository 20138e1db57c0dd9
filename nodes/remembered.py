"""What was found out about files, remembered as long as they do not change: people have thousands of LoRAs."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..files import write_whole

log = logging.getLogger(__name__)

FRESH = 1.0  # seconds: the host asks for a node's widgets many times while it runs one prompt


class Remembered:
    """Which of some files are of a kind; each is opened once for its path, size and time, across restarts too.

    of_the_kind: opens a file by its path and tells. file: where the answers are kept.
    """

    def __init__(self, of_the_kind: Callable[[str], bool], file: Callable[[], Path]):
        self.of_the_kind, self.file = of_the_kind, file
        self.answers: dict[str, list] | None = None  # by path: size in bytes, time in ns, answer
        self.last: tuple[Sequence[str], float, list[str]] = ((), -math.inf, [])
        self.unreadable: set[str] = set()

    def among(self, names: Sequence[str], path_of: Callable[[str], str | None]) -> list[str]:
        """The names of files of the kind, in their order. path_of: a name's file, None if it has gone."""
        asked, when, chosen = self.last
        if names != asked or time.monotonic() - when > FRESH:
            before, answers = self._read() if self.answers is None else self.answers, {}
            chosen = [name for name in names if self._is(path_of(name), before, answers)]
            # At once, as the server's thread may ask while a prompt runs in another.
            self.answers, self.last = answers, (names, time.monotonic(), chosen)
            if answers != before:
                self._write()
        return list(chosen)

    def _is(self, path: str | None, before: dict[str, list], answers: dict[str, list]) -> bool:
        if path is None:
            return False
        try:
            status = os.stat(path)
            seen = before.get(path, ())
            if seen[:2] != [status.st_size, status.st_mtime_ns]:
                seen = [status.st_size, status.st_mtime_ns, self.of_the_kind(path)]
        except OSError as error:
            if path not in self.unreadable:
                log.warning("Understudy: %s cannot be read, so that no node offers it: %s", path, error)
                self.unreadable.add(path)
            return False
        answers[path] = seen
        return seen[2]

    def _read(self) -> dict[str, list]:
        try:
            content = json.loads(self.file().read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = {}  # the first time, or damaged: the files themselves say it again
        entries = content.items() if isinstance(content, dict) else ()
        return {path: seen for path, seen in entries if isinstance(seen, list) and len(seen) == 3}

    def _write(self) -> None:
        try:
            write_whole(self.file(), json.dumps(self.answers))
        except OSError as error:
            log.warning("Understudy: %s cannot be written, so files are read anew next time: %s", self.file(), error)

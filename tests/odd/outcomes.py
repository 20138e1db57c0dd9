"""Odd inputs and what must come of each, known before anything runs: the right result, or one clear line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Right:
    """It works, and what comes out is ``value``."""

    value: object


@dataclass(frozen=True)
class Refused:
    """It ends with one line that holds each of these words; nothing is written."""

    says: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """``make(folder)`` writes the input into an empty folder; ``outcome`` is what must come of it."""

    name: str
    make: Callable[[Path], None]
    outcome: Right | Refused

    def __str__(self) -> str:
        return self.name

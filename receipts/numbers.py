"""Numbers as a receipt writes them: short enough to leave room for the marks beside them."""

from __future__ import annotations


def number(value: float | None) -> str:
    """A score in four or five digits, with an exponent from 100,000 on; a dash for None."""
    if value is None:
        return "–"
    size = abs(value)
    if 1e5 <= size < float("inf"):
        return f"{value:.2e}"
    return f"{value:.{3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0}f}"


def counted(count: float, one: str, more: str) -> str:
    """A count with its noun; a whole number has no decimals, whatever its type."""
    return f"{count:.10g} {one if count == 1 else more}"

"""How high a line of text is, and how large a text can be where there is little room."""

from __future__ import annotations

from ..lettering import length

LINE = 1.25  # a line's height, in sizes of its text


def fitted(text: str, size: float, width: float) -> float:
    """The size, at most this one, at which a text is so wide at most."""
    return size * min(1, width / max(length(text, size), 1))

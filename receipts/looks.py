"""The colours of a receipt's picture: a light and a dark look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..samplers.decisions import KEPT, REDONE, REFINED, REGENERATED, REVERTED


class Look(NamedTuple):
    """Colours as "#rrggbb"; ``faint`` is of what is read second, ``line`` of bars and of places without a picture."""

    page: str
    card: str
    ink: str
    faint: str
    line: str
    rejected: str
    decisions: Mapping[str, str]


LIGHT = Look(
    page="#f1f1ed",
    card="#ffffff",
    ink="#1d1d1b",
    faint="#62625d",
    line="#c9c9c2",
    rejected="#fbe9df",
    decisions={
        KEPT: "#2b7548",
        REFINED: "#a84d1a",
        REGENERATED: "#7a3e9d",
        REDONE: "#7d6216",
        REVERTED: "#2a5f9e",
    },
)
DARK = Look(
    page="#1b1c1f",
    card="#292b30",
    ink="#f0f0ee",
    faint="#a9a9a4",
    line="#565a62",
    rejected="#453128",
    decisions={
        KEPT: "#62c48a",
        REFINED: "#f39a62",
        REGENERATED: "#c892ea",
        REDONE: "#dcbd53",
        REVERTED: "#74aeee",
    },
)
LOOKS = {"dark": DARK, "light": LIGHT}

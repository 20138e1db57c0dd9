"""What the demo family can show: one or two things of a size, color and shape on a background, and how they lie.

"A left of B" and "B right of A" are the same scene; ``Scene.canonical`` keeps the first form of each such pair, and the
splits are made over canonical scenes, so that a held-out scene is never trained on under its other name.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from itertools import product

SIZES = ("small", "large")
COLORS = {
    "red": (0.90, 0.15, 0.15),
    "green": (0.10, 0.65, 0.20),
    "blue": (0.15, 0.30, 0.90),
    "yellow": (0.98, 0.85, 0.10),
    "purple": (0.55, 0.10, 0.80),
    "cyan": (0.10, 0.80, 0.85),
}
SHAPES = ("circle", "square", "triangle", "star")
BACKGROUNDS = {"white": (0.95, 0.95, 0.95), "gray": (0.50, 0.50, 0.50), "black": (0.08, 0.08, 0.08)}
RELATIONS = ("left of", "above", "right of", "below")
CONVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
SPLITS = {"test": 20, "calibration": 10, "train": 70}  # percent of the canonical scenes


@dataclass(frozen=True)
class Thing:
    """One object of a scene: ``size`` of SIZES, ``color`` of COLORS, ``shape`` of SHAPES."""

    size: str
    color: str
    shape: str

    def __str__(self) -> str:
        return f"{self.size} {self.color} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """``first`` alone, or ``first`` ``relation`` ``second``, on ``background``."""

    background: str
    first: Thing
    relation: str | None = None
    second: Thing | None = None

    @property
    def things(self) -> tuple[Thing, ...]:
        return (self.first,) if self.second is None else (self.first, self.second)

    def canonical(self) -> "Scene":
        """The same scene told with "left of" or "above"."""
        if self.relation in ("right of", "below"):
            return Scene(self.background, self.second, CONVERSE[self.relation], self.first)
        return self

    def __str__(self) -> str:
        things = f"a {self.first}" if self.second is None else f"a {self.first} {self.relation} a {self.second}"
        return f"{things} on a {self.background} background"


@cache
def all_scenes() -> tuple[Scene, ...]:
    """Every canonical scene: 144 with one thing and 13,536 with two different things."""
    things = [Thing(*parts) for parts in product(SIZES, COLORS, SHAPES)]
    single = [Scene(background, thing) for background, thing in product(BACKGROUNDS, things)]
    double = [
        Scene(background, first, relation, second)
        for background, relation, first, second in product(BACKGROUNDS, RELATIONS[:2], things, things)
        if first != second
    ]
    return tuple(single + double)


def split_of(scene: Scene) -> str:
    """``test``, ``calibration`` or ``train``: decided by the SHA-256 of the canonical description, modulo 100."""
    place = int(hashlib.sha256(str(scene.canonical()).encode()).hexdigest(), 16) % 100
    for name, percent in SPLITS.items():
        if place < percent:
            return name
        place -= percent
    raise AssertionError("SPLITS must add up to 100")


@cache
def scenes_of(split: str) -> tuple[Scene, ...]:
    """The canonical scenes of one split, in the fixed order of ``all_scenes``."""
    return tuple(scene for scene in all_scenes() if split_of(scene) == split)

"""Does a picture show a description? Measured exactly, attribute by attribute.

It is for measuring and for labelling training data; no sampler and no node ever sees it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from .render import RADIUS, SIDE, coverage
from .scenes import BACKGROUNDS, COLORS, RELATIONS, SHAPES, Scene, Thing

ATTRIBUTES = ("background", "count", "size", "color", "shape", "relation")
BACKGROUND_SHARE = 0.35  # at least this share of the picture is plainly background
BACKGROUND_REACH = 0.20  # RGB distance within which a pixel is plainly a background
THING_REACH = 0.25  # RGB distance from the background beyond which a pixel belongs to a thing
COLOR_REACH = 0.30  # RGB distance between a thing's median color and the color that it is read as
SPECK = 12  # pixels; smaller components are specks of the autoencoder, not things
OVERLAP = 0.80  # intersection over union with the drawn shape, below which a thing has no shape
SIZE_LIMITS = {
    "small": (RADIUS["small"][0] - 1.2, sum((RADIUS["small"][1], RADIUS["large"][0])) / 2),
    "large": (sum((RADIUS["small"][1], RADIUS["large"][0])) / 2, RADIUS["large"][1] + 1.5),
}


@dataclass(frozen=True)
class Found:
    """One thing in a picture: its attributes (``None``: not recognisable) and its centre in pixels."""

    size: str | None
    color: str | None
    shape: str | None
    x: float
    y: float


@dataclass(frozen=True)
class Reading:
    """What a picture shows, whatever it was asked to show."""

    background: str | None
    things: tuple[Found, ...]

    def verdict(self, scene: Scene) -> dict[str, bool]:
        """For each of ATTRIBUTES, whether this reading has it as ``scene`` asks."""
        verdict = dict.fromkeys(ATTRIBUTES, False)
        verdict["background"] = self.background == scene.background
        verdict["count"] = len(self.things) == len(scene.things)
        if not verdict["count"]:
            return verdict
        return verdict | max((_compare(scene, order) for order in _orders(self.things)), key=lambda v: sum(v.values()))

    def shows(self, scene: Scene) -> bool:
        """Whether every attribute of ``scene`` is there."""
        return all(self.verdict(scene).values())


def read(pictures: Tensor) -> list[Reading]:
    """Readings of pictures [B, 3, 64, 64] in [0, 1]."""
    if pictures.ndim != 4 or tuple(pictures.shape[1:]) != (3, SIDE, SIDE):
        raise ValueError(f"the checker reads [B, 3, {SIDE}, {SIDE}] pictures; got {tuple(pictures.shape)}")
    return [_read(picture) for picture in pictures.float().clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()]


def exact(pictures: Tensor, scenes: Iterable[Scene]) -> list[bool]:
    """Whether each picture [B, 3, 64, 64] shows its scene in every attribute."""
    return [reading.shows(scene) for reading, scene in zip(read(pictures), scenes, strict=True)]


def _orders(things: Sequence[Found]) -> list[tuple[Found, ...]]:
    return [tuple(things)] if len(things) == 1 else [(things[0], things[1]), (things[1], things[0])]


def _compare(scene: Scene, found: tuple[Found, ...]) -> dict[str, bool]:
    pairs = list(zip(scene.things, found, strict=True))
    verdict = {part: all(getattr(t, part) == getattr(f, part) for t, f in pairs) for part in ("size", "color", "shape")}
    verdict["relation"] = scene.relation is None or relation(*found) == scene.relation
    return verdict


def relation(first: Found, second: Found) -> str:
    """How ``first`` lies to ``second``: by the axis on which they are farther apart, so exactly one of four holds."""
    dx, dy = second.x - first.x, second.y - first.y
    if abs(dx) > abs(dy):
        return RELATIONS[0] if dx > 0 else RELATIONS[2]
    return RELATIONS[1] if dy > 0 else RELATIONS[3]


def _read(picture: np.ndarray) -> Reading:
    distances = {name: _distance(picture, rgb) for name, rgb in BACKGROUNDS.items()}
    shares = {name: (distance < BACKGROUND_REACH).mean() for name, distance in distances.items()}
    background = max(shares, key=shares.get)
    if shares[background] < BACKGROUND_SHARE:
        return Reading(None, ())
    labels, count = ndimage.label(distances[background] > THING_REACH, structure=np.ones((3, 3)))
    things = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if (labels[box] == label).sum() >= SPECK:
            window = tuple(slice(max(edge.start - 3, 0), edge.stop + 3) for edge in box)
            corner = (window[1].start, window[0].start)
            things.append(
                _recognise(picture[window], np.float32(BACKGROUNDS[background]), labels[window] == label, corner)
            )
    return Reading(background, tuple(things))


def _distance(picture: np.ndarray, rgb: Sequence[float]) -> np.ndarray:
    offset = picture - np.float32(rgb)
    return np.sqrt(np.einsum("hwc,hwc->hw", offset, offset))


def _recognise(picture: np.ndarray, background: np.ndarray, mask: np.ndarray, corner: tuple[int, int]) -> Found:
    core = ndimage.binary_erosion(mask) if mask.sum() > 40 else mask
    rgb = np.median(picture[core if core.any() else mask], axis=0)
    color = min(COLORS, key=lambda name: np.linalg.norm(rgb - COLORS[name]))
    # How much of each pixel the thing covers: the pixel's place on the line from the background to the thing's color.
    line = rgb - background
    cover = np.clip((picture - background) @ line / (line @ line), 0, 1) * ndimage.binary_dilation(mask)
    area = cover.sum()
    rows, columns = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]] + 0.5
    x, y = (cover * columns).sum() / area, (cover * rows).sum() / area
    overlaps = {}
    for shape in SHAPES:
        unit_area, offset = _unit(shape)
        radius = (area / unit_area) ** 0.5
        drawn = coverage(
            shape, torch.from_numpy(columns - x), torch.from_numpy(rows - y + offset * radius), torch.tensor(radius)
        ).numpy()
        overlaps[shape] = (np.minimum(cover, drawn).sum() / np.maximum(cover, drawn).sum(), radius)
    shape = max(overlaps, key=lambda name: overlaps[name][0])
    overlap, radius = overlaps[shape]
    size = next((name for name, (low, high) in SIZE_LIMITS.items() if low <= radius < high), None)
    return Found(
        size=size,
        color=color if np.linalg.norm(rgb - COLORS[color]) < COLOR_REACH else None,
        shape=shape if overlap >= OVERLAP else None,
        x=float(x) + corner[0],
        y=float(y) + corner[1],
    )


@cache
def _unit(shape: str) -> tuple[float, float]:
    """(area, centroid's y) of a shape of radius 1, measured on a fine drawing."""
    ticks = torch.linspace(-2, 2, 801)
    drawn = coverage(shape, ticks[None, :] * 200, ticks[:, None] * 200, torch.tensor(200.0))
    return float(drawn.sum()) * (4 / 800) ** 2, float((drawn * ticks[:, None]).sum() / drawn.sum())


def changed(scene: Scene, attribute: str, generator: torch.Generator) -> Scene:
    """``scene`` with exactly one attribute of ATTRIBUTES changed; "count" drops a thing or adds one.

    Raises ValueError for "relation" on a scene of one thing.
    """

    def other(values: Sequence[str], value: str) -> str:
        values = [v for v in values if v != value]
        return values[int(torch.randint(len(values), (), generator=generator))]

    if attribute == "background":
        return Scene(other(tuple(BACKGROUNDS), scene.background), scene.first, scene.relation, scene.second)
    if attribute == "relation":
        if scene.relation is None:
            raise ValueError(f"no relation to change in {str(scene)!r}")
        return Scene(scene.background, scene.first, other(RELATIONS, scene.relation), scene.second)
    if attribute == "count":
        if scene.second is not None:
            return Scene(scene.background, scene.first)
        thing = Thing(scene.first.size, other(tuple(COLORS), scene.first.color), scene.first.shape)
        return Scene(scene.background, scene.first, other(RELATIONS, ""), thing)
    which = int(torch.randint(len(scene.things), (), generator=generator))
    words = {"size": tuple(RADIUS), "color": tuple(COLORS), "shape": SHAPES}[attribute]
    thing = scene.things[which]
    parts = {part: getattr(thing, part) for part in ("size", "color", "shape")}
    parts[attribute] = other(words, parts[attribute])
    things = [t if i != which else Thing(**parts) for i, t in enumerate(scene.things)]
    return Scene(scene.background, things[0], scene.relation, things[1] if len(things) == 2 else None)

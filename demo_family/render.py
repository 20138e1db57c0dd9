"""Draw scenes: batches of 64x64 pictures from signed distances, with random places and slightly random sizes."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .scenes import BACKGROUNDS, COLORS, SHAPES, Scene

SIDE = 64
RADIUS = {"small": (6.0, 7.0), "large": (9.5, 11.0)}  # pixels; a thing's radius is drawn from this range
MARGIN, GAP = 1.5, 2.5  # pixels kept free at the border, and between the two things along the relation's axis
SLANT = 0.6  # two things are at most this far off the relation's axis, as a fraction of their distance along it

# A circle of radius r, or a star polygon: points, outer radius / r, inner radius / outer radius, turn in radians.
POLYGONS = {
    "square": (4, 1.25, math.cos(math.pi / 4), math.pi / 4),
    "triangle": (3, 1.25, math.cos(math.pi / 3), 0.0),
    "star": (5, 1.30, 0.45, 0.0),
}
EXTENT = 1.30  # the largest distance of a point of any shape from its centre, in radii
LINE = 1.5  # pixels, how wide an outline is
DRAWS = 8  # numbers that decide a scene's places and radii


def coverage(shape: str, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """How much of each pixel a shape covers, in [0, 1].

    x, y: pixel offsets from the shape's centre (y down), any shape; radius: broadcastable, in pixels.
    """
    return _covered(distance(shape, x, y, radius))


def distance(shape: str, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Pixels from a shape's edge, negative inside; arguments as of :func:`coverage`."""
    if shape == "circle":
        return torch.hypot(x, y) - radius
    points, outer, inner, turn = POLYGONS[shape]
    half = math.pi / points
    # Fold the plane onto half a point: its edge is the line from the tip at angle 0 to the notch at angle `half`.
    angle = torch.remainder(torch.atan2(x, -y) + turn + half, 2 * half) - half
    rho = torch.hypot(x, y)
    u, v = rho * torch.cos(angle), rho * torch.sin(angle.abs())
    edge = (inner * math.cos(half) - 1, inner * math.sin(half))
    length = math.hypot(*edge)
    return (edge[1] * (u - outer * radius) - edge[0] * v) / length


def render(scenes: Sequence[Scene], generator: torch.Generator) -> Tensor:
    """Pictures of the scenes, [B, 3, 64, 64] in [0, 1]; places and radii are drawn from ``generator`` (CPU)."""
    return painted(scenes, torch.rand(len(scenes), DRAWS, generator=generator))


def painted(scenes: Sequence[Scene], draws: Tensor) -> Tensor:
    """The same of given draws [B, 8], uniform in [0, 1)."""
    pictures = torch.stack([torch.tensor(BACKGROUNDS[scene.background]) for scene in scenes])
    pictures = pictures[:, :, None, None].repeat(1, 1, SIDE, SIDE)
    for order, rows, distances in _things(scenes, draws):
        color = torch.tensor([COLORS[scenes[i].things[order].color] for i in rows])[:, :, None, None]
        mask = _covered(distances)
        pictures[rows] = pictures[rows] * (1 - mask) + color * mask
    return pictures


def outlined(scenes: Sequence[Scene], draws: Tensor) -> Tensor:
    """The edges of all things in the pictures that :func:`painted` makes, [B, 1, 64, 64]: 1 on a line, else 0."""
    lines = torch.zeros(len(scenes), 1, SIDE, SIDE)
    for _, rows, distances in _things(scenes, draws):
        lines[rows] = torch.maximum(lines[rows], (LINE / 2 + 0.5 - distances.abs()).clamp(0, 1))
    return lines


def _covered(distances: Tensor) -> Tensor:
    return (0.5 - distances).clamp(0, 1)


def _things(scenes: Sequence[Scene], draws: Tensor) -> Iterator[tuple[int, list[int], Tensor]]:
    """(place in its scene, rows of the scenes, distances [N, 1, 64, 64] of each pixel) of things of one shape."""
    places = [_places(scene, draw) for scene, draw in zip(scenes, draws.tolist(), strict=True)]
    ticks = torch.arange(SIDE) + 0.5
    for order in range(2):
        for shape in SHAPES:  # one vectorised drawing for each shape, not one for each picture
            rows = [i for i, s in enumerate(scenes) if len(s.things) > order and s.things[order].shape == shape]
            if rows:
                cx, cy, radius = torch.tensor([places[i][order] for i in rows]).T[:, :, None, None]
                x, y = ticks[None, None, :] - cx, ticks[None, :, None] - cy
                yield order, rows, distance(shape, x, y, radius)[:, None]


def _places(scene: Scene, draw: list[float]) -> list[tuple[float, float, float]]:
    """(x, y, radius) in pixels for each thing; ``draw`` holds eight uniform numbers."""
    radii = [
        low + u * (high - low) for (low, high), u in ((RADIUS[t.size], draw[i]) for i, t in enumerate(scene.things))
    ]
    room = [(EXTENT * r + MARGIN, SIDE - EXTENT * r - MARGIN) for r in radii]
    if scene.second is None:
        (low, high), r = room[0], radii[0]
        return [(low + draw[2] * (high - low), low + draw[3] * (high - low), r)]
    # Along the relation's axis ("a" comes first), then across it.
    nearest = EXTENT * sum(radii) + GAP
    farthest = room[1][1] - room[0][0]
    along = nearest + draw[2] * (farthest - nearest)
    a = room[0][0] + draw[3] * (farthest - along)
    b = a + along
    across_a = room[0][0] + draw[4] * (room[0][1] - room[0][0])
    low, high = max(room[1][0], across_a - SLANT * along), min(room[1][1], across_a + SLANT * along)
    across_b = low + draw[5] * (high - low)
    points = [(a, across_a, radii[0]), (b, across_b, radii[1])]
    if scene.relation in ("above", "below"):
        points = [(y, x, r) for x, y, r in points]
    return points if scene.relation in ("left of", "above") else _mirrored(points)


def _mirrored(points: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """The same layout turned by 180 degrees, which turns "left of" into "right of" and "above" into "below"."""
    return [(SIDE - x, SIDE - y, r) for x, y, r in points]

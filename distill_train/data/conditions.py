"""What a picture is to be made from beside its text, ``[data.condition]``: edges, a coarser or a grey copy, what a mask
leaves of it, or a picture that lies in another folder.

A kind is one class here, with its keys and one function, and has its place in ``CONDITIONS``.
"""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from ..config import RecipeError, Strict

# What is cached of an item, uint8 and at the picture's size: "condition" [1 or 3, H, W], "mask" [1, H, W].
Extras = dict[str, Tensor]
HIDDEN = -1.0  # of what is masked: below all that a picture has, so that it is no black


class Condition(Strict):
    """A kind of condition: its keys, and how it is made."""

    beside: ClassVar[bool] = False  # whether it is made of a picture that lies beside, not of the picture itself

    @abstractmethod
    def make(self, pixels: Tensor, draw: torch.Generator) -> Extras:
        """pixels: [C, H, W] in [0, 1], of the picture as it is learned; draw: the item's own, the same in every run."""

    @property
    def plan(self) -> str:
        """All that the result follows from besides the pictures."""
        return self.model_dump_json(exclude={"path"})


class Canny(Condition):
    """Edges as ComfyUI's *Canny* node finds them (Canny 1986; kornia's): 1 at an edge, else 0."""

    kind: Literal["canny"] = Field(description="edges, as ComfyUI's Canny node finds them")
    low: float = Field(0.4, gt=0, lt=1, description="gradient from which on a pixel beside an edge belongs to it")
    high: float = Field(0.8, gt=0, lt=1, description="gradient from which on a pixel is an edge")

    @model_validator(mode="after")
    def _ordered(self):
        if self.high < self.low:
            raise ValueError(f"high is {self.high:g}; expected at least low = {self.low:g}")
        return self

    def make(self, pixels, draw):
        try:
            from kornia.filters import canny
        except ImportError as error:
            raise RecipeError("data.condition canny needs the library kornia: pip install kornia") from error
        return {"condition": bytes_of(canny(pixels[None], self.low, self.high)[1][0])}


class Downscaled(Condition):
    """For super-resolution: the picture without its details, at its own size; bicubic, both ways."""

    kind: Literal["downscaled"] = Field(description="the picture scaled down and up again, for super-resolution")
    factor: int = Field(4, gt=1, description="how many pixels become one, along each side")

    def make(self, pixels, draw):
        return {"condition": bytes_of(coarser(pixels[None], self.factor)[0])}


class Masked(Condition):
    """For inpainting: the picture with parts hidden, -1 there, and the mask; boxes and strokes of a brush by turns."""

    kind: Literal["masked"] = Field(description="the picture with parts hidden, for inpainting; and the mask")
    shapes: Literal["boxes", "brushes", "both"] = Field("both", description="what hides them")
    least: float = Field(0.1, gt=0, lt=1, description="shapes are added until a share is hidden; the smallest such")
    most: float = Field(0.5, gt=0, lt=1, description="the largest such share")
    seed: int = Field(0, ge=0, description="of the masks")

    @model_validator(mode="after")
    def _ordered(self):
        if self.most < self.least:
            raise ValueError(f"most is {self.most:g}; expected at least least = {self.least:g}")
        return self

    def make(self, pixels, draw):
        height, width = pixels.shape[-2:]
        hidden, wanted = torch.zeros(height, width, dtype=torch.bool), self._between(draw, self.least, self.most)
        shapes = {"boxes": [box], "brushes": [stroke], "both": [box, stroke]}[self.shapes]
        while hidden.float().mean() < wanted:
            hidden |= shapes[int(torch.randint(len(shapes), (), generator=draw))](height, width, draw)
        mask = hidden[None].byte()
        return {"condition": bytes_of(pixels * (1 - mask)), "mask": mask}

    @staticmethod
    def _between(draw: torch.Generator, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=draw).item()


class Grey(Condition):
    """For colourising: how light each pixel is (ITU-R 601)."""

    kind: Literal["grey"] = Field(description="the picture without its colours")

    def make(self, pixels, draw):
        weights = pixels.new_tensor([0.299, 0.587, 0.114])
        return {"condition": bytes_of((pixels * weights[:, None, None]).sum(0, keepdim=True))}


class Depth(Condition):
    """Depth maps that were made before, 8 or 16 bits of grey, each spread over all of [0, 1]; what is near is light."""

    beside = True
    kind: Literal["depth"] = Field(description="depth maps of the pictures' names in a folder")
    path: Path = Field(description="folder; it holds the map of a/b.jpg as a/b.png, or of another ending")
    invert: bool = Field(False, description="the maps have small values for what is near")

    def make(self, pixels, draw):
        depth = pixels.mean(0, keepdim=True)
        low, high = depth.aminmax()
        depth = (depth - low) / (high - low).clamp(min=1e-6)
        return {"condition": bytes_of(1 - depth if self.invert else depth)}


class Folder(Condition):
    """Any pictures that were made before, as they are."""

    beside = True
    kind: Literal["folder"] = Field(description="pictures of the pictures' names in another folder")
    path: Path = Field(description="folder; it holds what belongs to a/b.jpg as a/b.png, or of another ending")

    def make(self, pixels, draw):
        return {"condition": bytes_of(pixels)}


CONDITIONS: dict[str, type[Condition]] = {
    "canny": Canny,
    "downscaled": Downscaled,
    "masked": Masked,
    "grey": Grey,
    "depth": Depth,
    "folder": Folder,
}
AnyCondition = Canny | Downscaled | Masked | Grey | Depth | Folder


def bytes_of(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] as the cache holds them; what is outside is clipped."""
    return pixels.clamp(0, 1).mul(255).round().byte()


def extras_of(rows: list[Extras]) -> dict[str, Tensor]:
    """Those of a batch, as :class:`Batch` has them, of what is cached of each item."""
    if not rows:
        return {}
    condition = torch.stack([row["condition"] for row in rows]).float().div(255).expand(-1, 3, -1, -1)
    if "mask" not in rows[0]:
        return {"condition": condition}
    mask = torch.stack([row["mask"] for row in rows]).float()
    return {"condition": torch.where(mask > 0, HIDDEN, condition), "mask": mask}


def coarser(pixels: Tensor, factor: int) -> Tensor:
    """Pictures [B, C, H, W] in [0, 1], scaled down by a factor and up again; bicubic."""
    small = [max(1, side // factor) for side in pixels.shape[-2:]]
    scaled = F.interpolate(pixels, small, mode="bicubic", antialias=True).clamp(0, 1)
    return F.interpolate(scaled, pixels.shape[-2:], mode="bicubic").clamp(0, 1)


def box(height: int, width: int, draw: torch.Generator) -> Tensor:
    """[H, W] bool: a rectangle of an eighth to half of each side, anywhere inside."""
    sides = [max(1, int(side * (0.125 + 0.375 * torch.rand((), generator=draw).item()))) for side in (height, width)]
    top, left = (
        int(torch.randint(whole - side + 1, (), generator=draw))
        for whole, side in zip((height, width), sides, strict=True)
    )
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top : top + sides[0], left : left + sides[1]] = True
    return mask


def stroke(height: int, width: int, draw: torch.Generator) -> Tensor:
    """[H, W] bool: where a round brush goes on a walk of some turns, as wide as 1/16 to 1/8 of the shorter side."""
    shorter, turns = min(height, width), 2 + int(torch.randint(5, (), generator=draw))
    radius = shorter * (1 + torch.rand((), generator=draw).item()) / 32
    points = torch.rand(turns, 2, generator=draw) * torch.tensor([height, width])
    rows, columns = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None] + 0.5
    mask = torch.zeros(height, width, dtype=torch.bool)
    for (y0, x0), (y1, x1) in zip(points[:-1].tolist(), points[1:].tolist(), strict=True):
        along = ((rows - y0) * (y1 - y0) + (columns - x0) * (x1 - x0)) / max((y1 - y0) ** 2 + (x1 - x0) ** 2, 1e-6)
        along = along.clamp(0, 1)
        mask |= torch.hypot(rows - y0 - along * (y1 - y0), columns - x0 - along * (x1 - x0)) <= radius
    return mask

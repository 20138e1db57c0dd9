"""What a run did: report.json, the table, the single images and the grid. The demo and real pipelines share it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from .decisions import KEPT, REDONE
from .files import FINAL_FOLDER, REPORT_FILE, STUDENT_FOLDER, write_whole
from .lettering import labels, wrapped, write

GRID_LIMIT = 64


@dataclass(frozen=True)
class ImageReport:
    """One image. ``decision`` is one of ``decisions.DECISIONS``; ``score_after`` is None for a kept image;
    ``threshold`` is None where no score divides its batch; ``evaluations`` counts student and teacher together."""

    prompt: str
    seed: int
    score: float
    threshold: float | None
    decision: str
    score_after: float | None
    evaluations: int


@dataclass(frozen=True)
class Totals:
    """What the run cost, and what it would have cost to give every image to the teacher from pure noise.

    Evaluations are counted. Seconds are those of sampling, scoring and decoding, summed over processes, without
    loading; the teacher's are measured where it ran, else taken to be the student's per evaluation.
    """

    evaluations: int
    seconds: float
    teacher_only_evaluations: int
    teacher_only_seconds: float


@dataclass(frozen=True)
class Report:
    """The content of report.json."""

    settings: dict
    images: tuple[ImageReport, ...]
    totals: Totals

    def save(self, folder: Path) -> None:
        """Write ``folder/report.json``."""
        write_whole(folder / REPORT_FILE, json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")

    @property
    def summary(self) -> str:
        """One line: how many images were redone, and what that cost beside the teacher alone."""
        redone = [image.decision for image in self.images if image.decision != KEPT]
        totals = self.totals
        return (
            f"{len(redone)} of {len(self.images)} {redone[0] if redone else REDONE}; "
            f"{totals.evaluations} network evaluations in {totals.seconds:.1f} s; teacher alone: "
            f"{totals.teacher_only_evaluations} in about {totals.teacher_only_seconds:.1f} s"
        )


def finite(value: float | None) -> float | None:
    """None for infinity, which JSON lacks, and for None."""
    return value if value is not None and math.isfinite(value) else None


def image_name(index: int) -> str:
    return f"{index:04d}.png"


def save_images(folder: Path, index: int, student, final) -> None:
    """Write the student's and the final image ``[3, H, W]`` in [0, 1] of one prompt as PNG."""
    from PIL import Image

    for name, image in ((STUDENT_FOLDER, student), (FINAL_FOLDER, final)):
        pixels = image.detach().float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
        (folder / name).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / name / image_name(index))


LONGEST = 300  # characters of a prompt in the table; the report's file has them all


def table(report: Report):
    """A rich table: prompt, score, kept or redone, score after, evaluations."""
    from rich.table import Table
    from rich.text import Text

    result = Table(caption=report.summary, caption_justify="left")
    result.add_column("prompt", overflow="fold")
    for name in ("score", "threshold", "decision", "score after", "evaluations"):
        result.add_column(name, justify="left" if name == "decision" else "right")
    for image in report.images:
        colour = "green" if image.decision == KEPT else "yellow"
        decision = f"[{colour}]{image.decision}[/{colour}]"
        numbers = _number(image.score), _number(image.threshold), decision, _number(image.score_after)
        # Rich reads [x] and :x: in a plain string as markup, and prompts may hold them.
        prompt = image.prompt if len(image.prompt) <= LONGEST else f"{image.prompt[:LONGEST]} ..."
        result.add_row(Text(prompt), *numbers, str(image.evaluations))
    return result


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"


INK, PALE, GREEN, ORANGE, PAPER, CARD = "#1c1c1c", "#6b6b6b", "#1a7f37", "#b35900", "#f4f4f2", "#ffffff"
MARGIN, GAP, MIDDLE, LINE = 20, 12, 132, 21
TITLE, TEXT, SMALL = 20, 16, 13


def draw_grid(report: Report, folder: Path):
    """A PIL picture with one card per image: the student's, the decision with its scores, the final one, the prompt.

    Reads the single images from ``folder``; after ``GRID_LIMIT`` cards it stops and says so.
    """
    from PIL import Image, ImageDraw

    shown = report.images[:GRID_LIMIT]
    pictures = [
        [Image.open(folder / name / image_name(i)) for name in (STUDENT_FOLDER, FINAL_FOLDER)]
        for i in range(len(shown))
    ]
    columns = next(n for n, most in ((1, 1), (2, 4), (3, 9), (4, GRID_LIMIT)) if len(shown) <= most)
    width, height = _cell(*pictures[0][0].size, room=192 if columns < 4 else 128)
    card_width = 2 * width + MIDDLE + 2 * GAP
    prompts, note = labels([image.prompt for image in shown], REPORT_FILE)
    prompts = [wrapped(prompt, TEXT, card_width - 2 * GAP, lines=2) for prompt in prompts]
    card_height = height + 22 * max(map(len, prompts)) + 3 * GAP + 18
    rows = -(-len(shown) // columns)
    headline = [report.summary]
    if len(shown) < len(report.images):
        headline.append(f"The first {len(shown)} of {len(report.images)} images; the others are in {FINAL_FOLDER}/.")
    headline += filter(None, [note])
    total_width = columns * (card_width + GAP) - GAP + 2 * MARGIN
    headline = [line for part in headline for line in wrapped(part, TITLE, total_width - 2 * MARGIN, lines=3)]
    top = MARGIN + 28 * len(headline) + GAP
    canvas = Image.new("RGB", (total_width, top + rows * (card_height + GAP) - GAP + MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, line in enumerate(headline):
        write(canvas, (MARGIN, MARGIN + 28 * i), line, TITLE, INK)

    for i, (image, pair, label) in enumerate(zip(shown, pictures, prompts, strict=True)):
        x = MARGIN + (i % columns) * (card_width + GAP)
        y = top + (i // columns) * (card_height + GAP)
        draw.rounded_rectangle((x, y, x + card_width, y + card_height), 8, fill=CARD, outline="#d8d8d4")
        left, right = x + GAP, x + card_width - GAP - width
        picture_top = y + GAP + 18
        for at, name, picture in ((left, "student", pair[0]), (right, "final", pair[1])):
            write(canvas, (at + width / 2, y + GAP), name, SMALL, PALE, "ma")
            canvas.paste(_fitted(picture, width, height), (at, picture_top))
        _draw_decision(canvas, image, (left + width, right), picture_top, height)
        for j, line in enumerate(label):
            write(canvas, (x + GAP, picture_top + height + GAP + 22 * j), line, TEXT, INK)
    return canvas


def _draw_decision(canvas, image: ImageReport, span, top: int, height: int) -> None:
    from PIL import ImageDraw

    kept = image.decision == KEPT
    colour = GREEN if kept else ORANGE
    lines = [(f"score {_number(image.score)}", SMALL, INK)]
    if image.threshold is not None:
        lines.append((f"{'at or above' if kept else 'below'} {_number(image.threshold)}", SMALL, PALE))
    lines.append((image.decision, TEXT, colour))
    if image.score_after is not None:
        lines.append((f"score {_number(image.score_after)}", SMALL, INK))
    lines.append((f"{image.evaluations} evaluations", SMALL, PALE))
    height_used = LINE * (len(lines) if kept else len(lines) + 0.5)
    y = top + height / 2 - height_used / 2 + LINE / 2
    for line, size, fill in lines:
        write(canvas, (sum(span) / 2, y), line, size, fill, "mm")
        y += LINE
    if not kept:
        draw = ImageDraw.Draw(canvas)
        draw.line((span[0] + 10, y, span[1] - 16, y), fill=colour, width=3)
        draw.polygon([(span[1] - 18, y - 7), (span[1] - 18, y + 7), (span[1] - 6, y)], fill=colour)


def _cell(width: int, height: int, room: int) -> tuple[int, int]:
    """The size at which a picture is shown: whole multiples for small ones, at most 256 for large ones."""
    longest = max(width, height)
    scale = max(room // longest, 1) if longest <= 256 else 256 / longest
    return round(width * scale), round(height * scale)


def _fitted(picture, width: int, height: int):
    from PIL import Image

    enlarge = picture.width < width
    return picture.convert("RGB").resize((width, height), Image.NEAREST if enlarge else Image.LANCZOS)

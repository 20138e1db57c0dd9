"""A run's report as a picture: each image before and after, the decision with its scores, the prompt."""

from __future__ import annotations

from pathlib import Path

from ..lettering import labels, wrapped, write
from ..samplers.decisions import KEPT
from .folder import FINAL_FOLDER, MADE_FROM, REPORT_FILE, STUDENT_FOLDER
from .report import ImageReport, Report, image_name, number

GRID_LIMIT = 64


INK, PALE, GREEN, ORANGE, PAPER, CARD = "#1c1c1c", "#6b6b6b", "#1a7f37", "#b35900", "#f4f4f2", "#ffffff"
MARGIN, GAP, MIDDLE, LINE = 20, 12, 132, 21
TITLE, TEXT, SMALL = 20, 16, 13


def draw_grid(report: Report, folder: Path):
    """A PIL picture with one card per image: what it is made from, the student's, the decision with its scores, the
    final one, the prompt; likeness to a source below each of the two.

    Reads the single images from ``folder``; after ``GRID_LIMIT`` cards it stops and says so.
    """
    from PIL import Image, ImageDraw

    shown = report.images[:GRID_LIMIT]
    given = [name for name in MADE_FROM if (folder / name).is_dir()]
    names = [*given, STUDENT_FOLDER, FINAL_FOLDER]
    pictures = [[Image.open(folder / name / image_name(i)) for name in names] for i in range(len(shown))]
    columns = next(n for n, most in ((1, 1), (2, 4), (3, 9), (4, GRID_LIMIT)) if len(shown) <= most)
    columns = max(1, columns - len(given))
    width, height = _cell(*pictures[0][0].size, room=192 if columns < 4 else 128)
    card_width = len(names) * (width + GAP) + MIDDLE
    alike = any(image.likeness is not None for image in shown)
    prompts, note = labels([image.prompt for image in shown], REPORT_FILE)
    prompts = [wrapped(prompt, TEXT, card_width - 2 * GAP, lines=2) for prompt in prompts]
    card_height = height + 22 * max(map(len, prompts)) + 3 * GAP + 18 + 18 * alike
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

    for i, (image, row, label) in enumerate(zip(shown, pictures, prompts, strict=True)):
        x = MARGIN + (i % columns) * (card_width + GAP)
        y = top + (i // columns) * (card_height + GAP)
        draw.rounded_rectangle((x, y, x + card_width, y + card_height), 8, fill=CARD, outline="#d8d8d4")
        lefts = [x + GAP + at * (width + GAP) for at in range(len(given) + 1)] + [x + card_width - GAP - width]
        picture_top = y + GAP + 18
        for left, name, picture in zip(lefts, names, row, strict=True):
            write(canvas, (left + width / 2, y + GAP), name, SMALL, PALE, "ma")
            canvas.paste(_fitted(picture, width, height), (left, picture_top))
        *_, left, right = lefts
        _draw_decision(canvas, image, (left + width, right), picture_top, height)
        bottom = picture_top + height
        if alike:
            # An image that was kept is the student's.
            after = image.likeness if image.likeness_after is None else image.likeness_after
            for at, value in ((left, image.likeness), (right, after)):
                write(canvas, (at + width / 2, bottom + 3), f"likeness {number(value)}", SMALL, INK, "ma")
            bottom += 18
        for j, line in enumerate(label):
            write(canvas, (x + GAP, bottom + GAP + 22 * j), line, TEXT, INK)
    return canvas


def _draw_decision(canvas, image: ImageReport, span, top: int, height: int) -> None:
    from PIL import ImageDraw

    kept = image.decision == KEPT
    colour = GREEN if kept else ORANGE
    lines = [(f"score {number(image.score)}", SMALL, INK)]
    if image.threshold is not None:
        lines.append((f"{'at or above' if kept else 'below'} {number(image.threshold)}", SMALL, PALE))
    lines.append((image.decision, TEXT, colour))
    if image.score_after is not None:
        lines.append((f"score {number(image.score_after)}", SMALL, INK))
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

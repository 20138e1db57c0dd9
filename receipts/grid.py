"""The picture of a run of the command line, from the files that it wrote."""

from __future__ import annotations

from pathlib import Path

from .bars import Distribution
from .cards import report_picture
from .folder import FINAL_FOLDER, MADE_FROM, REPORT_FILE, STUDENT_FOLDER
from .receipt import Row
from .report import ImageReport, Report, image_name

GRID_LIMIT, LARGEST = 64, 512  # pictures, and the pixels of each that are read


def draw_grid(report: Report, folder: Path, distribution: Distribution | None = None):
    """A PIL picture of the run's images, with what they are made from.

    Reads the single images from ``folder``; after ``GRID_LIMIT`` of them it stops and says so. distribution: as of
    :func:`report_picture`.
    """
    shown = report.images[:GRID_LIMIT]
    given = [name for name in MADE_FROM if (folder / name).is_dir()]
    rows = [_row(image, folder, image_name(place), given) for place, image in enumerate(shown)]
    totals = [report.summary]
    if len(shown) < len(report.images):
        totals.append(f"The first {len(shown)} of {len(report.images)} images; the others are in {FINAL_FOLDER}/.")
    return report_picture(rows, totals, distribution, where=REPORT_FILE)


def _row(image: ImageReport, folder: Path, file: str, given: list[str]) -> Row:
    return Row(
        before=_read(folder / STUDENT_FOLDER / file),
        after=_read(folder / FINAL_FOLDER / file),
        decision=image.decision,
        score=image.score,
        score_after=image.score_after,
        evaluations=image.evaluations,
        prompt=image.prompt,
        threshold=image.threshold,
        given=tuple((name, _read(folder / name / file)) for name in given),
        likeness=image.likeness,
        likeness_after=image.likeness_after,
    )


def _read(path: Path):
    """A picture as ``[H, W, 3]`` in [0, 1], large ones smaller."""
    import numpy
    import torch
    from PIL import Image

    with Image.open(path) as picture:
        picture = picture.convert("RGB")
        picture.thumbnail((LARGEST, LARGEST))
        return torch.from_numpy(numpy.asarray(picture) / 255).float()

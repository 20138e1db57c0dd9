"""What a run of the command line did: report.json, the table and the single images."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from ..files import write_whole
from ..samplers.decisions import KEPT, REDONE
from .folder import FINAL_FOLDER, HINT_FOLDER, REPORT_FILE, SOURCE_FOLDER, STUDENT_FOLDER
from .numbers import number


@dataclass(frozen=True)
class ImageReport:
    """One image. ``decision`` is one of ``decisions.DECISIONS``; ``score_after`` is None for a kept image;
    ``threshold`` is None where no score divides its batch; ``evaluations`` counts student and teacher together,
    not the passes of a ControlNet. ``source`` and ``hint`` are the names of the pictures that it was made from,
    ``likeness`` that to its source."""

    prompt: str
    seed: int
    score: float
    threshold: float | None
    decision: str
    score_after: float | None
    evaluations: int
    source: str | None = None
    hint: str | None = None
    likeness: float | None = None
    likeness_after: float | None = None


FROM_PICTURES = ("source", "hint", "likeness", "likeness_after")  # left out of a report that has none of it


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
        content = asdict(self)
        for image in content["images"]:
            for name in FROM_PICTURES:
                if all(getattr(each, name) is None for each in self.images):
                    del image[name]
        write_whole(folder / REPORT_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")

    @property
    def summary(self) -> str:
        """One line: how many images were redone, and what that cost beside the teacher alone."""
        redone = [image.decision for image in self.images if image.decision != KEPT]
        totals = self.totals
        with_control = ", a ControlNet's not counted," if any(image.hint for image in self.images) else ""
        return (
            f"{len(redone)} of {len(self.images)} {redone[0] if redone else REDONE}; "
            f"{totals.evaluations} network evaluations{with_control} in {totals.seconds:.1f} s; teacher alone: "
            f"{totals.teacher_only_evaluations} in about {totals.teacher_only_seconds:.1f} s"
        )


def finite(value: float | None) -> float | None:
    """None for infinity, which JSON lacks, and for None."""
    return value if value is not None and math.isfinite(value) else None


def image_name(index: int) -> str:
    """An image's file, by its number on the picture, which counts from 1."""
    return f"{index + 1:04d}.png"


def save_images(folder: Path, index: int, student, final, source=None, hint=None) -> None:
    """Write the student's and the final image ``[3, H, W]`` in [0, 1] of one prompt as PNG, and what they are made from
    as the models saw it, where that is given."""
    from PIL import Image

    images = {STUDENT_FOLDER: student, FINAL_FOLDER: final, SOURCE_FOLDER: source, HINT_FOLDER: hint}
    for name, image in images.items():
        if image is None:
            continue
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
        numbers = number(image.score), number(image.threshold), decision, number(image.score_after)
        # Rich reads [x] and :x: in a plain string as markup, and prompts may hold them.
        prompt = image.prompt if len(image.prompt) <= LONGEST else f"{image.prompt[:LONGEST]} ..."
        result.add_row(Text(prompt), *numbers, str(image.evaluations))
    return result

"""What the teacher did to each image, what it cost and what it saved, in words that the pixels bear out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..oracles.scores import Scores
from ..oracles.threshold import RANKED, Threshold, percent_text
from ..samplers.decisions import DECISIONS, KEPT, REDONE, REVERTED


@dataclass(frozen=True)
class Receipt:
    """What the teacher did to a batch, image by image; those of a list of batches are read one after another.

    decisions: KEPT, REFINED, REGENERATED or, by nodes between Split and Merge, REDONE of ``decisions.py``, one for
    each image.
    evaluations: the teacher's network evaluations, counted, without a ControlNet's, one per image; 0 where the image
    was kept, None where nobody counted.
    seconds: the teacher's wall-clock time for the whole batch, encoding and decoding included; None where nobody
    measured.
    """

    decisions: tuple[str, ...]
    evaluations: tuple[int | None, ...]
    seconds: float | None = None


@dataclass(frozen=True)
class Row:
    """One image's part of the receipt; ``before`` and ``after`` are ``[H, W, C]`` in [0, 1].

    decision: one of ``decisions.DECISIONS``. evaluations: the teacher's; None where they are not known. threshold: the
    score below which the image was rejected; None where none divides its batch. teacher: what the teacher made,
    ``[H, W, C]``, where that is known. tries: how many students this one was taken of; None where nobody counted.
    given: what it was made from, by names. likeness: to its source, of ``before`` and of the teacher's; None where
    nobody measured.
    """

    before: torch.Tensor
    after: torch.Tensor
    decision: str
    score: float
    score_after: float | None
    evaluations: int | None
    prompt: str
    threshold: float | None = None
    teacher: torch.Tensor | None = None
    tries: int | None = None
    given: tuple[tuple[str, torch.Tensor], ...] = ()
    likeness: float | None = None
    likeness_after: float | None = None


def rows_of(
    before: Sequence[torch.Tensor],
    after: Sequence[torch.Tensor],
    counts: dict[str, int],
    scores: list[Scores],
    receipts: list[Receipt] | None,
    threshold: Threshold | None = None,
    teacher: Sequence[torch.Tensor] | None = None,
) -> list[Row]:
    """One Row per image; ValueError names both counts where something does not have one entry per image.

    teacher: the images as the teacher made them, with those that it left as they were.
    """
    values = [value for batch in scores for value in batch.values]
    prompts = [text for batch in scores for text in batch.prompts]
    scores_after = [value for batch in scores for value in batch.scores_after or (None,) * len(batch.values)]
    counts["scores"] = len(values)
    asked, evaluations = [None] * len(before), [None] * len(before)
    if receipts is not None:
        asked = [decision for each in receipts for decision in each.decisions]
        evaluations = [count for each in receipts for count in each.evaluations]
        counts["decisions in the receipt"] = len(asked)
    for what, count in counts.items():
        if count != len(before):
            raise ValueError(f"{count} {what} for {len(before)} images_before; expected one for each")
    # Straight from Score Images there are no decisions in the scores.
    judged = [word for batch in scores for word in batch.decisions or (None,) * len(batch.values)]
    decisions = [decided(*each) for each in zip(before, after, asked, judged, strict=True)]
    cut = None if threshold is None else threshold.cut(values)
    tries = [count for batch in scores for count in batch.tries or (None,) * len(batch.values)]
    facts = zip(before, after, decisions, values, scores_after, evaluations, prompts, strict=True)
    more = zip(teacher or [None] * len(before), tries, strict=True)
    return [Row(*each, cut, *others) for each, others in zip(facts, more, strict=True)]


def decided(before: torch.Tensor, after: torch.Tensor, asked: str | None, judged: str | None) -> str:
    """What became of an image, so that no change is claimed that its pixels do not show, and none is hidden.

    asked: the teacher's decision; judged: Keep Better's; None where there is no such word.
    """
    by_teacher = asked not in (None, KEPT)
    if same_image(before, after):
        return REVERTED if by_teacher or judged == REVERTED else KEPT
    if before.shape != after.shape and asked is not None:
        # In another size, as an upscaler leaves it, only the words tell.
        return REVERTED if judged == REVERTED else asked
    # What Keep Better took back and is not the student's all the same, a node behind it made.
    return asked if by_teacher and judged != REVERTED else REDONE


def headline(rows: Sequence[Row], receipts: list[Receipt] | None) -> str:
    """In one line: on how many images the teacher ran, which part of its work that saved, and what it took.

    Nothing is said of what nobody counted or measured.
    """
    words = [row.decision for row in rows]
    count, changed, put_back = len(rows), sum(word not in (KEPT, REVERTED) for word in words), words.count(REVERTED)
    back = f", {put_back} put back" if put_back else ""
    if receipts is None:
        return f"{changed} of {count} changed{back}; no receipt of the teacher is connected"
    asked = [word for each in receipts for word in each.decisions]
    redone = sum(word != KEPT for word in asked)
    behind = sum(word == REDONE and was == KEPT for word, was in zip(words, asked, strict=True))
    others = [f"{behind} more changed by nodes behind it"] if behind else []
    if not redone:
        return "; ".join(["teacher not needed", f"all {count} passed" if count > 1 else "the image passed", *others])
    if any(row.evaluations is None for row in rows):
        return "; ".join([f"your own nodes ran on {redone} of {count}{back}", *others])
    # What one image took is what each of the others would have taken.
    parts = [f"teacher ran on {redone} of {count}{back}", f"{percent_text(1 - redone / count)} of its work saved"]
    if None not in (measured := [each.seconds for each in receipts]):
        parts.append(f"{sum(measured):.1f} s")
    return "; ".join(parts + others)


def threshold_lines(rows: Sequence[Row], threshold: Threshold, receipts: list[Receipt] | None) -> Iterator[str]:
    """How many images have which decision, and the rule with what it really did."""
    counts = {name: sum(row.decision == name for row in rows) for name in DECISIONS}
    images = "1 image" if len(rows) == 1 else f"{len(rows)} images"
    yield f"{images}: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    values = [row.score for row in rows]
    rejected, cut = threshold.rejected(values), threshold.cut(values)
    below = f", those below {cut:.3f}" if threshold.mode in RANKED and cut is not None else ""
    yield f"threshold: {threshold.rule}: {sum(rejected)} of {len(rows)}{below}"
    yield from remarks(rows, threshold, receipts)


def remarks(rows: Sequence[Row], threshold: Threshold, receipts: list[Receipt] | None) -> Iterator[str]:
    """What a user should know of the threshold that no number says."""
    if remark := threshold.remark(len(rows)):
        yield remark
    rejected = threshold.rejected([row.score for row in rows])
    if receipts is not None and rejected != [word != KEPT for each in receipts for word in each.decisions]:
        yield "Teacher chose other images than this threshold does: it had another threshold or other scores"


def student_lines(scores: Sequence[Scores]) -> Iterator[str]:
    """What the students of these images cost, the tries that were not taken too; nothing where nobody counted."""
    counted = [each for each in scores if each.student_evaluations]
    if counted:
        spent, tries = (sum(sum(getattr(each, name)) for each in counted) for name in ("student_evaluations", "tries"))
        images = sum(len(each.values) for each in counted)
        yield f"student: {spent} network evaluations in {tries} tries of {images} images"


def teacher_lines(rows: Sequence[Row], receipts: list[Receipt] | None) -> Iterator[str]:
    """What the teacher cost, and what it would have cost to redo everything."""
    if receipts is None:
        changed = sum(row.decision == REDONE for row in rows)
        what = f"what the {changed} changed images cost is not known" if changed else "and no image is changed"
        yield f"teacher: no receipt of it is connected, {what}"
        return
    redone = sum(word != KEPT for each in receipts for word in each.decisions)
    if not redone:
        yield "teacher: not needed, so it was not even loaded"
        return
    if any(row.evaluations is None for row in rows):
        yield f"teacher: nodes between Split and Merge, for {redone} of {len(rows)} images; what they cost is not known"
    else:
        spent = sum(row.evaluations for row in rows)
        measured = [each.seconds for each in receipts]
        seconds = None if None in measured else sum(measured)
        took = "" if seconds is None else f" in {seconds:.1f} s"
        each = f" ({seconds / spent:.3g} s an evaluation)" if spent and seconds else ""
        # What one image took, as counted, is what each of the others would have taken.
        everything = round(spent / redone * len(rows))
        yield (
            f"teacher: {spent} network evaluations{took}{each} for {redone} of {len(rows)} images; "
            f"for all of them it would have been {everything}"
        )
    known = [(row.score, row.score_after) for row in rows if row.score_after is not None]
    if known:
        old, new = (sum(values) / len(known) for values in zip(*known, strict=True))
        yield f"mean score of the images that the teacher redid: {old:.3f} before, {new:.3f} in its version"


def same_image(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two images ``[H, W, C]`` agree in every bit."""
    return one.shape == other.shape and torch.equal(one, other.to(one))

"""The receipt of a job as one more picture of its gallery."""

from __future__ import annotations

from collections.abc import Sequence

from ..oracles.threshold import Threshold
from ..receipts.cards import report_picture
from ..receipts.numbers import counted
from ..receipts.receipt import Receipt, Row, headline, threshold_lines
from ..samplers import decisions
from . import infotext
from .entry import Entry

WORDS = {decisions.REDONE: decisions.REDONE, infotext.REVERTED: decisions.REVERTED}


def receipt_of(entries: Sequence[Entry], threshold: Threshold):
    """The picture; pictures without a score are counted, and not shown."""
    scored = [entry for entry in entries if entry.scored]
    cut = threshold.cut([entry.picture.score for entry in scored])
    rows = [_row(entry, cut) for entry in scored]
    asked = tuple(decisions.KEPT if entry.decision not in WORDS else decisions.REDONE for entry in scored)
    first = headline(rows, [Receipt(asked, tuple(row.evaluations for row in rows))])
    return report_picture(rows, [first, *_lines(entries, scored, rows, threshold)], threshold.distribution)


def show_receipt(p, processed, entries: Sequence[Entry], threshold: Threshold, files) -> None:
    """At the end of the gallery, and saved with the grids where those are saved."""
    from modules import images, shared

    if not any(entry.scored for entry in entries):
        return
    picture, text = receipt_of(entries, threshold), processed.infotexts[0]
    if shared.opts.grid_save and not p.do_not_save_grid:
        with files.own():
            images.save_image(picture, p.outpath_grids, "receipt", extension=shared.opts.grid_format, p=p, grid=True)
    processed.images.append(picture)
    processed.infotexts.append(text)


def _row(entry: Entry, cut: float | None) -> Row:
    before = entry.picture.pixels.permute(1, 2, 0)
    made = entry.put_back if entry.teacher is None else entry.teacher
    teacher = None if made is None else made.permute(1, 2, 0)
    return Row(
        before=before,
        after=before if entry.teacher is None else teacher,
        decision=WORDS.get(entry.decision, decisions.KEPT),
        score=entry.picture.score,
        score_after=entry.score_after,
        evaluations=entry.by_teacher,
        prompt=entry.picture.prompt,
        threshold=cut,
        teacher=teacher,
        tries=entry.tries if entry.tries > 1 else None,
    )


def _lines(entries: Sequence[Entry], scored: Sequence[Entry], rows: Sequence[Row], threshold: Threshold):
    yield from threshold_lines(rows, threshold, None)
    if missing := len(entries) - len(scored):
        yield f"{missing} without a score are kept"
    for entry in entries:
        if entry.decision not in (decisions.KEPT, *WORDS):
            yield entry.decision
            break
    known = [entry for entry in entries if entry.evaluations is not None and entry.by_teacher is not None]
    if known:
        teacher = sum(entry.by_teacher for entry in known)
        student, tries = sum(entry.evaluations for entry in known) - teacher, sum(entry.tries for entry in known)
        words = "network evaluation", "network evaluations"
        in_all = f"{counted(tries, 'try', 'tries')} of {counted(len(known), 'image', 'images')}"
        yield f"student: {counted(student, *words)} in {in_all}"
        yield f"teacher: {counted(teacher, *words)}"

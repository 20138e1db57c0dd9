"""The teacher's part of a job: which pictures it really took over, and why not the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ..samplers import decisions
from . import host, infotext
from .choices import SAME, WORST, Choices, RefusedChoice
from .entry import Entry
from .judge import Judge
from .second_pass import redo
from .trouble import NotRedone, pictures, say

log = logging.getLogger(__name__)


class Teacher:
    """Of one job."""

    def __init__(self, p, choices: Choices, judge: Judge):
        self.p, self.choices, self.judge = p, choices, judge
        self.announced = self.cost_told = False

    def redoes(self, rejected: list[Entry]) -> Iterator[Entry]:
        """Those whose picture is the teacher's now."""
        if not rejected:
            return
        try:
            self._announce()
            result = redo(self.p, self.choices, [entry.picture for entry in rejected])
        except (NotRedone, RefusedChoice) as error:
            for entry in rejected:
                entry.decision = f"not redone: {error}"
            say(self.p, f"{pictures(len(rejected))} not redone: {error}")
            return
        self._tell_cost(result.seconds)
        for entry, reason in zip(rejected, result.unusable, strict=True):
            entry.decision = f"not redone: {reason}" if reason else entry.decision
        for reason in sorted(set(result.unusable) - {""}):
            say(self.p, f"{pictures(result.unusable.count(reason))} not redone: {reason}")
        good = [i for i, reason in enumerate(result.unusable) if not reason]
        rejected, made = [rejected[i] for i in good], [result.pixels[i] for i in good]
        if not rejected:
            return
        if result.without:
            say(self.p, f"the teacher ran without {' and '.join(result.without)}")
        shown = [entry.picture.frame.shown(pixels) for entry, pixels in zip(rejected, made, strict=True)]
        after = self.judge(shown, [entry.picture.prompt for entry in rejected])
        for entry, pixels, (score, trouble) in zip(rejected, made, after, strict=True):
            entry.sigma, entry.without = result.sigma, ", ".join(result.without)
            entry.by_teacher = result.evaluations
            known = None not in (entry.evaluations, result.evaluations)
            entry.evaluations = entry.evaluations + result.evaluations if known else None
            if trouble:
                entry.decision = f"not redone: the teacher's picture is not scored: {trouble}"
                continue
            entry.score_after = score
            better = score > entry.picture.score or not self.choices.keep_better
            entry.decision = decisions.REDONE if better else infotext.REVERTED
            if better:
                entry.teacher = pixels
                yield entry
            elif self.choices.receipt:
                entry.put_back = pixels

    def _announce(self) -> None:
        """What another checkpoint costs, once a job."""
        from modules.shared import opts

        teacher = self.choices.teacher
        if self.announced or teacher == SAME or host.is_loaded(host.checkpoint_title(teacher)):
            return
        self.announced = True
        often = "once for this job" if self.choices.rule == WORST else "for each batch with pictures to be redone"
        limit = getattr(opts, "sd_checkpoints_limit", None)
        advice = '; "Maximum number of checkpoints loaded at the same time" at 2 keeps both' if limit == 1 else ""
        # Of a user's log A1111 shows warnings alone, unless it is started with another level.
        log.warning("Understudy: the teacher is another checkpoint, loaded %s, the student's after it%s", often, advice)

    def _tell_cost(self, seconds: float | None) -> None:
        """What it did cost, the first time. seconds: None where none was loaded."""
        if seconds is None or self.cost_told:
            return
        self.cost_told = True
        log.warning("Understudy: loading the student's checkpoint again took %.1f s", seconds)

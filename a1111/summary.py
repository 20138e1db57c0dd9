"""The last job in one line of the panel."""

from __future__ import annotations

from collections import Counter

from ..samplers import decisions
from . import infotext, words


def line(job) -> str:
    """HTML, each word in an element of its own, as the host translates whole texts; nothing without a job."""
    made = [entry.decision for batch in job.batches for entry in batch if entry.scored] if job else []
    if not made:
        return ""
    kinds = Counter(_kind(decision) for decision in made)
    counts = [(len(made), words.SCORED), (kinds[words.REDONE], words.REDONE)]
    counts += [(kinds[word], word) for word in (words.STUDENTS_BETTER, words.NOT_REDONE) if kinds[word]]
    return f"<span>{words.LAST_JOB}</span> " + ", ".join(f"{count} <span>{word}</span>" for count, word in counts)


def _kind(decision: str) -> str | None:
    if decision == decisions.KEPT:
        return None
    return {decisions.REDONE: words.REDONE, infotext.REVERTED: words.STUDENTS_BETTER}.get(decision, words.NOT_REDONE)

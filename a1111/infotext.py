"""What a picture's generation parameters say of us, and how the panel reads it back."""

from __future__ import annotations

import json
import re

PREFIX = "Understudy "
OF_A_PICTURE = tuple(
    PREFIX + name
    for name in ("score", "score after", "decision", "sigma", "without", "evaluations", "tries", "first seed")
)
SCORE, SCORE_AFTER, DECISION, SIGMA, WITHOUT, EVALUATIONS, TRIES, FIRST_SEED = OF_A_PICTURE
KEPT, REDONE, REVERTED = "kept", "redone", "redone but the student's was better"
# Of a Choices' fields: the keys that paste back into the panel.
FIELDS = {
    "enabled": "Understudy",
    "oracle": PREFIX + "oracle",
    "rule": PREFIX + "rule",
    "share": PREFIX + "share",
    "percentile": PREFIX + "percentile",
    "calibration": PREFIX + "calibration",
    "score": PREFIX + "below",
    "teacher": PREFIX + "teacher",
    "remove": PREFIX + "takes off",
    "steps": PREFIX + "teacher steps",
    "cfg": PREFIX + "teacher CFG",
    "sampler": PREFIX + "teacher sampler",
    "scheduler": PREFIX + "teacher scheduler",
    "noise": PREFIX + "noise",
    "keep_better": PREFIX + "keeps the better",
    "save_student": PREFIX + "saves the student's",
    "budget": PREFIX + "budget",
    "best_of": PREFIX + "best of",
    "modules": PREFIX + "teacher modules",
    "control": PREFIX + "teacher under ControlNet",
    "receipt": PREFIX + "receipt",
}


def of_choices(choices) -> dict[str, object]:
    """The keys of a job, of which those that its rule does not use are left out."""
    from .choices import BUDGET, PERCENTILE, SCORE, WORST

    uses = {
        WORST: {"share"},
        PERCENTILE: {"percentile", "calibration"},
        SCORE: {"score"},
        BUDGET: {"budget", "calibration"},
    }
    unused = set().union(*uses.values()) - uses[choices.rule]
    return {key: getattr(choices, name) for name, key in FIELDS.items() if name not in unused}


def number(value: float) -> str:
    """A score as galleries sort it."""
    return f"{value:.4f}".rstrip("0").rstrip(".") if value == value else "nan"


def with_values(text: str, values: dict[str, str]) -> str:
    """A picture's text with these keys at the end of its last line, in place of what it said of them before."""
    for key in values:
        text = re.sub(rf'(?:, )?{re.escape(key)}: ("(?:\\.|[^"\\])*"|[^,\n]*)', "", text)
    said = ", ".join(f"{key}: {_quoted(value)}" for key, value in values.items())
    return f"{text}, {said}" if text else said


def _quoted(value: str) -> str:
    """As the host writes what holds its own separators."""
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", value) else value

"""What a picture's generation parameters say of us, and how the panel reads it back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache

from .choices import Choices, unused

PREFIX = "Understudy "
OF_A_PICTURE = tuple(
    PREFIX + name
    for name in ("score", "score after", "decision", "sigma", "without", "evaluations", "tries", "first seed")
)
SCORE, SCORE_AFTER, DECISION, SIGMA, WITHOUT, EVALUATIONS, TRIES, FIRST_SEED = OF_A_PICTURE
REVERTED = "redone but the student's was better"  # a sentence, where the nodes' metadata has decisions.REVERTED
# Of a Choices' fields: the keys that paste back into the panel. The host reads letters, digits, blanks, - and /.
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
    "save_student": PREFIX + "saves student pictures",
    "budget": PREFIX + "budget",
    "best_of": PREFIX + "best of",
    "modules": PREFIX + "teacher modules",
    "control": PREFIX + "teacher under ControlNet",
    "receipt": PREFIX + "receipt",
}
_DEFAULTS = {field.name: field.default for field in fields(Choices)}


def of_choices(choices: Choices) -> dict[str, str]:
    """The keys of a job, of which those that its rule does not use are left out."""
    left_out = unused(choices.rule)
    return {key: written(getattr(choices, name)) for name, key in FIELDS.items() if name not in left_out}


@cache  # the host sends a tab's fields to another's by what they are called there, and that is this function
def reader(name: str) -> Callable[[Mapping[str, str]], object]:
    """The field's value in a picture's parameters as the host has read them, None where they leave it as it is.

    Texts that say nothing of us turn the panel off and leave the rest. The type is the default's, since the host would
    take "False" for true.
    """
    key, default = FIELDS[name], _DEFAULTS[name]

    def read(parameters: Mapping[str, str]):
        text = parameters.get(key)
        if name == "enabled":
            return text == str(True)
        if text is None:
            sizes = [parameters.get(f"{key}-{i}") for i in (1, 2)]  # what looks like a size, the host takes apart
            return None if None in sizes else "x".join(sizes)
        try:
            return _read(text, default)
        except ValueError:  # written by hand
            return None

    return read


def _read(text: str, default):
    if isinstance(default, bool):
        return text == str(True)
    if isinstance(default, tuple):
        listed = json.loads(text)
        return listed if isinstance(listed, list) else None
    return type(default)(text)


def written(value) -> str:
    """A value as the host reads it back; where it holds the host's own separators, the host quotes it itself."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, (int, float)):
        return str(int(value)) if value == int(value) else repr(value)
    if not isinstance(value, str):
        return json.dumps(list(value), ensure_ascii=False)
    alone = not value or value.startswith('"')
    return json.dumps(value, ensure_ascii=False) if alone and not re.search(r"[,:\n]", value) else value


def number(value: float) -> str:
    """A score as galleries sort it."""
    return f"{value:.4f}".rstrip("0").rstrip(".") if value == value else "nan"


def with_values(text: str, values: dict[str, str]) -> str:
    """A picture's text with these keys at the end of its last line, in place of what it said of them before."""
    prompts, newline, line = text.rpartition("\n")  # a prompt may speak of us, too
    for key in values:
        line = re.sub(rf'(?:^|, ){re.escape(key)}: ("(?:\\.|[^"\\])*"|[^,\n]*)', "", line)
    said = [f"{key}: {_quoted(value)}" for key, value in values.items()]
    return prompts + newline + ", ".join(filter(None, [line.removeprefix(", "), *said]))


def _quoted(value: str) -> str:
    """As the host writes what holds its own separators."""
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", value) else value

"""What prompts hold for a text encoder's front end alone, taken off before an oracle reads them.

An oracle was trained on plain texts. Only syntax that can hardly be a text is taken off: weights ``(x:1.3)``,
``BREAK``, ``<lora:...>``, ``embedding:x``, a backslash before a bracket. Bare brackets may be the text's own and stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

# A weight has a point, or is one digit at a word's end: (16:9) and (at 10:30) are texts.
WEIGHTED = re.compile(
    r"(?<!\\)\(((?:[^()\\]|\\.)+?):\s*[+-]?\d*\.\d+\s*\)|(?<!\\)\(((?:[^()\\]|\\.)*[^\d\s():\\]):[+-]?\d\)"
)
TAKEN = "\0"  # stands where something was taken off, until the commas around it are seen to
NETWORK = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>")
EMBEDDING = re.compile(r"(?<![\w:])embedding:[^\s,:;()<>\[\]{}|]+")
BREAK = re.compile(r"""(?<![\w"'])BREAK(?![\w"'])""")
EMPTY = re.compile(rf"(?<!\\)\(\s*{TAKEN}[\s{TAKEN}]*\)")
AT_START = re.compile(rf"^\s*{TAKEN}[\s,{TAKEN}]*")
BEFORE_COMMA = re.compile(rf"\s*,?\s*{TAKEN}[\s{TAKEN}]*(?=,|$)")
WITHIN = re.compile(rf"\s*{TAKEN}[\s{TAKEN}]*")
ESCAPED = re.compile(r"\\([()\[\]{}])")
CHOICE = re.compile(r"(?<!\\)(?:\{[^{}]*\|[^{}]*\}|\[[^\[\]]*\|[^\[\]]*\]|\[[^\[\]:]*:[^\[\]:]*:\s*\d*\.?\d+\s*\])")


class Reading(NamedTuple):
    """What an oracle reads for each prompt, and what a user should know of it."""

    texts: list[str]
    remarks: list[str]


def prompts_to_read(
    prompts: Sequence[str], literal: bool = False, switch: str = "--literal-prompts, on nodes literal_prompts,"
) -> Reading:
    """Prompts as an oracle should read them: without syntax, or as they stand if ``literal``, which ``switch`` sets."""
    if literal:
        return Reading(list(prompts), [])
    texts, remarks = [without_syntax(prompt) for prompt in prompts], []
    if changed := {prompt: text for prompt, text in zip(prompts, texts, strict=True) if prompt != text}:
        prompt, text = min(changed.items(), key=lambda pair: len(pair[0]))
        remarks.append(
            f"syntax is taken off {len(changed)} of the prompts before they are scored, e.g. {prompt!r} is read as "
            f"{text!r}; {switch} scores them as they stand"
        )
    if choices := {prompt: found[0] for prompt in prompts if (found := CHOICE.search(prompt))}:
        remarks.append(
            f"{len(choices)} of the prompts hold choices, e.g. {next(iter(choices.values()))!r}, which are scored as "
            "they stand; give the text that was chosen"
        )
    return Reading(texts, remarks)


def without_syntax(prompt: str) -> str:
    """A prompt without the syntax of ComfyUI and A1111, as far as that is unmistakable."""
    text = prompt
    for syntax in (NETWORK, EMBEDDING, BREAK):
        text = syntax.sub(TAKEN, text)
    while (inner := WEIGHTED.sub(_unweighted, text)) != text:
        text = inner
    if TAKEN in text:
        while (inner := EMPTY.sub(TAKEN, text)) != text:
            text = inner
        text = WITHIN.sub(" ", BEFORE_COMMA.sub("", AT_START.sub("", text))).strip()
    return ESCAPED.sub(r"\1", text)


def _unweighted(found: re.Match) -> str:
    """What is weighted, apart from the words beside it, as image generators read it by itself."""
    inner, text, (start, end) = (found[1] or found[2]).strip(), found.string, found.span()
    before = " " if inner[:1].isalnum() and text[max(start - 1, 0) : start].isalnum() else ""
    after = " " if inner[-1:].isalnum() and (text[end : end + 1].isalnum() or text.startswith("(", end)) else ""
    return f"{before}{inner}{after}"

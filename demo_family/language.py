"""Free text to a scene and a scene to the eight token ids that the demo networks read."""

import re
from collections.abc import Sequence

from .scenes import BACKGROUNDS, COLORS, RELATIONS, SHAPES, SIZES, Scene, Thing

SYNONYMS = {
    "small": "small tiny little mini smaller",
    "large": "large big huge giant great larger bigger",
    "red": "red crimson scarlet",
    "green": "green emerald",
    "blue": "blue navy",
    "yellow": "yellow gold golden",
    "purple": "purple violet magenta",
    "cyan": "cyan turquoise teal aqua",
    "circle": "circle circles disc disk ball dot round",
    "square": "square squares box cube",
    "triangle": "triangle triangles",
    "star": "star stars",
    "white": "white",
    "gray": "gray grey",
    "black": "black dark",
    "left of": "left",
    "right of": "right",
    "above": "above over atop",
    "below": "below under beneath underneath",
}
FILLER = frozenset(
    "a an the of to on in at with and is are that which it its side top side's there lies sits placed located "
    "background backdrop scene picture image drawing against one next directly just".split()
)
MEANING = {word: meaning for meaning, words in SYNONYMS.items() for word in words.split()}
DEFAULT_SIZE, DEFAULT_BACKGROUND = "large", "gray"

# Whatever is neither space nor punctuation, in any script, so that nothing is passed over in silence.
WORD = re.compile(r"[^\s!-&(-/:-@\[-`{-~–—“”„…]+")

# "on top of" is a relation although neither "on" nor "top" alone is one; "on the left of" needs no such help.
PHRASES = {r"\bon top of\b": "above", r"\bat the bottom of\b": "below"}


class PromptError(ValueError):
    """A text that describes no scene; the message says what is missing or unknown, and what is known."""


def parse(text: str) -> Scene:
    """The scene that ``text`` describes.

    Word order within an object is free, synonyms are known, a missing size is "large" and a missing background "gray".
    Raises PromptError for unknown words and for texts that do not describe one or two things and how they lie.
    """
    for phrase, word in PHRASES.items():
        text = re.sub(phrase, word, text.lower())
    words = [word for word in (part.strip("'‘’") for part in WORD.findall(text.lower())) if word]
    unknown = [word for word in words if word not in MEANING and word not in FILLER]
    if unknown:
        raise PromptError(f"unknown in {text!r}: {', '.join(dict.fromkeys(unknown))}. Known words: {known_words()}")
    background, meanings = _take_background([(word, MEANING.get(word)) for word in words])
    relations = [(at, meaning) for at, meaning in enumerate(meanings) if meaning in RELATIONS]
    shapes = [meaning for meaning in meanings if meaning in SHAPES]
    if not relations and len(set(shapes)) == 1:
        shapes = shapes[:1]  # "a round red ball"
    if len(relations) == 1:  # "a square box left of a star" has one on each side, too
        at = relations[0][0]
        shapes = [shape for part in (meanings[:at], meanings[at:]) for shape in dict.fromkeys(part) if shape in SHAPES]
    if not 1 <= len(shapes) <= 2:
        raise PromptError(f"{text!r} names {len(shapes)} shapes; name one or two of: {', '.join(SHAPES)}")
    if len(shapes) == 1:
        if relations:
            raise PromptError(
                f"{text!r} says {relations[0][1]!r} but names one shape; name what it is {relations[0][1]}"
            )
        return Scene(background, _thing(meanings, text))
    if len(relations) != 1:
        raise PromptError(
            f"{text!r} names two shapes and {len(relations)} relations; use one of: {', '.join(RELATIONS)}"
        )
    at, relation = relations[0]
    first, second = _thing(meanings[:at], text), _thing(meanings[at + 1 :], text)
    if first == second:
        raise PromptError(f"{text!r} names the same thing twice; the demo shows two different things")
    return Scene(background, first, relation, second)


def known_words() -> str:
    """The vocabulary, for error messages: each word with what can be typed for it."""
    return "; ".join(" = ".join(words.split()) for words in SYNONYMS.values()) + "; background"


def _take_background(words: Sequence[tuple[str, str | None]]) -> tuple[str, list[str]]:
    """The background among the words, and the meanings that are left; its colors are used for nothing else."""
    meanings = [meaning for _, meaning in words if meaning]
    named = [meaning for meaning in meanings if meaning in BACKGROUNDS]
    if len(set(named)) > 1:
        raise PromptError(f"two backgrounds ({', '.join(named)}); things are {', '.join(COLORS)}, name one background")
    rest = [meaning for meaning in meanings if meaning not in BACKGROUNDS]
    spoken = [word for word, _ in words]
    for at, word in enumerate(spoken):
        if word == "background" and at and MEANING.get(spoken[at - 1]) in COLORS:
            raise PromptError(f"no {spoken[at - 1]} background; backgrounds are {', '.join(BACKGROUNDS)}")
    return (named[0] if named else DEFAULT_BACKGROUND), rest


def _thing(meanings: Sequence[str], text: str) -> Thing:
    found = {
        "size": [m for m in meanings if m in SIZES],
        "color": [m for m in meanings if m in COLORS],
        "shape": [m for m in meanings if m in SHAPES],
    }
    if not found["shape"]:
        raise PromptError(f"{text!r} needs a shape on each side of the relation; shapes are {', '.join(SHAPES)}")
    for part, values in found.items():
        if len(set(values)) > 1:
            raise PromptError(f"{text!r} gives a {found['shape'][0]} more than one {part}: {', '.join(values)}")
    if not found["color"]:
        raise PromptError(f"{text!r} gives the {found['shape'][0]} no color; colors are {', '.join(COLORS)}")
    return Thing((found["size"] or [DEFAULT_SIZE])[0], found["color"][0], found["shape"][0])


# ----------------------------------------------------------------------------------------------------------------------
# Tokens: eight slots, each with words of its own, so that no position embedding is needed. Id 0 is "no text".

_THING = (SIZES, tuple(COLORS), SHAPES)
SLOTS = (tuple(BACKGROUNDS), *_THING, (None, *RELATIONS[:2]), *((None, *words) for words in _THING))
TOKEN_IDS = {
    (slot, word): at + 1 for at, (slot, word) in enumerate((s, w) for s, words in enumerate(SLOTS) for w in words)
}
TOKENS = len(SLOTS)
VOCABULARY_SIZE = len(TOKEN_IDS) + 1


def token_ids(scene: Scene | None) -> list[int]:
    """The TOKENS ids of a scene, in [0, VOCABULARY_SIZE); ``None`` is the unconditional text (all zero)."""
    if scene is None:
        return [0] * TOKENS
    scene = scene.canonical()
    second = (scene.second.size, scene.second.color, scene.second.shape) if scene.second else (None, None, None)
    words = (scene.background, scene.first.size, scene.first.color, scene.first.shape, scene.relation, *second)
    return [TOKEN_IDS[slot, word] for slot, word in enumerate(words)]

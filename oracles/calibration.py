"""The distribution of a student's own scores under exactly its inference settings."""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..files import write_whole
from .scores import Scores
from .settings import Difference, comparable, differences, plain, prompts_hash
from .statistics import LEVELS, interpolated, percentiles_of, places_around, rising

MINIMUM_SCORES = 20
FORMAT = 1


def _text(value) -> bool:
    return isinstance(value, str)


def _number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _numbers(value) -> bool:
    return isinstance(value, list) and all(map(_number, value))


# What a file holds under each of its keys, and which of them it may lack.
KINDS = {
    "name": _text,
    "n": _whole,
    "prompt_set": _text,
    "oracle": _text,
    "settings": lambda value: isinstance(value, dict),
    "settings_hash": _text,
    "percentiles": _numbers,
    "levels": _numbers,
    "scores_by_image": lambda value: isinstance(value, dict) and all(map(_number, value.values())),
    "prompts": _text,
    "seed": _whole,
    "began": _text,
}
OPTIONAL = {"levels", "scores_by_image", "prompts", "seed", "began"}


class CalibrationError(ValueError):
    """A calibration that is damaged, too small or asked for something it cannot say."""


class CalibrationMismatch(CalibrationError):
    """The scores at hand were made under other settings than the calibration's, or are of other prompts.

    ``differences`` has each of them.
    """

    def __init__(self, message: str, differences: Sequence[Difference] = ()):
        super().__init__(message)
        self.differences = tuple(differences)


@dataclass
class Calibration:
    """Scores of a student's own images, by image id, and the settings that made them.

    A calibration may also be a bare table, without single scores: ``table``, the percentiles at ``levels`` (every 1 %
    without them), of ``count`` scores (None: not known). ``oracle`` is the oracle's fingerprint. Raises
    :class:`CalibrationError` for a table that is none.

    ``prompts`` (see :func:`prompts_hash`) and ``seed`` say which images a command draws for it, one after the other;
    None: not known, or whatever comes. ``began`` says when it was begun, which tells it from another of its name.
    """

    name: str
    scores_by_image: dict[str, float]
    settings: dict
    oracle: str
    prompt_set: str
    table: tuple[float, ...] | None = None
    count: int | None = 0
    levels: tuple[float, ...] = LEVELS
    prompts: str | None = None
    seed: int | None = None
    began: str | None = None
    _percentiles: tuple[float, ...] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self):
        self.settings = plain(self.settings)
        if self.table is not None:
            self.table = tuple(float(value) for value in self.table)
            self.levels = tuple(float(level) for level in self.levels)
            if len(self.table) != len(self.levels) or not rising(self.table) or not rising(self.levels):
                raise CalibrationError(f"calibration {self.name!r}: expected {len(self.levels)} rising percentiles")
            if self.scores_by_image:
                raise CalibrationError(f"calibration {self.name!r}: give single scores or a table, not both")
        for image, score in self.scores_by_image.items():
            if not math.isfinite(score):
                raise CalibrationError(f"calibration {self.name!r}: the score of image {image} is {score}")

    @property
    def n(self) -> int | None:
        """How many images were scored; None if a bare table does not say."""
        return self.count if self.table is not None else len(self.scores_by_image)

    @property
    def settings_hash(self) -> str:
        """SHA-256 of the settings and the oracle."""
        text = json.dumps({"settings": self.settings, "oracle": self.oracle}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def percentiles(self) -> tuple[float, ...]:
        """The scores at ``levels``. Raises :class:`CalibrationError` without any score."""
        if self.table is not None:
            return self.table
        if self._percentiles is None:
            if not self.scores_by_image:
                raise CalibrationError(f"calibration {self.name!r} has no scores yet")
            self._percentiles = percentiles_of(self.scores_by_image.values())
        return self._percentiles

    def require_enough(self) -> None:
        """Raise :class:`CalibrationError` unless there are ``MINIMUM_SCORES`` scores, or a table that does not say."""
        if self.n is not None and self.n < MINIMUM_SCORES:
            raise CalibrationError(
                f"calibration {self.name!r} has {self.n} scores; percentiles need at least {MINIMUM_SCORES}. "
                "Score more of the student's images first, or use worst_fraction"
            )

    def value_at(self, k: float) -> float:
        """The score below which ``k`` percent of the student's images lie, ``k`` in 0 to 100.

        Raises :class:`CalibrationError` for other ``k``, for one that a bare table does not reach, and for fewer than
        ``MINIMUM_SCORES`` scores.
        """
        if not 0 <= k <= 100:
            raise CalibrationError(f"percentile is {k:g}; expected 0 to 100")
        self.require_enough()
        low, high = self.levels[0], self.levels[-1]
        if not low <= k <= high:
            raise CalibrationError(
                f"calibration {self.name!r} is known from {low:g} to {high:g} %; got percentile {k:g}"
            )
        return interpolated(k, self.levels, self.percentiles)

    def value_of_share(self, share: float) -> float:
        """The highest score with no more than ``share``, 0 to below 1, of the scores below it; off a bare table, read.

        Raises as :meth:`value_at`.
        """
        if self.table is not None:
            return self.value_at(100 * share)
        self.require_enough()
        return self._ordered(int(share * self.n + 1e-9) + 1)  # (12 - 4) / 40 of 20 is 4, not a rounding error less

    def interval(self, k: float, confidence: float = 0.95) -> tuple[float, float]:
        """Where the true ``k``-th percentile lies with at least this confidence, given how many images were scored.

        Two of the scores in their order, from the binomial distribution of how many lie below the percentile: exact,
        whatever the scores' distribution. A side that the scores, or a bare table's levels, do not reach is infinite.
        Raises as :meth:`value_at`, and for a bare table that does not say how many scores it was made of.
        """
        self.value_at(k)
        if self.n is None:
            raise CalibrationError(f"calibration {self.name!r} does not say of how many scores it was made")
        low, high = places_around(self.n, k, confidence)
        return self._ordered(low), self._ordered(high)

    def _ordered(self, place: int) -> float:
        """The score at a place, 1 to n, among the scores in their order; infinite where that is not known."""
        if not 1 <= place <= self.n:
            return math.copysign(math.inf, place - 1)
        if self.table is None:
            return sorted(self.scores_by_image.values())[place - 1]
        k = 100 * (place - 1) / (self.n - 1)
        if not self.levels[0] <= k <= self.levels[-1]:
            return math.copysign(math.inf, k - self.levels[0])
        return self.value_at(k)

    def share_below(self, value: float) -> float:
        """Which share of the scores, 0 to 1, is strictly below ``value``: counted; from a bare table, read off it."""
        if self.table is not None:
            return self.fraction_below(value)
        self.require_enough()
        return sum(score < value for score in self.scores_by_image.values()) / self.n

    def fraction_below(self, value: float) -> float:
        """The share of the student's images, 0 to 1, that score below ``value``, interpolated between percentiles."""
        self.require_enough()
        table = self.percentiles
        above = bisect_left(table, value)
        if above == 0:
            return self.levels[0] / 100 if value == table[0] else 0.0
        if above == len(table):
            return 1.0
        return interpolated(value, table, self.levels) / 100

    def add(self, scores: Scores) -> int:
        """Count scores in, each image once; returns how many were new.

        Raises :class:`CalibrationMismatch` for scores of another oracle or other settings.
        """
        if self.table is not None:
            raise CalibrationError(f"calibration {self.name!r} is a bare table of percentiles; scores cannot be added")
        settings = self.settings if scores.settings is None else scores.settings
        self.require(settings, scores.oracle or "", scores.family)
        for number, value in enumerate(scores.values, start=1):
            if not math.isfinite(value):
                raise CalibrationError(f"the score of image {number} is {value}; it cannot be counted")
        before = len(self.scores_by_image)
        for image, value in zip(scores.image_ids, scores.values, strict=True):
            self.scores_by_image.setdefault(image, value)
        self._percentiles = None
        return len(self.scores_by_image) - before

    def require(self, settings: dict, oracle: str | None = None, family: str | None = None) -> None:
        """Raise :class:`CalibrationMismatch` that spells the difference out, unless the settings are the same.

        ``family``, the oracle's, is for tables that do not know its file.
        """
        here, there = comparable(self.settings), comparable(settings)
        if oracle is not None:
            here["oracle"], there["oracle"] = self.oracle[:12], oracle[:12]
        self._refuse("settings", here, there)

    def require_images(self, prompts: Sequence[str], prompt_set: str, seed: int | None = None) -> None:
        """Raise :class:`CalibrationMismatch` if the images are known to be of other prompts, or of another seed.

        ``prompt_set`` is the prompts' name. Only for adding to a calibration: what it says holds for other prompts too.
        """
        here, there, hashed = {}, {}, prompts_hash(prompts)
        if self.prompts not in (None, hashed):
            here["prompts"], there["prompts"] = (
                f"{name} ({digest[:12]})" for name, digest in ((self.prompt_set, self.prompts), (prompt_set, hashed))
            )
        if seed is not None and self.seed not in (None, seed):
            here["seed"], there["seed"] = self.seed, seed
        self._refuse("images", here, there)

    def _refuse(self, what: str, here: dict, there: dict) -> None:
        if found := differences(here, there):
            raise CalibrationMismatch(
                f"calibration {self.name!r} was made with other {what}: {'; '.join(map(str, found))}. "
                "Use the same, or calibrate under a new name",
                found,
            )

    def save(self, path: str | Path) -> None:
        """Write JSON; the old file stays whole until the new one is."""
        content = {
            "format": FORMAT,
            "name": self.name,
            "n": self.n,
            "prompt_set": self.prompt_set,
            "oracle": self.oracle,
            "settings": self.settings,
            "settings_hash": self.settings_hash,
            "percentiles": list(self.percentiles),
        }
        for key, value in (("prompts", self.prompts), ("seed", self.seed), ("began", self.began)):
            if value is not None:
                content[key] = value
        if self.levels != LEVELS:
            content["levels"] = list(self.levels)
        if self.table is None:
            content["scores_by_image"] = self.scores_by_image
        write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what :meth:`save` wrote. Raises FileNotFoundError, or :class:`CalibrationError` naming the file."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such calibration file")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CalibrationError(f"{path} is not a calibration: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise CalibrationError(f"{path} is not a calibration of format {FORMAT}")
        if missing := sorted(KINDS.keys() - OPTIONAL - content.keys()):
            raise CalibrationError(f"{path} lacks {', '.join(missing)}")
        if wrong := sorted(key for key, fits in KINDS.items() if key in content and not fits(content[key])):
            raise CalibrationError(f"{path} is not a calibration: its {' and '.join(wrong)} cannot be read")
        scores = content.get("scores_by_image")
        bare = {"table": tuple(content["percentiles"]), "count": content["n"]}
        bare["levels"] = tuple(content.get("levels", LEVELS))
        calibration = cls(
            content["name"],
            scores or {},
            content["settings"],
            content["oracle"],
            content["prompt_set"],
            prompts=content.get("prompts"),
            seed=content.get("seed"),
            began=content.get("began"),
            **({} if scores else bare),
        )
        if calibration.settings_hash != content["settings_hash"]:
            raise CalibrationError(f"{path}: the settings do not match their hash; the file was changed by hand")
        return calibration

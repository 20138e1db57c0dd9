"""Calibrations by name: the user's own, those that come with the pack, and the published ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..oracles.calibration import Calibration, CalibrationError, CalibrationMismatch
from ..oracles.calibration_names import names_in
from ..oracles.published_calibrations import PUBLISHED_CALIBRATIONS
from ..oracles.scores import Scores
from ..oracles.settings import Difference
from ..oracles.statistics import interval_text
from ..oracles.threshold import percent_text
from .folders import NONE, calibration_path, calibrations_folder
from .upstream import demo_settings

ENOUGH_FOR_INTERVALS = 50
SHIPPED = {"demo (shipped)": Path(__file__).resolve().parents[1] / "demo_family" / "calibration.json"}


class ShippedCalibration(Calibration):
    """The demo's calibration, which its command made: it knows no nodes."""

    def require(self, settings: dict, oracle: str | None = None, family: str | None = None) -> None:
        super().require(demo_settings(settings), oracle, family)


def known_calibrations() -> list[str]:
    """Names for the combo: the user's own and those that come with the pack."""
    shipped = [name for name, path in SHIPPED.items() if path.is_file()]
    return [*own_calibrations(), *shipped, *PUBLISHED_CALIBRATIONS, NONE]


def own_calibrations() -> list[str]:
    """The names of the user's own."""
    return names_in(calibrations_folder())


def find_calibration(name: str) -> Calibration:
    """The calibration of that name; CalibrationError lists the ones there are."""
    if name in PUBLISHED_CALIBRATIONS:
        return PUBLISHED_CALIBRATIONS[name]
    path = SHIPPED.get(name) or calibration_path(name)
    if not path.is_file():
        known = ", ".join(known_calibrations()[:-1]) or "none yet; the Calibrate node makes them"
        raise CalibrationError(f"no calibration {name!r}; there are: {known}")
    return (ShippedCalibration if name in SHIPPED else Calibration).load(path)


def content_hash(name: str | None) -> str:
    """For ``fingerprint_inputs``: a calibration grows on disk, where the host does not see it.

    "" for one that does not change. None is a linked widget's value, which the host does not know yet: then it may be
    any of the user's own, and all of them count.
    """
    if name in (NONE, *PUBLISHED_CALIBRATIONS):
        return ""
    if name is None:
        return "/".join(f"{path.name} {_hash(path)}" for path in sorted(calibrations_folder().glob("*.json")))
    path = SHIPPED.get(name) or calibration_path(name)
    return _hash(path) if path.is_file() else ""


def only(value):
    """A widget's value, which the host hands over as a list of one to a node that takes lists."""
    return value[0] if isinstance(value, (list, tuple)) else value


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def differing(table: Calibration, scores: Scores) -> tuple[Difference, ...]:
    """In what a calibration was made otherwise than scores."""
    try:
        # Numbers from a list have no oracle, nor have their tables.
        table.require(scores.settings or {}, scores.oracle or "", scores.family)
    except CalibrationMismatch as error:
        return error.differences
    return ()


def in_words(differences: Iterable[Difference]) -> list[str]:
    return [f"{each.setting}: calibration has {each.before}, this student has {each.now}" for each in differences]


def percentile_lines(calibration: Calibration, levels: Iterable[float]) -> Iterator[str]:
    """Percentiles, each with what is below it and, of enough scores, where it lies at 95 % confidence."""
    for k in levels:
        value = calibration.value_at(k)
        enough = (calibration.n or 0) >= ENOUGH_FOR_INTERVALS
        sure = f" (95 %: {interval_text(calibration.interval(k))})" if enough else ""
        # Of equal scores none is below the others, so that whole numbers send less than their percentile.
        below = percent_text(calibration.share_below(value))
        yield f"percentile {k:g} is {value:.3f}{sure}: {below} are below"

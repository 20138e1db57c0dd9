"""Collect a student's scores, and say which scores are too low."""

from __future__ import annotations

import hashlib
from pathlib import Path

from comfy_api.latest import io

from ..oracles.calibration import Calibration, CalibrationError, said
from ..oracles.published_calibrations import PUBLISHED_CALIBRATIONS
from ..oracles.threshold import Threshold
from .display import shown
from .folders import NONE, calibration_path, calibrations_folder
from .schema import schema
from .types import ScoresSocket, ThresholdSocket
from .upstream import in_the_demo_s_words

ENOUGH_FOR_INTERVALS = 50
SHIPPED = {"demo (shipped)": Path(__file__).resolve().parents[1] / "models" / "demo" / "calibration.json"}


class ShippedCalibration(Calibration):
    """The demo's calibration, which its command made: it knows no nodes."""

    def require(self, settings: dict, oracle: str | None = None, family: str | None = None) -> None:
        super().require(in_the_demo_s_words(settings), oracle, family)


def known_calibrations() -> list[str]:
    """Names for the combo: the user's own and those that come with the pack."""
    shipped = [name for name, path in SHIPPED.items() if path.is_file()]
    own = sorted(path.stem for path in calibrations_folder().glob("*.json"))
    return [*own, *shipped, *PUBLISHED_CALIBRATIONS, NONE]


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

    "" for one that does not change; None is a linked widget's value, which the host does not know yet.
    """
    if name in (NONE, None, *PUBLISHED_CALIBRATIONS):
        return ""
    path = SHIPPED.get(name) or calibration_path(name)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


class UnderstudyCalibrate(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyCalibrate",
            display_name="Understudy Calibrate",
            description=(
                "Adds these scores to the student's own distribution, kept on disk under a name. Percentile thresholds "
                "are read from it. An image counts once; scores made under other settings are refused."
            ),
            search_aliases=["score statistics", "percentiles", "distribution"],
            is_input_list=True,
            inputs=[
                ScoresSocket.Input("scores", tooltip="Scores of the student's images, straight from Score Images."),
                io.String.Input(
                    "name",
                    default="my student",
                    tooltip="The calibration's name; one for each student, its settings and its oracle.",
                ),
            ],
            outputs=[
                ScoresSocket.Output(
                    id="scores",
                    is_output_list=True,
                    tooltip="The same scores. Connect them to Threshold, so that it reads the calibration afterwards.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, scores: list, name: list) -> io.NodeOutput:
        path = calibration_path(name[0])
        if not scores:
            raise CalibrationError("there are no scores to count; connect Score Images")
        if path.is_file():
            calibration = Calibration.load(path)
        else:
            first = scores[0]
            calibration = Calibration(name[0], {}, first.settings or {}, first.oracle or "", "prompts of a workflow")
        if any(not identity for batch in scores for identity in batch.image_ids):
            raise CalibrationError(
                "these scores do not say which images they belong to, so that none could be counted twice; "
                "connect the images to Scores From List"
            )
        new = sum(calibration.add(batch) for batch in scores)
        calibration.save(path)
        text = f"{name[0]}: {new} new, {calibration.n} in all\n{_how_sure(calibration)}"
        return io.NodeOutput(scores, ui=shown(text, cls.hidden.unique_id))


class UnderstudyThreshold(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyThreshold",
            display_name="Understudy Threshold",
            description="Says which scores are too low. Moving it runs neither the student nor the oracle again.",
            search_aliases=["cutoff", "percentile", "reject", "routing"],
            is_input_list=True,
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=["percentile", "fixed", "worst_fraction"],
                    default="worst_fraction",
                    tooltip=(
                        "percentile: below the k-th percentile of a calibration. fixed: below a value. "
                        "worst_fraction: the lowest scores of these images, whatever they are."
                    ),
                ),
                io.Float.Input(
                    "percentile",
                    default=30.0,
                    min=0.0,
                    max=100.0,
                    step=1.0,
                    tooltip="Mode percentile: about this percentage of the student's images goes to the teacher.",
                ),
                io.Float.Input(
                    "value",
                    default=0.0,
                    min=-10000.0,
                    max=10000.0,
                    step=0.01,
                    round=0.0001,
                    tooltip="Mode fixed: images that score below this value go to the teacher.",
                ),
                io.Float.Input(
                    "fraction",
                    default=0.25,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Mode worst_fraction: this share of the images goes to the teacher, lowest scores first.",
                ),
                io.Combo.Input(
                    "calibration",
                    options=known_calibrations(),
                    default=NONE,
                    tooltip="Mode percentile: whose percentiles. Calibrate makes them; press R to see new ones.",
                ),
                ScoresSocket.Input(
                    "scores",
                    optional=True,
                    tooltip=(
                        "The scores to be judged. With them the calibration's settings are checked against theirs, "
                        "and the node says how many images it sends to the teacher."
                    ),
                ),
            ],
            outputs=[ThresholdSocket.Output(id="threshold", tooltip="Connect it to Teacher and to Receipt.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, calibration):
        """No check against the combo's list.

        The other modes ignore the calibration, and one that this very run makes is not in the list yet.
        """
        return True

    @classmethod
    def fingerprint_inputs(cls, mode=None, calibration=None, **inputs):
        return content_hash(_only(calibration)) if _only(mode) in ("percentile", None) else ""

    @classmethod
    def execute(cls, mode: list, percentile: list, value: list, fraction: list, calibration: list, scores=None):
        threshold = cls.make(mode[0], percentile[0], value[0], fraction[0], calibration[0], scores or [])
        interval = _interval(calibration[0], percentile[0]) if mode[0] == "percentile" else None
        return io.NodeOutput(threshold, ui=shown(_described(threshold, scores or [], interval), cls.hidden.unique_id))

    @classmethod
    def make(cls, mode, percentile, value, fraction, calibration, scores) -> Threshold:
        if mode == "fixed":
            return Threshold.fixed(value)
        if mode == "worst_fraction":
            return Threshold.worst_fraction(fraction)
        if calibration == NONE:
            raise CalibrationError("mode percentile needs a calibration; choose one, or use worst_fraction")
        table = find_calibration(calibration)
        for batch in scores:
            # Numbers from a list have no oracle, nor have their tables.
            table.require(batch.settings or {}, batch.oracle or "", batch.family)
        return Threshold.percentile(table, percentile)


def _how_sure(calibration: Calibration) -> str:
    """Three percentiles, each with where it lies at 95 % confidence; fewer scores than that takes say so."""
    if calibration.n < ENOUGH_FOR_INTERVALS:
        missing = ENOUGH_FOR_INTERVALS - calibration.n
        return f"half of them below {calibration.percentiles[50]:.3f}; {missing} more to say how sure that is"
    lines = []
    for k in (20, 30, 50):
        lines.append(f"{k} % are below {calibration.value_at(k):.3f} (95 %: {said(calibration.interval(k))})")
    return "\n".join(lines)


def _interval(name: str, percentile: float) -> tuple[float, float] | None:
    """Where a calibration's percentile lies at 95 % confidence; None if it cannot say."""
    table = find_calibration(name)
    return table.interval(percentile) if (table.n or 0) >= ENOUGH_FOR_INTERVALS else None


def _only(value):
    """A widget's value, which the host hands over as a list of one to a node that takes lists."""
    return value[0] if isinstance(value, (list, tuple)) else value


def _described(threshold: Threshold, scores: list, interval: tuple[float, float] | None) -> str:
    values = [value for batch in scores for value in batch.values]
    lines = []
    if threshold.mode == "worst_fraction":
        lines.append(f"refines the worst {threshold.expected_fraction:.0%} of the images")
    elif threshold.expected_fraction is None:
        lines.append(f"refines scores below {threshold.value:.3f}")
    else:
        lines.append(
            f"refines scores below {threshold.value:.3f}: about {threshold.expected_fraction:.0%} "
            f"by calibration {threshold.calibration!r}"
        )
        if interval is not None:
            lines.append(f"with 95 % confidence the true cut is {said(interval)}")
    if values:
        lines.append(f"of these {len(values)} images: {sum(threshold.rejected(values))}")
    return "\n".join(lines)

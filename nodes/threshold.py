"""Say which scores are too low."""

from __future__ import annotations

from comfy_api.latest import io

from ..oracles.calibration import CalibrationError
from ..oracles.statistics import interval_text
from ..oracles.threshold import Threshold
from .batches import single_value
from .calibrations import ENOUGH_FOR_INTERVALS, content_hash, find_calibration, known_calibrations
from .display import shown
from .folders import NONE
from .schema import schema
from .types import ScoresSocket, ThresholdSocket


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
                        "worst_fraction: the lowest scores of these images, whatever they are; of a single image none, "
                        "unless fraction is 1."
                    ),
                ),
                io.Float.Input(
                    "percentile",
                    default=30.0,
                    min=0.0,
                    max=100.0,
                    step=1.0,
                    tooltip="Mode percentile: about this percentage of the student's images goes to the teacher, and "
                    "fewer where scores are equal; the node says how many.",
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
                    tooltip="Mode worst_fraction: this share of the images goes to the teacher, lowest scores "
                    "first, and at least one of two or more.",
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
    def validate_inputs(cls, calibration=None):
        """No check against the combo's list.

        The other modes ignore the calibration, and one that this very run makes is not in the list yet.
        """
        return True

    @classmethod
    def fingerprint_inputs(cls, mode=None, calibration=None, **inputs):
        return content_hash(_only(calibration)) if _only(mode) in ("percentile", None) else ""

    @classmethod
    def execute(cls, mode: list, percentile: list, value: list, fraction: list, calibration: list, scores=None):
        given = {
            "mode": mode,
            "percentile": percentile,
            "value": value,
            "fraction": fraction,
            "calibration": calibration,
        }
        given = {name: single_value(values, name) for name, values in given.items()}
        threshold = cls.make(**given, scores=scores or [])
        interval = _interval(given["calibration"], given["percentile"]) if given["mode"] == "percentile" else None
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


def _interval(name: str, percentile: float) -> tuple[float, float] | None:
    """Where a calibration's percentile lies at 95 % confidence; None if it cannot say."""
    table = find_calibration(name)
    return table.interval(percentile) if (table.n or 0) >= ENOUGH_FOR_INTERVALS else None


def _only(value):
    """A widget's value, which the host hands over as a list of one to a node that takes lists."""
    return value[0] if isinstance(value, (list, tuple)) else value


def _described(threshold: Threshold, scores: list, interval: tuple[float, float] | None) -> str:
    values = [value for batch in scores for value in batch.values]
    lines = [f"sends {threshold.rule}"]
    if interval is not None:
        lines.append(f"with 95 % confidence the true cut is {interval_text(interval)}")
    if values:
        lines.append(f"of these {len(values)} images: {sum(threshold.rejected(values))}")
    # Without scores the number of images is not known here.
    if remark := threshold.remark(len(values) or 1):
        lines.append(remark)
    return "\n".join(lines)

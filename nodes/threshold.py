"""Say which scores are too low."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from ..oracles.budget import Budget
from ..oracles.calibration import Calibration, CalibrationError, CalibrationMismatch
from ..oracles.scores import Scores
from ..oracles.statistics import interval_text
from ..oracles.threshold import Threshold
from .batches import single_value
from .calibrations import (
    ENOUGH_FOR_INTERVALS,
    content_hash,
    differing,
    find_calibration,
    in_words,
    known_calibrations,
    only,
)
from .display import shown
from .folders import NONE
from .schema import schema
from .types import ScoresSocket, ThresholdSocket

CALIBRATED = ("percentile", "budget")


class UnderstudyThreshold(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyThreshold",
            display_name="Score threshold",
            description="Says which scores are too low. Moving it runs neither the student nor the oracle again.",
            search_aliases=["quality gate", "cutoff", "percentile", "reject", "routing", "worst images", "budget"],
            advanced=[
                "percentile",
                "value",
                "calibration",
                "worst_n",
                "budget",
                "student_evaluations",
                "teacher_evaluations",
                "seconds_per_evaluation",
                "accept_other_settings",
            ],
            is_input_list=True,
            inputs=inputs(),
            outputs=outputs(),
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
        return content_hash(only(calibration)) if only(mode) in (*CALIBRATED, None) else ""

    @classmethod
    def execute(cls, scores=None, **widgets: list) -> io.NodeOutput:
        return judged_by(cls, scores, **widgets)


def judged_by(node: type, scores: list[Scores] | None, **widgets: list) -> io.NodeOutput:
    """The threshold that widgets ask for, and what the node says of it; each widget is a list of one."""
    given = {name: single_value(values, name) for name, values in widgets.items()}
    threshold = make(**given, scores=scores or [])
    interval = _interval(given["calibration"], threshold.k) if given["mode"] in CALIBRATED else None
    text = _described(threshold, scores or [], interval, given.get("seconds_per_evaluation", 0.0))
    return io.NodeOutput(threshold, ui=shown(text, node.hidden.unique_id))


def make(
    mode,
    percentile=30.0,
    value=0.0,
    fraction=0.25,
    calibration=NONE,
    scores=(),
    worst_n=1,
    budget=12.0,
    student_evaluations=4.0,
    teacher_evaluations=40.0,
    seconds_per_evaluation=0.0,
    accept_other_settings=False,
) -> Threshold:
    if mode == "fixed":
        return Threshold.fixed(value)
    if mode == "worst_fraction":
        return Threshold.worst_fraction(fraction)
    if mode == "worst_n":
        return Threshold.worst_n(worst_n)
    if calibration == NONE:
        raise CalibrationError(f"mode {mode} needs a calibration; choose one, or use worst_fraction")
    table = find_calibration(calibration)
    accepted = dict.fromkeys(line for batch in scores for line in _accepted(table, batch, accept_other_settings))
    if mode == "budget":
        threshold = Threshold.budget(table, Budget(budget, student_evaluations, teacher_evaluations))
    else:
        threshold = Threshold.percentile(table, percentile)
    return replace(threshold, accepted=tuple(accepted))


def inputs(*names: str) -> list[io.Input]:
    """The inputs of these names, or all of them."""
    every = [
        io.Combo.Input(
            "mode",
            options=["percentile", "fixed", "worst_fraction", "worst_n", "budget"],
            default="worst_fraction",
            tooltip=(
                "percentile: below the k-th percentile of a calibration. fixed: below a value. "
                "worst_fraction: the lowest scores of these images, whatever they are; of a single image none, "
                "unless fraction is 1. worst_n: so many of these images. budget: as many as a number of "
                "network evaluations an image pays for, by a calibration. For images that are queued one at a "
                "time take percentile, fixed or budget. Where the node has a button for advanced inputs, the "
                "other modes' numbers are behind it."
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
            tooltip="Modes percentile and budget: whose percentiles. Calibrate makes them; R shows new ones.",
        ),
        io.Int.Input(
            "worst_n",
            optional=True,
            default=1,
            min=0,
            max=4096,
            tooltip="Mode worst_n: so many of the images go to the teacher, lowest scores first; all, where "
            "there are no more.",
        ),
        _evaluations("budget", 12.0, "Mode budget: at most so many network evaluations an image on average."),
        _evaluations(
            "student_evaluations",
            4.0,
            "Mode budget: the student's evaluations for each image. Its steps, twice that with cfg above 1; "
            "with more than one try what they come to on average.",
        ),
        _evaluations(
            "teacher_evaluations",
            40.0,
            "Mode budget: the teacher's evaluations for each image that it redoes. The steps that it runs, "
            "twice that with cfg above 1; Receipt says what it counted.",
        ),
        io.Float.Input(
            "seconds_per_evaluation",
            optional=True,
            default=0.0,
            min=0.0,
            max=10000.0,
            step=0.01,
            round=0.0001,
            tooltip="Mode budget: from a receipt, for the node to say what the budget is in seconds. No "
            "picture depends on it. 0: not known.",
        ),
        ScoresSocket.Input(
            "scores",
            optional=True,
            tooltip=(
                "The scores to be judged. With them the calibration's settings are checked against theirs, "
                "and the node says how many images it sends to the teacher."
            ),
        ),
        io.Boolean.Input(
            "accept_other_settings",
            optional=True,
            default=False,
            tooltip="Modes percentile and budget: whether a calibration is used for scores that were made with "
            "other settings than its own. What differs is then said here and in the receipt. Scores of another "
            "oracle are never measured by it.",
        ),
    ]
    return [each for each in every if not names or each.id in names]


def outputs() -> list[io.Output]:
    return [ThresholdSocket.Output(id="threshold", tooltip="Connect it to Teacher and to Receipt.")]


def _evaluations(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(
        name, optional=True, default=default, min=0.0, max=10000.0, step=1.0, round=0.01, tooltip=tooltip
    )


def _accepted(table: Calibration, scores: Scores, accept: bool) -> list[str]:
    """In what a calibration was made otherwise than scores, if that may be; else CalibrationMismatch lists it."""
    found = differing(table, scores)
    other_oracle = any(each.setting == "oracle" for each in found)
    if not found or (accept and not other_oracle):
        return in_words(found)
    instead = (
        "another oracle's scores are other numbers, so this cannot be accepted"
        if other_oracle
        else "or switch accept_other_settings on"
    )
    raise CalibrationMismatch(
        "\n- ".join([f"calibration {table.name!r} was made with other settings than these scores:", *in_words(found)])
        + f"\nUse the same, or calibrate under a new name; {instead}",
        found,
    )


def _interval(name: str, percentile: float) -> tuple[float, float] | None:
    """Where a calibration's percentile lies at 95 % confidence; None if it cannot say."""
    table = find_calibration(name)
    # At 100 %, a budget that pays for everything, no score cuts.
    return table.interval(percentile) if percentile < 100 and (table.n or 0) >= ENOUGH_FOR_INTERVALS else None


def _described(
    threshold: Threshold, scores: list, interval: tuple[float, float] | None, seconds_per_evaluation: float = 0.0
) -> str:
    values = [value for batch in scores for value in batch.values]
    sent = sum(threshold.rejected(values))
    lines = [f"sends {threshold.rule}"]
    if threshold.budget_of is not None:
        lines.append(f"on average {_cost(threshold, threshold.expected_fraction, seconds_per_evaluation)} an image")
    if interval is not None:
        lines.append(f"with 95 % confidence the true cut is {interval_text(interval)}")
    if values:
        here = "" if threshold.budget_of is None else f", {_cost(threshold, sent / len(values))} an image"
        lines.append(f"of these {len(values)} images: {sent}{here}")
    # Without scores the number of images is not known here.
    if remark := threshold.remark(len(values) or 1):
        lines.append(remark)
    return "\n".join(lines)


def _cost(threshold: Threshold, share: float, seconds_per_evaluation: float = 0.0) -> str:
    """What a budget comes to if a share is redone; seconds are for the reader, and decide nothing."""
    spent = threshold.budget_of.spent(share)
    seconds = f", about {spent * seconds_per_evaluation:.3g} s," if seconds_per_evaluation else ""
    return f"{spent:.4g} evaluations{seconds}"

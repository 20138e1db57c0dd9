"""Thresholds of one mode each, with no other mode's widgets.

What a widget of a mode does and says is Score threshold's, whose modes these are.
"""

from __future__ import annotations

import re

from comfy_api.latest import io

from .calibrations import content_hash, only
from .schema import schema
from .threshold import inputs, judged_by, outputs


class OneMode(io.ComfyNode):
    """A node of the mode ``MODE``; what it lacks of the other modes' widgets is as they are by default."""

    MODE: str

    @classmethod
    def execute(cls, scores=None, **widgets: list) -> io.NodeOutput:
        return judged_by(cls, scores, mode=[cls.MODE], **widgets)


class Calibrated(OneMode):
    """A mode that reads a calibration."""

    @classmethod
    def fingerprint_inputs(cls, calibration=None, **inputs):
        return content_hash(only(calibration))

    @classmethod
    def validate_inputs(cls, calibration=None):
        """No check against the combo's list, in which one that this very run makes is not yet."""
        return True


class UnderstudyThresholdPercentile(Calibrated):
    MODE = "percentile"

    @classmethod
    def define_schema(cls):
        return _schema(
            "UnderstudyThresholdPercentile",
            "Percentile threshold",
            "Scores below a percentile of the student's own calibration are too low, so about that share of its images "
            "goes to the teacher: the worst 30 %, say, also where images come one at a time.",
            ["worst percent", "share to redo"],
            ("percentile", "calibration", "scores", "accept_other_settings"),
        )


class UnderstudyThresholdBudget(Calibrated):
    MODE = "budget"

    @classmethod
    def define_schema(cls):
        return _schema(
            "UnderstudyThresholdBudget",
            "Budget threshold",
            "As many of the lowest scores are too low as a number of network evaluations an image pays for, by the "
            "student's own calibration.",
            ["cost limit", "compute budget"],
            ("calibration", *_BUDGET, "scores", "accept_other_settings"),
        )


class UnderstudyThresholdFixed(OneMode):
    MODE = "fixed"

    @classmethod
    def define_schema(cls):
        return _schema(
            "UnderstudyThresholdFixed",
            "Fixed threshold",
            "Scores below a number of your choice are too low.",
            ["minimum score", "cutoff"],
            ("value", "scores"),
        )


class UnderstudyThresholdWorst(OneMode):
    MODE = "worst_n"

    @classmethod
    def define_schema(cls):
        return _schema(
            "UnderstudyThresholdWorst",
            "Worst n threshold",
            "So many of the lowest scores of these images are too low, whatever they are.",
            ["worst images", "bottom n"],
            ("worst_n", "scores"),
        )


_BUDGET = ("budget", "student_evaluations", "teacher_evaluations", "seconds_per_evaluation")


def _schema(node_id: str, name: str, description: str, aliases: list[str], names: tuple[str, ...]) -> io.Schema:
    own = inputs(*names)
    for each in own:
        said = re.sub(r"^Modes? [a-z_ ]+: ", "", each.tooltip)  # which mode, the node's name says
        each.tooltip = said[0].upper() + said[1:]
    return schema(
        node_id=node_id,
        display_name=name,
        description=f"{description} Score threshold with this mode alone.",
        search_aliases=aliases,
        is_input_list=True,
        inputs=own,
        outputs=outputs(),
        hidden=[io.Hidden.unique_id],
    )

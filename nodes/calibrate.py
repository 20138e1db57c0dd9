"""Collect a student's scores."""

from __future__ import annotations

from comfy_api.latest import io

from ..oracles.calibration import Calibration, CalibrationError
from ..oracles.statistics import said
from ..oracles.threshold import share
from .calibrations import ENOUGH_FOR_INTERVALS
from .display import shown
from .folders import calibration_path
from .schema import schema
from .types import ScoresSocket


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


def _how_sure(calibration: Calibration) -> str:
    """Three percentiles, each with where it lies at 95 % confidence; fewer scores than that takes say so."""
    if calibration.n < ENOUGH_FOR_INTERVALS:
        missing = ENOUGH_FOR_INTERVALS - calibration.n
        median = calibration.percentiles[50]
        lower = sum(score < median for score in calibration.scores_by_image.values()) / calibration.n
        return f"{share(lower)} are below the median, {median:.3f}; {missing} more to say how sure that is"
    lines = []
    for k in (20, 30, 50):
        value = calibration.value_at(k)
        # Of equal scores none is below the others, so that whole numbers send less than their percentile.
        lines.append(
            f"percentile {k} is {value:.3f} (95 %: {said(calibration.interval(k))}): "
            f"{share(calibration.share_below(value))} are below"
        )
    return "\n".join(lines)

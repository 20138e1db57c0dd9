"""Collect a student's scores."""

from __future__ import annotations

from datetime import datetime, timezone

from comfy_api.latest import io

from ..files import preview
from ..oracles.calibration import Calibration, CalibrationError
from ..oracles.threshold import percent_text
from .batches import single_value
from .calibrations import ENOUGH_FOR_INTERVALS, percentile_lines
from .display import shown
from .folders import calibration_path, calibrations_folder
from .schema import schema
from .types import ScoresSocket
from .upstream import unknown


class UnderstudyCalibrate(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyCalibrate",
            display_name="Calibrate scores",
            description=(
                "Adds these scores to the student's own distribution, kept on disk under a name. Percentile thresholds "
                "are read from it. An image counts once; scores made under other settings are refused. A graph that "
                "only scores may end here."
            ),
            search_aliases=["score statistics", "percentiles", "distribution", "calibration"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                ScoresSocket.Input(
                    "scores",
                    tooltip="Scores of the student's images, straight from Score images by oracle or Best of n "
                    "students.",
                ),
                io.String.Input(
                    "name",
                    default="my student",
                    tooltip=(
                        "The calibration's name; one for each student, its settings and its oracle. The file of that "
                        "name lies in user/understudy/calibrations."
                    ),
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
    def validate_inputs(cls, name=None):
        """A name that cannot be one is refused before anything runs, unless it comes from another node."""
        given = name and name[0]
        if given is not None:
            try:
                calibration_path(given)
            except ValueError as error:
                return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, name=None, **inputs):
        """Which calibration of the name it is, so that scores are counted again into one that was begun anew."""
        given = name and name[0]
        if given is None:  # linked: any change of the folder may concern it
            folder = calibrations_folder()
            return folder.stat().st_mtime_ns if folder.is_dir() else _unlike_any()
        path = calibration_path(given)
        return Calibration.load(path).began if path.is_file() else _unlike_any()

    @classmethod
    def execute(cls, scores: list, name: list) -> io.NodeOutput:
        path = calibration_path(single_value(name, "name"))
        if not scores:
            raise CalibrationError("there are no scores to count; connect Score images by oracle")
        if path.is_file():
            calibration = Calibration.load(path)
        else:
            first = scores[0]
            began = datetime.now(timezone.utc).isoformat()
            calibration = Calibration(
                path.stem, {}, first.settings or {}, first.oracle or "", "prompts of a workflow", began=began
            )
        if any(not identity for batch in scores for identity in batch.image_ids):
            raise CalibrationError(
                "these scores do not say which images they belong to, so that none could be counted twice; "
                "connect the images to Scores from list"
            )
        if hidden := [key for batch in scores for key in unknown(batch.settings or {})]:
            raise CalibrationError(
                f"what made these images cannot be told: {preview(set(hidden))} holds an object itself, put there "
                "while the graph ran. Score and calibrate outside of the loop, or make the images inside it"
            )
        new = sum(calibration.add(batch) for batch in scores)
        if new:
            calibration.save(path)
        text = f"{path.stem}: {new} new, {calibration.n} in all\n{_confidence(calibration)}"
        return io.NodeOutput(scores, ui=shown(text, cls.hidden.unique_id))


def _unlike_any() -> float:
    """A fingerprint that is no other's. Not ``math.nan``, one object, which the host's cache would know again."""
    return float("nan")


def _confidence(calibration: Calibration) -> str:
    """Three percentiles, each with where it lies at 95 % confidence; fewer scores than that takes say so."""
    if calibration.n < ENOUGH_FOR_INTERVALS:
        missing = ENOUGH_FOR_INTERVALS - calibration.n
        median = calibration.percentiles[50]
        lower = sum(score < median for score in calibration.scores_by_image.values()) / calibration.n
        return f"{percent_text(lower)} are below the median, {median:.3f}; {missing} more to say how sure that is"
    return "\n".join(percentile_lines(calibration, (20, 30, 50)))

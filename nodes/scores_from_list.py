"""Take scores from another pack."""

from __future__ import annotations

import math

from comfy_api.latest import io

from ..oracles.base import OracleError
from ..oracles.scores import Scores, image_id
from .batches import check_images, for_oracle, split
from .display import listed, shown
from .schema import schema
from .types import ScoresSocket
from .upstream import settings_of_graph


class UnderstudyScoresFromList(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyScoresFromList",
            display_name="Scores from list",
            description="Makes SCORES of any numbers, one per image, so that another pack's judge can decide.",
            search_aliases=["float list", "external score", "vlm judge", "own judge"],
            is_input_list=True,
            inputs=[
                io.MultiType.Input(
                    "scores", [io.Float, io.Int, io.Boolean], tooltip="One number per image; higher is better."
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="The images that were scored: their count is checked, and Calibrate needs to know them.",
                ),
            ],
            outputs=[
                ScoresSocket.Output(
                    id="scores",
                    display_name="scores of the list",  # as wide as the node's title needs
                    is_output_list=True,
                    tooltip="The numbers as SCORES: one per batch of images, or a single one without images.",
                )
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, scores: list, images: list | None = None) -> io.NodeOutput:
        if images is None:
            sizes, ids = [len(scores)], ("",) * len(scores)
        else:
            sizes = check_images("images", images)
            ids = tuple(image_id(picture) for batch in images for picture in for_oracle(batch))
        if sum(sizes) != len(scores):
            raise ValueError(f"{len(scores)} scores for {sum(sizes)} images; expected one score per image")
        if not scores:
            raise OracleError("there are no scores; expected one number per image")
        settings = settings_of_graph(cls.hidden, ["images", "scores"])
        numbers = [_number(value, index) for index, value in enumerate(scores)]
        batches = zip(split(numbers, sizes), split(ids, sizes), strict=True)
        made = [Scores(values, of, None, ("",) * len(values), settings) for values, of in batches]
        return io.NodeOutput(made, ui=shown(listed(numbers), cls.hidden.unique_id))


def _number(value, index: int) -> float:
    """A score as it came: a plain number, true or false, or the single number in a tensor or array."""
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OracleError(f"the score of image {index + 1} is {value!r:.80}; expected a number") from error
    if math.isnan(number):
        raise OracleError(f"the score of image {index + 1} is not a number (NaN); look at what scored it")
    return number

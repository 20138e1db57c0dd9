"""Score images with an oracle."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from comfy_api.latest import io

from ..oracles.combine import CombinedOracle
from ..oracles.prompt_syntax import prompts_to_read
from ..oracles.scores import Scores, as_numbers, image_id
from .batches import check_images, for_oracle, single_value, split, value_per_image
from .display import listed, shown
from .schema import schema
from .types import OracleSocket, ScoresSocket
from .upstream import settings_of_graph

log = logging.getLogger(__name__)


class UnderstudyScoreImages(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyScoreImages",
            display_name="Score images by oracle",
            description="Scores each image for its prompt; higher is better.",
            search_aliases=["rate images", "image quality", "aesthetic score", "clip score", "judge"],
            is_input_list=True,
            inputs=[
                OracleSocket.Input("oracle", tooltip="The model that scores: Load oracle, or Load demo pair."),
                io.Image.Input("images", tooltip="A batch, or a list of batches; each image gets a score of its own."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    tooltip="What the images should show: one prompt for all, or a list with one per image or batch.",
                ),
                io.Boolean.Input(
                    "literal_prompts",
                    default=False,
                    optional=True,
                    tooltip=(
                        "Off: weights (x:1.3), BREAK, <lora:...>, embedding:x and backslashes before brackets are "
                        "taken off before the oracle reads a prompt. On: it reads them as text."
                    ),
                ),
            ],
            outputs=[
                ScoresSocket.Output(
                    id="scores",
                    is_output_list=True,
                    tooltip="The scores with their images' identity and settings; one SCORES per batch that came in.",
                ),
                io.Float.Output(
                    id="values", is_output_list=True, tooltip="The plain numbers, one per image, as a list."
                ),
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, oracle: list, images: list, prompt: list, literal_prompts: list = (False,)) -> io.NodeOutput:
        import comfy.utils

        sizes = check_images("images", images)
        prompts = value_per_image(prompt, sizes, "prompts")
        literal, judge = single_value(literal_prompts, "literal_prompts"), single_value(oracle, "oracle")
        read, syntax = prompts_to_read(prompts, literal or not judge.reads_prompts)
        settings = settings_of_graph(cls.hidden, ["images"])
        if isinstance(judge, CombinedOracle):
            judge.require(settings)
        judge.require_count(sum(sizes))
        progress = comfy.utils.ProgressBar(sum(sizes) * judge.passes)
        scores = []
        for batch, texts, given in zip(images, split(read, sizes), split(prompts, sizes), strict=True):
            seen = sum(len(each.values) for each in scores)
            pictures = for_oracle(batch)
            places = range(seen, seen + len(batch))
            found = as_numbers(judge(pictures, texts, places, progress.update), places)
            scores.append(scores_by(judge, found, pictures, given, settings, literal))
        values = [value for batch in scores for value in batch.values]
        remarks = [*syntax, *judge.remarks(read)]
        for remark in remarks:
            log.warning("Understudy: %s", remark)
        text = "\n".join([listed(values, judge.unit), *remarks])
        return io.NodeOutput(scores, values, ui=shown(text, cls.hidden.unique_id))


def scores_by(
    judge,
    values: Sequence[float],
    pictures: Sequence[torch.Tensor],
    prompts: Sequence[str],
    settings: dict,
    literal: bool,
    **costs: tuple[int, ...],
) -> Scores:
    """What a judge gave pictures [3 or 4, H, W], with all that belongs to it. costs: the student's, as in Scores."""
    told = {"family": judge.family, "literal": literal, "against": judge.against}
    ids = tuple(image_id(picture) for picture in pictures)
    return Scores(tuple(values), ids, judge.fingerprint, tuple(prompts), settings, **told, **costs)

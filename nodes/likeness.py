"""An oracle that compares each image with its source."""

from __future__ import annotations

from comfy_api.latest import io

from .batches import check_images, for_oracle, single_value
from .folders import NONE, encoder_files, oracle_path
from .hosted_oracle import HostedOracle
from .load_oracle import oracle_dtype
from .schema import schema
from .types import OracleSocket


class UnderstudyLikeness(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyLikeness",
            display_name="Likeness to source",
            description="An oracle that says how alike each image is to the one it was edited from. Combine it with "
            "one that reads the new prompt.",
            search_aliases=["SSIM", "structural similarity", "image similarity", "edit", "compare images", "preserve"],
            advanced=["encoder"],
            is_input_list=True,
            inputs=[
                io.Image.Input(
                    "source",
                    tooltip="What the images were made from: one for all, or one for each in the same order, as a "
                    "batch or a list.",
                ),
                io.Combo.Input(
                    "measure",
                    options=["ssim", "clip"],
                    default="ssim",
                    tooltip="ssim: structural similarity, strict, place by place. clip: what the pictures show, by the "
                    "encoder below.",
                ),
                io.Combo.Input(
                    "encoder",
                    options=[NONE, *encoder_files()],
                    default=NONE,
                    optional=True,
                    tooltip="Measure clip: a CLIP in models/clip_vision or models/oracles, whole or its image half.",
                ),
            ],
            outputs=[
                OracleSocket.Output(
                    id="oracle",
                    tooltip="For Combine oracles, Score images by oracle and Keep better image; it reads no prompt.",
                )
            ],
        )

    @classmethod
    def execute(cls, source: list, measure: list, encoder: list = (NONE,)) -> io.NodeOutput:
        from ..oracles.likeness import ClipCosine, Likeness, StructuralSimilarity

        check_images("source", source)
        kind, file = single_value(measure, "measure"), single_value(encoder, "encoder")
        if kind == "ssim":
            compare = StructuralSimilarity()
        elif file == NONE:
            raise ValueError("measure clip needs an encoder: choose a CLIP, or take ssim, which needs no file.")
        else:
            compare = ClipCosine(oracle_path(file), oracle_dtype())
        pictures = [picture for batch in source for picture in for_oracle(batch)]
        return io.NodeOutput(HostedOracle(Likeness(compare, pictures)))

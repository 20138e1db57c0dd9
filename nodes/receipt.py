"""The end of a graph: a readable report of what the teacher did, and the images with their scores in their metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import torch
from comfy_api.latest import io, ui
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..receipts.cards import report_picture
from ..receipts.receipt import rows_of, student_lines, teacher_lines, threshold_lines
from ..receipts.report import finite
from .batches import check_images, single_value
from .schema import schema
from .types import ReceiptSocket, ScoresSocket, ThresholdSocket

FOLDER = "understudy"


class UnderstudyReceipt(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyReceipt",
            display_name="Run receipt",
            description=(
                "Saves the images, each with its own score and decision in its metadata, and a report picture of what "
                "the teacher redid, what it cost and what it saved. Both go to output/understudy."
            ),
            search_aliases=["save image", "report", "summary", "metadata"],
            is_output_node=True,
            is_input_list=True,
            inputs=[
                io.Image.Input("images_before", tooltip="The student's images, as they went into Teacher or Merge."),
                io.Image.Input("images", tooltip="The final images, from Teacher, Merge or Keep better image."),
                ScoresSocket.Input(
                    "scores",
                    tooltip="From Keep better image with the scores after, or from Score images by oracle or Best of n "
                    "students.",
                ),
                ThresholdSocket.Input("threshold", tooltip="The threshold that Teacher or Merge used."),
                ReceiptSocket.Input(
                    "receipt",
                    optional=True,
                    tooltip="Teacher's or Merge's. Without it (a bypassed Teacher has none) what it cost is not known.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, images_before: list, images: list, scores: list, threshold: list, receipt=None) -> io.NodeOutput:
        counts = {"images_before": sum(check_images("images_before", images_before))}
        counts["images"] = sum(check_images("images", images))
        before, after = _singly(images_before), _singly(images)
        rows = rows_of(before, after, counts, scores, receipt)
        values = [row.score for row in rows]
        rule = single_value(threshold, "threshold")
        cut = rule.cut(values)
        totals = [*threshold_lines(rows, rule, receipt), *student_lines(scores), *teacher_lines(rows, receipt)]
        saved = [_save(report_picture(rows, totals), "receipt", cls.hidden, {"report": totals})]
        oracle = scores[0].oracle
        for row in rows:
            facts = {"score": finite(row.score), "score_after": finite(row.score_after)}
            facts |= {"decision": row.decision, "prompt": row.prompt}
            facts |= {"threshold": finite(cut), "evaluations": row.evaluations, "oracle": oracle}
            saved.append(_save(_pixels(row.after), "image", cls.hidden, facts))
        return io.NodeOutput(ui={**ui.SavedImages(saved).as_dict(), "text": ("\n".join(totals),)})


def _singly(batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The images of all batches, grey ones in three channels."""
    return [image.expand(-1, -1, max(3, image.shape[-1])) for batch in batches for image in batch]


def _pixels(image: torch.Tensor) -> Image.Image:
    """As the host's Save Image rounds, so that the same image makes the same picture."""
    return Image.fromarray(image.cpu().float().mul(255).clamp(0, 255).byte().numpy())


def _save(picture: Image.Image, name: str, hidden, facts: dict) -> ui.SavedResult:
    import folder_paths
    from comfy.cli_args import args

    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        f"{FOLDER}/{name}", folder_paths.get_output_directory(), *picture.size
    )
    metadata = None
    if not args.disable_metadata:
        metadata = PngInfo()
        about = {"prompt": hidden.prompt, **(hidden.extra_pnginfo or {}), "understudy": facts}
        for key, value in about.items():
            metadata.add_text(key, json.dumps(value))
    file = f"{name}_{counter:05}_.png"
    picture.save(os.path.join(folder, file), pnginfo=metadata, compress_level=4)
    return ui.SavedResult(file, subfolder, io.FolderType.output)

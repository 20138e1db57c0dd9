"""The end of a graph: a readable report of what the teacher did, and the images with their scores in their metadata."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence

import torch
from comfy_api.latest import io, ui
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..oracles.scores import Scores
from ..oracles.threshold import Threshold
from ..report import finite
from .keep_better import REVERTED
from .report import Row, report_picture
from .schema import schema
from .types import Receipt, ReceiptSocket, ScoresSocket, ThresholdSocket

FOLDER = "understudy"


class UnderstudyReceipt(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyReceipt",
            display_name="Understudy Receipt",
            description=(
                "Saves the images, each with its own score and decision in its metadata, and a report picture of what "
                "the teacher redid, what it cost and what it saved. Both go to output/understudy."
            ),
            search_aliases=["save image", "report", "summary", "metadata"],
            is_output_node=True,
            is_input_list=True,
            inputs=[
                io.Image.Input("images_before", tooltip="The student's images, as they went into Teacher."),
                io.Image.Input("images", tooltip="The final images, from Teacher or Keep Better."),
                ScoresSocket.Input("scores", tooltip="From Keep Better with the scores after, or from Score Images."),
                ThresholdSocket.Input("threshold", tooltip="The threshold that Teacher used."),
                ReceiptSocket.Input("receipt", tooltip="Teacher's receipt."),
            ],
            outputs=[],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, images_before: list, images: list, scores: list, threshold: list, receipt: list) -> io.NodeOutput:
        before = [image for batch in images_before for image in batch]
        after = [image for batch in images for image in batch]
        rows = _rows(before, after, scores, receipt)
        cut = threshold[0].cut([row.score for row in rows])
        totals = _totals(rows, threshold[0], cut, sum(each.seconds for each in receipt))
        saved = [_save(report_picture(rows, totals), "receipt", cls.hidden, {"report": totals})]
        oracle = scores[0].oracle
        for row in rows:
            facts = {"score": row.score, "score_after": row.score_after, "decision": row.decision, "prompt": row.prompt}
            facts |= {"threshold": finite(cut), "evaluations": row.evaluations, "oracle": oracle}
            saved.append(_save(_pixels(row.after), "image", cls.hidden, facts))
        return io.NodeOutput(ui={**ui.SavedImages(saved).as_dict(), "text": ("\n".join(totals),)})


def _rows(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor], scores: list[Scores], receipts: list[Receipt]):
    """One Row per image; ValueError names both counts where something does not have one entry per image."""
    values = [value for batch in scores for value in batch.values]
    prompts = [text for batch in scores for text in batch.prompts]
    scores_after = [value for batch in scores for value in batch.scores_after or (None,) * len(batch.values)]
    by_teacher = [decision for each in receipts for decision in each.decisions]
    evaluations = [count for each in receipts for count in each.evaluations]
    counts = {"images": len(after), "scores": len(values), "decisions in the receipt": len(by_teacher)}
    for what, count in counts.items():
        if count != len(before):
            raise ValueError(f"{count} {what} for {len(before)} images_before; expected one for each")
    # Keep Better has the last word; straight from Score Images there are no decisions in the scores.
    better = [word for batch in scores for word in batch.decisions or ("",) * len(batch.values)]
    decisions = [word if word == REVERTED else asked for word, asked in zip(better, by_teacher, strict=True)]
    facts = zip(before, after, decisions, values, scores_after, evaluations, prompts, strict=True)
    return [Row(*each) for each in facts]


def _totals(rows: Sequence[Row], threshold: Threshold, cut: float, seconds: float) -> list[str]:
    """The report in words."""
    counts = {name: sum(row.decision == name for row in rows) for name in ("kept", "refined", "regenerated", REVERTED)}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    below = f"scores below {cut:.3f}" if math.isfinite(cut) else "every score"
    lines = [f"{len(rows)} images: {said}", f"threshold: {below}"]
    if threshold.mode == "worst_fraction":
        lines[-1] += f" (the worst {threshold.fraction:.0%} of these)"
    elif threshold.calibration:
        lines[-1] += f" (about {threshold.expected_fraction:.0%} by calibration {threshold.calibration!r})"
    redone = sum(row.decision != "kept" for row in rows)
    if not redone:
        return [*lines, "teacher: not needed, so it was not even loaded"]
    spent = sum(row.evaluations for row in rows)
    # What one image took, as counted, is what each of the others would have taken.
    everything = round(spent / redone * len(rows))
    lines.append(
        f"teacher: {spent} network evaluations in {seconds:.1f} s for {redone} of {len(rows)} images; "
        f"for all of them it would have been {everything}"
    )
    known = [(row.score, row.score_after) for row in rows if row.score_after is not None]
    if known:
        old, new = (sum(values) / len(known) for values in zip(*known, strict=True))
        lines.append(f"mean score of the images that the teacher redid: {old:.3f} before, {new:.3f} after")
    return lines


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

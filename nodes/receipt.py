"""The end of a graph: a readable report of what the teacher did, and the images with their scores in their metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence

import torch
from comfy_api.latest import io, ui
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..decisions import DECISIONS, KEPT, REDONE, REVERTED
from ..oracles.scores import Scores
from ..oracles.threshold import Threshold
from ..report import finite
from .batches import check_images, one_for_all, same_image
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
                ReceiptSocket.Input(
                    "receipt",
                    optional=True,
                    tooltip="Teacher's receipt. Without it (a bypassed Teacher has none) what it cost is not known.",
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
        rows = _rows(before, after, counts, scores, receipt)
        values = [row.score for row in rows]
        rule = one_for_all(threshold, "threshold")
        cut = rule.cut(values)
        totals = [*_threshold_lines(rows, rule, receipt), *_teacher_lines(rows, receipt)]
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


def _rows(
    before: Sequence[torch.Tensor],
    after: Sequence[torch.Tensor],
    counts: dict[str, int],
    scores: list[Scores],
    receipts: list[Receipt] | None,
) -> list[Row]:
    """One Row per image; ValueError names both counts where something does not have one entry per image."""
    values = [value for batch in scores for value in batch.values]
    prompts = [text for batch in scores for text in batch.prompts]
    scores_after = [value for batch in scores for value in batch.scores_after or (None,) * len(batch.values)]
    counts["scores"] = len(values)
    asked, evaluations = [None] * len(before), [None] * len(before)
    if receipts is not None:
        asked = [decision for each in receipts for decision in each.decisions]
        evaluations = [count for each in receipts for count in each.evaluations]
        counts["decisions in the receipt"] = len(asked)
    for what, count in counts.items():
        if count != len(before):
            raise ValueError(f"{count} {what} for {len(before)} images_before; expected one for each")
    # Straight from Score Images there are no decisions in the scores.
    judged = [word for batch in scores for word in batch.decisions or (None,) * len(batch.values)]
    decisions = [decided(*each) for each in zip(before, after, asked, judged, strict=True)]
    facts = zip(before, after, decisions, values, scores_after, evaluations, prompts, strict=True)
    return [Row(*each) for each in facts]


def decided(before: torch.Tensor, after: torch.Tensor, asked: str | None, judged: str | None) -> str:
    """What became of an image, so that no change is claimed that its pixels do not show, and none is hidden.

    asked: the teacher's decision; judged: Keep Better's; None where there is no such word.
    """
    by_teacher = asked not in (None, KEPT)
    if same_image(before, after):
        return REVERTED if by_teacher or judged == REVERTED else KEPT
    if before.shape != after.shape and asked is not None:
        # In another size, as an upscaler leaves it, only the words tell.
        return REVERTED if judged == REVERTED else asked
    # What Keep Better took back and is not the student's all the same, a node behind it made.
    return asked if by_teacher and judged != REVERTED else REDONE


def _threshold_lines(rows: Sequence[Row], threshold: Threshold, receipts: list[Receipt] | None) -> Iterator[str]:
    """How many images have which decision, and the rule with what it really did."""
    counts = {name: sum(row.decision == name for row in rows) for name in DECISIONS}
    yield f"{len(rows)} images: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    values = [row.score for row in rows]
    rejected, cut = threshold.rejected(values), threshold.cut(values)
    below = f", those below {cut:.3f}" if threshold.mode == "worst_fraction" and cut is not None else ""
    yield f"threshold: {threshold.rule}: {sum(rejected)} of {len(rows)}{below}"
    if remark := threshold.remark(len(rows)):
        yield remark
    if receipts is not None and rejected != [word != KEPT for each in receipts for word in each.decisions]:
        yield "Teacher chose other images than this threshold does: it had another threshold or other scores"


def _teacher_lines(rows: Sequence[Row], receipts: list[Receipt] | None) -> Iterator[str]:
    """What the teacher cost, and what it would have cost to redo everything."""
    if receipts is None:
        changed = sum(row.decision == REDONE for row in rows)
        what = f"what the {changed} changed images cost is not known" if changed else "and no image is changed"
        yield f"teacher: no receipt of it is connected, {what}"
        return
    redone = sum(word != KEPT for each in receipts for word in each.decisions)
    if not redone:
        yield "teacher: not needed, so it was not even loaded"
        return
    spent = sum(row.evaluations for row in rows)
    seconds = sum(each.seconds for each in receipts)
    # What one image took, as counted, is what each of the others would have taken.
    everything = round(spent / redone * len(rows))
    yield (
        f"teacher: {spent} network evaluations in {seconds:.1f} s for {redone} of {len(rows)} images; "
        f"for all of them it would have been {everything}"
    )
    known = [(row.score, row.score_after) for row in rows if row.score_after is not None]
    if known:
        old, new = (sum(values) / len(known) for values in zip(*known, strict=True))
        yield f"mean score of the images that the teacher redid: {old:.3f} before, {new:.3f} in its version"


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

"""The end of a graph: a picture that says what the teacher did, and the images with their scores in their metadata."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy_api.latest import io, ui
from PIL import Image

from ..receipts.cards import report_picture
from ..receipts.looks import LOOKS
from ..receipts.receipt import Row, headline, remarks, rows_of, student_lines, teacher_lines, threshold_lines
from ..receipts.record import facts_of, record_of, write_record
from ..samplers.decisions import KEPT, REVERTED
from .batches import check_images, single_value
from .saving import Saver
from .schema import schema
from .types import ReceiptSocket, ScoresSocket, ThresholdSocket

ALL, REDONE_ONLY, REPORT_ONLY, PREVIEW = SAVE = "all", "redone", "report only", "preview only"
PREFIX = "understudy/image"
OF_THE_RUN = ("threshold",)  # what says nothing of the image itself, and is in each run's report


class UnderstudyReceipt(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyReceipt",
            display_name="Run receipt",
            description=(
                "Shows what the teacher redid, what that cost and what it saved, as one picture, and saves it and the "
                "images, each with its own score and decision in its metadata."
            ),
            search_aliases=["save image", "report", "summary", "metadata", "before and after", "csv"],
            is_output_node=True,
            is_input_list=True,
            inputs=[
                # First, since a bypassed node passes its first input of the output's type on.
                io.Image.Input("images", tooltip="The final images, from Teacher, Merge or Keep better image."),
                io.Image.Input("images_before", tooltip="The student's images, as they went into Teacher or Merge."),
                ScoresSocket.Input(
                    "scores",
                    tooltip="From Keep better image with the scores after, or from Score images by oracle or Best of n "
                    "students.",
                ),
                ThresholdSocket.Input(
                    "threshold", tooltip="The threshold that Teacher or Merge used. Its calibration is drawn, too."
                ),
                ReceiptSocket.Input(
                    "receipt",
                    optional=True,
                    tooltip="Teacher's or Merge's. Without it (a bypassed Teacher has none) what it cost is not known.",
                ),
                io.Image.Input(
                    "images_teacher",
                    optional=True,
                    tooltip="The teacher's images, before Keep better image: shown where that put the student's back.",
                ),
                io.Combo.Input(
                    "save",
                    options=list(SAVE),
                    default=ALL,
                    optional=True,
                    tooltip="all: every image, and the report as PNG, JSON and CSV. redone: of the images only those "
                    "that are not the student's. report only: no images. preview only: nothing is saved. An image that "
                    "an earlier run saved, and that has not changed, is not saved again.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default=PREFIX,
                    optional=True,
                    tooltip="In the output folder, as in Save Image. The report's files have _receipt after it.",
                ),
                io.Combo.Input(
                    "look",
                    options=list(LOOKS),
                    default=next(iter(LOOKS)),
                    optional=True,
                    tooltip="The report's colours.",
                ),
            ],
            outputs=[
                io.Image.Output("images", is_output_list=True, tooltip="The final images, as they came in."),
                io.Image.Output("report", tooltip="The report's picture."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        images: list,
        images_before: list,
        scores: list,
        threshold: list,
        receipt=None,
        images_teacher=None,
        save=(ALL,),
        filename_prefix=(PREFIX,),
        look=("dark",),
    ) -> io.NodeOutput:
        batches = {"images_before": images_before, "images": images, "images_teacher": images_teacher}
        counts = {name: sum(check_images(name, given)) for name, given in batches.items() if given is not None}
        rule, mode = single_value(threshold, "threshold"), single_value(save, "save")
        saver = Saver(single_value(filename_prefix, "filename_prefix"), cls.hidden, temporary=mode == PREVIEW)
        teacher = None if images_teacher is None else _singly(images_teacher)
        rows = rows_of(_singly(images_before), _singly(images), counts, scores, receipt, rule, teacher)
        totals = [headline(rows, receipt), *threshold_lines(rows, rule, receipt)]
        totals += [*student_lines(scores), *teacher_lines(rows, receipt)]
        drawn = [totals[0], *remarks(rows, rule, receipt)]  # large enough to be read, there is no room for the others
        if teacher is None and any(row.decision == REVERTED for row in rows):
            drawn.append("connect images_teacher to see what was put back")
            totals.append(drawn[-1])
        where = "the metadata" if mode == PREVIEW else "the JSON file"
        picture = report_picture(rows, drawn, rule.distribution, LOOKS[single_value(look, "look")], where, in_node=True)
        oracle = scores[0].oracle
        saved = [saver.save_once(*_file(row, oracle)) if _wanted(row, mode) else None for row in rows]
        record = record_of(rows, totals, rule, oracle, [each and each[0].name for each in saved])
        report = saver.save(picture, record, "_receipt")
        if mode != PREVIEW:
            write_record(report, record)
            new = [each[1] for each in saved if each]
            totals.append(f"saved: {sum(new)} images, and {len(new) - sum(new)} that are there already")
        return io.NodeOutput(
            images,
            torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(1, *picture.size[::-1], 3) / 255,
            # The node shows the report alone; the front end lists what is saved among a run's results.
            ui={
                **ui.SavedImages([saver.shown(report)]).as_dict(),
                "saved": [saver.shown(each[0]) for each in saved if each],
                "text": ("\n".join(totals),),
            },
        )


def _wanted(row: Row, mode: str) -> bool:
    return mode == ALL or (mode == REDONE_ONLY and row.decision not in (KEPT, REVERTED))


def _file(row: Row, oracle: str | None) -> tuple[Image.Image, dict, dict]:
    """An image as it is saved, its facts, and those that are its own."""
    facts = facts_of(row, oracle)
    return _pixels(row.after), facts, {name: value for name, value in facts.items() if name not in OF_THE_RUN}


def _singly(batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The images of all batches, grey ones in three channels."""
    return [image.expand(-1, -1, max(3, image.shape[-1])) for batch in batches for image in batch]


def _pixels(image: torch.Tensor) -> Image.Image:
    """As the host's Save Image rounds, so that the same image makes the same picture."""
    return Image.fromarray(image.cpu().float().mul(255).clamp(0, 255).byte().numpy())

"""What a graph of one's own made of the rejected images that Split sent out, back in their places."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy_api.latest import io

from ..receipts.receipt import Receipt
from ..samplers.decisions import KEPT, REDONE
from .batches import check_images
from .display import shown
from .pixels import fitted_to
from .schema import schema
from .teaching import rejections
from .types import ReceiptSocket, ScoresSocket, ThresholdSocket

WIDER = 1.1  # sides that a model rounds to multiples of 64 differ less in their ratio


class UnderstudyMerge(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyMerge",
            display_name="Merge redone",
            description="Puts the images that came of what Split sent out back into their places. The others come out "
            "exactly as they came in, and if all passed, nothing that is connected to redone runs.",
            search_aliases=[
                "detailer for bad only",
                "join images",
                "put back",
                "replace images",
                "conditional branch",
                "insert into batch",
            ],
            is_input_list=True,
            inputs=[
                # First, since a bypassed node passes its first input of the output's type on.
                io.Image.Input("images", tooltip="The student's images, the same as those of Split."),
                ScoresSocket.Input("scores", tooltip="The same scores as Split's."),
                ThresholdSocket.Input("threshold", tooltip="The same threshold as Split's."),
                io.Image.Input(
                    "redone",
                    lazy=True,
                    tooltip="What became of the images that Split sent out: one for each, in their order, in "
                    "batches or lists of any size. Asked for only if an image is rejected.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images",
                    display_name="merged images",  # as wide as the node's title needs
                    is_output_list=True,
                    tooltip="All images in their order, the rejected ones redone.",
                ),
                io.Boolean.Output("refined", is_output_list=True, tooltip="For each image, whether it was sent out."),
                ReceiptSocket.Output("receipt", tooltip="Decisions for Receipt; what your nodes cost is not known."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def check_lazy_status(cls, images, scores, threshold, **_):
        return ["redone"] if any(sum(rejections(images, scores, threshold), [])) else []

    @classmethod
    def execute(cls, images, scores, threshold, redone) -> io.NodeOutput:
        rejected = rejections(images, scores, threshold)
        flags = sum(rejected, [])
        lines = [f"{sum(flags)} of {len(flags)} images redone"]
        if any(flags):
            images, scaled = merged(images, rejected, redone)
            if scaled:
                lines.append(f"scaled back to their own size: images {', '.join(str(number + 1) for number in scaled)}")
        receipt = Receipt(
            decisions=tuple(REDONE if flag else KEPT for flag in flags),
            evaluations=tuple(None if flag else 0 for flag in flags),
        )
        return io.NodeOutput(list(images), flags, receipt, ui=shown("\n".join(lines), cls.hidden.unique_id))


def merged(
    images: Sequence[torch.Tensor], rejected: Sequence[Sequence[bool]], redone: Sequence[torch.Tensor]
) -> tuple[list[torch.Tensor], list[int]]:
    """The images with the rejected ones as they are in ``redone``, and the places of those that had to be scaled.

    All are lists of batches [B, H, W, 3 or 4], ``redone`` in batches of its own; a batch without a rejected image is
    the one that came in. Raises ValueError for another number of redone images and for those of another shape.
    """
    numbers = [number for number, flag in enumerate(flag for flags in rejected for flag in flags) if flag]
    came = sum(check_images("redone", redone, (3, 4))) if redone else 0
    if came != len(numbers):
        raise ValueError(
            f"{came} images came back at redone, but {len(numbers)} were sent out: the nodes between Split and "
            "Merge must give one image for each, and both need the same images, scores and threshold."
        )
    queue = iter(zip(numbers, (image for batch in redone for image in batch), strict=True))
    output, scaled = [], []
    for batch, flags in zip(images, rejected, strict=True):
        places = [place for place, flag in enumerate(flags) if flag]
        merged_batch = batch.clone() if places else batch
        for place in places:
            number, image = next(queue)
            if image.shape[:2] != batch.shape[1:3]:
                scaled.append(number)
                image = _scaled(image, *batch.shape[1:3], number)
            merged_batch[place] = fitted_to(batch[place][None], image[None])[0]
        output.append(merged_batch)
    return output, scaled


def _scaled(image: torch.Tensor, height: int, width: int, number: int) -> torch.Tensor:
    """An image [h, w, C] in another size of the same shape; what is over after rounding is cut off at both sides."""
    h, w = image.shape[:2]
    wider = w * height / (h * width)
    if not 1 / WIDER <= wider <= WIDER:
        raise ValueError(
            f"image {number + 1} came back with {w} x {h} pixels (width x height), but it is {width} x {height}: "
            "another shape does not fit into its place. Let the nodes between Split and Merge keep the shape."
        )
    rows, columns = (h, round(w / wider)) if wider > 1 else (round(h * wider), w)
    top, left = (h - rows) // 2, (w - columns) // 2
    pixels = image[top : top + rows, left : left + columns].movedim(-1, 0)[None].float()
    scaled = torch.nn.functional.interpolate(pixels, (height, width), mode="bicubic", antialias=True)
    return scaled.clamp(0, 1)[0].movedim(0, -1)

"""The rejected images, with all that belongs to them, go out to any graph; Merge takes them back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from comfy_api.latest import io

from .batches import value_per_image
from .display import shown
from .latents import single
from .places import Place, places_of
from .schema import schema
from .subset import Subset
from .teaching import rejections
from .types import ScoresSocket, ThresholdSocket

CONDITIONING = ("positive", "negative")
OUTPUTS = ("images", "latent", "mask", *CONDITIONING, "prompts")


class UnderstudySplit(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudySplit",
            display_name="Split rejected",
            description="Sends the images whose score is below the threshold, and what belongs to them, to nodes of "
            "your own; Merge puts what comes of them back. If all pass, nothing is sent and those nodes do not run.",
            search_aliases=[
                "route images",
                "conditional branch",
                "only rejected",
                "filter bad images",
                "detailer for bad only",
                "filter by score",
                "quality gate",
                "switch",
            ],
            is_input_list=True,
            # A bypassed node passes on the input in an output's own place, if that has its type, else the first of it:
            # so positive and negative stand in the places that they have among the outputs.
            inputs=[
                io.Image.Input("images", tooltip="The student's images, as a batch or a list."),
                ScoresSocket.Input("scores", tooltip="One score for each image, in the same order."),
                ThresholdSocket.Input("threshold", tooltip="Images that score below this are sent out."),
                *(
                    io.Conditioning.Input(
                        name,
                        optional=True,
                        lazy=True,
                        tooltip=f"{name.capitalize()} conditioning for your nodes: one for all images, or a list. "
                        "Hints, masks and reference latents in it are cut to the images that are sent.",
                    )
                    for name in CONDITIONING
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    lazy=True,
                    tooltip="Latents of the images, as a batch or a list. Each keeps its seed, its place in its batch "
                    "(for the noise) and its noise mask.",
                ),
                io.Mask.Input(
                    "mask", optional=True, lazy=True, tooltip="One mask for all images, or one for each in their order."
                ),
                io.String.Input(
                    "prompts",
                    optional=True,
                    lazy=True,
                    force_input=True,
                    tooltip="What the images should show: one prompt for all, or a list with one per image or batch.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images",
                    # A node without widgets is as wide as its sockets' names, and its title should fit.
                    display_name="rejected images",
                    is_output_list=True,
                    tooltip="The rejected images, in the batches that they came in; to be redone and led into Merge.",
                ),
                io.Latent.Output("latent", is_output_list=True, tooltip="Their latents, with batch_index."),
                io.Mask.Output("mask", is_output_list=True, tooltip="Their masks, one for each image."),
                io.Conditioning.Output("positive", is_output_list=True, tooltip="Their positive conditioning."),
                io.Conditioning.Output("negative", is_output_list=True, tooltip="Their negative conditioning."),
                io.String.Output("prompts", is_output_list=True, tooltip="The prompt of each batch that is sent."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def check_lazy_status(cls, images, scores, threshold, **connected):
        return list(connected) if any(sum(rejections(images, scores, threshold), [])) else []

    @classmethod
    def execute(cls, images, scores, threshold, **connected) -> io.NodeOutput:
        from comfy_execution.graph_utils import ExecutionBlocker

        rejected = rejections(images, scores, threshold)
        flags = sum(rejected, [])
        lines = [f"{sum(flags)} of {len(flags)} images sent out", threshold[0].remark(len(flags))]
        ui = shown("\n".join(filter(None, lines)), cls.hidden.unique_id)
        if not any(flags):
            return io.NodeOutput(*[ExecutionBlocker(None)] * len(OUTPUTS), ui=ui)
        sent = list(parts(images, rejected, **connected))
        # Not an error of this node's own: who takes the output may be connected later, when this result is remembered.
        missing = "Split rejected has nothing for {0}: connect its input {0}, or take this link off"
        outputs = (
            [part[name] for part in sent] if name in sent[0] else ExecutionBlocker(missing.format(name))
            for name in OUTPUTS
        )
        return io.NodeOutput(*outputs, ui=ui)


class Own(NamedTuple):
    """An image's conditioning: the image is ``row`` of the ``batch`` of images that it is for."""

    conditioning: list
    row: int
    batch: int


def parts(
    images: Sequence[torch.Tensor],
    rejected: Sequence[Sequence[bool]],
    *,
    latent: Sequence[Mapping] | None = None,
    mask: Sequence[torch.Tensor] | None = None,
    prompts: Sequence[str] | None = None,
    **conditioning: Sequence[list],
) -> Iterator[dict]:
    """The rejected images as batches, each with what belongs to it, under the names of the inputs that are given.

    images: batches [B, H, W, C]; rejected: a flag for each image of each batch. Latents are for all images in batches
    of any size, or one batch for every entry; masks, prompts and conditioning are one for all, one per image or one per
    entry. Images stay in the batch that they came in, but where one of these is another one for the next image, a new
    batch begins: nodes take one entry of each of their inputs at a time. Raises ValueError for other counts.
    """
    sizes = [len(batch) for batch in images]
    entries = [entry for entry, size in enumerate(sizes) for _ in range(size)]
    latents = [single(each, "latent") for each in latent] if latent else [None]
    places = [place for batch in places_of(latents, sizes) for place in batch]
    own = {name: _own(name, values, sizes, places) for name, values in conditioning.items()}
    masks = mask and value_per_image([each for batch in mask for each in _singly(batch)], sizes, "masks")
    texts = prompts and value_per_image(prompts, sizes, "prompts")

    def common(number: int) -> tuple:
        conditions = [(id(each[number].conditioning), each[number].batch) for each in own.values()]
        shape, text = masks and masks[number].shape, texts and texts[number]
        return (entries[number], id(places[number].latent), *conditions, shape, text)

    numbers = [number for number, flag in enumerate(flag for flags in rejected for flag in flags) if flag]
    for _, group in groupby(numbers, common):
        group = list(group)
        entry = entries[group[0]]
        before = sum(sizes[:entry])
        part = {"images": images[entry][[number - before for number in group]]}
        if latent:
            part["latent"] = _latent([places[number] for number in group])
        if masks:
            part["mask"] = torch.stack([masks[number] for number in group])
        if texts:
            part["prompts"] = texts[group[0]]
        subsets: dict[tuple, Subset] = {}
        for name, each in own.items():
            # One Subset for both kinds, so that a ControlNet that they share is cut once and still shared.
            key = (tuple(each[number].row for number in group), each[group[0]].batch)
            subset = subsets.setdefault(key, Subset(*key))
            part[name] = subset.conditioning(each[group[0]].conditioning, None)
        yield part


def _own(name: str, values: Sequence[list], sizes: Sequence[int], places: Sequence[Place]) -> list[Own]:
    """Each image's conditioning. One for all is for the batch that the latents were sampled in, as a sampler reads it;
    one of a list for each entry is for that entry."""
    each = value_per_image(values, sizes, f"{name}s")
    if len(values) == 1:
        rows = [(place.row, place.batch) for place in places]
    elif len(values) == len(places):
        rows = [(0, 1)] * len(places)
    else:
        rows = [(row, size) for size in sizes for row in range(size)]
    return [Own(value, *row) for value, row in zip(each, rows, strict=True)]


def _latent(places: Sequence[Place]) -> dict:
    """These images of their common latent, with the places in its batch that their noise depends on."""
    latent, rows = places[0].latent, [place.row for place in places]
    subset = Subset(rows, places[0].batch)
    cut = subset.latent(latent)
    return cut if subset.whole else {"batch_index": rows, **cut}


def _singly(mask: torch.Tensor) -> Iterator[torch.Tensor]:
    """The masks [H, W] of a MASK, which some packs make without a batch or with a channel."""
    return iter(mask.reshape(-1, *mask.shape[-2:]))

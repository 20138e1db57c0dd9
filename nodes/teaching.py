"""What both Teacher nodes do with their inputs: which images are rejected, their takes, and what is handed over."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from comfy_api.latest import io

from ..oracles.scores import values_of
from ..receipts.receipt import Receipt
from ..samplers.decisions import BY_STRATEGY, KEPT
from .batches import check_images, single_value
from .display import shown
from .latents import single
from .masks import masks_of
from .places import places_of
from .redo import redo
from .remarks import remarks
from .schema import require_ranges
from .take import Take
from .way_back import BY_SCORE, FIXED, badness


def rejections(images: Sequence[torch.Tensor], scores: Sequence, threshold: Sequence) -> list[list[bool]]:
    """For each batch of the list of images, which of its images the threshold rejects.

    Raises ValueError for other counts, and for a threshold by a calibration of another oracle's scores.
    """
    counts = check_images("images", images, (3, 4))
    values, rule = values_of(scores, sum(counts)), single_value(threshold, "threshold")
    for each in scores:
        rule.require_oracle(each.oracle, each.family)
    flags = iter(rule.rejected(values))
    return [[next(flags) for _ in range(count)] for count in counts]


def check_strength(threshold: Sequence, strategy: Sequence[str], strength: Sequence[str]) -> None:
    """Raise ValueError where the way back is to follow the score and the threshold cannot say how bad that is."""
    if BY_SCORE in strength and "refine" in strategy:
        badness([], single_value(threshold, "threshold"), [], [BY_SCORE])


def teach(
    kind: type[Take], node, images, scores, threshold, latent, mask, images_at_once, inputs: Mapping[str, Sequence]
) -> io.NodeOutput:
    """Redo the rejected images. All arguments are lists, as the host hands them over; latent and mask may be None.

    node: its class. kind: what takes the ``inputs`` of one batch of the list. Of each there is one for all batches, or
    one for each.
    """
    began = time.perf_counter()
    rejected = rejections(images, scores, threshold)
    numbers = {name: values for name, values in inputs.items() if name != "seed"}  # which may be negative, by a link
    require_ranges(node.define_schema().inputs, {**numbers, "images_at_once": images_at_once})
    for name, values in inputs.items():
        if len(values) not in (1, len(images)):
            raise ValueError(
                f"{len(values)} entries in the list of {name}, but {len(images)} in the list of images; "
                "give one for all, or one for each"
            )
    counts = [len(batch) for batch in images]
    places = places_of([single(each, "latent") for each in latent or ()] or [None], counts)
    masks = masks_of(mask or [None], images)
    strength = inputs["strength"] if "refine" in inputs["strategy"] else [FIXED]
    worse = badness(values_of(scores, sum(counts)), threshold[0], counts, strength)
    listed = frozenset(name for name, values in inputs.items() if len(values) > 1)
    shared = {}
    takes = [
        kind(
            images=batch,
            rejected=rejected[k],
            places=places[k],
            masks=masks[k],
            badness=worse[k],
            shared=shared,
            listed=listed,
            **{name: each[k if len(each) > 1 else 0] for name, each in inputs.items()},
        )
        for k, batch in enumerate(images)
    ]
    done = redo(takes, single_value(images_at_once, "images_at_once"))
    receipt = Receipt(
        decisions=tuple(BY_STRATEGY[take.strategy] if no else KEPT for take in takes for no in take.rejected),
        evaluations=tuple(count for each in done for count in each.evaluations),
        seconds=time.perf_counter() - began,
    )
    lines = [*remarks(takes, node.hidden.dynprompt, node.hidden.unique_id)]
    lines += filter(None, [threshold[0].remark(sum(map(len, rejected)))])
    return io.NodeOutput(
        [each.images for each in done],
        sum(rejected, []),
        receipt,
        _latents([each.latent for each in done]),
        ui=shown("\n".join(lines), node.hidden.unique_id),
    )


def _latents(latents: Sequence[dict | None]) -> list:
    """One for each batch; where nothing was redone, what is connected does not run, and nothing is said."""
    from comfy_execution.graph_utils import ExecutionBlocker

    return [ExecutionBlocker(None) if latent is None else latent for latent in latents]

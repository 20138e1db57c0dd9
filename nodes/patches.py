"""A MODEL's patches where only some images of a batch are sampled: tell them which, and name those that may not listen.

Patches of other packs (IPAdapter's batches, Advanced-ControlNet) may hold one entry for each image. Which images are
being sampled they look up in ``transformer_options["ad_params"]``, AnimateDiff-Evolved's way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from .hints import is_known

PARAMS = "ad_params"


def params_of_rows(before: Mapping | None, rows: Sequence[int], batch: int) -> dict:
    """The ``ad_params`` that say: these ``rows`` of ``batch`` images are sampled.

    before: what stands there already. Where it names rows itself, ours are places in those; its other keys stay.
    Raises ValueError where it names another number of rows than there are images.
    """
    before = before or {}
    known, length = before.get("sub_idxs"), before.get("full_length", batch)
    if known is None:
        known, length = range(batch), batch
    if len(known) != batch:
        raise ValueError(
            f"the model's ad_params name {len(known)} images, but {batch} are sampled: take off the node that set them."
        )
    chosen = [known[row] for row in rows]
    return {**before, "sub_idxs": chosen, "full_length": length, "context_length": len(chosen)}


def warning(model, batch: int) -> str | None:
    """What to say where only a part of ``batch`` images is sampled and patches hold as many entries as images.

    Nobody can see whether a patch reads ``ad_params``; one that does not takes the first entries for any images.
    """
    names = dict.fromkeys(_name(patch) for patch in _patches(model) if _holds(patch, batch) and not is_known(patch))
    if not names:
        return None
    return (
        f"{', '.join(names)} among this model's patches: a tensor of {batch} entries for {batch} images, which are not "
        "all sampled at once. If that is an entry for each image, and the patch does not read ad_params, images take "
        "the entries of others; sampling the whole batch together shows it."
    )


def _patches(model) -> Iterator:
    for options in (model.model_options, model.wrappers, model.object_patches):
        yield from _callables(options)


def _callables(options) -> Iterator:
    if isinstance(options, (Mapping, list, tuple)):
        for each in options.values() if isinstance(options, Mapping) else options:
            yield from _callables(each)
    elif callable(options):
        yield options


def _holds(patch, batch: int) -> bool:
    """Whether one of its attributes, or of the variables that a function closes over, is a tensor of ``batch`` rows."""
    held = list(getattr(getattr(patch, "__self__", patch), "__dict__", {}).values())
    for cell in getattr(patch, "__closure__", None) or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    return any(torch.is_tensor(each) and each.ndim > 0 and each.shape[0] == batch for each in held)


def _name(patch) -> str:
    patch = getattr(patch, "__self__", patch)
    return getattr(patch, "__name__", type(patch).__name__)

"""A GUIDER of the host: whether it takes each image of a batch by itself, and copies of it for some of them.

The host caches what a node made, so a guider belongs to everybody whom it is connected to: it is never changed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from .counting import Counting
from .subset import Subset, cond_masks_per_image

# Module and class of those whose guidance is the same for an image alone and in a batch. PerpNegGuider is not among
# them: what it takes away is a projection over the whole batch.
_EACH_BY_ITSELF = {
    ("samplers", "CFGGuider"),
    ("nodes_custom_sampler", "Guider_Basic"),
    ("nodes_custom_sampler", "Guider_DualCFG"),
    ("nodes_custom_sampler", "Guider_DualModel"),
}


def cfg_guider(model, positive: list, negative: list, cfg: float):
    """What the host's KSampler guides with."""
    from comfy.samplers import CFGGuider

    # On a model with dynamic VRAM the host hooks no weights: it reads the file again for hooked conditioning, and keeps
    # that at the MODEL given here. So it is the user's own and no clone, and the file is read once.
    guider = CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def checked(guider):
    """The guider itself. Raises ValueError for one whose model or conditioning cannot be read, and so not be cut."""
    conds = getattr(guider, "original_conds", None)
    readable = isinstance(conds, Mapping) and all(
        isinstance(entries, list) and all(isinstance(entry, Mapping) for entry in entries) for entries in conds.values()
    )
    if not (conds and readable and hasattr(guider, "model_patcher") and hasattr(guider, "model_options")):
        raise ValueError(
            f"guider is a {type(guider).__name__}, whose conditioning cannot be read, so it cannot be cut to the "
            "rejected images; connect a guider of ComfyUI, such as CFG Guider, or one that is built on it."
        )
    return guider


def takes_each_by_itself(guider) -> bool:
    """Whether an image gets the same from this guider alone and within a batch; of one that is not known, False."""
    kind = type(guider)
    return (kind.__module__.rpartition(".")[2], kind.__name__) in _EACH_BY_ITSELF


def of_images(guider, subsets: Mapping[str, Subset], latent_size, enlarged: float = 1):
    """A copy whose conditioning is cut: ``subsets`` says for each entry of it which images are left.

    latent_size: (T,) h, w. enlarged: how many times as large as the images that the conditioning was made for they are.
    """
    conds = {name: subsets[name].conds(entries, latent_size) for name, entries in guider.original_conds.items()}
    if enlarged != 1:
        conds = {name: [_enlarged(entry, enlarged) for entry in entries] for name, entries in conds.items()}
    return with_parts(guider, guider.model_patcher, guider.model_options, conds)


def _enlarged(cond: Mapping, by: float) -> dict:
    """The conditioning for a larger picture: an area that is not in percent and GLIGEN's boxes count in latents."""
    found, area = dict(cond), cond.get("area")
    if area is not None and area[0] != "percentage" and len(area) == 4:
        found["area"] = tuple(round(side * by) for side in area)
    if "gligen" in cond:
        kind, model, boxes = cond["gligen"]
        boxes = [(text, *(round(side * by) for side in sides)) for text, *sides in boxes]
        found["gligen"] = (kind, model, boxes)
    return found


def for_counting(guider, latent_size, counting: Counting):
    """A copy that counts its model's network evaluations, and those; its conditioning's masks are one per image."""
    model, evaluations = counting.of(guider.model_patcher, guider.model_options)
    conds = {name: cond_masks_per_image(entries, latent_size) for name, entries in guider.original_conds.items()}
    return with_parts(guider, model, model.model_options, conds), evaluations


def with_parts(guider, model, model_options: dict, conds: dict):
    """A copy of the guider with another MODEL, options and conditioning."""
    made = copy.copy(guider)
    made.model_patcher, made.model_options, made.original_conds = model, model_options, conds
    return made

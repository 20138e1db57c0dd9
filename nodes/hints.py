"""The host's own patches of a MODEL that hold one hint per image (DiffSynth, Z-Image Fun, ...), cut as a ControlNet is.

Unlike a ControlNet's, these hints stand in the MODEL, and the host gives them to whatever batch it samples, first come,
first served. Patches of other packs are left alone: see patches.py.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from types import CellType, FunctionType, MethodType

import torch

from .subset import Subset

# Class of a patch: along which dimension its hints lie, and in which attributes.
HINTS = {
    "DiffSynthCnetPatch": (0, ("image", "mask", "encoded_image")),
    "ZImageControlPatch": (0, ("image", "inpaint_image", "mask", "encoded_image")),
    "AnimaLLLitePatch": (0, ("image", "mask")),
    "SUPIRPatch": (0, ("hint_latent",)),
    "UsoStyleProjectorPatch": (1, ("encoded_image",)),
}
# A function's name: the variable that it closes over, [B, ...].
CLOSED_OVER = {"SUPIRApply.execute.<locals>.restore_cfg_function": "x_center"}
PLACES = (("transformer_options", "patches"), ("sampler_post_cfg_function",))


def is_known(patch) -> bool:
    """Whether :func:`with_hints_of` cuts what this patch holds."""
    name = type(getattr(patch, "__self__", patch)).__name__
    return name in HINTS or getattr(patch, "__qualname__", None) in CLOSED_OVER


def hint_per_image(model) -> bool:
    """Whether a patch of the MODEL holds more than one hint.

    The host then samples one image, or without guidance a batch of as many images as hints, and nothing else.
    """
    counts = []

    def counted(hints: torch.Tensor, dim: int) -> torch.Tensor:
        counts.append(hints.shape[dim])
        return hints

    for place in PLACES:
        _walk(_at(model.model_options, place), counted)
    return any(count > 1 for count in counts)


def with_hints_of(model, subset: Subset):
    """A clone of the MODEL whose patches hold the hints of the subset's images; the MODEL itself if it has one hint."""
    if subset.whole or not hint_per_image(model):
        return model

    def cut(hints: torch.Tensor, dim: int) -> torch.Tensor:
        return subset.tensor(hints.movedim(dim, 0)).movedim(0, dim)

    clone = model.clone()
    for *parents, name in PLACES:
        options = _at(clone.model_options, parents)
        if name in options:
            # From the MODEL's own: ComfyUI 0.8.0 copies the patches' networks with a clone.
            options[name] = _walk(_at(model.model_options, (*parents, name)), cut)
    return clone


def _at(options: Mapping, place: Iterable[str]):
    for name in place:
        options = options.get(name, {})
    return options


def _walk(patches, change):
    """``patches`` with ``change(hints, dim)`` for each tensor of hints; one patch in two lists stays one patch."""
    made: dict[int, object] = {}

    def walked(each):
        if id(each) not in made:
            made[id(each)] = changed(each)
        return made[id(each)]

    def changed(each):
        if isinstance(each, Mapping):
            return {name: walked(value) for name, value in each.items()}
        if isinstance(each, (list, tuple)):
            return type(each)(walked(value) for value in each)
        if isinstance(each, MethodType):
            return MethodType(each.__func__, walked(each.__self__))
        if isinstance(each, FunctionType):
            return closing_over(each)
        dim, names = HINTS.get(type(each).__name__, (0, ()))
        own = getattr(each, "__dict__", {})
        new = {name: change(own[name], dim) for name in names if torch.is_tensor(own.get(name))}
        # A patch that only passes on what another one holds.
        new |= {name: walked(value) for name, value in own.items() if type(value).__name__ in HINTS}
        if not new:
            return each
        made_of = copy.copy(each)
        vars(made_of).update(new)
        return made_of

    def closing_over(function: FunctionType):
        variable = CLOSED_OVER.get(function.__qualname__)
        if variable is None:
            return function
        names = function.__code__.co_freevars
        cells = [CellType(change(cell.cell_contents, 0)) if name == variable else cell
                 for name, cell in zip(names, function.__closure__, strict=True)]  # fmt: skip
        return FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, tuple(cells)
        )

    return walked(patches)

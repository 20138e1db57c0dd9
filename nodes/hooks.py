"""Conditioning with hooks (LoRAs of a part of the prompt or the schedule) on a model with dynamic VRAM."""

from __future__ import annotations


def for_hooks(model, *conditionings: list):
    """The MODEL that the host samples these conditionings with; the MODEL itself unless they have hooks.

    The host cannot hook weights that it loads as they are needed, so it reads the file again for a copy without, and
    keeps that at the MODEL which it was asked to sample. Asking the user's MODEL for it, and not a clone of it, reads
    the file once, however often that is sampled.
    """
    if not hasattr(model, "get_non_dynamic_delegate"):  # hosts before dynamic VRAM, and models without it
        return model
    from comfy.sampler_helpers import cond_has_hooks

    return model.get_non_dynamic_delegate() if any(cond_has_hooks(each) for each in conditionings) else model

"""Count a model's network evaluations while ComfyUI samples with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Evaluations:
    """Network evaluations: one per image and branch, so a guided step of one image is two."""

    total: int = 0


def counted(model):
    """A clone of the MODEL that counts, and its ``Evaluations``; the model itself and its other wrappers are untouched.

    What is counted is each image that reaches the network, however the host batches and whatever other packs skip.
    """
    from comfy.patcher_extension import WrappersMP

    evaluations = Evaluations()

    def count(apply_model, x, *args, **kwargs):
        evaluations.total += x.shape[0]
        return apply_model(x, *args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "understudy_evaluations", count)
    return model, evaluations

"""Count a model's network evaluations while ComfyUI samples with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Evaluations:
    """Network evaluations: one per image and branch, so a guided step of one image is two; a ControlNet's not.

    asked: images that the sampler asked the model for. run: those of them that reached the network itself.
    """

    asked: int = 0
    run: int = 0

    @property
    def total(self) -> int:
        """``run``, less than ``asked`` where a cache answered; ``asked`` for networks that call no wrapper (SD 3)."""
        return self.run or self.asked


def counted(model):
    """A clone of the MODEL that counts, and its ``Evaluations``; the model itself and its other wrappers are untouched.

    What is counted is each image that reaches the network, however the host batches and whatever other packs skip: the
    wrappers that are added last are the innermost, inside of caches. No cache answers a model's first call, so a
    network that lets the inner wrapper count has done so from the start.
    """
    from comfy.patcher_extension import WrappersMP

    evaluations = Evaluations()

    def asked(apply_model, x, *args, **kwargs):
        evaluations.asked += len(x)
        return apply_model(x, *args, **kwargs)

    def run(network, x, *args, **kwargs):
        evaluations.run += len(x[0] if isinstance(x, list) else x)  # [video, audio]
        return network(x, *args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "understudy_evaluations", asked)
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "understudy_evaluations", run)
    return model, evaluations


class Counting:
    """One clone that counts for each MODEL, over any number of sampling runs: the host loads a new clone anew."""

    def __init__(self):
        self._made: dict[tuple[int, int], tuple] = {}

    def of(self, model, options: dict):
        """The clone of this MODEL with these options, and its ``Evaluations``."""
        from comfy.model_patcher import create_model_options_clone

        key = (id(model), id(options))
        if key not in self._made:
            clone, evaluations = counted(model)
            if options is not model.model_options:
                clone.model_options = create_model_options_clone(options)
            self._made[key] = (clone, evaluations, model, options)  # those two, lest another object gets their id
        return self._made[key][:2]

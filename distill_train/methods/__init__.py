"""The training methods, one file each."""

from typing import TYPE_CHECKING

from pydantic import ValidationError

from ..config import Recipe, RecipeError, explain

if TYPE_CHECKING:
    import torch

    from .base import Method


DISTILLATIONS = ("lcm", "cd", "pd", "cfd")


def method_classes() -> dict[str, type["Method"]]:
    """Every method under the name that recipes give it."""
    from .autoencoder import Autoencoder
    from .cd import CD
    from .cfd import CFD
    from .consistency import Consistency
    from .diffusion import Diffusion
    from .lcm import LCM
    from .pd import PD
    from .scene_oracle import SceneOracle

    demo = {"autoencoder": Autoencoder, "diffusion": Diffusion, "consistency": Consistency, "oracle": SceneOracle}
    return {"lcm": LCM, "cd": CD, "pd": PD, "cfd": CFD, **demo}


def make_method(recipe: Recipe, device: "torch.device", **given) -> "Method":
    """The method that a recipe names, with its settings validated; ``given`` goes to its constructor.

    Raises RecipeError.
    """
    methods = method_classes()
    if recipe.method not in methods:
        raise RecipeError(f"method {recipe.method!r} is unknown; methods are {', '.join(methods)}")
    chosen = methods[recipe.method]
    try:
        settings = chosen.Settings.model_validate(recipe.settings)
    except ValidationError as e:
        raise RecipeError(explain(f"settings of {recipe.method}", e)) from e
    return chosen(settings, recipe, device, **given)

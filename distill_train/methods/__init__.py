"""The training methods, one file each."""

from typing import TYPE_CHECKING

from pydantic import ValidationError

from ..config import Recipe, RecipeError, explain

if TYPE_CHECKING:
    import torch

    from .base import Method


def make_method(recipe: Recipe, device: "torch.device") -> "Method":
    """The method that a recipe names, with its settings validated. Raises RecipeError."""
    from .autoencoder import Autoencoder
    from .consistency import Consistency
    from .diffusion import Diffusion
    from .scene_oracle import SceneOracle

    methods = {"autoencoder": Autoencoder, "diffusion": Diffusion, "consistency": Consistency, "oracle": SceneOracle}
    if recipe.method not in methods:
        raise RecipeError(f"method {recipe.method!r} is unknown; methods are {', '.join(methods)}")
    chosen = methods[recipe.method]
    try:
        settings = chosen.Settings.model_validate(recipe.settings)
    except ValidationError as e:
        raise RecipeError(explain(f"settings of {recipe.method}", e)) from e
    return chosen(settings, recipe, device)

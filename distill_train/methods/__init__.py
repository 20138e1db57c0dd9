"""The training methods: each is one file here, which says all that is known of it, and is found by being there.

Those by which the demo family itself was made lie in ``distill_train.demo``.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ..config import Recipe, RecipeError, explain

if TYPE_CHECKING:
    import torch

    from .base import Method


def method_classes() -> dict[str, type["Method"]]:
    """Every method under the name that recipes give it, those that distil first."""
    from .. import demo
    from .base import Method

    found = [
        value
        for package in (__name__, demo.__name__)
        for module in iter_modules(import_module(package).__path__)
        for value in vars(import_module(f".{module.name}", package)).values()
        if isinstance(value, type) and issubclass(value, Method) and "name" in vars(value)
    ]
    found.sort(key=lambda method: (not _distils(method), method.name))
    return {method.name: method for method in found}


def distillations() -> tuple[str, ...]:
    """The names of those that need a teacher, a student and data."""
    return tuple(name for name, method in method_classes().items() if _distils(method))


def _distils(method: type["Method"]) -> bool:
    from .distillation import Distillation

    return issubclass(method, Distillation)


def make_method(recipe: Recipe, device: "torch.device", **given) -> "Method":
    """The method that a recipe names, with its settings validated; ``given`` goes to its constructor.

    Raises RecipeError.
    """
    methods = method_classes()
    if recipe.method not in methods:
        raise RecipeError(f"method {recipe.method!r} is unknown; methods are {', '.join(methods)}")
    chosen = methods[recipe.method]
    _require_read(recipe, chosen)
    try:
        settings = chosen.Settings.model_validate(recipe.settings)
    except ValidationError as e:
        raise RecipeError(explain(f"settings of {recipe.method}", e)) from e
    return chosen(settings, recipe, device, **given)


def _require_read(recipe: Recipe, method: type["Method"]) -> None:
    """Raises RecipeError for tables that the method would leave unread."""
    from .base import TABLES

    fields = type(recipe).model_fields
    given = [t for t in TABLES if getattr(recipe, t) != fields[t].get_default(call_default_factory=True)]
    if unread := [f"[{table}]" for table in given if table not in method.reads]:
        raise RecipeError(f"{recipe.method} does not read {' or '.join(unread)}; leave out what stands there")

"""What a training needs before its first step: a recipe that can be followed here, a method with its data, a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config import Recipe
from ..methods import make_method
from ..methods.base import Method
from ..teachers.precision import require_precision
from .directory import Run
from .optimizers import require_installed
from .processes import device_of, parts_of_batch, require_whole_weights
from .progress import installed_tracker

if TYPE_CHECKING:
    from accelerate import Accelerator

MakeMethod = Callable[[Recipe, torch.device], Method]


def require_startable(recipe: Recipe, directory: Path, resume: bool, accelerator: "Accelerator") -> None:
    """Raises RecipeError, before anything is loaded, for what cannot be trained here or does not fit the directory."""
    parts_of_batch(recipe.loop, accelerator)
    require_precision(device_of(accelerator), recipe.loop.precision)
    installed_tracker(recipe.loop.tracker)
    require_installed(recipe.loop.optimizer)
    if resume:
        Run.resume(directory, recipe)
    elif accelerator.is_main_process:  # the others may come here when it has already begun
        Run.require_new(directory)


def trainable_method(recipe: Recipe, accelerator: "Accelerator", make: MakeMethod | None = None) -> Method:
    """The recipe's method, its data not prepared yet. Raises RecipeError for what these processes cannot train.

    make: as `train` takes it.
    """
    torch.manual_seed(recipe.seed)  # initial weights; all later draws have generators of their own
    method = (make or make_method)(recipe, device_of(accelerator))
    method.require_parts(parts_of_batch(recipe.loop, accelerator))
    method.stages()  # raises for too few steps
    require_whole_weights(method, accelerator)
    return method


def open_run(directory: Path, recipe: Recipe, resume: bool, accelerator: "Accelerator") -> Run:
    """The run in that directory; a new one is begun by the main process. Raises RecipeError."""
    with accelerator.main_process_first():
        begin = accelerator.is_main_process and not resume
        return Run.start(directory, recipe) if begin else Run.resume(directory, recipe)

"""Recipes: TOML files, validated before anything is loaded."""

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class RecipeError(ValueError):
    """A recipe that cannot be read; the message names the file, the key and what is expected."""


class Strict(BaseModel):
    """Settings in which a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Loop(Strict):
    """How long, how fast and how often: the same for every method."""

    steps: int = Field(gt=0, description="optimizer steps")
    batch_size: int = Field(gt=0, description="samples in a step, over all processes")
    lr: float = Field(gt=0, description="peak learning rate of AdamW")
    warmup: int = Field(0, ge=0, description="steps over which the learning rate rises to its peak")
    decay: Literal["cosine", "constant", "wsd"] = Field("cosine", description="learning rate after the warmup")
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    grad_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the weight average that is exported")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 runs the forward pass under autocast")
    log_every: int = Field(50, gt=0)
    sample_every: int = Field(1000, gt=0, description="steps between sample grids and measurements")
    checkpoint_every: int = Field(1000, gt=0)
    keep_checkpoints: int = Field(2, gt=0)


class Recipe(Strict):
    """One training: a method, its settings, the loop and the file that the result is written to."""

    method: str = Field(description="a name of distill_train.methods.METHODS")
    seed: int = Field(ge=0, description="every draw of the run follows from it")
    export: str = Field(description="file name of the exported weights, in the run's exports folder")
    loop: Loop
    settings: dict[str, Any] = Field(default_factory=dict, description="the method's own keys")


def load_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file. Raises RecipeError with every problem that was found, one a line."""
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as e:
        raise RecipeError(f"there is no recipe {str(path)!r}; the pack's own lie in distill_train/recipes") from e
    except tomllib.TOMLDecodeError as e:
        raise RecipeError(f"{path} is not TOML: {e}") from e
    except ValidationError as e:
        raise RecipeError(explain(path, e)) from e


def explain(source: object, error: ValidationError) -> str:
    """A pydantic error in one line for each wrong key."""
    lines = [f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']} (given: {e['input']!r})" for e in error.errors()]
    return f"{source}: " + "; ".join(lines)

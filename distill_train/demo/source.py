"""The demo family's rendered scenes as a data source."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError

from ..config import Recipe, RecipeError, Strict, explain
from ..data.batch import Batch
from ..data.randomness import generator
from ..teachers import Teacher
from .scenes import Conditions, LatentSet


class SceneSettings(Strict):
    """[data] with kind = "scenes": the demo family's own pictures, drawn and encoded once."""

    kind: Literal["scenes"] = Field(description="rendered scenes, for the demo family")
    vae: Path = Field(Path("vae.safetensors"), description="the autoencoder; the pack's own without a folder")
    pictures: int = Field(50_000, gt=0, description="how many scenes are drawn")
    pictures_seed: int = Field(2, description="of the scenes")
    condition: Literal["outline", "low_resolution"] | None = Field(
        None, description="what pictures are made from beside their texts: edges, or a quarter of their pixels a side"
    )


def read_settings(data: Mapping[str, Any]) -> SceneSettings:
    """A recipe's [data] with kind = "scenes", validated. Raises RecipeError."""
    try:
        return SceneSettings.model_validate(data)
    except ValidationError as error:
        raise RecipeError(explain("data", error)) from error


class SceneSource:
    """Scenes with replacement: sample i is the same in every run with the seed."""

    def __init__(self, scenes: LatentSet, seed: int, conditions: Conditions | None = None):
        self.scenes, self.seed, self.conditions = scenes, seed, conditions

    @property
    def fingerprint(self) -> str | None:
        """What a run must go on with; without a condition nothing, as runs before there were any."""
        return f"scenes with {self.conditions.kind}" if self.conditions else None

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any], teacher: Teacher, recipe: Recipe, cache: Path) -> "SceneSource":
        """Raises RecipeError for wrong settings or a teacher of another architecture."""
        if teacher.kind != "demo":
            raise RecipeError(
                f'data.kind is "scenes", which the demo family alone can draw; the teacher is {teacher.kind}'
            )
        s = read_settings(settings)
        scenes = LatentSet.of_renders(s.vae, s.pictures, s.pictures_seed, teacher.device, cache)
        conditions = Conditions(s.pictures, s.pictures_seed, s.condition) if s.condition else None
        return cls(scenes, recipe.seed, conditions)

    def batch(self, step: int, indices: range) -> Batch:
        count = len(self.scenes.latents)
        places = [int(torch.randint(count, (), generator=generator(self.seed, "scene", i))) for i in indices]
        at = torch.tensor(places, device=self.scenes.latents.device)
        side = self.scenes.latents.shape[-1] * 8
        names = [f"scene {place}" for place in places]
        extras = {"condition": self.conditions.of(places)} if self.conditions else {}
        return Batch(self.scenes.latents[at], {"tokens": self.scenes.tokens[at]}, names, side, side, extras)

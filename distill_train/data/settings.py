"""The keys of a recipe's [data], for each kind of data."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from ..config import RecipeError, Strict
from .buckets import Sizes, make_buckets
from .conditions import AnyCondition
from .filtering import FilterSettings


class Sized(Strict):
    """How large the pictures are."""

    size: int | None = Field(None, gt=0, description="side in pixels; the teacher's own without it")

    def side(self, teacher) -> int:
        """The side in pixels. Raises RecipeError for one that the teacher cannot encode."""
        side = self.size or teacher.default_size
        if side % teacher.factor:
            raise RecipeError(f"data.size is {side}; expected a multiple of {teacher.factor}")
        return side

    def sizes(self, teacher) -> Sizes:
        """The picture sizes to train on, (height, width) in pixels."""
        return [(self.side(teacher),) * 2]


class Pictures(Sized):
    """Pictures of any shape, each scaled and cropped to the size in its own area that is nearest in shape."""

    max_aspect: float = Field(2.0, ge=1, description="longest shape, as longer side to shorter; 1 crops to squares")
    stride: int = Field(64, gt=0, description="sides of the sizes are multiples of this many pixels")

    def sizes(self, teacher) -> Sizes:
        side = self.side(teacher)
        if self.max_aspect > 1 and (self.stride % teacher.factor or side % self.stride):
            raise RecipeError(
                f"data.stride is {self.stride}; expected a multiple of {teacher.factor} that divides data.size = {side}"
            )
        return make_buckets(side, self.stride, self.max_aspect)


class Conditioned(Pictures):
    """Pictures that may come with a condition each."""

    condition: AnyCondition | None = Field(
        None, discriminator="kind", description="what pictures are made from beside their texts, a table"
    )

    @field_validator("condition", mode="before")
    @classmethod
    def _is_a_table(cls, value):
        if isinstance(value, str):
            raise ValueError(f"of pictures it is a table; say data.condition.kind = {value}, and its other keys")
        return value


class FolderSettings(Conditioned):
    """A folder of pictures with captions."""

    kind: Literal["folder"] = Field(description="pictures and captions in a folder")
    path: Path = Field(description="folder; pictures below it count, too")
    captions: Path | None = Field(
        None,
        description=".csv, .tsv, .json or .jsonl with columns file and text; else .txt or .caption files beside them",
    )
    repeats: bool = Field(
        True, description="pictures in a folder named as 10_fox count so many times, as in kohya's scripts; false: once"
    )


class ShardSettings(Conditioned):
    """Tar files of pictures with captions, as webdataset has them."""

    kind: Literal["webdataset"] = Field(description="pictures and captions in tar files")
    path: str = Field(description='shards, e.g. "data/{000..012}.tar"')
    caption: str = Field("txt", description="extension of the captions, or a key of the samples' .json as in json.text")


class PromptSettings(Sized):
    """Prompts alone: the teacher makes the latents."""

    kind: Literal["prompts"] = Field(description="prompts alone; the teacher makes the pictures")
    path: Path = Field(description="one prompt a line; or a .csv, .tsv, .json or .jsonl with a column prompt")
    count: int | None = Field(None, gt=0, description="samples to make, prompts in turn; one of each without it")
    steps: int = Field(25, gt=0, description="of the teacher, by DPM-Solver++ 2M")
    cfg: float = Field(7.5, ge=1, description="guidance scale of the teacher; 1 is none")
    seed: int = Field(0, ge=0, description="of the samples' noise")
    batch_size: int = Field(4, gt=0, description="samples that the teacher makes at once")
    filter: FilterSettings | None = Field(None, description="an oracle that has the last word")


DataSettings = FolderSettings | ShardSettings | PromptSettings
KINDS: dict[str, type[DataSettings]] = {
    "folder": FolderSettings,
    "webdataset": ShardSettings,
    "prompts": PromptSettings,
}

"""What a distillation learns from: a folder of pictures, webdataset shards, or prompts alone.

Every sample is encoded once, before the first step, into a cache on disk that later runs use again. So any sample of
any step is at hand in any process, and which it is follows from the seed and the step alone.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from torch import Tensor

from ..config import Recipe, RecipeError, explain
from .batch import Source
from .beside import Beside
from .cache import Cache
from .settings import KINDS, DataSettings

if TYPE_CHECKING:
    from ..teachers import Teacher
    from .encode import Encoder


def read_settings(data: Mapping[str, Any]) -> DataSettings:
    """A recipe's [data], validated. Raises RecipeError with every problem."""
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise RecipeError(f"data.kind is {kind!r}; expected {', '.join(KINDS)}, or scenes for the demo family")
    try:
        return KINDS[kind].model_validate(data)
    except ValidationError as e:
        raise RecipeError(explain("data", e)) from e


def make_source(
    data: Mapping[str, Any],
    teacher: "Teacher",
    recipe: Recipe,
    cache: Path,
    score: Callable[[Tensor, Sequence[str]], Tensor] | None = None,
    make_encoder: "Callable[..., Encoder] | None" = None,
) -> Source:
    """The samples of a recipe's [data], encoded by its teacher; the cache is a folder that runs may share.

    score: stands in for the oracle of [data.filter], ``(pixels [B, 3, H, W], prompts [B]) -> [B]``.
    make_encoder: stands in for Encoder, for one that encodes less.
    Raises RecipeError for wrong settings, and DataError or FileNotFoundError where there is nothing to learn from.
    """
    from .encode import CachedSource, Encoder

    settings = read_settings(data)
    condition = None if settings.kind == "prompts" else settings.condition
    beside = Beside(condition.path) if condition and condition.beside else None
    sizes, precision = settings.sizes(teacher), recipe.loop.precision
    encoder = (make_encoder or Encoder)(teacher, Cache(cache, teacher.maker), sizes, precision, condition, beside)
    if encoder.processes.is_main:
        encoder.cache.tidy()
    if settings.kind == "prompts":
        from .prompts import prompt_items

        items = prompt_items(settings, encoder, score)  # which embeds them first, as the UNet makes its samples
    else:
        if settings.kind == "folder":
            from .pictures import folder_items as read_items
        else:
            from .shards import shard_items as read_items
        items = read_items(settings, encoder)
        encoder.texts(item.caption for item in items)
    return CachedSource(items, encoder, recipe.seed, recipe.loop.batch_size)

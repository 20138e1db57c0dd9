"""webdataset shards, read one after the other; a shard that was encoded before is not read again."""

import json
import logging
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from itertools import islice
from pathlib import Path

from ...files import sha256
from ...pipelines.images import SUFFIXES
from ..batch import Extent
from .encode import DataError, Encoder, Item, required
from .settings import ShardSettings

log = logging.getLogger(__name__)


def shard_items(settings: ShardSettings, encoder: Encoder) -> list[Item]:
    """Every sample with a picture and a caption, encoded. Raises FileNotFoundError or DataError."""
    shards = _shards(settings.path)
    if encoder.limit is not None:
        return required(_some(shards, settings, encoder), settings.path)

    def encode(mine: list[Path], done) -> list[list[Item]]:
        found = []
        for shard in mine:
            found.append(_encoded(shard, settings, encoder))
            done(len(found))
        return found

    found = [item for items in encoder.share(shards, "shards", encode) for item in items]
    return required(found, settings.path)


def _some(shards: list[Path], settings: ShardSettings, encoder: Encoder) -> list[Item]:
    """The first samples up to the limit; what part they are follows from the bytes, as nobody counts the rest."""
    samples = list(islice(_samples(shards[0]), encoder.limit))
    files = [value for sample in samples for value in sample.values() if isinstance(value, bytes)]
    read = sum(512 + -(-len(file) // 512) * 512 for file in files)  # in a tar file, each with a header
    part = min(1.0, read / sum(shard.stat().st_size for shard in shards))
    encoder.extent = Extent(part, part)
    return encoder.measured(lambda some, _: _items(shards[0], some, settings, encoder), samples, len, part)


def _shards(pattern: str) -> list[Path]:
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise DataError("data.kind webdataset needs the library webdataset: pip install webdataset") from error
    shards = [Path(url) for url in expand_urls(pattern)]
    if missing := [shard for shard in shards if not shard.is_file()]:
        raise FileNotFoundError(f"data.path {pattern}: there is no {missing[0]}")
    return shards


def _encoded(shard: Path, settings: ShardSettings, encoder: Encoder) -> list[Item]:
    """The shard's samples; noted when all are done, so that a run that was cut off goes on at the shard."""
    key = encoder.cache.key(sha256(shard), encoder.sizes, settings.caption)
    noted = encoder.cache.read_note("shards", key)
    if noted is None:
        noted = [astuple(item) for item in _items(shard, _samples(shard), settings, encoder)]
        encoder.cache.write_note("shards", key, noted)
    return [Item(*fields) for fields in noted]


def _samples(shard: Path) -> Iterator[dict]:
    from webdataset import WebDataset

    try:
        # Without the library's splitting: this one shard is for this process.
        yield from WebDataset(str(shard), shardshuffle=False, nodesplitter=None, empty_check=False)
    except tarfile.TarError as error:
        raise DataError(f"{shard} is not a whole tar file: {error}") from error


def _items(shard: Path, samples: Iterable[dict], settings: ShardSettings, encoder: Encoder) -> list[Item]:
    items = []
    for sample in samples:
        name = f"{shard}/{sample['__key__']}"
        picture = next((sample[end] for end in sample if f".{end.rpartition('.')[2].lower()}" in SUFFIXES), None)
        caption = _caption(name, sample, settings.caption)
        if picture is None or not caption:
            log.warning("%s is skipped: it has no %s", name, "picture" if picture is None else settings.caption)
            continue
        if item := encoder.picture(name, picture, caption):
            items.append(item)
    return items


def _caption(name: str, sample: dict, where: str) -> str | None:
    extension, _, key = where.partition(".")
    if extension not in sample:
        return None
    text = sample[extension].decode("utf-8", errors="replace")
    if not key:
        return text.strip()
    try:
        said = json.loads(text)
    except ValueError as error:
        log.warning("%s.%s is not JSON: %s", name, extension, error)
        return None
    value = said.get(key) if isinstance(said, dict) else None
    return value.strip() if isinstance(value, str) else None

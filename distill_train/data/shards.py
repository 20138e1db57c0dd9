"""webdataset shards, read one after the other; a shard that was encoded before is not read again."""

import bz2
import gzip
import json
import logging
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple
from pathlib import Path

from ...files import known_sha256
from ...files.tables import decoded
from ...pipelines.images import hidden, suffixes
from .encode import DataError, Decoded, Encoder, Item, required
from .settings import ShardSettings

log = logging.getLogger(__name__)
BLOCK = 512  # bytes; a tar file is made of them
COMPRESSED = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ": lzma}


def shard_items(settings: ShardSettings, encoder: Encoder) -> list[Item]:
    """Every sample with a picture and a caption, encoded. Raises FileNotFoundError or DataError."""
    shards = _shards(settings.path)

    def encode(mine: list[Path], done) -> list[list[Item]]:
        found = []
        for place, shard in enumerate(mine):
            found.append(_encoded(shard, settings, encoder, lambda part, place=place: done(place + part)))
            done(len(found))
        return found

    found = [item for items in encoder.share(shards, "shards", encode) for item in items]
    return required(found, settings.path)


def _shards(pattern: str) -> list[Path]:
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise DataError("data.kind webdataset needs the library webdataset: pip install webdataset") from error
    shards = [Path(url) for url in expand_urls(pattern)]
    if missing := [shard for shard in shards if not shard.is_file()]:
        raise FileNotFoundError(f"data.path {pattern}: there is no {missing[0]}")
    return shards


def _encoded(shard: Path, settings: ShardSettings, encoder: Encoder, done: Callable[[float], None]) -> list[Item]:
    """The shard's samples; noted when all are done, so that a run that was cut off goes on at the shard."""
    cache = encoder.cache
    stamps = encoder.beside.stamps if encoder.beside else ()
    key = cache.key(known_sha256(shard), encoder.sizes, settings.caption, *encoder.plan, *stamps)
    noted = cache.read_note("shards", key)
    if noted is not None:
        items = [Item(*fields) for fields in noted]
        if all(map(encoder.has, items)):
            return items
    _require_whole(shard)
    items = _items(shard, encoder.read(_followed(shard, done)), settings, encoder)
    cache.write_note("shards", key, [astuple(item) for item in items])
    return items


def _followed(shard: Path, done: Callable[[float], None]) -> Iterator[dict]:
    """The shard's samples; ``done`` is told how much of the shard was worked on."""
    size, read = shard.stat().st_size, 0
    for sample in _samples(shard):
        yield sample
        read += bytes_in_tar(sample)
        done(min(1.0, read / size))  # a compressed shard is smaller than what it holds


def bytes_in_tar(sample: dict) -> int:
    """How much of a tar file a sample takes: each of its files has a header and is filled up to whole blocks."""
    return sum(BLOCK + -(-len(file) // BLOCK) * BLOCK for file in sample.values() if isinstance(file, bytes))


def _require_whole(shard: Path) -> None:
    """Raises DataError for a shard that was cut off, as readers of tar files often take a cut for the end."""
    try:
        with shard.open("rb") as file:
            start = file.read(8)
            opened = next((library.open for magic, library in COMPRESSED.items() if start.startswith(magic)), None)
            if opened is None:
                file.seek(max(0, shard.stat().st_size - BLOCK))
                end = file.read()
            else:
                with opened(shard, "rb") as unpacked:
                    end = b""
                    while part := unpacked.read(1 << 20):
                        end = (end + part)[-BLOCK:]
    except (EOFError, zlib.error) as error:
        raise DataError(f"{shard} is not a whole tar file: {error}") from error
    if end != bytes(BLOCK):
        raise DataError(f"{shard} is not a whole tar file: it does not end in a block of zeros; get it again")


def _samples(shard: Path) -> Iterator[dict]:
    from webdataset import WebDataset

    try:
        # Without the library's splitting: this one shard is for this process.
        yield from WebDataset(str(shard), shardshuffle=False, nodesplitter=None, empty_check=False)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{shard} is not a whole tar file: {error}") from error


def _items(shard: Path, samples: Iterable[dict], settings: ShardSettings, encoder: Encoder) -> list[Item]:
    items = []
    with encoder.encoding() as encode_later:
        for decoded in encoder.made_ahead(lambda sample: _decoded(shard, sample, settings, encoder), samples):
            encode_later(decoded)
            items += [decoded.item] if decoded else []
    return items


def _decoded(shard: Path, sample: dict, settings: ShardSettings, encoder: Encoder) -> Decoded | None:
    if any(hidden(part) for part in sample["__key__"].split("/") if part not in (".", "..")):
        return None
    name = f"{shard}/{sample['__key__']}"
    picture = next((sample[end] for end in sample if f".{end.rpartition('.')[2].lower()}" in suffixes()), None)
    caption = _caption(name, sample, settings.caption)
    if picture is None or not caption:
        log.warning("%s is skipped: it has no %s", name, "picture" if picture is None else settings.caption)
        return None
    second = []
    if encoder.beside:
        if (path := encoder.beside.of(sample["__key__"])) is None:
            log.warning("%s is skipped: there is no condition for it in %s", name, encoder.beside.folder)
            return None
        try:
            second = [path.read_bytes()]
        except OSError as error:
            log.warning("%s is skipped: %s", name, error)
            return None
    return encoder.decoded(name, picture, caption, *second)


def _caption(name: str, sample: dict, where: str) -> str | None:
    extension, _, key = where.partition(".")
    if extension not in sample:
        return None
    try:
        text = decoded(sample[extension], f"{name}.{extension}")
        if not key:
            return text.strip()
        said = json.loads(text)
    except json.JSONDecodeError as error:
        log.warning("%s.%s is not JSON: %s", name, extension, error)
        return None
    except ValueError as error:
        log.warning("%s", error)
        return None
    value = said.get(key) if isinstance(said, dict) else None
    return value.strip() if isinstance(value, str) else None

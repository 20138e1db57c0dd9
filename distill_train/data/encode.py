"""Pictures and prompts into latents and embeddings, each once."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...pipelines.console import Counter
from ...pipelines.images import DAMAGE, opened
from ...pipelines.processes import Processes
from .ahead import ahead
from .batch import Batch
from .beside import Beside
from .buckets import Sizes, nearest
from .cache import Cache
from .conditions import Condition, extras_of
from .randomness import generator

if TYPE_CHECKING:
    from ..teachers import Teacher

log = logging.getLogger(__name__)
PROMPTS_AT_ONCE = 16
PIXELS_AT_ONCE = 1 << 20  # that an autoencoder encodes in float32 beside text encoders: one picture of SDXL's size
LEAD = 8  # pictures that wait decoded

Encode = Callable[[list, Callable[[float], None]], list]  # of some work, telling how much of it is done


class DataError(ValueError):
    """Data from which nothing can be learned; the message says what is wrong with it."""


@dataclass(frozen=True)
class Item:
    """A sample: what to call it, the cache's key of its latents, its caption, its size in pixels.

    extras: the cache's key of what else it has; "" for nothing.
    """

    name: str
    latents: str
    caption: str
    height: int
    width: int
    extras: str = ""


class Decoded(NamedTuple):
    """A sample whose picture was read: its pixels [3, height, width] in [0, 1], None where its latents are cached."""

    item: Item
    pixels: Tensor | None = None


class Encoder:
    """The teacher's encoders in front of the cache. With several processes each encodes a part.

    precision: of the teacher's UNet, where it makes the samples; the autoencoder always runs in float32. condition:
    what else a sample gets; beside: the pictures that it is made of, where that is not the sample's own.
    """

    def __init__(
        self,
        teacher: "Teacher",
        cache: Cache,
        sizes: Sizes,
        precision: str,
        condition: Condition | None = None,
        beside: Beside | None = None,
    ):
        self.teacher, self.cache, self.sizes, self.precision = teacher, cache, sizes, precision
        self.condition, self.beside = condition, beside
        on_gpu, self.lead = torch.device(teacher.device).type != "cpu", LEAD
        # On a CPU several at once are no faster, and one alone comes out the same to the last bit in any company.
        self.pixels_at_once = PIXELS_AT_ONCE if on_gpu else 0
        self.processes = Processes("cpu" if torch.device(teacher.device).type == "cpu" else "auto")

    def first(self, work: list, captions: Sequence[str]) -> list:
        """Which of ``work``, which has these captions, is to be encoded: all of it."""
        return work

    def read(self, samples: Iterator[dict]) -> Iterator[dict]:
        """Which samples of a shard are to be encoded: all of them."""
        return samples

    def share(self, work: Sequence, what: str, encode: Encode) -> list:
        """``encode`` for this process's part of ``work``; the results of all processes, in the order of the work."""
        mine = list(work[self.processes.rank :: self.processes.count])
        with Counter(what) as count:
            shown = (lambda done: count(done, len(mine))) if self.processes.is_main else (lambda done: None)
            parts = self.processes.gather(encode(mine, shown))
        results = [None] * len(work)
        for rank, found in enumerate(parts):
            results[rank :: self.processes.count] = found
        return results

    def missing(self, work: Iterable, entry: Callable[[Any], tuple[str, ...]]) -> list:
        """What of ``work`` is not in the cache, ``entry`` being what its `has` takes; the same list in every process.

        It is the main process's, and nobody gets it before all have looked, as some would look later than others write.
        """
        return self.processes.gather([one for one in work if not self.cache.has(*entry(one))])[0]

    @property
    def plan(self) -> tuple[str, ...]:
        """Of what the extras are made, for keys of the cache; nothing where there are none."""
        return () if self.condition is None else ("condition", self.condition.plan)

    def has(self, item: Item) -> bool:
        """Whether all of a sample but its caption's embeddings is in the cache."""
        return self.cache.has("latents", item.latents) and (not item.extras or self.cache.has("extras", item.extras))

    def decoded(self, name: str, data: bytes, caption: str, beside: bytes = b"") -> Decoded | None:
        """The sample of a picture file's content; None, and a line in the log, for one that cannot be read.

        beside: the content of the file that its condition is made of, where that lies beside. Its extras are cached
        here, its latents by :meth:`encoding`. A thread may do it.
        """
        from PIL import ImageOps

        try:
            with opened(data) as image:
                ImageOps.exif_transpose(image, in_place=True)
                height, width = nearest(self.sizes, image.height, image.width)
                key = self.cache.key(data, height, width)
                extras = self.cache.key(key, beside, *self.plan) if self.condition else ""
                item, size = Item(name, key, caption, height, width, extras), image.size
                pixels = None if self.has(item) else _fitted(image, height, width)
        except DAMAGE as error:
            log.warning("%s is skipped: it cannot be read as a picture: %s", name, error)
            return None
        if pixels is None:
            return Decoded(item)
        if self.condition and not self.cache.has("extras", extras):
            try:
                second = _second(beside, size, height, width) if self.beside else pixels
            except DAMAGE as error:
                log.warning("%s is skipped: its condition cannot be read as a picture: %s", name, error)
                return None
            self.save_extras(item, second)
        return Decoded(item, None if self.cache.has("latents", key) else pixels)

    def made_ahead(self, function: Callable, work: Iterable) -> Iterator:
        """What :func:`ahead` gives, with this encoder's lead."""
        return ahead(function, work, self.lead)

    @contextmanager
    def encoding(self) -> Iterator[Callable[[Decoded | None], None]]:
        """Within, pictures that are handed over are encoded, on a GPU several of a size at once; at its end all are."""
        waiting: dict[torch.Size, dict[str, Decoded]] = {}  # by the cache's key, as some lie in a folder twice

        def take(decoded: Decoded | None) -> None:
            if decoded is None or decoded.pixels is None or self.cache.has("latents", decoded.item.latents):
                return
            group = waiting.setdefault(decoded.pixels.shape, {})
            group[decoded.item.latents] = decoded
            if (len(group) + 1) * decoded.pixels[0].numel() > self.pixels_at_once:
                self._encode(waiting.pop(decoded.pixels.shape))

        yield take
        for group in waiting.values():
            self._encode(group)

    def _encode(self, group: dict[str, Decoded]) -> None:
        latents = self.teacher.encode(torch.stack([decoded.pixels for decoded in group.values()]))
        for one, (key, decoded) in zip(latents, group.items(), strict=True):
            self.save_made("latents", key, {"latents": one.clone()}, decoded.item.name)

    def save_made(self, kind: str, key: str, tensors: dict[str, Tensor], of: str) -> None:
        """Keep what the teacher made of a sample, called ``of``. Raises DataError for what is no number."""
        if not all(value.isfinite().all() for value in tensors.values()):
            raise DataError(
                f"what the teacher {self.teacher.file} makes of {of!r} ({kind}) is no number, so nothing was kept of "
                "it; if loop.precision is fp16, take bf16 or fp32, else the file is damaged"
            )
        self.cache.save(kind, key, tensors)

    def save_extras(self, item: Item, pixels: Tensor) -> None:
        """Make a sample's extras of pixels [C, height, width] in [0, 1]; their draws follow from the sample alone."""
        draw = generator(getattr(self.condition, "seed", 0), "condition", item.latents)
        self.cache.save("extras", item.extras, self.condition.make(pixels, draw))

    def text_key(self, prompt: str) -> str:
        return self.cache.key(prompt, *self.teacher.text_plan)

    def texts(self, captions: Iterable[str]) -> None:
        """Embed what the cache lacks; how many the teacher cuts goes to the log."""
        captions = set(captions)
        if self.processes.is_main and (said := self.teacher.too_long(captions)):
            log.warning("%s; the rest of them is not learned", said.replace("prompts", "captions"))
        missing = self.missing(sorted(captions), lambda prompt: ("text", self.text_key(prompt)))

        def embed(mine: list[str], done: Callable[[int], None]) -> list:
            for start in range(0, len(mine), PROMPTS_AT_ONCE):
                part = mine[start : start + PROMPTS_AT_ONCE]
                rows = self.teacher.separate(self.teacher.embed(part))
                for prompt, row in zip(part, rows, strict=True):
                    self.save_made("text", self.text_key(prompt), {key: v.clone() for key, v in row.items()}, prompt)
                done(start + len(part))
            return mine

        self.share(missing, "captions", embed)

    def lengths(self, captions: Iterable[str]) -> dict[str, tuple]:
        """By caption the sizes of its embeddings, as only equal ones share a pass; () of all that are padded."""
        if not self.teacher.keeps_lengths:
            return dict.fromkeys(captions, ())
        shapes = {one: self.cache.shapes("text", self.text_key(one)) for one in set(captions)}
        return {one: tuple(of[name] for name in sorted(of)) for one, of in shapes.items()}

    def embeddings(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """Those of a batch, from the cache."""
        return self.teacher.collate([self.cache.load("text", self.text_key(caption)) for caption in captions])


def _fitted(image, height: int, width: int) -> Tensor:
    """[3, height, width] in [0, 1]: on white, scaled until it covers the size, and cropped in the middle."""
    import numpy as np
    from PIL import Image, ImageOps

    if image.has_transparency_data:  # what lies below is mostly black, and nobody has ever seen it
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    fitted = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float().div(255)


def _second(data: bytes, size: tuple[int, int], height: int, width: int) -> Tensor:
    """[1 or 3, height, width] in [0, 1] of a file that belongs to a picture of ``size``, scaled and cropped as that is.

    Grey of 16 bits keeps them. Raises ValueError for another shape than the picture's.
    """
    import numpy as np
    from PIL import Image, ImageOps

    with opened(data, deep=True) as image:
        ImageOps.exif_transpose(image, in_place=True)
        if abs(image.width * size[1] - image.height * size[0]) > max(*image.size, *size):  # rounded sides
            raise ValueError(f"it has {image.width}x{image.height} pixels, in another shape than the picture's {size}")
        if image.mode.startswith("I"):
            image = Image.fromarray(np.asarray(image, dtype=np.float32) / 65535)
            fitted = ImageOps.fit(
                image.resize(size, Image.Resampling.LANCZOS), (width, height), Image.Resampling.LANCZOS
            )
            return torch.from_numpy(np.array(fitted))[None].clamp(0, 1)
        return _fitted(image.resize(size, Image.Resampling.LANCZOS) if image.size != size else image, height, width)


class CachedSource:
    """Samples from the cache. A step takes all its own from one size, which is drawn by how many samples have it.

    Which they are follows from (seed, step): without repeats within a step as far as the samples of that size suffice.
    Where texts are not padded, a step's are also alike in length, as far as there is a batch of them, and stand in the
    order of their lengths. fingerprint: other samples, captions or latents have another.
    """

    def __init__(self, items: Sequence[Item], encoder: Encoder, seed: int, batch_size: int):
        self.encoder, self.seed, self.batch_size = encoder, seed, batch_size
        by_size: dict[tuple[int, int], list[Item]] = {}
        for item in items:
            by_size.setdefault((item.height, item.width), []).append(item)
        self.lengths = encoder.lengths(item.caption for item in items)
        self.by_size = [
            part for size in sorted(by_size) for part in alike_in_length(by_size[size], self._length, batch_size)
        ]
        digest = Cache.key(*(part for group in self.by_size for item in group for part in _parts(item)))
        self.fingerprint = f"{len(self)} samples, {digest}"
        self.shares = torch.tensor([float(len(group)) for group in self.by_size])

    def __len__(self) -> int:
        return sum(map(len, self.by_size))

    def _length(self, item: Item) -> tuple:
        return self.lengths[item.caption]

    def batch(self, step: int, indices: range) -> Batch:
        """The samples of a step with these global indices, step * batch_size + place."""
        draw = generator(self.seed, "data", step)
        group = self.by_size[int(torch.multinomial(self.shares, 1, generator=draw))]
        order, start = torch.randperm(len(group), generator=draw).tolist(), step * self.batch_size
        places = range(max(self.batch_size, indices.stop - start))
        whole = sorted((group[order[place % len(group)]] for place in places), key=self._length)
        chosen = [whole[index - start] for index in indices]
        cache = self.encoder.cache
        return Batch(
            latents=torch.stack([cache.load("latents", item.latents)["latents"] for item in chosen]),
            embeddings=self.encoder.embeddings([item.caption for item in chosen]),
            names=tuple(item.name for item in chosen),
            height=chosen[0].height,
            width=chosen[0].width,
            extras=extras_of([cache.load("extras", item.extras) for item in chosen if item.extras]),
        )


def alike_in_length(items: Sequence[Item], length: Callable[[Item], tuple], least: int) -> list[list[Item]]:
    """The items in parts of one length each, but that each part has ``least`` of them as far as there are so many.

    A part that would have fewer also has those of the next lengths. With one length for all there is one part.
    """
    parts: list[list[Item]] = []
    for _, same in groupby(sorted(items, key=length), key=length):
        if parts and len(parts[-1]) < least:
            parts[-1] += same
        else:
            parts.append([*same])
    if len(parts) > 1 and len(parts[-1]) < least:
        last = parts.pop()
        parts[-1] += last
    return parts


def _parts(item: Item) -> tuple[str, ...]:
    """What a sample is known by."""
    return (item.latents, item.caption, item.extras) if item.extras else (item.latents, item.caption)


def required(items: Sequence[Item | None], of: str | Path) -> list[Item]:
    """The items that could be read. Raises DataError if none could."""
    kept = [item for item in items if item is not None]
    if not kept:
        raise DataError(f"{of}: no sample can be used; the log says why each was skipped")
    return kept

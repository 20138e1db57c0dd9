"""The first samples of a recipe's data, made for an estimate, and how much of all they are."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from ..data import make_source
from ..data.batch import Source
from ..data.encode import Encode, Encoder
from ..data.shards import bytes_in_tar
from ..demo.source import SceneSource, read_settings
from ..methods.distillation import Distillation

SAMPLES = 24  # that are made, at most


@dataclass
class Extent:
    """What part the first samples are of all, and of their distinct captions; seconds that the others would take."""

    samples: float = 1.0
    captions: float = 1.0
    seconds: float = 0.0


def make_first_samples(method: Distillation, extent: Extent, cache: Path) -> Source:
    """In the place of `Distillation.make_source`; ``extent`` is filled in."""
    data = method.recipe.data
    if data.get("kind") == "scenes":
        return _first_scenes(method, extent, cache)
    return make_source(data, method.teacher, method.recipe, cache, make_encoder=partial(FirstSamples, extent))


def _first_scenes(method: Distillation, extent: Extent, cache: Path) -> SceneSource:
    def make(count: int) -> SceneSource:
        return SceneSource.of_settings(method.recipe.data | {"pictures": count}, method.teacher, method.recipe, cache)

    pictures = read_settings(method.recipe.data).pictures
    count = min(pictures, SAMPLES)
    make(1)  # what happens once would be taken for a part of every scene's time
    started = time.monotonic()
    source = make(count)
    extent.samples = extent.captions = count / pictures
    extent.seconds = (time.monotonic() - started) * (pictures / count - 1)
    return source


class FirstSamples(Encoder):
    """Encodes the first ``SAMPLES``, in one process, and takes down how long the others would take.

    The first one is not counted, as it also pays for what happens once, such as moving networks to the device.
    """

    def __init__(self, extent: Extent, *given):
        super().__init__(*given)
        self.extent = extent
        self.clock: list[float] = []  # when each sample of a shard was begun, and when the last of them was done
        self.bytes = 0  # of those samples

    def first(self, work: list, captions: Sequence[str]) -> list:
        if len(work) > SAMPLES:
            self.extent.samples = SAMPLES / len(work)
            self.extent.captions = len(set(captions[:SAMPLES])) / len(set(captions))
        return work[:SAMPLES]

    def read(self, samples: Iterator[dict]) -> Iterator[dict]:
        for sample in islice(samples, SAMPLES):
            self.clock.append(time.monotonic())
            yield sample
            self.bytes += bytes_in_tar(sample)
        self.clock.append(time.monotonic())

    def share(self, work: Sequence, what: str, encode: Encode) -> list:
        if what == "shards":
            return self._share_first_shard(work, encode)
        part = self.extent.captions if what == "captions" else self.extent.samples
        return super().share(work, what, partial(self._measured, encode, part))

    def _measured(self, encode: Encode, part: float, work: list, done: Callable[[float], None]) -> list:
        first, others = (work[:1], work[1:]) if len(work) > 1 else ([], work)
        results = encode(first, done) if first else []
        started = time.monotonic()
        results = results + (encode(others, done) if others else [])
        if others:
            self._count_others(time.monotonic() - started, len(others), len(work), part)
        return results

    def _share_first_shard(self, shards: Sequence[Path], encode: Encode) -> list:
        """What part its first samples are follows from their bytes, as nobody counts the rest."""
        self.lead = 0  # so that the clock tells samples apart
        results = encode([shards[0]], lambda done: None)
        part = min(1.0, self.bytes / sum(shard.stat().st_size for shard in shards))
        self.extent.samples = self.extent.captions = part
        if samples := len(self.clock) - 1:
            others = self.clock[1:] if samples > 1 else self.clock
            self._count_others(others[-1] - others[0], len(others) - 1, samples, part)
        return results

    def _count_others(self, seconds: float, measured: int, made: int, part: float) -> None:
        self.extent.seconds += seconds / measured * made * (1 / part - 1)

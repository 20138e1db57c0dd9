"""Graphs as people wire them, generated from a seed; each knows which images are redone, or the line that it ends with.

An image is redone or left alone bit for bit; which of the two follows from the rules by hand, not from the pack's code.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from .graphs import THRESHOLD, Adaptive, Graph

WHOLE = (1.0, 2.0, 3.0, 4.0, 5.0)


@dataclass(frozen=True)
class OddGraph:
    """``make()`` is the graph; either ``redone``, one flag an image in the images' order, or ``says``, words of the one
    line with which node ``at`` refuses it."""

    name: str
    make: Callable[[], Graph]
    redone: tuple[bool, ...] = ()
    says: tuple[str, ...] = ()
    at: str = ""

    def __str__(self) -> str:
        return self.name


def odd_graphs(seed: int, count: int) -> list[OddGraph]:
    rng = random.Random(seed)
    kinds = (_worst, _worst, _fixed, _typed, _split, _latent, _wrong_latent, _missing_widget, _wrong_scores, _named)
    return [kinds[k % len(kinds)](rng, k) for k in range(count)]


def by_rank(scores, fraction) -> tuple[bool, ...]:
    """The worst part: at least one where there are two or more, the first of equals; of a single one none, unless all
    are asked for."""
    if fraction == 0 or (len(scores) < 2 and fraction < 1):
        return (False,) * len(scores)
    order = sorted(range(len(scores)), key=lambda place: (scores[place], place))
    worst = set(order[: max(1, round(fraction * len(scores)))])
    return tuple(place in worst for place in range(len(scores)))


def below(scores, value) -> tuple[bool, ...]:
    return tuple(score < value for score in scores)


def _adaptive(scores, number, **threshold) -> Adaptive:
    graph = Adaptive(list(scores), seed=number, steps=1)
    graph.set(graph.threshold, **{**THRESHOLD, **threshold})
    return graph


def _worst(rng, number) -> OddGraph:
    """Scores with many ties; batches of one and two; shares that round to nothing."""
    scores = [rng.choice((1.0, 1.0, 1.0, 5.0, -2.0)) for _ in range(rng.choice((1, 2, 2, 3, 4, 5)))]
    fraction = rng.choice((0.0, 0.1, 0.25, 0.3, 0.7, 1.0))
    return OddGraph(
        f"{number}, worst {fraction} of {scores}",
        lambda: _adaptive(scores, number, mode="worst_fraction", fraction=fraction),
        by_rank(scores, fraction),
    )


def _fixed(rng, number) -> OddGraph:
    """Whole numbers, with scores at the very value: those stay."""
    scores = [rng.choice(WHOLE) for _ in range(rng.randrange(1, 5))]
    value = rng.choice(WHOLE)
    return OddGraph(
        f"{number}, below {value} of {scores}",
        lambda: _adaptive(scores, number, mode="fixed", value=value),
        below(scores, value),
    )


def _typed(rng, number) -> OddGraph:
    """Judges that give whole numbers or yes and no."""
    yes_or_no = rng.random() < 0.5
    scores = [rng.choice((True, False) if yes_or_no else (1, 2, 3, 7)) for _ in range(rng.randrange(2, 5))]

    def make():
        graph = _adaptive([0.0] * len(scores), number, mode="fixed", value=0.5 if yes_or_no else 2.5)
        judge = graph.add("TestNumbers", numbers=json.dumps(scores))
        graph.set(graph.scores, scores=judge[1 if yes_or_no else 0])
        return graph

    return OddGraph(f"{number}, scores {scores}", make, below(scores, 0.5 if yes_or_no else 2.5))


def _split(rng, number) -> OddGraph:
    """The batch as a list, in one size or another, with the student's latent and without."""
    scores = [rng.choice((0.0, 1.0)) for _ in range(4)]
    size, latent = rng.choice((1, 2, 3)), rng.random() < 0.5

    def make():
        graph = _adaptive(scores, number, mode="fixed", value=0.5)
        parts = graph.add("RebatchImages", images=graph.images[0], batch_size=size)
        graph.set(graph.teacher, images=parts[0])
        if latent:
            graph.set(graph.teacher, latent=graph.sampled[0])
        return graph

    return OddGraph(f"{number}, {scores} by {size}{' with a latent' * latent}", make, below(scores, 0.5))


def _latent(rng, number) -> OddGraph:
    """Latents as other packs hand them on: keys that hold None, keys that nobody knows, masks in any shape."""
    changes = rng.choice(
        (
            {"noise_mask": None},
            {"batch_index": None},
            {"noise_mask": None, "batch_index": None},
            {"someone_s": [1, {"a": 2}]},
            {"noise_mask": [3, 64, 64]},
            {"noise_mask": [1, 1, 64, 64]},
            {"noise_mask": [3, 1, 8, 8]},
            {"batch_index": [7, 7, 9]},
        )
    )
    scores = [rng.choice((0.0, 1.0)) for _ in range(3)]

    def make():
        graph = _adaptive(scores, number, mode="fixed", value=0.5)
        changed = graph.add("TestChangedLatent", latent=graph.sampled[0], changes=json.dumps(changes))
        graph.set(graph.teacher, latent=changed[0])
        return graph

    return OddGraph(f"{number}, latent with {changes}", make, below(scores, 0.5))


def _wrong_latent(rng, number) -> OddGraph:
    changes, says = rng.choice(
        (
            ({"batch_index": [0, 1]}, ("batch_index", "2", "3")),
            ({"batch_index": [0, 1, 2, 3]}, ("batch_index", "4", "3")),
            ({"samples": [2, 4, 8, 8]}, ("2 latents", "3 images")),
            ({"samples": "nested"}, ("in one",)),
        )
    )

    def make():
        graph = _adaptive([0.0, 1.0, 0.0], number, mode="fixed", value=0.5)
        changed = graph.add("TestChangedLatent", latent=graph.sampled[0], changes=json.dumps(changes))
        graph.set(graph.teacher, latent=changed[0])
        return graph

    return OddGraph(f"{number}, latent with {changes}", make, says=says, at="teacher")


def _missing_widget(rng, number) -> OddGraph:
    """An API graph without a widget: the host says which, or the node has a default; never a Python error."""
    node = rng.choice(("teacher", "threshold"))
    widget = rng.choice(("steps", "cfg", "seed", "rollback") if node == "teacher" else ("mode", "value", "fraction"))

    def make():
        graph = _adaptive([0.0, 1.0], number, mode="fixed", value=0.5)
        del graph.nodes[getattr(graph, node)]["inputs"][widget]
        return graph

    return OddGraph(f"{number}, {node} without {widget}", make, says=(widget,), at=node)


def _wrong_scores(rng, number) -> OddGraph:
    scores, says = rng.choice(
        (
            ([1.0, 2.0, 3.0], ("3 scores", "2 images")),
            ([1.0], ("1 scores", "2 images")),
            ([1.0, float("nan")], ("image 2", "NaN")),
            ([], ("scores",)),
        )
    )

    def make():
        graph = _adaptive([0.0, 0.0], number, mode="fixed", value=0.5)
        graph.set(graph.scores, scores=graph.add("TestFloats", numbers=json.dumps(scores))[0])
        return graph

    return OddGraph(f"{number}, scores {scores} of 2 images", make, says=says, at="scores")


def _named(rng, number) -> OddGraph:
    """Calibrations by names in any script; those that can be no file are refused before anything is made."""
    fine = number // 10 % 2 == 0
    name = rng.choice(("мой студент", "我的模型", "élève 2") if fine else ("a/b", "..", "con", "a:b", ""))

    def make():
        graph = _adaptive([0.0, 1.0], number, mode="fixed", value=0.5)
        graph.calibrate = graph.add("UnderstudyCalibrate", scores=graph.scores[0], name=name)
        return graph

    if fine:
        return OddGraph(f"{number}, calibration {name!r}", make, (True, False))
    return OddGraph(f"{number}, calibration {name!r}", make, says=("name",), at="calibrate")

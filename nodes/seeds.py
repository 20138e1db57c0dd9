"""Which noise an image was made of: its seed travels in the student's latent, or stands upstream in the graph."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

# The host's nodes copy keys of a LATENT that they do not know, and also where they change its samples.
KEY = "understudy_seed"
NAMES = ("seed", "noise_seed")


class BatchNoise(NamedTuple):
    """The starting noise of a whole batch, as a sampler draws it: of ``batch`` images, whose places are batch_index."""

    seed: int
    batch: int
    batch_index: tuple[int, ...] | None

    def index(self, row: int) -> int:
        """The place, on which its noise depends, of the batch's image ``row``."""
        return row if self.batch_index is None else self.batch_index[row]


def with_seed(latent: Mapping, seed: int) -> dict:
    """The latent that a sampler made with this seed, and what ``noise_of_image`` tells of it later."""
    batch, indices = len(latent["samples"]), latent.get("batch_index")
    whole = BatchNoise(seed, batch, None if indices is None else tuple(indices))
    return with_noises(latent, [(whole, row) for row in range(batch)])


def with_noises(latent: Mapping, noises: Sequence[tuple[BatchNoise, int]]) -> dict:
    """The same where each image has the noise of a batch of its own, and its row in that."""
    sums = [checksum(sample) for sample in latent["samples"]]
    return {**latent, KEY: {"noises": list(noises), "checksums": sums}}


def noise_of_image(latent: Mapping | None, place: int) -> tuple[BatchNoise, int] | None:
    """The noise of the batch that the latent's image ``place`` was sampled in, and its row in that.

    None where nothing travelled with the latent, or the image was changed since: resampled, resized, or another's.
    """
    key = (latent or {}).get(KEY)
    if key is None:
        return None
    sums, own = key["checksums"], checksum(latent["samples"][place])
    if own not in sums:
        return None
    return key["noises"][place if sums[place : place + 1] == [own] else sums.index(own)]


def checksum(sample: torch.Tensor) -> str:
    """Of one image's latent [C, ...]; the same on every device and in every type that holds its values."""
    values = sample.detach().to("cpu", torch.float32).contiguous()
    return hashlib.blake2b(values.numpy().tobytes(), digest_size=8).hexdigest()


def samplers_upstream(graph, node_id: str, inputs: tuple[str, ...]) -> list[tuple[str, int]]:
    """The samplers that made what comes in at the first of ``inputs`` that has any: the nearest on each way upstream.

    graph: the host's DynamicPrompt. Returns (class and id, seed) for each whose seed the graph tells.
    """
    for name in inputs:
        link = graph.get_node(node_id)["inputs"].get(name)
        found = list(_samplers(graph, link, set())) if _is_link(graph, link) else []
        if found:
            own = [graph.get_node(node_id)["inputs"].get(name) for name in NAMES]
            return [(label, _number(graph, value)) for label, value in found
                    if value not in own and _number(graph, value) is not None]  # fmt: skip
    return []


def _samplers(graph, link: list, seen: set) -> Iterator[tuple[str, object]]:
    identity = str(link[0])
    if identity in seen:
        return
    seen.add(identity)
    node = graph.get_node(identity)
    seed = _seed(graph, node["inputs"])
    if seed is not None and _gives_latents(node["class_type"]):
        yield f"{node['class_type']} (node {identity})", seed
        return
    for value in node["inputs"].values():
        if _is_link(graph, value):
            yield from _samplers(graph, value, seen)


def _seed(graph, inputs: Mapping):
    """A sampler's seed, or the link to it, from its own inputs or its noise's; None where it adds no noise."""
    if inputs.get("add_noise", True) in (False, "disable"):
        return None
    noise = inputs.get("noise")
    if _is_link(graph, noise):
        inputs = graph.get_node(str(noise[0]))["inputs"]
    return next((inputs[name] for name in NAMES if name in inputs), None)


def _number(graph, value) -> int | None:
    """A seed by itself or from a node that holds the number; None where only running the graph would tell."""
    if _is_link(graph, value):
        value = graph.get_node(str(value[0]))["inputs"].get("value")
    return value % 2**64 if isinstance(value, int) else None


def _is_link(graph, value) -> bool:
    return isinstance(value, list) and len(value) == 2 and graph.has_node(str(value[0]))


def _gives_latents(class_type: str) -> bool:
    """A sampler's seed counts; a seed may also be a film grain's, or of the words of a prompt."""
    import nodes

    return "LATENT" in nodes.NODE_CLASS_MAPPINGS[class_type].RETURN_TYPES

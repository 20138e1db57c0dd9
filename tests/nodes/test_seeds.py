"""An image's seed, as it travels in its latent and as it stands in the graph."""

import sys
from types import SimpleNamespace

import pytest
import torch
from understudy.nodes.seeds import BatchNoise, checksum, noise_of_image, samplers_upstream, with_noises, with_seed


@pytest.fixture
def latent():
    samples = torch.randn(3, 4, 5, 7, generator=torch.Generator().manual_seed(0))
    return with_seed({"samples": samples, "batch_index": [4, 1, 2]}, 9)


def test_an_image_s_own_noise_is_found_by_what_is_in_it(latent):
    whole = BatchNoise(9, 3, (4, 1, 2))
    assert [noise_of_image(latent, place) for place in range(3)] == [(whole, 0), (whole, 1), (whole, 2)]
    assert [whole.index(row) for row in range(3)] == [4, 1, 2] and BatchNoise(9, 3, None).index(2) == 2
    turned = {**latent, "samples": latent["samples"].flip(0), "batch_index": [0, 0, 0]}
    assert noise_of_image(turned, 0) == (whole, 2)
    half = {**latent, "samples": torch.cat([latent["samples"][1:2], torch.zeros(1, 4, 5, 7)])}
    assert noise_of_image(half, 0) == (whole, 1) and noise_of_image(half, 1) is None


def test_alike_images_are_told_apart_by_their_places():
    latent = with_seed({"samples": torch.zeros(3, 4, 5, 7)}, 9)
    assert [noise_of_image(latent, place)[1] for place in range(3)] == [0, 1, 2]


def test_each_image_may_have_the_noise_of_a_batch_of_its_own(latent):
    own = [(BatchNoise(9, 3, None), 0), (BatchNoise(77, 1, None), 0), (BatchNoise(9, 3, None), 2)]
    joined = with_noises(latent, own)
    assert [noise_of_image(joined, place) for place in range(3)] == own
    assert noise_of_image({**joined, "samples": joined["samples"].flip(0)}, 0) == own[2]


def test_no_seed_travels_without_a_latent_or_with_another_one(latent):
    assert noise_of_image(None, 0) is None and noise_of_image({"samples": latent["samples"]}, 0) is None
    assert noise_of_image({**latent, "samples": latent["samples"] + 1e-3}, 0) is None
    assert noise_of_image(with_seed(latent, 10), 0)[0].seed == 10


def test_a_checksum_is_of_the_values():
    sample = torch.randn(4, 5, 7).half()
    assert checksum(sample) == checksum(sample.float()) == checksum(sample.movedim(0, -1).contiguous().movedim(-1, 0))
    assert checksum(sample) != checksum(sample.flip(0))


class Graph:
    """Stands in for the host's DynamicPrompt."""

    def __init__(self, **nodes):
        self.nodes = nodes

    def has_node(self, node_id):
        return node_id in self.nodes

    def get_node(self, node_id):
        class_type, inputs = self.nodes[node_id]
        return {"class_type": class_type, "inputs": inputs}


@pytest.fixture
def upstream(monkeypatch):
    """Finds the samplers upstream of node t, whose images come from node ``last`` of the graph."""
    latents = "KSampler KSamplerAdvanced SamplerCustomAdvanced EmptyLatentImage LatentBatch".split()
    classes = {name: SimpleNamespace(RETURN_TYPES=("LATENT",)) for name in latents}
    classes |= {name: SimpleNamespace(RETURN_TYPES=("IMAGE",)) for name in ("VAEDecode", "Grain")}
    monkeypatch.setitem(sys.modules, "nodes", SimpleNamespace(NODE_CLASS_MAPPINGS=classes))

    def find(last, seed=0, **nodes):
        graph = Graph(t=("UnderstudyTeacher", {"images": [last, 0], "seed": seed}), **nodes)
        return samplers_upstream(graph, "t", ("latent", "images"))

    return find


def sampler(seed, latent="e", **inputs):
    return "KSampler", {"seed": seed, "latent_image": [latent, 0], **inputs}


EMPTY = ("EmptyLatentImage", {"width": 64})
NUMBER = ("PrimitiveInt", {"value": 5})


def test_the_nearest_sampler_on_each_way_counts(upstream):
    decoded = {"d": ("VAEDecode", {"samples": ["b", 0]}), "e": EMPTY}
    assert upstream("d", **decoded, b=sampler(3, "a"), a=sampler(4)) == [("KSampler (node b)", 3)]
    both = {"b": ("LatentBatch", {"samples1": ["a", 0], "samples2": ["c", 0]}), "a": sampler(4), "c": sampler(-1)}
    assert upstream("d", **decoded, **both) == [("KSampler (node a)", 4), ("KSampler (node c)", 2**64 - 1)]
    grain = {"g": ("Grain", {"image": ["d", 0], "seed": 8}), "b": sampler(3)}
    assert upstream("g", **decoded, **grain) == [("KSampler (node b)", 3)]
    assert upstream("d", d=("VAEDecode", {"samples": ["e", 0]}), e=EMPTY) == []


def test_a_sampler_that_adds_no_noise_leaves_the_seed_to_the_one_before(upstream):
    second = ("KSamplerAdvanced", {"noise_seed": 8, "add_noise": "disable", "latent_image": ["b", 0]})
    assert upstream("a", a=second, b=sampler(3), e=EMPTY) == [("KSampler (node b)", 3)]
    custom = ("SamplerCustomAdvanced", {"noise": ["n", 0], "latent_image": ["b", 0]})
    rest = {"a": custom, "b": sampler(3), "e": EMPTY}
    assert upstream("a", **rest, n=("DisableNoise", {})) == [("KSampler (node b)", 3)]
    assert upstream("a", **rest, n=("RandomNoise", {"noise_seed": 7})) == [("SamplerCustomAdvanced (node a)", 7)]


def test_seeds_by_links_are_compared_where_the_graph_tells_them(upstream):
    linked = {"a": sampler(["p", 0]), "e": EMPTY}
    assert upstream("a", **linked, p=NUMBER) == [("KSampler (node a)", 5)]
    assert upstream("a", seed=["p", 0], **linked, p=("Grain", {"of": 1})) == []  # one number for both
    assert upstream("a", **linked, p=("Grain", {"of": 1})) == []  # known only when it ran

"""Lists: eight prompts as a list make eight batches of one image, and image, score and prompt stay together."""

import json

import torch

from .graphs import SIDE, Adaptive
from .tensors import tensors

PROMPTS = ["a castle", "a boat", "two cats", "a red car", "snow", "a tall tree", "an old clock", "a lamp"]


def with_prompts(graph):
    texts = graph.add("TestStrings", texts=json.dumps(PROMPTS))
    for node in (graph.text, graph.positive):
        graph.set(node, text=texts[0])
    graph.set(graph.latent, batch_size=1)
    return texts


def saved_list(host, run, node):
    found = tensors(host, run, node)
    return [found[f"images.{k}"] for k in range(sum(name.startswith("images.") for name in found))]


def test_eight_prompts_as_a_list(host):
    graph = Adaptive(None, count=1, seed=300)
    graph.set(graph.scores, prompt=with_prompts(graph)[0])
    graph.set(graph.threshold, mode="worst_fraction", fraction=0.25)
    values = graph.add("TestSaveTensors", floats=graph.scores[1])
    run = host.run(graph)
    before, after = saved_list(host, run, graph.before), saved_list(host, run, graph.after)
    assert [batch.shape for batch in after] == [(1, SIDE, SIDE, 3)] * 8
    scores = tensors(host, run, values)["floats"]
    refined = tensors(host, run, graph.after)["booleans"].tolist()
    assert sum(refined) == 2
    assert [not torch.equal(b, a) for b, a in zip(before, after, strict=True)] == refined
    assert set(scores.argsort()[:2].tolist()) == {k for k in range(8) if refined[k]}


def test_an_image_s_score_belongs_to_its_own_prompt(host):
    graph = Adaptive(None, count=1, seed=301)
    texts = with_prompts(graph)
    graph.set(graph.scores, prompt=texts[0])
    in_list = graph.add("TestSaveTensors", floats=graph.scores[1])
    alone = graph.add("UnderstudyScoreImages", oracle=graph.oracle[0], images=graph.images[0], prompt=PROMPTS[5])
    against_one = graph.add("TestSaveTensors", floats=alone[1])
    for node in (graph.after, graph.teacher):
        del graph.nodes[node]
    run = host.run(graph)
    in_list, against_one = (tensors(host, run, node)["floats"] for node in (in_list, against_one))
    assert len(in_list) == len(against_one) == 8
    assert torch.isclose(in_list[5], against_one[5], atol=1e-5)
    assert not torch.allclose(in_list, against_one, atol=1e-4)

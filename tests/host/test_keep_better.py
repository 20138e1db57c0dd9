"""Keep Better: of each redone image the version that the oracle prefers; the oracle rests when none was redone."""

import torch

from .checkpoints import CLIP
from .graphs import Adaptive
from .tensors import tensors

GOOD, BAD = 0.9, 0.1


def with_keep_better(scores, seed):
    graph = Adaptive(scores, seed=seed)
    graph.judge = graph.add("UnderstudyLoadOracle", oracle_name=CLIP, family="auto")
    graph.better = graph.add(
        "UnderstudyKeepBetter",
        images_before=graph.images[0],
        images_after=graph.teacher[0],
        scores=graph.scores[0],
        oracle=graph.judge[0],
        prompt="a castle on a hill",
    )
    graph.kept = graph.add("TestSaveTensors", images=graph.better[0])
    return graph


def test_the_better_version_of_each_redone_image_is_kept(host):
    graph = with_keep_better([GOOD, BAD, BAD, BAD, BAD, BAD], seed=400)
    for name, images in (("old", graph.images), ("new", graph.teacher)):
        scores = graph.add(
            "UnderstudyScoreImages", oracle=graph.judge[0], images=images[0], prompt="a castle on a hill"
        )
        setattr(graph, name, graph.add("TestSaveTensors", floats=scores[1]))
    run = host.run(graph)
    before, after, kept = (tensors(host, run, node)["images.0"] for node in (graph.before, graph.after, graph.kept))
    old, new = (tensors(host, run, node)["floats"] for node in (graph.old, graph.new))
    for k in range(6):
        assert torch.equal(kept[k], after[k] if new[k] > old[k] else before[k])


def test_oracle_is_not_loaded_when_nothing_was_redone(host):
    host.forget()
    graph = with_keep_better([GOOD, GOOD], seed=401)
    run = host.run(graph)
    assert graph.judge not in run.executed + run.cached
    assert torch.equal(tensors(host, run, graph.kept)["images.0"], tensors(host, run, graph.before)["images.0"])

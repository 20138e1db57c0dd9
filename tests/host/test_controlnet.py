"""A ControlNet with a hint per image: each rejected image is refined with its own."""

import torch

from .checkpoints import CONTROLNET
from .graphs import Adaptive
from .tensors import tensors

GOOD, BAD = 0.9, 0.1


def hints_for(graph, first, count):
    return graph.add("TestNoiseImages", seed=9, first=first, count=count, width=64, height=64, channels=3)


def test_each_image_is_refined_with_its_own_hint(host):
    graph = Adaptive([GOOD, BAD, GOOD, BAD], seed=200)
    net = graph.add("ControlNetLoader", control_net_name=CONTROLNET)
    both = graph.guided(net, hints_for(graph, 0, 4), graph.positive, graph.negative)
    graph.set(graph.teacher, positive=both[0], negative=both[1], latent=graph.sampled[0])

    one = graph.add("ImageFromBatch", image=graph.images[0], batch_index=3, length=1)
    latent = graph.add("LatentFromBatch", samples=graph.sampled[0], batch_index=3, length=1)
    numbers = graph.add("TestFloats", numbers=f"[{BAD}]")
    scores = graph.add("UnderstudyScoresFromList", scores=numbers[0], images=one[0])

    def alone(hint):
        hinted = graph.guided(net, hints_for(graph, hint, 1), graph.positive, graph.negative)
        teacher = graph.add("UnderstudyTeacher", **graph.nodes[graph.teacher]["inputs"])
        graph.set(teacher, images=one[0], scores=scores[0], latent=latent[0], positive=hinted[0], negative=hinted[1])
        return graph.add("TestSaveTensors", images=teacher[0])

    own, other = alone(3), alone(1)
    run = host.run(graph)
    before, after = (tensors(host, run, node)["images.0"] for node in (graph.before, graph.after))
    own, other = (tensors(host, run, node)["images.0"][0] for node in (own, other))
    assert torch.equal(before[0], after[0]) and torch.equal(before[2], after[2])
    distance = (after[3] - own).abs().max()
    assert distance < 2e-3
    assert (after[3] - other).abs().max() > max(10 * distance, 0.01)

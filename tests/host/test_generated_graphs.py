"""Generated graphs in a real ComfyUI: exactly the right images change, or one line says what is wrong."""

import pytest
import torch

from .generated_graphs import odd_graphs
from .tensors import batches, tensors

RAW = ("Traceback", "TypeError", "AttributeError", "KeyError", "takes", "positional", "NoneType", "unexpected keyword")


@pytest.mark.parametrize("case", odd_graphs(seed=15, count=50), ids=str)
def test_odd_graph(host, case):
    graph, files = case.make(), kept(host)
    run = host.attempt(graph)
    if case.says:
        assert run.error and run.error_node == getattr(graph, case.at), run.error
        assert all(word in run.error for word in case.says), run.error
        assert not any(word in run.error for word in RAW), run.error
        assert kept(host) == files
        return
    assert not run.error, run.error
    before, after = (flattened(host, run, node) for node in (graph.before, graph.after))
    assert [not torch.equal(b, a) for b, a in zip(before, after, strict=True)] == list(case.redone)
    assert tensors(host, run, graph.after)["booleans"].tolist() == list(case.redone)


def kept(host):
    """The calibrations that there are, and the pictures that were saved."""
    return {path for folder in ("user/understudy/calibrations", "output") for path in (host.base / folder).rglob("*")}


def flattened(host, run, node):
    """All images of a list of batches, in order."""
    return [image for batch in batches(host, run, node) for image in batch]

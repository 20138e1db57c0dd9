"""What the Receipt node writes beside its pictures."""

import json

import torch
from understudy.oracles.scores import Scores
from understudy.oracles.threshold import Threshold

STUDENT = torch.zeros(4, 4, 3)


def test_an_infinite_score_leaves_the_metadata_json(without_host, monkeypatch, tmp_path):
    from understudy.nodes import receipt as module

    saved = []
    monkeypatch.setattr(module, "_save", lambda picture, name, hidden, facts: saved.append(facts))
    node = module.UnderstudyReceipt
    monkeypatch.setattr(node, "hidden", None, raising=False)
    scores = Scores((float("-inf"), 1.0), ("",) * 2, None, ("",) * 2)
    node.execute([torch.stack([STUDENT] * 2)], [torch.stack([STUDENT] * 2)], [scores], [Threshold.fixed(0)])
    for facts in saved:
        json.dumps(facts, allow_nan=False)
    assert [facts["score"] for facts in saved[1:]] == [None, 1.0]

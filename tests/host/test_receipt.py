"""What the receipt says and writes down, in the host."""

import io
import json

import pytest
import torch
from PIL import Image

from .graphs import Adaptive, without
from .tensors import tensors
from .test_bypass import told, with_receipt

TEXT = "Élan, рыжий кот, γάτα, 猫, قطة, 🦊"


@pytest.mark.parametrize(
    "scores, redone",
    [([1, 1], [True, False]), ([5, 1, 1, 1], [False, True, False, False]), ([1], [False])],
)
def test_worst_images_go_by_rank_and_none_of_a_single_one(host, scores, redone):
    graph = with_receipt(scores, seed=522, mode="worst_fraction", fraction=0.25)
    graph.set(graph.threshold, scores=graph.scores[0])
    graph.nodes = without(graph.nodes, graph.better, host.object_info()["UnderstudyKeepBetter"])
    run = host.run(graph)
    lines, facts, _ = told(host, run, graph)
    before, after = (tensors(host, run, node)["images.0"] for node in (graph.before, graph.after))
    assert [not torch.equal(*pair) for pair in zip(before, after, strict=True)] == redone
    assert [each["decision"] == "refined" for each in facts] == redone
    assert lines[1].startswith(f"threshold: the worst 25 %: {sum(redone)} of {len(scores)}")
    (said,) = run.outputs[graph.threshold]["text"]
    for text in (said, "\n".join(lines)):
        assert ("a single image has no worst" in text) == (len(scores) == 1)


def test_a_prompt_of_any_script_is_whole_in_the_metadata(host):
    graph = Adaptive(None, count=1, seed=523, text=TEXT)
    receipt = graph.add(
        "UnderstudyReceipt",
        images_before=graph.images[0],
        images=graph.teacher[0],
        scores=graph.scores[0],
        threshold=graph.threshold[0],
    )
    saved = host.run(graph).outputs[receipt]["images"]
    report, image = (Image.open(io.BytesIO(host.image(entry))) for entry in saved)
    assert json.loads(image.text["understudy"])["prompt"] == TEXT
    assert report.height > 300

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
    output = host.run(graph).outputs[receipt]
    report, image = (Image.open(io.BytesIO(host.image(entry))) for entry in output["images"] + output["saved"])
    assert json.loads(image.text["understudy"])["prompt"] == TEXT
    assert report.height > 300


WORKFLOW = {"nodes": [], "version": 0.4}


def files(host, prefix):
    """What lies in the output folder under a prefix."""
    return sorted(path.name for path in (host.base / "output" / "receipts").glob(f"{prefix}_*"))


def test_kept_images_are_written_once_and_each_run_has_its_report(host):
    graph = with_receipt([0.9, 0.1, 0.7], seed=524)
    graph.set(graph.receipt, filename_prefix="receipts/once", images_teacher=graph.teacher[0])
    handed = graph.add("TestSaveTensors", images=[graph.receipt, 0])
    picture = graph.add("TestSaveTensors", images=[graph.receipt, 1])
    for run_number, value in enumerate((0.5, 0.6, 0.65), start=1):
        graph.set(graph.threshold, value=value)
        run = host.attempt(graph, extra_data={"extra_pnginfo": {"workflow": WORKFLOW}})
        assert run.error is None
        names, output = files(host, "once"), run.outputs[graph.receipt]
        assert len([name for name in names if "receipt" not in name]) == len(output["saved"]) == 3
        assert [name for name in names if "receipt" in name] == [
            f"once_receipt_{k:05}_{ending}" for k in range(1, run_number + 1) for ending in (".csv", ".json", ".png")
        ]
        (report,) = output["images"]
        text = Image.open(host.file(report)).text
        assert json.loads(text["workflow"]) == WORKFLOW and json.loads(text["prompt"]).keys() == graph.nodes.keys()
        assert json.loads(host.file(report).with_suffix(".json").read_text()) == json.loads(text["understudy"])
        assert [image["threshold"] for image in json.loads(text["understudy"])["images"]] == [value] * 3
        for entry in output["saved"]:
            assert json.loads(Image.open(host.file(entry)).text["workflow"]) == WORKFLOW
    after = tensors(host, run, graph.kept)["images.0"]
    assert torch.equal(tensors(host, run, handed)["images.0"], after)
    height, width = tensors(host, run, picture)["images.0"].shape[1:3]
    assert (width, height) == Image.open(host.file(report)).size
    said = run.outputs[graph.receipt]["text"][0].splitlines()
    assert said[0].startswith("teacher ran on 1 of 3") and said[0].count("66.7 % of its work saved") == 1
    assert said[-1] == "saved: 0 images, and 3 that are there already"
    # Another teacher's image is another one, and the two that were kept are not.
    graph.set(graph.teacher, cfg=3.0)
    graph.set(graph.receipt, images=graph.teacher[0])
    host.run(graph)
    assert len([name for name in files(host, "once") if "receipt" not in name]) == 4


def test_a_preview_leaves_nothing_in_the_output_folder(host):
    graph = with_receipt([0.9, 0.1], seed=525)
    graph.set(graph.receipt, filename_prefix="receipts/shown", save="preview only")
    output = host.run(graph).outputs[graph.receipt]
    assert files(host, "shown") == [] and output["saved"] == []
    (report,) = output["images"]
    assert report["type"] == "temp" and Image.open(io.BytesIO(host.image(report))).width == 800
    graph.set(graph.receipt, save="report only", look="light")
    host.run(graph)
    assert files(host, "shown") == [f"shown_receipt_00001_{ending}" for ending in (".csv", ".json", ".png")]
    refused = {"filename_prefix": "receipts/"}, {"save": "everything"}
    for widget in refused:
        broken = with_receipt([0.9, 0.1], seed=525)
        broken.set(broken.receipt, **widget)
        assert next(iter(widget)) in host.attempt(broken).error

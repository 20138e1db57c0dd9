"""A bypassed or muted node: the others go on with what is left, and the receipt tells no tale of it."""

import io
import json

import torch
from PIL import Image

from .graphs import passes_on, without
from .tensors import tensors
from .test_keep_better import BAD, GOOD, with_keep_better

# What stands for the output of a bypassed node, so that the graph behind it goes on with something of sense. What has
# no line passes on what goes by the output's own name, or nothing, and the host names the input that is missing.
PASSED = {
    "UnderstudyStudentSampler": {"latent": "latent_image"},  # as the host's samplers do
    "UnderstudyStudentPreset": {"model": "model", "cfg": "cfg"},
    # Nothing behind it can run without its images and scores, whatever its numbers pass on.
    "UnderstudyBestOf": {"latent": "latent_image", "tries": "seed", "seeds": "seed", "evaluations": "seed"},
    "UnderstudyPrompts": {"prompts": "text"},
    "UnderstudyCombineOracles": {"oracle": "oracle_a"},
    "UnderstudyCalibrate": {"scores": "scores"},
    "UnderstudyAttentionGuidance": {"model": "model"},
    "UnderstudyApplyGradientPredictor": {"model": "model"},
    "UnderstudyTeacher": {"images": "images", "latent": "latent"},
    "UnderstudyTeacherAdvanced": {"images": "images", "latent": "latent"},
    "UnderstudySplit": {
        "rejected images": "images",
        **{name: name for name in ("latent", "mask", "positive", "negative", "prompts")},
    },
    "UnderstudyMerge": {"merged images": "images"},
    "UnderstudyKeepBetter": {"images": "images_after", "scores": "scores"},
    "UnderstudyReceipt": {"images": "images", "report": "images_before"},
}


def test_what_a_bypass_passes_on_is_right_for_every_node(host):
    own = {name: passes_on(info) for name, info in host.object_info().items() if name.startswith("Understudy")}
    assert own == {name: PASSED.get(name, {output: output for output in passed}) for name, passed in own.items()}
    assert PASSED.keys() < own.keys()


def with_receipt(scores, seed, **threshold):
    graph = with_keep_better(scores, seed)
    graph.set(graph.threshold, **threshold)
    graph.receipt = graph.add(
        "UnderstudyReceipt",
        images_before=graph.images[0],
        images=graph.better[0],
        scores=graph.better[1],
        threshold=graph.threshold[0],
        receipt=graph.teacher[2],
    )
    return graph


def told(host, run, graph):
    """The receipt's lines below the headline, what each saved image says of itself, and its pixels."""
    pictures = [Image.open(io.BytesIO(host.image(entry))) for entry in run.outputs[graph.receipt]["saved"]]
    facts = [json.loads(picture.text["understudy"]) for picture in pictures]
    (text,) = run.outputs[graph.receipt]["text"]
    return text.splitlines()[1:-1], facts, [picture.tobytes() for picture in pictures]


def as_saved(images):
    return [bytes(image.mul(255).clamp(0, 255).byte().flatten().tolist()) for image in images]


def test_the_receipt_of_a_graph_with_bypassed_nodes_says_what_happened(host):
    info, words = host.object_info(), {}
    graph = with_receipt([BAD, GOOD, BAD], seed=520)
    better, teacher = info["UnderstudyKeepBetter"], info["UnderstudyTeacher"]
    prompts = {
        "all": graph.nodes,
        "no Keep Better": without(graph.nodes, graph.better, better),
        "no Teacher": without(graph.nodes, graph.teacher, teacher),
        "neither": without(without(graph.nodes, graph.better, better), graph.teacher, teacher),
    }
    for name, prompt in prompts.items():
        run = host.run(prompt)
        lines, facts, pictures = told(host, run, graph)
        words[name] = [each["decision"] for each in facts]
        before = tensors(host, run, graph.before)["images.0"]
        assert [picture != old for picture, old in zip(pictures, as_saved(before), strict=True)] == [
            word in ("refined", "redone") for word in words[name]
        ], name
        costs = [each["evaluations"] for each in facts]
        if name in ("all", "no Keep Better"):
            assert costs == [costs[0], 0, costs[0]] and costs[0] > 0 and "2 of 3 images" in lines[2], name
        else:
            assert costs == [None] * 3 and lines[2:] == [
                "teacher: no receipt of it is connected, and no image is changed"
            ], name
        assert lines[1] == "threshold: scores below 0.500: 2 of 3", name
        if name == "no Keep Better":
            after = tensors(host, run, graph.after)["images.0"]
            assert pictures == as_saved(after) and not torch.equal(after, before)
    assert words["all"][1] == "kept" and set(words["all"]) <= {"kept", "refined", "reverted"}
    assert words["no Keep Better"] == ["refined", "kept", "refined"]
    assert words["no Teacher"] == words["neither"] == ["kept"] * 3


def test_a_muted_node_gives_the_host_s_own_error_and_nothing_else(host):
    graph = with_receipt([BAD, GOOD], seed=521)
    for node, missing in ((graph.teacher, "images"), (graph.better, "images"), (graph.threshold, "threshold")):
        run = host.attempt(without(graph.nodes, node))
        assert f"Required input is missing: {missing}" in run.error and "Understudy" not in run.error
        assert graph.receipt not in run.outputs

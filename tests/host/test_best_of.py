"""Best Of in the host: n runs of its own samplers, and the best of each image; a whole graph with it."""

import io
import json

import pytest
import torch
from PIL import Image

from .checkpoints import CHECKPOINT, CLIP, TEACHER
from .graphs import REFINE, SIDE, THRESHOLD, Graph
from .inside import failures
from .tensors import tensors

PROMPTS = ["a castle on a hill", "two cats", "a red car"]
STUDENT = {"steps": 2, "cfg": 1.0, "denoise": 1.0}


def test_all_checks_pass(host):
    failed = failures(host, "inside_best_of.py")
    assert not failed, failed


class BestOf(Graph):
    """Three prompts as a list, each in up to ``n`` tries of a Hyper-SD student scored by CLIP."""

    def __init__(self, n, seed=700):
        super().__init__()
        self.loader = self.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
        self.prompts = self.add("TestStrings", texts=json.dumps(PROMPTS))
        self.positive = self.add("CLIPTextEncode", clip=self.loader[1], text=self.prompts[0])
        self.negative = self.add("CLIPTextEncode", clip=self.loader[1], text="")
        self.latent = self.add("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=1)
        self.oracle = self.add("UnderstudyLoadOracle", oracle_name=CLIP, family="auto")
        self.student = {
            "model": self.loader[0],
            "positive": self.positive[0],
            "negative": self.negative[0],
            "latent_image": self.latent[0],
            **STUDENT,
        }
        self.best = self.add(
            "UnderstudyBestOf",
            **self.student,
            seed=seed,
            preset="hyper-sd",
            vae=self.loader[2],
            oracle=self.oracle[0],
            prompt=self.prompts[0],
            n=n,
        )
        self.saved = self.add("TestSaveTensors", images=self.best[0], latent=self.best[1])
        self.numbers = [self.add("TestSaveTensors", floats=self.best[output]) for output in (3, 5)]


def single(found, kind="images"):
    return torch.cat([found[f"{kind}.{k}"] for k in range(len(PROMPTS))])


def test_its_seeds_in_ksampler_make_its_pictures_again(host):
    graph = BestOf(3)
    sampled = graph.add("KSampler", **graph.student, seed=graph.best[4], sampler_name="euler", scheduler="sgm_uniform")
    decoded = graph.add("VAEDecode", samples=sampled[0], vae=graph.loader[2])
    scored = graph.add("UnderstudyScoreImages", oracle=graph.oracle[0], images=decoded[0], prompt=graph.prompts[0])
    again = graph.add("TestSaveTensors", images=decoded[0], latent=sampled[0], floats=scored[1])
    run = host.run(graph)
    own, again = tensors(host, run, graph.saved), tensors(host, run, again)
    assert torch.allclose(single(own, "latent"), single(again, "latent"), atol=1e-4)
    assert torch.allclose(single(own), single(again), atol=1e-4)
    tries, evaluations = (tensors(host, run, node)["floats"].tolist() for node in graph.numbers)
    assert tries == [3, 3, 3] and evaluations == [3 * STUDENT["steps"]] * 3
    (said,) = run.outputs[graph.best]["text"]
    assert said.startswith("3 images: 9 tries, 18 network evaluations\n1: ") and "hyper-sd" not in said
    assert [line.split(",")[0].split(": ")[1] for line in said.splitlines()[1:4]] == [
        f"{score:.3f}" for score in again["floats"].tolist()
    ]


def test_a_graph_from_best_of_to_the_receipt(host):
    graph = BestOf(3, seed=701)
    graph.stop_at = graph.add("UnderstudyThreshold", **{**THRESHOLD, "value": 10000.0})
    graph.set(graph.best, stop_at=graph.stop_at[0])
    calibrated = graph.add("UnderstudyCalibrate", scores=graph.best[2], name="best of three")
    threshold = graph.add(
        "UnderstudyThreshold", **{**THRESHOLD, "mode": "worst_fraction", "fraction": 0.34}, scores=calibrated[0]
    )
    loader = graph.add("CheckpointLoaderSimple", ckpt_name=TEACHER)
    texts = [graph.add("CLIPTextEncode", clip=loader[1], text=text) for text in (graph.prompts[0], "blurry")]
    teacher = graph.add(
        "UnderstudyTeacher",
        images=graph.best[0],
        scores=calibrated[0],
        threshold=threshold[0],
        model=loader[0],
        positive=texts[0][0],
        negative=texts[1][0],
        vae=loader[2],
        latent=graph.best[1],
        seed=0,
        **REFINE,
    )
    receipt = graph.add(
        "UnderstudyReceipt",
        images_before=graph.best[0],
        images=teacher[0],
        scores=calibrated[0],
        threshold=threshold[0],
        receipt=teacher[2],
    )
    run = host.run(graph)
    lines = run.outputs[receipt]["text"][0].splitlines()
    assert "student: 18 network evaluations in 9 tries of 3 images" in lines
    assert any(line.startswith("teacher: 4 network evaluations") for line in lines), lines
    pictures = [Image.open(io.BytesIO(host.image(entry))) for entry in run.outputs[receipt]["saved"]]
    facts = [json.loads(picture.text["understudy"]) for picture in pictures]
    assert sorted(each["decision"] for each in facts) == ["kept", "kept", "refined"]
    assert [each["prompt"] for each in facts] == PROMPTS
    (said,) = run.outputs[teacher]["text"]
    assert "of the student's latent" in said and "of the widget" not in said
    (told,) = run.outputs[graph.best]["text"]
    seeds = [line.rpartition("seed ")[2] for line in told.splitlines()[1:4]]
    (redone,) = (k for k, each in enumerate(facts) if each["decision"] == "refined")
    assert f"seed {seeds[redone]} of the student's latent" in said

    # An image that has passed is tried no more; moving the stop runs this node again, and not what is before it. What
    # comes of another stop is another calibration's.
    graph.set(graph.stop_at, value=-10000.0)
    run = host.attempt(graph)
    assert run.error_node == calibrated and "UnderstudyThreshold.value was 10000.0, is -10000.0" in run.error
    graph.set(calibrated, name="the first of three")
    run = host.run(graph)
    assert graph.loader in run.cached
    assert tensors(host, run, graph.numbers[0])["floats"].tolist() == [1, 1, 1]


def test_single_students_and_the_best_of_several_are_calibrated_apart(host):
    graph = BestOf(2, seed=702)
    name = graph.add("UnderstudyCalibrate", scores=graph.best[2], name="of two")
    assert "3 new, 3 in all" in host.run(graph).outputs[name]["text"][0]
    sampled = graph.add("UnderstudyStudentSampler", **graph.student, seed=703, preset="hyper-sd")
    decoded = graph.add("VAEDecode", samples=sampled[0], vae=graph.loader[2])
    scored = graph.add("UnderstudyScoreImages", oracle=graph.oracle[0], images=decoded[0], prompt=graph.prompts[0])
    of_one = graph.add("UnderstudyCalibrate", scores=scored[0], name="of two")
    run = host.attempt(graph)
    assert run.error_node == of_one and "UnderstudyBestOf.n was 2, is not set" in run.error
    graph.set(of_one, name="of one")
    assert "3 new, 3 in all" in host.run(graph).outputs[of_one]["text"][0]
    graph.set(name, name="of one")
    run = host.attempt(graph)
    assert run.error_node == name and "UnderstudyBestOf.n was not set, is 2" in run.error
    for changes, said in (({"n": 3}, "UnderstudyBestOf.n was 2, is 3"), ({"seed": 704, "n": 2}, None)):
        graph.set(graph.best, **changes)
        graph.set(name, name="of two")
        run = host.attempt(graph)
        assert said in run.error if said else "3 new, 6 in all" in run.outputs[name]["text"][0]


def test_it_can_be_cancelled_and_refuses_a_threshold_that_compares_a_batch(host):
    graph = BestOf(100, seed=705)
    most = set()

    def cancel(kind, data):
        if kind == "progress" and data["node"] == graph.best:
            most.add(data["max"])
            if data["value"] > 3 * STUDENT["steps"]:  # in the second round
                host.interrupt()

    run = host.attempt(graph, on_event=cancel)
    assert run.interrupted and run.error_node == graph.best
    assert most == {100 * 3 * STUDENT["steps"]}, "one bar over all rounds"
    worst = graph.add("UnderstudyThreshold", **{**THRESHOLD, "mode": "worst_fraction"})
    graph.set(graph.best, stop_at=worst[0], n=2)
    run = host.attempt(graph)
    assert run.error_node == graph.best and "stop_at is a threshold of mode worst_fraction" in run.error
    graph.set(graph.best, n=0)
    with pytest.raises(AssertionError, match="n"):
        host.run(graph)

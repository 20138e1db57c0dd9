"""Graphs that people really have: no error where the result is right, and one clear line where it cannot be."""

import json

import pytest
import torch
from PIL import Image

from .checkpoints import CLIP
from .graphs import SIDE, THRESHOLD, Adaptive, Graph
from .tensors import tensors

GOOD, BAD = 0.9, 0.1


class Sampled(Graph):
    """Two latents of the demo's student, from an image or from nothing; their images are scored and counted."""

    def __init__(self, name=None, *, image=None, nested=False, seed=1, odd=False, **widgets):
        super().__init__()
        demo = self.add("UnderstudyLoadDemo", part="student")
        text = self.add("CLIPTextEncode", clip=demo[1], text="a red star")
        if image is None:
            latent = self.add("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=2)
        else:
            loaded = self.add("LoadImage", image=image)
            latent = self.add("VAEEncode", pixels=loaded[0], vae=demo[2])
        if odd or nested:
            latent = self.add("TestOddLatent", latent=latent[0], nested=nested)
        self.student = self.add(
            "UnderstudyStudentSampler",
            model=demo[0],
            positive=text[0],
            negative=text[0],
            latent_image=latent[0],
            seed=seed,
            preset="demo",
            steps=2,
            cfg=1.0,
            denoise=1.0 if image is None else 0.5,
        )
        self.images = self.add("VAEDecode", samples=self.student[0], vae=demo[2])
        self.saved = self.add("TestSaveTensors", images=self.images[0])
        if name:
            oracle = demo[3]
            scores = self.add("UnderstudyScoreImages", oracle=oracle, images=self.images[0], prompt="a red star")
            self.calibrate = self.add("UnderstudyCalibrate", scores=scores[0], name=name)
        self.set(self.student, **widgets)


def test_entries_of_a_latent_that_are_none_are_as_if_they_were_not_there(host):
    pictures = []
    for odd in (False, True):
        graph = Sampled(odd=odd)
        pictures.append(tensors(host, host.run(graph), graph.saved)["images.0"])
    assert torch.equal(*pictures)
    redone = []
    for odd in (False, True):
        graph = Adaptive([GOOD, BAD], seed=71)
        latent = graph.add("TestOddLatent", latent=graph.sampled[0], nested=False) if odd else graph.sampled
        graph.set(graph.teacher, latent=latent[0])
        redone.append(tensors(host, host.run(graph), graph.after)["images.0"])
    assert torch.equal(*redone)


def test_latents_of_two_kinds_in_one_are_refused_in_one_line(host):
    graph = Sampled(nested=True)
    run = host.attempt(graph)
    assert run.error_node == graph.student
    assert run.error.startswith("latent_image holds 2 latents in one") and "\n" not in run.error
    graph = Adaptive([GOOD, BAD], seed=72)
    graph.set(graph.teacher, latent=graph.add("TestOddLatent", latent=graph.sampled[0], nested=True)[0])
    run = host.attempt(graph)
    assert run.error_node == graph.teacher and run.error.startswith("latent holds 2 latents in one")


def test_an_input_that_is_not_there_is_told_as_the_host_does(host):
    for node, about in host.object_info().items():
        required = about["input"].get("required", {}) if node.startswith("Understudy") else {}
        if not required:
            continue
        graph = Graph()
        odd = graph.add(node)
        if about["output"]:
            graph.add("TestAsk", anything=odd[0])
        run = host.attempt(graph)
        lines = [line for line in run.error.splitlines() if ":" in line]
        assert sorted(lines) == sorted(f"Required input is missing: {name}" for name in required), node


@pytest.mark.parametrize("carried", ["images", "model"])
def test_what_a_loop_carries_is_refused_by_name(host, carried):
    graph = Graph()
    demo = graph.add("UnderstudyLoadDemo", part="student")
    images = graph.add("TestNoiseImages", seed=83, first=0, count=3, width=64, height=64, channels=3)
    name = f"{carried} in a loop"
    graph.add("TestLoop", images=images[0], carried=images[0] if carried == "images" else demo[0], name=name)
    run = host.attempt(graph)
    assert "TestCarry.carried" in run.error and "holds an object itself" in run.error and "\n" not in run.error
    assert not (host.base / "user" / "understudy" / "calibrations" / f"{name}.json").exists()


def test_image_to_image_with_other_pictures_and_seeds_is_one_calibration(host):
    for number in (1, 2):
        noise = torch.rand(SIDE, SIDE, 3, generator=torch.Generator().manual_seed(number))
        Image.fromarray((noise * 255).byte().numpy()).save(host.base / "input" / f"start {number}.png")
    graphs = [Sampled("img2img", image=f"start {number}.png", seed=number) for number in (1, 2)]
    texts = [" ".join(host.run(graph).outputs[graph.calibrate]["text"]) for graph in graphs]
    assert "1 new, 1 in all" in texts[0] and "1 new, 2 in all" in texts[1]
    run = host.attempt(Sampled("img2img", image="start 1.png", steps=3))
    assert "UnderstudyStudentSampler.steps was 2, is 3" in run.error


@pytest.mark.parametrize("output", [0, 1])
def test_scores_may_be_whole_numbers_or_truths(host, output):
    graph = Graph()
    numbers = graph.add("TestNumbers", numbers="[1, 0, 1]")
    scores = graph.add("UnderstudyScoresFromList", scores=numbers[output])
    graph.add("UnderstudyThreshold", **THRESHOLD, scores=scores[0])
    graph.add("TestAsk", anything=scores[0])
    text = " ".join(host.run(graph).outputs[scores]["text"])
    assert "3 scores, 0.000 to 1.000" in text and "1: 1.000, 2: 0.000, 3: 1.000" in text


def test_a_text_is_no_score(host):
    graph = Graph()
    texts = graph.add("TestStrings", texts=json.dumps(["good"]))
    graph.add("TestAsk", anything=graph.add("UnderstudyScoresFromList", scores=texts[0])[0])
    assert "received_type(STRING) mismatch input_type(FLOAT,INT,BOOLEAN)" in host.attempt(graph).error


def test_an_oracle_that_is_not_there_is_refused_before_anything_runs(host):
    for name in ("gone.safetensors", "put an oracle into models/oracles, then press R"):
        graph = Graph()
        graph.add("TestAsk", anything=graph.add("UnderstudyLoadOracle", oracle_name=name, family="auto")[0])
        run = host.attempt(graph)
        assert not run.executed and name in run.error and CLIP in run.error and "press R" in run.error


def test_a_graph_that_only_scores_may_end_in_a_preview_of_the_values(host):
    graph = Graph()
    demo = graph.add("UnderstudyLoadDemo", part="student")
    images = graph.add("TestNoiseImages", seed=85, first=0, count=3, width=64, height=64, channels=3)
    scores = graph.add("UnderstudyScoreImages", oracle=demo[3], images=images[0], prompt="a red star")
    shown = graph.add("PreviewAny", source=scores[1])
    assert len(host.run(graph).outputs[shown]["text"]) == 3


def test_score_images_behind_a_lazy_input_does_not_run(host):
    for wanted in (False, True):
        graph = Graph()
        demo = graph.add("UnderstudyLoadDemo", part="student")
        images = graph.add("TestNoiseImages", seed=84, first=0, count=1, width=64, height=64, channels=3)
        scores = graph.add("UnderstudyScoreImages", oracle=demo[3], images=images[0], prompt="a red star")
        graph.add("TestLazy", wanted=wanted, value=scores[1])
        assert (scores in host.run(graph).executed) == wanted

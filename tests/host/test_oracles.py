"""Oracles in the host: which files are offered, how they share memory, how they combine, what is said of bad ones."""

import io
import json
import re

import pytest
import torch
from PIL import Image

from . import checkpoints as files
from .graphs import THRESHOLD, Adaptive, Graph
from .tensors import tensors


class Scoring(Graph):
    """Noise images, scored."""

    def __init__(self, oracle_name, *, seed=1, count=4, prompt="noise", size=64, **oracle):
        super().__init__()
        self.images = self.add("TestNoiseImages", seed=seed, first=0, count=count, width=size, height=size, channels=3)
        widgets = {"oracle_name": oracle_name, "family": "auto", **oracle}
        self.oracle = self.add("UnderstudyLoadOracle", **widgets)
        self.scores = self.add("UnderstudyScoreImages", oracle=self.oracle[0], images=self.images[0], prompt=prompt)
        self.saved = self.add("TestSaveTensors", floats=self.scores[1])


def values(host, graph):
    return tensors(host, host.run(graph), graph.saved)["floats"]


def test_files_of_both_folders_are_offered(host):
    inputs = host.object_info()["UnderstudyLoadOracle"]["input"]
    offered = inputs["required"]["oracle_name"]
    offered = offered[1]["options"] if offered[0] == "COMBO" else offered[0]
    assert {files.CLIP, files.REWARD, files.HEAD, f"clip_vision/{files.WHOLE_CLIP}"} <= set(offered)
    assert "encoder" in inputs["optional"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (files.REWARD, {}),
        (files.CLIP, {"family": "pickscore"}),
        (f"clip_vision/{files.WHOLE_CLIP}", {}),
        (files.HEAD, {"encoder": f"clip_vision/{files.WHOLE_CLIP}"}),
    ],
)
def test_scores_are_the_oracle_s_own(host, name, options):
    from understudy.oracles import load_oracle

    graph = Scoring(name, **options)
    images = graph.add("TestSaveTensors", images=graph.images[0])
    run = host.run(graph)
    pictures = tensors(host, run, images)["images.0"].movedim(-1, 1)
    folder, _, rest = name.rpartition("/")
    path = host.models / (folder or "oracles") / rest
    encoder = options.get("encoder") and host.models / options["encoder"]
    expected = load_oracle(path, options.get("family", "auto"), encoder=encoder)(pictures, ["noise"] * 4)
    scores = tensors(host, run, graph.saved)["floats"]
    assert expected.std() > 0
    torch.testing.assert_close(scores.float(), expected, atol=2e-4 * expected.abs().max().item(), rtol=0)


def test_a_long_and_an_empty_prompt_are_remarked_on(host):
    graph = Scoring(files.REWARD, seed=2, prompt="a lighthouse " * 30)
    assert "first 35 tokens" in " ".join(host.run(graph).outputs[graph.scores]["text"])
    graph = Scoring(files.REWARD, seed=2, prompt="")
    assert "empty" in " ".join(host.run(graph).outputs[graph.scores]["text"])
    assert host.log_text().count("first 35 tokens") == 1


def test_syntax_is_taken_off_a_prompt_and_remarked_on_unless_it_is_literal(host):
    graph, plain = (Scoring(files.REWARD, seed=2, prompt=text) for text in ("a (lighthouse:1.3) BREAK", "a lighthouse"))
    run = host.run(graph)
    assert "'a (lighthouse:1.3) BREAK' is read as 'a lighthouse'" in " ".join(run.outputs[graph.scores]["text"])
    read, wanted = tensors(host, run, graph.saved)["floats"], values(host, plain)
    assert torch.equal(read, wanted)
    graph.set(graph.scores, literal_prompts=True)
    run = host.run(graph)
    assert "is read as" not in " ".join(run.outputs[graph.scores]["text"])
    assert not torch.equal(tensors(host, run, graph.saved)["floats"], wanted)


def test_an_oracle_leaves_when_the_room_is_needed_and_comes_back(host):
    from understudy.oracles import load_oracle

    expected = load_oracle(host.models / "oracles" / files.REWARD)
    for seed in (3, 4):
        graph = Scoring(files.REWARD, seed=seed)
        images = graph.add("TestSaveTensors", images=graph.images[0])
        freed = graph.add("TestFreeMemory", after=graph.scores[1])
        run = host.run(graph)
        # The second time it is the very oracle that had to leave, not one loaded from the file again.
        assert seed == 3 or (graph.oracle in run.cached and graph.scores in run.executed)
        text = run.outputs[freed]["text"][0]  # the first of four, one for each score
        before, after = map(int, re.fullmatch(r"oracles loaded: (\d+), then (\d+)", text).groups())
        assert before >= 1 and after == 0
        pictures = tensors(host, run, images)["images.0"].movedim(-1, 1)
        wanted = expected(pictures, ["noise"] * 4)
        scores = tensors(host, run, graph.saved)["floats"]
        torch.testing.assert_close(scores.float(), wanted, atol=2e-4 * wanted.abs().max().item(), rtol=0)


def test_memory_does_not_grow_as_sampler_and_oracle_take_turns(host):
    def megabytes(seed):
        graph = Adaptive(None, count=1, seed=seed)
        for node in (graph.teacher, graph.after, graph.before):
            del graph.nodes[node]
        told = graph.add("TestMemory", after=graph.scores[1])
        return int(host.run(graph).outputs[told]["text"][0])

    warm = [megabytes(900 + i) for i in range(4)]
    after = [megabytes(910 + i) for i in range(20)]
    # 4 MB that every run leaves behind would be more than this; a copy of the oracle that stays once would be less.
    assert min(after[-4:]) - min(warm[-2:]) < 60, (warm, after)


def grow(path):
    """Count one more image into a calibration, behind the host's back."""
    from understudy.oracles.calibration import Calibration

    calibration = Calibration.load(path)
    calibration.scores_by_image["0" * 64] = calibration.value_at(50)
    calibration.save(path)


def calibrate(host, oracle_name, name):
    graph = Scoring(oracle_name, seed=7, count=60)
    node = graph.add("UnderstudyCalibrate", scores=graph.scores[0], name=name)
    graph.add("TestAsk", anything=node[0])
    return " ".join(host.run(graph).outputs[node]["text"])


def test_two_oracles_combine_and_one_has_a_veto(host):
    assert "95 %" in calibrate(host, files.REWARD, "by reward")
    calibrate(host, files.CLIP, "by clip")
    graph = Scoring(files.REWARD, seed=7, count=60)
    second = graph.add("UnderstudyLoadOracle", oracle_name=files.CLIP, family="auto")
    both = graph.add(
        "UnderstudyCombineOracles",
        oracle_a=graph.oracle[0],
        calibration_a="by reward",
        weight_a=1.0,
        veto_a=0.0,
        oracle_b=second[0],
        calibration_b="by clip",
        weight_b=1.0,
        veto_b=10.0,
    )
    graph.set(graph.scores, oracle=both[0])
    scores = values(host, graph)
    assert ((scores < 0).sum() - 6).abs() <= 1, "the worst tenth by CLIP is vetoed"
    assert scores[scores >= 0].max() <= 100 and scores.min() >= -100
    widgets = {**THRESHOLD, "mode": "fixed", "value": 0.0}
    threshold = graph.add("UnderstudyThreshold", **widgets, scores=graph.scores[0])
    graph.add("TestAsk", anything=threshold[0])
    text = " ".join(host.run(graph).outputs[threshold]["text"])
    assert f"of these 60 images: {int((scores < 0).sum())}" in text
    assert both in host.run(graph).cached
    grow(host.base / "user" / "understudy" / "calibrations" / "by clip.json")
    assert both in host.run(graph).executed, "its calibration has grown"
    graph.set(graph.images, width=96)
    assert "width was 64, is 96" in host.attempt(graph).error


class Combined(Adaptive):
    """The adaptive graph; its first score node's oracle is two as one, once they have calibrations."""

    COUNT = 24

    def __init__(self, *, seed, **options):
        super().__init__(None, seed=seed, count=self.COUNT, **options)
        self.second = self.add("UnderstudyLoadOracle", oracle_name=files.REWARD, family="auto")

    def calibrate(self, oracle, name):
        """Count the student's scores in, and run nothing else."""
        self.set(self.scores, oracle=oracle[0])
        node = self.add("UnderstudyCalibrate", scores=self.scores[0], name=name)
        for rest in (self.before, self.after, self.teacher):
            del self.nodes[rest]
        self.add("TestAsk", anything=node[0])
        return self

    def combine(self):
        self.both = self.add(
            "UnderstudyCombineOracles",
            oracle_a=self.oracle[0],
            calibration_a="adaptive by clip",
            weight_a=1.0,
            veto_a=0.0,
            oracle_b=self.second[0],
            calibration_b="adaptive by reward",
            weight_b=2.0,
            veto_b=20.0,
        )
        self.set(self.scores, oracle=self.both[0])
        return self


def test_keep_better_and_receipt_with_two_oracles_as_one(host):
    for oracle, name in (("oracle", "adaptive by clip"), ("second", "adaptive by reward")):
        graph = Combined(seed=930)
        host.run(graph.calibrate(getattr(graph, oracle), name))
    graph = Combined(seed=931).combine()
    widgets = {**THRESHOLD, "mode": "worst_fraction", "fraction": 0.25}
    graph.set(graph.threshold, **widgets)
    better = graph.add(
        "UnderstudyKeepBetter",
        images_before=graph.images[0],
        images_after=graph.teacher[0],
        scores=graph.scores[0],
        oracle=graph.both[0],
        prompt="a castle on a hill",
    )
    kept = graph.add("TestSaveTensors", images=better[0])
    old = graph.add("TestSaveTensors", floats=graph.scores[1])
    receipt = graph.add(
        "UnderstudyReceipt",
        images_before=graph.images[0],
        images=better[0],
        scores=better[1],
        threshold=graph.threshold[0],
        receipt=graph.teacher[2],
    )
    run = host.run(graph)
    before, after, final = (tensors(host, run, node)["images.0"] for node in (graph.before, graph.after, kept))
    scores, saved = tensors(host, run, old)["floats"], run.outputs[receipt]["saved"]
    cut = scores.sort().values[6]
    told = [json.loads(Image.open(io.BytesIO(host.image(each))).text["understudy"]) for each in saved]
    assert len(told) == Combined.COUNT
    for k, facts in enumerate(told):
        redone = bool(scores[k] < cut)
        assert facts["score"] == pytest.approx(scores[k].item())
        assert (facts["score_after"] is not None) == redone != torch.equal(before[k], after[k])
        better = redone and facts["score_after"] > facts["score"]
        assert (facts["decision"] == "reverted") == (redone and not better)
        assert torch.equal(final[k], (after if better else before)[k])
    assert "mean score of the images that the teacher redid" in " ".join(run.outputs[receipt]["text"])


def test_the_authors_percentiles_are_offered_for_image_reward_alone(host):
    name = "ImageReward, LCM-SDXL at 4 steps (published)"
    for oracle, refused in ((files.REWARD, False), (files.CLIP, True)):
        graph = Scoring(oracle, seed=8)
        widgets = {**THRESHOLD, "mode": "percentile", "percentile": 30.0, "calibration": name}
        threshold = graph.add("UnderstudyThreshold", **widgets, scores=graph.scores[0])
        graph.add("TestAsk", anything=threshold[0])
        run = host.attempt(graph)
        if refused:
            assert "oracle: calibration has imagereward, this student has clipscore" in run.error
        else:
            assert "0.155" in " ".join(run.outputs[threshold]["text"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (files.CODE, "could run code"),
        (files.PAGE, "web page"),
        (files.HALF, "truncated"),
        (files.ADAPTER, "it is a LoRA"),
        (files.HEAD, "only the head of laion-aesthetic-v2"),
    ],
)
def test_a_bad_file_is_one_clear_error_and_nothing_is_cached(host, name, message):
    for _ in range(2):
        run = host.attempt(Scoring(name, seed=9))
        assert message in run.error
    values(host, Scoring(files.REWARD, seed=9))

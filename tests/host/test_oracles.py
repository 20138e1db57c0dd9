"""Oracles in the host: which files are offered, how they share memory, how they combine, what is said of bad ones."""

import pytest
import torch

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


def test_an_oracle_leaves_when_the_room_is_needed_and_comes_back(host):
    first = values(host, Scoring(files.REWARD, seed=3))
    graph = Scoring(files.REWARD, seed=4)
    freed = graph.add("TestFreeMemory", after=graph.scores[1])
    text = " ".join(host.run(graph).outputs[freed]["text"])
    before, after = (int(word) for word in text.replace(",", "").split() if word.isdigit())
    assert before >= 1 and after == 0
    host.forget()
    assert torch.equal(values(host, Scoring(files.REWARD, seed=3)), first)


def test_memory_does_not_grow_as_sampler_and_oracle_take_turns(host):
    def megabytes(seed):
        graph = Adaptive(None, count=1, seed=seed)
        for node in (graph.teacher, graph.after, graph.before):
            del graph.nodes[node]
        told = graph.add("TestMemory", after=graph.scores[1])
        return int(host.run(graph).outputs[told]["text"][0])

    warm = [megabytes(900 + i) for i in range(4)]
    after = [megabytes(910 + i) for i in range(20)]
    # One copy of any of the networks at work is larger than this.
    assert min(after[-4:]) - min(warm[-2:]) < 60, (warm, after)


def calibrate(host, oracle_name, name, **oracle):
    graph = Scoring(oracle_name, seed=7, count=60, **oracle)
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
    graph.set(graph.images, width=96)
    assert "width was 64, is 96" in host.attempt(graph).error


def test_the_authors_percentiles_are_offered_for_image_reward_alone(host):
    name = "ImageReward, LCM-SDXL at 4 steps (published)"
    for oracle, refused in ((files.REWARD, False), (files.CLIP, True)):
        graph = Scoring(oracle, seed=8)
        widgets = {**THRESHOLD, "mode": "percentile", "percentile": 30.0, "calibration": name}
        threshold = graph.add("UnderstudyThreshold", **widgets, scores=graph.scores[0])
        graph.add("TestAsk", anything=threshold[0])
        run = host.attempt(graph)
        if refused:
            assert "oracle was imagereward, is clipscore" in run.error
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

"""The oracle is on the device only while it scores, and a picture without a score takes no other's."""

import math

import pytest
import torch
from understudy.a1111 import oracle as module
from understudy.a1111.oracle import DEVICE_SETTING, HostedOracle
from understudy.oracles.base import OracleError

DEVICE = "the device"


class Network(torch.nn.Module):
    """Says where it has been instead of going there."""

    def __init__(self):
        super().__init__()
        self.places = ["cpu"]

    def to(self, place):
        self.places.append(place)
        return self


class Scoring:
    """Scores by the mean pixel, wherever its network is; a picture of NaN has no score."""

    def __init__(self, full=()):
        self.network, self.scored_at, self.full = Network(), [], full

    def __call__(self, images, prompts):
        self.scored_at.append(self.network.places[-1])
        if self.network.places[-1] in self.full:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        if images.isnan().any():
            raise OracleError("image has values from nan to nan")
        return images.mean((1, 2, 3))


@pytest.fixture
def hosted(stand_in, monkeypatch, tmp_path):
    (tmp_path / "oracles").mkdir()
    (tmp_path / "oracles" / "one.pt").write_bytes(b"")
    monkeypatch.setattr(module, "models_folder", lambda name: tmp_path / name)
    scoring = Scoring()
    monkeypatch.setattr(module, "load_oracle", lambda path: scoring)
    monkeypatch.setattr(module, "_held", {})
    stand_in.devices.device = DEVICE
    return HostedOracle("one.pt")


def pictures(*means):
    return [torch.full((3, 4, 4), mean) for mean in means]


def test_on_the_device_while_it_scores_and_nowhere_else(hosted):
    assert hosted.each(pictures(0.25, 0.75), ["a", "b"]) == [(0.25, ""), (0.75, "")]
    assert hosted.oracle.scored_at == [DEVICE] and hosted.oracle.network.places[-1] == "cpu"


def test_off_the_device_after_an_error_too(hosted):
    hosted.oracle.full = (DEVICE, "cpu")
    with pytest.raises(torch.cuda.OutOfMemoryError):
        hosted(torch.zeros(1, 3, 4, 4), ["a"])
    assert hosted.oracle.scored_at == [DEVICE, "cpu"] and hosted.oracle.network.places[-1] == "cpu"


def test_where_the_device_is_full_the_cpu_scores(hosted):
    hosted.oracle.full = (DEVICE,)
    assert hosted.each(pictures(0.5), ["a"]) == [(0.5, "")]
    assert hosted.oracle.scored_at == [DEVICE, "cpu"]


def test_the_setting_keeps_it_on_the_cpu(hosted, stand_in):
    setattr(stand_in.shared.opts, DEVICE_SETTING, "CPU")
    assert hosted.each(pictures(0.5), ["a"]) == [(0.5, "")]
    assert hosted.oracle.scored_at == ["cpu"]
    setattr(stand_in.shared.opts, DEVICE_SETTING, "the host's device, while it scores")
    hosted.each(pictures(0.5), ["a"])
    assert hosted.oracle.scored_at == ["cpu", DEVICE]


def test_a_picture_without_a_score_leaves_the_others_theirs(hosted):
    (first, why), *rest = hosted.each(pictures(math.nan, 0.25, 0.5), ["a", "b", "c"])
    assert math.isnan(first) and "values from nan" in why
    assert rest == [(0.25, ""), (0.5, "")]


def test_never_two_oracles_in_memory(hosted, monkeypatch, tmp_path):
    held_at_load = []
    monkeypatch.setattr(module, "load_oracle", lambda path: held_at_load.append(dict(module._held)) or Scoring())
    (tmp_path / "oracles" / "two.pt").write_bytes(b"")
    two = HostedOracle("two.pt")
    assert held_at_load == [{}] and [*module._held.values()] == [two.oracle]
    assert HostedOracle("two.pt").oracle is two.oracle and len(held_at_load) == 1


def test_prompts_are_read_without_the_hosts_syntax(hosted):
    seen = []
    hosted.oracle.__class__ = type(
        "Reading",
        (Scoring,),
        {"__call__": lambda self, images, prompts: seen.extend(prompts) or images.mean((1, 2, 3))},
    )
    hosted.each(pictures(0.5), ["(a cat:1.2) <lora:lcm:1>"])
    assert seen == ["a cat"]

"""What Split sends out: which images, in which batches, and whether what belongs to them goes with them."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from .test_subset import Control

GOOD, BAD = False, True


@pytest.fixture
def parts(without_host):
    from understudy.nodes.split import parts

    return lambda *given, **belongings: list(parts(*given, **belongings))


def numbered(first, count, *shape):
    """A tensor whose entries along the first dimension are ``first`` and those that follow."""
    values = torch.arange(first, first + count).float() / 100
    return values.reshape(-1, *[1] * len(shape)).expand(count, *shape).clone()


def numbers(tensor):
    return [round(value * 100) for value in tensor.flatten(1)[:, 0].tolist()]


def batches(*sizes, side=8):
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return [numbered(start, size, side, side, 3) for start, size in zip(starts, sizes, strict=True)]


def sent(found, name="images"):
    return [numbers(part[name]) for part in found]


def latents(first, count, **keys):
    return {"samples": numbered(first, count, 4, 2, 2), **keys}


def text(count, **options):
    return [[numbered(0, count, 7, 16), options]]


def test_a_batch_stays_a_batch_and_a_list_a_list(parts):
    flags = [GOOD, BAD, GOOD, BAD]
    assert sent(parts(batches(4), [flags])) == [[1, 3]]
    assert sent(parts(batches(1, 1, 1, 1), [[flag] for flag in flags])) == [[1], [3]]
    assert sent(parts(batches(2, 2), [flags[:2], flags[2:]])) == [[1], [3]]
    assert sent(parts(batches(3, 1, 2), [[BAD, GOOD, BAD], [GOOD], [BAD, BAD]])) == [[0, 2], [4, 5]]


def test_images_of_different_sizes_and_channels_go_as_they_are(parts):
    images = [torch.rand(2, 8, 8, 4), torch.rand(1, 16, 8, 3)]
    found = parts(images, [[GOOD, BAD], [BAD]])
    assert torch.equal(found[0]["images"], images[0][1:]) and torch.equal(found[1]["images"], images[1])
    assert set(found[0]) == {"images"}


def test_latents_keep_their_places_masks_and_seeds(parts):
    from understudy.nodes.seeds import noise_of_image, with_seed

    whole = with_seed(latents(0, 4, noise_mask=numbered(0, 4, 16, 16)), 77)
    (found,) = parts(batches(4), [[GOOD, BAD, GOOD, BAD]], latent=[whole])
    cut = found["latent"]
    assert numbers(cut["samples"]) == numbers(cut["noise_mask"]) == cut["batch_index"] == [1, 3]
    for row, place in enumerate((1, 3)):
        assert noise_of_image(cut, row) == noise_of_image(whole, place) and noise_of_image(cut, row)[0].seed == 77
    assert "batch_index" not in whole and len(whole["samples"]) == 4
    (again,) = parts(batches(2), [[GOOD, BAD]], latent=[cut])
    assert again["latent"]["batch_index"] == [3]


def test_a_latent_that_is_sent_whole_is_the_host_s_to_index(parts):
    """One draw for the batch and a draw for each place differ where a latent is no multiple of 16 numbers."""
    (found,) = parts(batches(2), [[BAD, BAD]], latent=[latents(0, 2, batch_index=None)])
    assert "batch_index" not in found["latent"]


@pytest.mark.parametrize("pieces", [(4,), (2, 2), (1, 1, 1, 1)])
def test_one_latent_for_images_that_were_rebatched_and_the_other_way_round(parts, pieces):
    flags, starts = [BAD, GOOD, BAD, BAD], [sum(pieces[:k]) for k in range(len(pieces))]
    listed = [latents(start, size) for start, size in zip(starts, pieces, strict=True)]
    together = parts(batches(4), [flags], latent=listed)
    assert sum(sent(together), []) == [0, 2, 3]
    assert [numbers(part["latent"]["samples"]) for part in together] == sent(together)
    singly = parts(batches(1, 1, 1, 1), [[flag] for flag in flags], latent=listed)
    assert [numbers(part["latent"]["samples"]) for part in singly] == [[0], [2], [3]] == sent(singly)
    if len(pieces) == 1:
        assert [part["latent"]["batch_index"] for part in singly] == [[0], [2], [3]]


def test_conditioning_for_all_is_cut_by_the_latent_s_batch(parts):
    hints = text(1, mask=numbered(0, 4, 8, 8))
    for images, flags in ((batches(4), [[BAD, GOOD, GOOD, BAD]]), (batches(*[1] * 4), [[BAD], [GOOD], [GOOD], [BAD]])):
        found = parts(images, flags, positive=[hints], latent=[latents(0, 4)])
        assert [numbers(part["positive"][0][1]["mask"]) for part in found] == sent(found)
    assert len(hints[0][1]["mask"]) == 4


def test_a_list_of_conditioning_goes_with_its_entries(parts):
    own = [text(1, mask=numbered(10, 2, 8, 8)), text(1, mask=numbered(20, 3, 8, 8))]
    found = parts(batches(2, 3), [[GOOD, BAD], [BAD, GOOD, BAD]], positive=own, latent=[latents(0, 5)])
    assert [numbers(part["positive"][0][1]["mask"]) for part in found] == [[11], [20, 22]]


def test_positive_and_negative_still_share_a_control_net(parts):
    control = Control(numbered(0, 4, 3, 8, 8))
    given = {"positive": [text(1, control=control)], "negative": [text(1, control=control)]}
    (found,) = parts(batches(4), [[GOOD, BAD, GOOD, BAD]], **given)
    cut = found["positive"][0][1]["control"]
    assert cut is found["negative"][0][1]["control"] and numbers(cut.cond_hint_original) == [1, 3]
    assert numbers(control.cond_hint_original) == [0, 1, 2, 3]


def test_conditioning_and_prompts_of_each_image_divide_a_batch(parts):
    each = [text(1, pooled_output=numbered(k, 2, 4)) for k in range(4)]
    words = ["a", "b", "b", "d"]
    found = parts(batches(4), [[BAD, BAD, BAD, GOOD]], positive=each)
    assert [id(part["positive"]) for part in found] == [id(own) for own in each[:3]] and sent(found) == [[0], [1], [2]]
    found = parts(batches(4), [[BAD, BAD, BAD, GOOD]], prompts=words)
    assert [part["prompts"] for part in found] == ["a", "b"] and sent(found) == [[0], [1, 2]]
    (found,) = parts(batches(4), [[BAD, GOOD, GOOD, BAD]], prompts=["all"], positive=each[:1])
    assert found["prompts"] == "all" and numbers(found["positive"][0][1]["pooled_output"]) == [0, 1]


def test_masks(parts):
    flags = [[GOOD, BAD], [BAD, BAD]]
    for masks in ([numbered(0, 4, 8, 8)], [numbered(0, 2, 8, 8), numbered(2, 2, 8, 8)], [numbered(0, 4, 1, 8, 8)]):
        assert sent(parts(batches(2, 2), flags, mask=masks), "mask") == [[1], [2, 3]]
    for one in (numbered(7, 1, 8, 8), numbered(7, 1, 8, 8)[0]):
        found = parts(batches(2, 2), flags, mask=[one])
        assert sent(found, "mask") == [[7], [7, 7]] and found[1]["mask"].shape == (2, 8, 8)
    assert sent(parts(batches(2, 2), flags, mask=[numbered(7, 1, 8, 8), numbered(8, 1, 8, 8)]), "mask") == [[7], [8, 8]]
    sizes = [numbered(1, 1, 8, 8), numbered(2, 1, 4, 4), numbered(3, 2, 4, 4)]
    found = parts(batches(4), [[BAD] * 4], mask=sizes)  # a MASK has one size
    assert sent(found, "mask") == [[1], [2, 3, 4]] and sent(found) == [[0], [1, 2, 3]]


@pytest.mark.parametrize(
    "belongings, message",
    [
        ({"mask": [numbered(0, 3, 8, 8)]}, "3 masks for 4 images"),
        ({"prompts": ["a"] * 3}, "3 prompts for 4 images"),
        ({"positive": [text(1)] * 3}, "3 positives for 4 images"),
        ({"latent": [latents(0, 3)]}, "3 latents, but 4 images"),
        ({"latent": [{"samples": None}]}, "latent has no samples"),
    ],
)
def test_other_counts_are_named(parts, belongings, message):
    with pytest.raises(ValueError, match=message):
        parts(batches(4), [[BAD] * 4], **belongings)


def test_if_all_pass_nothing_is_asked_for_and_every_output_is_blocked_without_a_word(without_host, monkeypatch):
    from understudy.nodes import split
    from understudy.nodes.split import OUTPUTS, UnderstudySplit
    from understudy.oracles.scores import Scores
    from understudy.oracles.threshold import Threshold

    monkeypatch.setitem(sys.modules, "comfy_execution", ModuleType("comfy_execution"))
    blocker = ModuleType("comfy_execution.graph_utils")
    blocker.ExecutionBlocker = lambda message: ("blocked", message)
    monkeypatch.setitem(sys.modules, "comfy_execution.graph_utils", blocker)
    monkeypatch.setattr(UnderstudySplit, "hidden", SimpleNamespace(unique_id="1"), raising=False)
    judged = {"images": batches(2), "scores": [Scores((0.6, 1.0), ("",) * 2, None, ("",) * 2)]}
    good, bad = ({**judged, "threshold": [Threshold.fixed(value)]} for value in (0.5, 0.7))
    connected = {"latent": (None,), "positive": (None,)}
    assert UnderstudySplit.check_lazy_status(**good, **connected) == []
    assert UnderstudySplit.check_lazy_status(**bad, **connected) == ["latent", "positive"]
    said = []
    monkeypatch.setattr(split, "shown", lambda text, node_id: said.append(text))
    assert list(UnderstudySplit.execute(**good)) == [("blocked", None)] * len(OUTPUTS)
    assert said == ["0 of 2 images sent out"]
    UnderstudySplit.execute(**{**judged, "threshold": [Threshold.worst_n(2)]})
    assert said[-1] == f"2 of 2 images sent out\n{Threshold.worst_n(2).remark(2)}"
    images, *others = UnderstudySplit.execute(**bad)
    assert sent([{"images": image} for image in images]) == [[0]]
    for name, (kind, message) in zip(OUTPUTS[1:], others, strict=True):
        assert kind == "blocked" and f"has nothing for {name}: connect its input {name}" in message

"""Cutting a batch with all that it carries, on plain tensors; against the host's own functions see tests/host."""

import copy

import pytest
import torch
from understudy.nodes.subset import Subset, cond_masks_per_image, cyclic, entry_of_image, mask_per_image

BATCH, SIZE = 5, (8, 8)


def numbered(entries, *shape):
    """A tensor whose entries along the first dimension are 0, 1, 2, …"""
    return torch.arange(entries).reshape(-1, *[1] * len(shape)).expand(entries, *shape).float().clone()


def entries(tensor):
    return tensor.flatten(1)[:, 0].tolist()


def cut_option(name, value, images=(1, 4)):
    conditioning = [[numbered(1, 7, 16), {name: value}]]
    return Subset(list(images), BATCH).conditioning(conditioning, SIZE)[0][1][name]


@pytest.mark.parametrize("count, expected", [(1, [0]), (2, [1, 0]), (5, [1, 4]), (9, [1, 4])])
def test_text_is_repeated_cyclically_and_then_cut(count, expected):
    cut = Subset([1, 4], BATCH).conditioning([[numbered(count, 7, 16), {}]], SIZE)
    assert entries(cut[0][0]) == expected


@pytest.mark.parametrize("name", ["pooled_output", "attention_mask", "cross_attn_controlnet", "noise_concat"])
def test_options_of_fewer_entries_than_images(name):
    assert entries(cut_option(name, numbered(3, 4))) == [1, 1]


def test_inpainting_latents_are_stretched_over_the_batch():
    assert entries(cut_option("concat_latent_image", numbered(2, 4, 8, 8))) == [0, 1]
    assert entries(cut_option("concat_mask", numbered(9, 8, 8))) == [2, 8]


def test_reference_latents_are_cut_each():
    cut = cut_option("reference_latents", [numbered(5, 4, 8, 8), numbered(1, 4, 6, 6), numbered(2, 4, 8, 8)])
    assert [entries(each) for each in cut] == [[1, 4], [0], [1, 0]]


def test_masks():
    for name in ("mask", "concat_mask"):
        assert entries(cut_option(name, numbered(5, 8, 8))) == [1, 4]
        one = numbered(5, 5)  # without a batch
        assert cut_option(name, one) is one


def test_unknown_options_are_cut_if_they_are_as_long_as_the_batch():
    assert entries(cut_option("another_pack_s", numbered(5, 3))) == [1, 4]
    assert entries(cut_option("another_pack_s", numbered(4, 3))) == [0, 1, 2, 3]
    assert cut_option("another_pack_s", torch.zeros(5)).shape == (5,)
    for value in (3.5, "text", None, ("percentage", 0.5, 0.5, 0.0, 0.0), object()):
        assert cut_option("another_pack_s", value) is value or cut_option("another_pack_s", value) == value


def test_the_rules_name_entries_that_exist():
    for rule in (cyclic, entry_of_image):
        for batch in range(1, 9):
            for count in range(1, 9):
                assert all(0 <= rule(image, count, batch) < count for image in range(batch))
    assert [entry_of_image(i, 3, 6) for i in range(6)] == [0, 0, 1, 1, 2, 2]
    assert [entry_of_image(i, 5, 3) for i in range(3)] == [0, 2, 4]


def test_the_whole_batch_is_left_alone():
    conditioning = [[numbered(5, 7, 16), {"mask": numbered(5, 8, 8)}]]
    assert Subset(range(5), 5).conditioning(conditioning, SIZE) is conditioning


def test_latents():
    latent = {"samples": numbered(5, 4, 8, 8), "batch_index": [9, 8, 7, 6, 5], "noise_mask": numbered(2, 64, 64)}
    cut = Subset([1, 4], BATCH).latent(latent)
    assert entries(cut["samples"]) == [1, 4] and cut["batch_index"] == [8, 5] and entries(cut["noise_mask"]) == [1, 0]
    assert cut["noise_mask"].shape == (2, 1, 64, 64)
    assert latent["batch_index"] == [9, 8, 7, 6, 5] and len(latent["samples"]) == 5


def test_noise_masks_of_latents_with_frames():
    """Several images have a mask each; what is one video's stays the host's."""

    def shape(masks, *latents):
        return list(mask_per_image(masks, latents).shape)

    for masks in (numbered(5, 64, 64), numbered(5, 1, 64, 64)):
        assert shape(masks, 5, 16, 1, 8, 8) == [5, 1, 1, 64, 64]
        assert shape(masks, 5, 16, 3, 8, 8) == [5, 1, 1, 64, 64]
        for video in ((1, 16, 5, 8, 8), (5, 16, 5, 8, 8), (2, 16, 3, 8, 8)):
            assert mask_per_image(masks, video) is masks
    assert shape(numbered(2, 64, 64), 5, 16, 1, 8, 8) == [2, 1, 1, 64, 64]
    whole = numbered(5, 1, 3, 8, 8)
    assert mask_per_image(whole, (5, 16, 3, 8, 8)) is whole

    def cut(masks, *latents):
        return Subset([1, 4], BATCH).latent({"samples": torch.zeros(latents), "noise_mask": masks})["noise_mask"]

    assert entries(cut(numbered(5, 64, 64), 5, 16, 1, 8, 8)) == [1, 4]
    assert entries(cut(whole, 5, 16, 3, 8, 8)) == [1, 4]
    frames = numbered(3, 64, 64)
    assert cut(frames, 5, 16, 3, 8, 8) is frames


def test_masks_of_conditioning_for_latents_with_frames():
    conds = [{"mask": numbered(5, 8, 8)}, {"mask": numbered(1, 8, 8)}, {}]
    made = cond_masks_per_image(conds, (1, 8, 8))
    assert [list(cond["mask"].shape) for cond in made[:2]] == [[5, 1, 8, 8], [1, 8, 8]]
    assert conds[0]["mask"].shape == (5, 8, 8)
    for size in ((8, 8), (3, 8, 8)):
        assert cond_masks_per_image(conds, size) is conds


class Control:
    """The part of the host's ControlBase that carries a batch."""

    def __init__(self, hint, extra=(), previous=None):
        self.cond_hint_original, self.extra_concat_orig, self.previous_controlnet = hint, list(extra), previous
        self.extra_args = {"control_type": [3], "per_image": numbered(5, 2)}

    def copy(self):
        made = copy.copy(self)
        made.previous_controlnet = None
        return made

    def set_previous_controlnet(self, previous):
        self.previous_controlnet = previous
        return self


def test_control_chain_is_cut_once_and_shared():
    first = Control(numbered(3, 3, 64, 64))
    last = Control(numbered(5, 3, 64, 64), extra=[numbered(5, 1, 64, 64), numbered(1, 1, 64, 64)], previous=first)
    subset = Subset([1, 4], BATCH)
    positive, negative = (subset.conditioning([[numbered(1, 7, 16), {"control": last}]], SIZE) for _ in range(2))
    cut = positive[0][1]["control"]
    assert cut is negative[0][1]["control"] and cut is not last
    assert entries(cut.cond_hint_original) == [1, 4]
    assert [entries(extra) for extra in cut.extra_concat_orig] == [[1, 4], [0]]
    assert entries(cut.extra_args["per_image"]) == [1, 4] and cut.extra_args["control_type"] == [3]
    assert entries(cut.previous_controlnet.cond_hint_original) == [1, 1]
    assert (
        last.previous_controlnet is first and len(last.cond_hint_original) == 5 and len(last.extra_concat_orig[0]) == 5
    )


def test_a_control_that_cuts_its_own_hint_keeps_it_whole():
    control = Control(numbered(5, 3, 8, 8), extra=[numbered(5, 1, 8, 8)])
    control.sub_idxs = None  # as Advanced-ControlNet's
    cut = Subset([1, 4], BATCH).control(control)
    assert len(cut.cond_hint_original) == 5 and entries(cut.extra_concat_orig[0]) == [1, 4]


@pytest.mark.parametrize("hints, extras, expected", [(1, 4, [0]), (2, 5, [1, 0]), (5, 2, [1, 0])])
def test_extra_inputs_follow_the_hint(hints, extras, expected):
    control = Control(numbered(hints, 3, 8, 8), extra=[numbered(extras, 1, 8, 8)])
    assert entries(Subset([1, 4], BATCH).control(control).extra_concat_orig[0]) == expected

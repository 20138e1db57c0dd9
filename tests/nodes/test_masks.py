"""Masks of what may change: one for all or one for each, in batches and lists, and what is blended by them."""

import pytest
import torch
from understudy.nodes.masks import blended, fitted_mask, joint_mask, masks_of


def numbered(count, side=4):
    return torch.arange(count).reshape(-1, 1, 1).expand(count, side, side) / 10


def batches(*counts):
    return [torch.zeros(count, 4, 4, 3) for count in counts]


def values(masks):
    return [[round(float(mask[0, 0]), 1) for mask in batch] for batch in masks]


def test_one_for_all_or_one_for_each_or_one_for_each_batch():
    assert masks_of([None], batches(2, 1)) == [(None, None), (None,)]
    assert values(masks_of([numbered(1)[0]], batches(2, 1))) == [[0, 0], [0]]
    assert values(masks_of([numbered(3)], batches(2, 1))) == [[0, 0.1], [0.2]]
    assert values(masks_of([numbered(3)[:1], numbered(3)[1:]], batches(1, 2))) == [[0], [0.1, 0.2]]
    assert values(masks_of([numbered(2)], batches(3, 1))) == [[0, 0, 0], [0.1]]
    fitted = masks_of([torch.eye(2)], [torch.zeros(1, 6, 8, 3)])[0][0]
    assert fitted.shape == (6, 8) and fitted[0, 0] == 1 and fitted[0, 7] == 0
    for masks, given in ((numbered(4), "4 masks for 3 images"), (torch.ones(1, 1, 4, 4), r"mask is \[1, 1, 4, 4\]")):
        with pytest.raises(ValueError, match=given):
            masks_of([masks], batches(2, 1))


def test_pixels_where_a_mask_is_nothing_stay_bit_for_bit():
    before, after = torch.rand(6, 8, 4), torch.rand(6, 8, 4)
    after[0, 0] = float("nan")
    mask = torch.zeros(6, 8)
    mask[:, 4:], mask[3, 6] = 1, 0.25
    made = blended(before, after, mask)
    assert torch.equal(made[:, :4], before[:, :4]) and torch.equal(made[4:, 4:], after[4:, 4:])
    torch.testing.assert_close(made[3, 6], 0.75 * before[3, 6] + 0.25 * after[3, 6])
    assert blended(before, after, None) is after


def test_a_mask_goes_with_an_image_that_is_enlarged_and_extended():
    mask = torch.zeros(10, 13)
    mask[:, 10:] = 1
    assert fitted_mask(mask, (10, 13), (10, 13), (16, 16)).shape == (16, 16)
    large = fitted_mask(mask, (10, 13), (20, 26), (24, 32))
    assert large.shape == (24, 32) and large[:, 21:].eq(1).all() and large[:, :19].eq(0).all()
    other = torch.ones(1, 1, 2, 2)  # of a latent's size
    assert fitted_mask(other, (10, 13), (20, 26), (24, 32)) is other


def test_two_masks_let_change_what_both_do():
    rows, columns = torch.zeros(1, 1, 1, 8, 8), torch.zeros(8, 8)
    rows[..., 4:, :], columns[:, 4:] = 1, 1
    both = joint_mask(rows, columns, (8, 8))
    assert both.shape == rows.shape and both[..., 4:, 4:].eq(1).all() and both.sum() == 16
    assert joint_mask(rows, None, (8, 8)) is rows and joint_mask(None, columns, (8, 8)).shape == (1, 1, 8, 8)
    assert joint_mask(None, None, (8, 8)) is None

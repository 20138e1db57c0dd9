"""The mask, the blur and the picture under both, against hand-computed ones."""

import pytest
import torch
from understudy.samplers import attention_guidance
from understudy.samplers.attention_guidance import (
    attention_mask,
    blur,
    blurred_where_attended,
    column_sums,
    scaled_blur,
)


def test_column_sums_are_what_each_place_receives():
    """Two heads of width 1 over two places; the first looks from place 0 at place 1 alone, the second evenly."""
    q = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])  # [1, 2, heads * 1]
    k = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
    e = torch.e / (1 + torch.e)
    first, second = torch.tensor([[1 - e, e], [0.5, 0.5]]), torch.full((2, 2), 0.5)
    sums = column_sums(q, k, 2)
    torch.testing.assert_close(sums, ((first + second) / 2).sum(0)[None])
    assert sums[0, 1] > 1 > sums[0, 0] and not torch.allclose(
        sums, ((first + second) / 2).sum(1)[None]
    )  # not the rows'
    assert attention_mask(sums, 1, 2).tolist() == [[[[False, True]]]]


def test_parts_of_the_queries_are_the_whole_map(monkeypatch):
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 16, 12).unbind(1)[:2]
    whole = column_sums(q, k, 4)
    map_of = (q.unflatten(-1, (4, 3)).transpose(1, 2) @ k.unflatten(-1, (4, 3)).permute(0, 2, 3, 1) / 3**0.5).softmax(
        -1
    )
    torch.testing.assert_close(whole, map_of.mean(1).sum(1))
    monkeypatch.setattr(attention_guidance, "SCORES", 4 * 16 * 5)
    torch.testing.assert_close(column_sums(q, k, 4), whole)
    monkeypatch.setattr(attention_guidance, "SCORES", 1)
    torch.testing.assert_close(column_sums(q, k, 4), whole)


def test_half_precision_around_it_does_not_reach_the_map():
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(column_sums(q, k, 2), column_sums(q, k, 2).float()) and (q @ k.mT).dtype == torch.bfloat16
        inside = column_sums(q, k, 2)
    assert torch.equal(inside, column_sums(q, k, 2))


def test_uniform_attention_masks_nothing():
    """Its sums are 1 up to rounding, here above as well as below."""
    for dtype in (torch.float32, torch.float16):
        sums = column_sums(torch.randn(1, 49, 6).to(dtype), torch.ones(1, 49, 6, dtype=dtype), 2)
        assert not attention_mask(sums, 7, 7).any()
    rounded = 1 + torch.tensor([[5e-5, -5e-5, 9e-5, 0.0]])
    assert not attention_mask(rounded, 2, 2).any() and attention_mask(rounded + 2e-5, 2, 2).sum() == 1


def test_the_mask_lies_over_the_latent_as_the_level_does():
    sums = torch.tensor([[1.5, 0.5, 0.9, 0.9, 1.2, 1.0]])  # a level of 2x3 places
    expected = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0]]).bool()
    assert torch.equal(attention_mask(sums, 3, 5)[0, 0], expected)
    assert attention_mask(torch.rand(2, 9 * 13), 68, 100).shape == (2, 1, 68, 100)  # halved to 34x50, 17x25, 9x13
    with pytest.raises(ValueError, match="over 63 places; a UNet has no such level for latents of 64x64"):
        attention_mask(torch.rand(1, 63), 64, 64)


def test_the_blur_is_a_gaussian_s():
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1
    weights = torch.tensor([torch.e ** (-0.5 * (i / 2.0) ** 2) for i in (-2, -1, 0, 1, 2)])
    weights /= weights.sum()
    torch.testing.assert_close(blur(point, 5, 2.0)[0, 0, 2:7, 2:7], weights[:, None] * weights)
    even = torch.full((1, 2, 5, 6), 0.3)
    torch.testing.assert_close(blur(even, 9, 2.0), even)  # at the edges too
    with pytest.raises(ValueError, match=r"a blur over 9 places needs sides of at least 5; got \(4, 8\)"):
        blur(torch.zeros(1, 1, 4, 8), 9, 2.0)


def test_the_blur_scales_with_the_latent():
    assert scaled_blur(64, 64) == (9, 2.0) and scaled_blur(64, 96) == (9, 2.0)
    assert scaled_blur(128, 128) == (17, pytest.approx(34 / 9)) and scaled_blur(96, 128)[0] == 13
    assert scaled_blur(8, 8) == (3, pytest.approx(6 / 9))
    assert scaled_blur(128, 128, 15, 3.0) == (29, pytest.approx(5.8))
    for side in range(2, 200):
        kernel, _ = scaled_blur(side, side)
        assert kernel % 2 == 1 and kernel // 2 < side


def test_only_what_is_looked_at_is_blurred():
    torch.manual_seed(0)
    x0, sums = torch.randn(2, 4, 8, 8), torch.full((2, 16), 0.5)
    sums[0, 0] = sums[1, 15] = 8.5
    changed = blurred_where_attended(x0, sums, 3, 0.67) != x0
    assert changed[0, :, :2, :2].all() and changed[1, :, 6:, 6:].all() and changed.sum() == 2 * 4 * 4
    torch.testing.assert_close(blurred_where_attended(x0, sums, 3, 0.67)[0, :, :2, :2], blur(x0, 3, 0.67)[0, :, :2, :2])

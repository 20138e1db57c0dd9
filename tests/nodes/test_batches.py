"""Images, prompts and scores stay together over batches and lists."""

import pytest
import torch
from understudy.nodes.batches import for_oracle, one_per_image, split
from understudy.oracles.base import OracleError


def test_images_keep_alpha_and_lose_overshoots():
    image = torch.tensor([-0.1, 0.5, 1.1, 0.25]).expand(2, 4, 6, 4)
    for channels in (3, 4):
        images = for_oracle(image[..., :channels])
        assert images.shape == (2, channels, 4, 6)
        assert images[0, :, 0, 0].tolist() == [0.0, 0.5, 1.0, 0.25][:channels]


def test_grey_images_become_three_channels():
    grey = torch.rand(2, 4, 6, 1)
    assert torch.equal(for_oracle(grey), grey.expand(-1, -1, -1, 3).movedim(-1, 1))


@pytest.mark.parametrize("value", [255.0, 1.51, -0.51, float("inf"), float("nan")])
def test_pixels_that_were_not_meant_for_0_to_1_are_refused_and_not_clipped(value):
    images = torch.rand(3, 4, 6, 3)
    images[1, 2, 3, 0] = value
    with pytest.raises(OracleError, match=r"image 1 has values from .*; expected \[0, 1\], so look at what made it"):
        for_oracle(images)
    with pytest.raises(OracleError, match="image 18 has"):
        for_oracle(images, [11, 18, 19])
    alpha = torch.cat([torch.rand(1, 4, 6, 3), torch.full((1, 4, 6, 1), value)], -1)
    with pytest.raises(OracleError, match="image 0 "):
        for_oracle(alpha)


@pytest.mark.parametrize("shape", [(4, 6, 3), (1, 4, 6, 2), (1, 3, 4, 6), (1, 0, 6, 3)])
def test_other_shapes_are_refused_as_the_host_has_them(shape):
    with pytest.raises(OracleError, match=rf"shape \[{', '.join(map(str, shape))}\]; expected \[batch, height, width"):
        for_oracle(torch.zeros(shape))


@pytest.mark.parametrize(
    "prompts, sizes, expected",
    [
        (["a"], [3], ["a"] * 3),
        (["a", "b", "c"], [3], ["a", "b", "c"]),
        (["a", "b"], [1, 1], ["a", "b"]),
        (["a", "b"], [2, 1], ["a", "a", "b"]),
        (["a", "b", "c"], [2, 1], ["a", "b", "c"]),
    ],
)
def test_one_for_all_one_per_image_or_one_per_batch(prompts, sizes, expected):
    assert one_per_image(prompts, sizes, "prompts") == expected


def test_other_counts_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="2 prompts for 5 images"):
        one_per_image(["a", "b"], [5], "prompts")
    with pytest.raises(ValueError, match="3 prompts for 5 images in 2 batches"):
        one_per_image(["a", "b", "c"], [4, 1], "prompts")


def test_split_keeps_the_order():
    assert list(split([1, 2, 3, 4], [1, 3])) == [(1,), (2, 3, 4)]

import pytest
import torch
import torchsde
from understudy.samplers import PerImageBrownianNoise, PerImageNoise, image_seeds, initial_noise

SHAPE = (4, 8, 8)


def draws(seeds, indices, count=3):
    sampler = PerImageNoise(seeds, indices, SHAPE)
    return torch.stack([sampler(None, None) for _ in range(count)], dim=1)


def brownian(indices, sigmas=(10.0, 5.0, 2.0, 0.5), seed=3):
    sampler = PerImageBrownianNoise(torch.zeros(len(indices), *SHAPE), sigmas[-1], sigmas[0], seed, indices)
    pairs = zip(sigmas, sigmas[1:], strict=False)
    return torch.stack([sampler(torch.tensor(a), torch.tensor(b)) for a, b in pairs], dim=1)


@pytest.mark.parametrize("noise", [lambda i: initial_noise(3, i, SHAPE), lambda i: draws(3, i), brownian])
def test_an_image_gets_the_same_alone_in_the_batch_and_in_any_subset_and_order(noise):
    full = noise(range(5))
    assert torch.equal(noise([2]), full[[2]])
    assert torch.equal(noise([4, 1]), full[[4, 1]])
    assert torch.equal(noise([1, 1]), full[[1, 1]])
    assert torch.equal(noise(torch.tensor([4, 1])), full[[4, 1]])
    for other in (0, 1, 2, 4):
        assert not torch.equal(full[3], full[other])


def test_initial_noise_is_the_hosts():
    """ComfyUI draws the whole batch at once, or image by image where there is a `batch_index`."""
    whole = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(7))
    assert torch.equal(initial_noise(7, range(4), SHAPE), whole)
    own = torch.randn(SHAPE, generator=torch.Generator().manual_seed(8))
    assert torch.equal(initial_noise([7, 8], [3, 0], SHAPE), torch.stack([whole[3], own]))


def test_an_image_alone_draws_what_the_hosts_default_sampler_draws():
    generator = torch.Generator().manual_seed(7 + 1)  # the host adds one on the CPU
    expected = torch.stack([torch.randn(1, *SHAPE, generator=generator) for _ in range(3)], dim=1)
    assert torch.equal(draws(7, [0]), expected)


def test_draws_differ_from_each_other_and_from_the_starting_noise():
    noise = torch.cat([initial_noise(5, range(3), SHAPE)[:, None], draws(5, range(3))], dim=1).flatten(0, 1).flatten(1)
    correlation = torch.corrcoef(noise) - torch.eye(len(noise))
    assert correlation.abs().max() < 0.3  # 256 numbers each: standard deviation 0.06


def test_an_image_alone_gets_the_hosts_brownian_increments():
    tree = torchsde.BrownianTree(torch.tensor(0.5), torch.zeros(1, *SHAPE), torch.tensor(10.0), entropy=3)
    increment = tree(torch.tensor(5.0), torch.tensor(10.0))  # of time rising, as a sampler's sigma does not
    assert torch.equal(brownian([0])[:, 0], -increment / 5**0.5)


def test_seeds_may_be_given_for_each_image():
    assert torch.equal(draws([7, 8], [2, 2]), torch.cat([draws(7, [2]), draws(8, [2])]))
    assert image_seeds(7, [0, 1]) == image_seeds([7, 7], [0, 1])
    assert image_seeds(7, [0]) == [7]
    assert image_seeds(2**64 - 1, [0]) == [2**64 - 1] and draws(2**64 - 1, [0]).isfinite().all()


def test_a_negative_seed_draws_what_torch_draws_for_it():
    expected = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(-5))
    assert torch.equal(initial_noise(-5, [0], SHAPE), expected)
    assert torch.equal(draws(-5, [0, 3]), draws(2**64 - 5, [0, 3])) and brownian([0], seed=-5).isfinite().all()


def test_noise_has_the_asked_dtype_and_the_same_numbers():
    half = PerImageNoise(1, [0, 1], SHAPE, dtype=torch.float16)(1.0, 0.5)
    assert half.dtype == torch.float16
    assert torch.equal(half, draws(1, [0, 1], 1)[:, 0].half())


def test_brownian_increments_are_white_and_add_up():
    x = torch.zeros(2, 4, 64, 64)
    sampler = PerImageBrownianNoise(x, 0.5, 10.0, 3, [0, 1])
    sigmas = [torch.tensor(s) for s in (10.0, 4.0, 1.0)]
    first, second, both = sampler(sigmas[0], sigmas[1]), sampler(sigmas[1], sigmas[2]), sampler(sigmas[0], sigmas[2])
    for increment in (first, second, both):
        assert increment.std() == pytest.approx(1.0, abs=0.03) and abs(increment.mean()) < 0.03
    assert abs((first * second).mean()) < 0.03
    torch.testing.assert_close(first * 6**0.5 + second * 3**0.5, both * 9**0.5, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("seeds", "indices", "message"),
    [
        ([1, 2], [0, 1, 2], "2 seeds for 3 images"),
        (-(2**63) - 1, [0], "out of range"),
        (2**64, [0], "out of range"),
        (1, [-2], "index -2 is negative"),
    ],
)
def test_wrong_seeds_and_indices_are_named(seeds, indices, message):
    with pytest.raises(ValueError, match=message):
        PerImageNoise(seeds, indices, SHAPE)
    with pytest.raises(ValueError, match=message):
        initial_noise(seeds, indices, SHAPE)


def test_a_brownian_sampler_needs_one_index_for_each_image():
    with pytest.raises(ValueError, match="2 indices for a batch of 3 images"):
        PerImageBrownianNoise(torch.zeros(3, *SHAPE), 0.1, 1.0, 0, [0, 1])

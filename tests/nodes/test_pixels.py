"""Images of any size and with alpha, into a VAE and back."""

import pytest
import torch
from understudy.nodes.pixels import decode, encode, extended, extended_to_multiple, fitted_to


def test_sides_grow_by_repeating_the_edge():
    images = torch.rand(2, 13, 16, 3)
    grown = extended_to_multiple(images, 8)
    assert grown.shape == (2, 16, 16, 3)
    assert torch.equal(grown[:, :13], images) and torch.equal(grown[:, 15], images[:, 12])
    assert extended_to_multiple(grown, 8) is grown
    mask = torch.rand(2, 1, 5, 6)
    assert torch.equal(extended(mask, 6, 8, (-2, -1))[..., 5, 7], mask[..., 4, 5])


@pytest.mark.parametrize("channels", [3, 4])
def test_size_type_and_alpha_are_those_from_before(channels):
    before = torch.rand(2, 13, 10, channels, dtype=torch.float64)
    after = fitted_to(before, torch.rand(2, 16, 16, 3))
    assert after.shape == before.shape and after.dtype == before.dtype
    assert torch.equal(after[..., 3:], before[..., 3:])


class Vae:
    def __init__(self, latent_dim, frames=1):
        self.latent_dim, self.frames, self.batches = latent_dim, frames, []

    def encode(self, pixels):
        self.batches.append(len(pixels))
        return torch.zeros(len(pixels) if self.latent_dim == 2 else 1, 4, 8, 8)

    def decode(self, samples):
        return torch.zeros(len(samples), self.frames, 64, 64, 3) if self.latent_dim == 3 else torch.zeros(1, 64, 64, 3)


def test_a_video_vae_takes_images_one_by_one():
    vae = Vae(latent_dim=3)
    assert encode(vae, torch.rand(3, 64, 64, 3)).shape == (3, 4, 8, 8) and vae.batches == [1, 1, 1]
    assert decode(vae, torch.zeros(3, 4, 1, 8, 8)).shape == (3, 64, 64, 3)


def test_a_decoder_that_makes_another_number_of_images_is_an_error():
    with pytest.raises(ValueError, match="6 images of 3 latents"):
        decode(Vae(latent_dim=3, frames=2), torch.zeros(3, 4, 2, 8, 8))

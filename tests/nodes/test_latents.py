"""LATENTs as other packs hand them over."""

import pytest
import torch
from understudy.nodes.latents import single


class Nested:
    """Stands in for the host's NestedTensor."""

    is_nested = True

    def unbind(self):
        return [torch.zeros(1), torch.zeros(1)]


def test_what_is_none_is_as_if_it_were_not_there():
    samples = torch.zeros(1, 4, 8, 8)
    given = {"samples": samples, "noise_mask": None, "batch_index": None, "type": "audio"}
    assert single(given, "latent") == {"samples": samples, "type": "audio"}
    assert set(given) == {"samples", "noise_mask", "batch_index", "type"}


def test_latents_of_several_kinds_or_of_none_are_refused():
    with pytest.raises(ValueError, match="latent_image holds 2 latents in one, such as a video with its sound"):
        single({"samples": Nested()}, "latent_image")
    with pytest.raises(ValueError, match="latent_image has no samples"):
        single({"samples": None}, "latent_image")

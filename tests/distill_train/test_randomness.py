"""Draws follow from a sample's own index."""

import torch
from understudy.distill_train.data.filtering import above_percentile
from understudy.distill_train.data.randomness import Draws


def test_a_samples_draws_are_the_same_in_any_part_of_a_batch():
    whole, parts = Draws(3, range(4, 8)), [Draws(3, range(4, 6)), Draws(3, range(6, 8))]
    for name in ("noise", "other"):
        assert torch.equal(whole.normal(name, (2, 3)), torch.cat([p.normal(name, (2, 3)) for p in parts]))
    assert torch.equal(whole.whole("t", 0, 50), torch.cat([p.whole("t", 0, 50) for p in parts]))
    assert torch.equal(whole.uniform("w", 3, 15), torch.cat([p.uniform("w", 3, 15) for p in parts]))


def test_draws_of_other_samples_names_and_seeds_differ():
    draws = Draws(3, range(1000))
    assert draws.normal("noise", ()).unique().numel() == 1000
    assert not torch.equal(draws.normal("noise", ()), draws.normal("other", ()))
    assert not torch.equal(draws.normal("noise", ()), Draws(4, range(1000)).normal("noise", ()))
    t, w = draws.whole("t", 0, 4), draws.uniform("w", 3, 15)
    assert t.bincount().min() > 180 and t.max() == 3
    assert 3 <= w.min() < 3.2 and 14.8 < w.max() < 15


def test_the_better_samples_are_kept():
    scores = torch.tensor([0.3, 0.9, 0.1, 0.5, 0.7])
    assert above_percentile(scores, 50).tolist() == [1, 3, 4]
    assert above_percentile(scores, 80).tolist() == [1]

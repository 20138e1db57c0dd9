"""Texts of several lengths: one batch of them, and which samples share a step."""

import pytest
import torch
from understudy.distill_train.data.cache import Cache
from understudy.distill_train.data.encode import CachedSource, Item, alike_in_length
from understudy.distill_train.teachers.ragged import alike, batch_of, rows_of

from .tiny import TinyTeacher


def row(length, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return {
        "states": torch.randn(length, 3, generator=draw),
        "mask": torch.ones(length, dtype=torch.int64),
        "pooled": torch.randn(4, generator=draw),
        "layers": torch.tensor(length),
    }


def test_a_batch_of_several_sizes_gives_back_what_it_was_made_of():
    rows = [row(3), row(5, 1), row(3, 2)]
    batch = batch_of(rows)
    assert batch["states"].shape == (3, 5, 3) and batch["layers"].tolist() == [3, 5, 3]
    assert not batch["states"][0, 3:].any() and all(len(value) == 3 for value in batch.values())
    for own, back in zip(rows, rows_of(batch), strict=True):
        assert own.keys() == back.keys() and all(torch.equal(own[key], back[key]) for key in own)
    expanded = {key: value[:1].expand(2, *value.shape[1:]) for key, value in batch.items()}
    assert torch.equal(rows_of(expanded)[1]["states"], rows[0]["states"])
    assert alike(rows) == [[0, 2], [1]]


def items(*lengths):
    return [Item(f"{place}.png", str(place), f"{length}", 8, 8) for place, length in enumerate(lengths)]


@pytest.mark.parametrize(
    ("lengths", "least", "parts"),
    [
        ([4, 2, 4, 2, 2], 2, [["2", "2", "2"], ["4", "4"]]),
        ([1, 2, 3, 3, 3], 2, [["1", "2"], ["3", "3", "3"]]),  # too few of a length: with the next
        ([3, 3, 3, 9], 2, [["3", "3", "3", "9"]]),  # and the last with the ones before
        ([5, 1], 4, [["1", "5"]]),
        ([], 2, []),
    ],
)
def test_samples_are_parted_by_length_where_there_are_enough_of_one(lengths, least, parts):
    found = alike_in_length(items(*lengths), lambda item: (int(item.caption),), least)
    assert [[item.caption for item in part] for part in found] == parts


class Lengthy(TinyTeacher):
    """A caption is as long as it says; texts are never padded."""

    keeps_lengths = True

    def embed(self, prompts):
        return batch_of([{"states": torch.zeros(int(prompt), 2)} for prompt in prompts])

    def separate(self, embeddings):
        return rows_of(embeddings)

    def collate(self, rows):
        return batch_of(rows)


def source_of(tmp_path, lengths, batch_size, teacher=None):
    from understudy.distill_train.data.encode import Encoder

    cache, made = Cache(tmp_path, "f" * 64), items(*lengths)
    encoder = Encoder(teacher or Lengthy(), cache, [(8, 8)], "fp32")
    for item in made:
        cache.save("latents", item.latents, {"latents": torch.full((4, 1, 1), float(item.latents))})
    encoder.texts(item.caption for item in made)
    return CachedSource(made, encoder, 3, batch_size)


def test_a_step_has_samples_of_one_length_and_all_have_their_turn(tmp_path):
    source = source_of(tmp_path, [3] * 4 + [5] * 4, 2)
    seen = []
    for step in range(60):
        batch = source.batch(step, range(2 * step, 2 * step + 2))
        assert len(alike(rows_of(batch.embeddings))) == 1
        seen += batch.latents[:, 0, 0, 0].tolist()
    counts = [seen.count(place) for place in range(8)]
    assert min(counts) > 6 and max(counts) < 30  # 15 each but for chance


def test_the_parts_of_a_step_are_the_step_in_the_order_of_its_lengths(tmp_path):
    source = source_of(tmp_path, [3, 5, 4, 3, 6, 4], 6)
    whole = source.batch(1, range(6, 12))
    lengths = [len(one["states"]) for one in rows_of(whole.embeddings)]
    assert lengths == sorted(lengths) and len(set(lengths)) == 4
    parts = [source.batch(1, range(at, at + 2)) for at in (6, 8, 10)]
    assert torch.equal(torch.cat([part.latents for part in parts]), whole.latents)
    assert [name for part in parts for name in part.names] == list(whole.names)


def test_where_texts_are_padded_samples_are_chosen_as_ever(tmp_path):
    """The order of a run that was begun before there were lengths."""
    source = source_of(tmp_path, [3, 5, 4, 3, 6, 4], 2, TinyTeacher())
    assert len(source.by_size) == 1
    from understudy.distill_train.data.randomness import generator

    draw = generator(3, "data", 7)
    torch.multinomial(torch.tensor([6.0]), 1, generator=draw)
    order = torch.randperm(6, generator=draw).tolist()
    assert source.batch(7, range(14, 16)).names == tuple(f"{place}.png" for place in order[:2])

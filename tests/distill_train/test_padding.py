"""Prompts of several lengths: what is cached, a batch of them, and both branches of guidance."""

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from understudy.distill_train.data import make_source
from understudy.distill_train.data.randomness import Draws, generator
from understudy.distill_train.methods import make_method

from .tiny import CPU, TinyTeacher, recipe

CAPTIONS = ["fox", "a fox in the snow", "two cats", "an old fisherman"]


class Words(TinyTeacher):
    """A token for each word; of no prompt, one."""

    padded = ("context", "mask")

    def embed(self, prompts):
        words = [prompt.split() or [""] for prompt in prompts]
        rows = [torch.stack([torch.randn(8, generator=generator(word)) for word in row]) for row in words]
        masks = [torch.ones(len(row), dtype=torch.bool) for row in words]
        return self.collate([{"context": row, "mask": mask} for row, mask in zip(rows, masks, strict=True)])

    def unconditional(self, count):
        return {key: value.expand(count, *value.shape[1:]) for key, value in self.embed([""]).items()}

    def call(self, unet, noisy, t, embeddings):
        self.seen.append(embeddings)
        return unet(noisy, t, embeddings["context"], encoder_attention_mask=embeddings["mask"]).sample


class Unmasked(Words):
    """One that forgets the mask."""

    def call(self, unet, noisy, t, embeddings):
        return super().call(unet, noisy, t, embeddings | {"mask": torch.ones_like(embeddings["mask"])})


def source_of(teacher, tmp_path, kind):
    settings = {"kind": kind, "path": str(tmp_path / "pictures")}
    if kind == "prompts":
        settings = {"kind": kind, "path": str(tmp_path / "prompts.txt"), "steps": 2, "cfg": 2.0}
        (tmp_path / "prompts.txt").write_text("\n".join(CAPTIONS))
    else:
        settings |= {"max_aspect": 1}
        for number, caption in enumerate(CAPTIONS):
            picture = tmp_path / "pictures" / f"{number}.png"
            picture.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (50 * number, 0, 99)).save(picture)
            picture.with_suffix(".txt").write_text(caption)
    return make_source(settings, teacher, recipe("cd"), tmp_path / "cache")


@pytest.mark.parametrize("kind", ["folder", "prompts"])
def test_captions_are_cached_without_padding_and_padded_for_a_batch(tmp_path, kind):
    source = source_of(Words(), tmp_path, kind)
    cached = [load_file(path)["context"].shape for path in (tmp_path / "cache").rglob("text/*/*.safetensors")]
    assert sorted(cached) == [(1, 8), (2, 8), (3, 8), (5, 8)]
    batch = source.batch(0, range(4))
    assert batch.embeddings["context"].shape == (4, 5, 8)
    for context, mask in zip(batch.embeddings["context"], batch.embeddings["mask"], strict=True):
        assert mask.sum() in (1, 2, 3, 5) and mask[: mask.sum()].all()
        assert not context[~mask].any() and context[mask].all()
    lengths = sorted(batch.embeddings["mask"].sum(1).tolist())
    assert lengths == [1, 2, 3, 5]
    part = source.batch(0, range(1))
    assert part.embeddings["mask"].all() and part.embeddings["mask"].shape[1] in (1, 2, 3, 5)


def losses(teacher, tmp_path, name):
    """Of a step as a whole, and the mean of those of its samples one by one."""
    settings = {"cfg": 3.0} if name == "cd" else {"intervals": 4}
    made = make_method(recipe(name, **settings), CPU, teacher=teacher, source=source_of(teacher, tmp_path, "folder"))

    def loss(indices):
        draws = Draws(1, indices, CPU)
        with torch.no_grad():
            return made.batch_loss(made.network, made.source.batch(0, indices), draws)

    whole = loss(range(4))
    return whole, torch.stack([loss(range(i, i + 1)) for i in range(4)]).mean(), made


@pytest.mark.parametrize("name", ["cd", "lcm"])
def test_a_loss_does_not_follow_from_how_long_the_other_captions_are(tmp_path, name):
    whole, each, made = losses(Words(), tmp_path, name)
    torch.testing.assert_close(whole, each, rtol=1e-4, atol=1e-6)
    guided = next(seen for seen in made.teacher.seen if len(seen["context"]) == 8)
    assert guided["mask"].shape == (8, 5) and guided["mask"][4:].sum(1).tolist() == [1] * 4  # without a prompt: one
    whole, each, _ = losses(Unmasked(), tmp_path, name)
    assert not torch.allclose(whole, each, rtol=1e-4, atol=1e-6)


def test_what_has_no_length_is_not_padded():
    teacher = TinyTeacher()
    rows = [{"context": torch.ones(3, 8)}, {"context": torch.ones(2, 8)}]
    with pytest.raises(RuntimeError, match="equal size"):
        teacher.collate(rows)
    pooled = Words().join(
        [{"context": torch.ones(1, n, 8), "mask": torch.ones(1, n), "size": torch.ones(1, 2)} for n in (2, 3)]
    )
    assert pooled["context"].shape == (2, 3, 8) and pooled["size"].shape == (2, 2)
    assert pooled["mask"].tolist() == [[1, 1, 0], [1, 1, 1]]

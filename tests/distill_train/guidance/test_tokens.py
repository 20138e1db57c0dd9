"""Which tokens of a transformer's attentions are its picture's."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from understudy.distill_train.guidance.maps import ModuleMap, TokenMap, map_of
from understudy.distill_train.guidance.tokens import Tokens, find_tokens
from understudy.distill_train.teachers.comfy import HostNetwork

TEXT, PADDING, WIDTH = 5, 16, 4


class Watched:
    """As ComfyUI's loaded models let their attentions be looked at."""

    watch = None

    @contextmanager
    def watched(self, watcher):
        self.watch = watcher()
        yield
        self.watch = None


class Block(nn.Module):
    def __init__(self, attend):
        super().__init__()
        self.forward = attend


class Small(nn.Module):
    """A transformer of patches of 2x2 whose blocks attend over some of "text", "picture" and "padding", in an order.

    refined: how often text and picture attend to themselves before.
    """

    def __init__(self, *order, refined=0):
        super().__init__()
        self.loaded, self.order, self.refined = Watched(), order, refined
        self.blocks, self.last = nn.ModuleList(Block(self.attend) for _ in range(4)), nn.Identity()
        self.refiner = Block(self.attend)

    def forward(self, z):
        picture = z[:, :1, ::2, ::2].flatten(2).mT.expand(-1, -1, WIDTH)
        parts = {
            "picture": picture,
            "text": torch.ones(1, TEXT, WIDTH),
            "padding": picture[:, :PADDING],
            "few": picture[:, :3],
        }
        for _ in range(self.refined):
            self.refiner(picture)
            self.attend(parts["text"])
        self.attend(picture, parts["text"])
        tokens = torch.cat([parts[name] for name in self.order], dim=1)
        for block in self.blocks:
            block(tokens)
            tokens = tokens + z.mean()  # from the second on all have seen the picture
        self.last(z)

    def attend(self, q, k=None):
        if self.loaded.watch:
            self.loaded.watch(lambda: tuple(x[:, None] for x in (q, q if k is None else k)))


def found(network, block=None, side=8):
    z = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(1))
    return find_tokens(network, block, network, z)


@pytest.mark.parametrize(
    "order, first",
    [
        (("text", "picture"), -16),
        (("text", "picture", "padding"), -16 - PADDING),
        (("picture", "text"), 0),
    ],
    ids=["text first", "padding last", "text last"],
)
@pytest.mark.parametrize("refined", [0, 2])
def test_the_picture_s_are_those_that_change_with_it(order, first, refined):
    assert found(Small(*order, refined=refined)) == Tokens(2 * refined + 3, first, 16)


def test_where_texts_are_apart_all_are_the_picture_s():
    assert found(Small("picture")) == Tokens(3, 0, 16)


def test_of_queries_they_are_the_same_whatever_text_is_before_them():
    rows = torch.arange(12.0).view(1, 1, 12, 1).repeat(1, 2, 1, 3)
    assert Tokens(0, -4, 2).of_picture(rows)[0, :, 0].tolist() == [8, 9]
    assert Tokens(0, -4, 2).of_picture(rows[:, :, 3:])[0, :, 0].tolist() == [8, 9]
    assert Tokens(0, 0, 2).of_picture(rows[:, :, 3:])[0, :, 0].tolist() == [3, 4]
    assert Tokens(0, -4, 2).of_picture(rows).shape == (1, 2, 6)


def test_sides_that_no_patch_divides_are_rounded_up():
    assert found(Small("text", "picture"), side=7).count == 16


def test_a_block_is_chosen_by_name_and_one_without_attention_is_refused():
    assert [found(Small("picture"), f"blocks.{number}").attention for number in range(4)] == [1, 2, 3, 4]
    assert found(Small("text", "picture", refined=2), "refiner") == Tokens(0, 0, 16)
    with pytest.raises(ValueError, match="its part 'last' shows no self-attention over the picture"):
        found(Small("picture"), "last")
    network = Small("picture")
    found(network, "blocks.0")
    assert not network.blocks[0]._forward_pre_hooks and not network.blocks[0]._forward_hooks


@pytest.mark.parametrize(
    "order",
    [("text", "picture", "text"), ("picture", "text", "picture"), ("text", "picture", "few")],
    ids=["in the middle", "twice", "with others"],
)
def test_tokens_that_cannot_be_told_apart_are_refused(order):
    with pytest.raises(ValueError, match=r"which of \d+ tokens are the picture's cannot be told"):
        found(Small(*order))


def test_a_network_whose_attentions_nobody_sees_is_refused():
    network = Small("picture")
    network.loaded.watched = nullcontext
    with pytest.raises(ValueError, match="shows nobody a self-attention over its picture"):
        found(network)


def test_a_transformer_whose_attentions_are_named_as_a_unet_s_is_none():
    """As HiDream's are, whose maps would then be without its norms, its positions and its texts."""

    class HiDream(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn1 = nn.Linear(2, 2)
            self.attn1.to_q, self.attn1.to_k, self.attn1.heads = nn.Linear(2, 2), nn.Linear(2, 2), 1

    class UNetModel(HiDream):
        pass

    teacher = SimpleNamespace(file="model.safetensors", attention_block="diffusion_model.attn1")
    for network, kind in ((HiDream, TokenMap), (UNetModel, ModuleMap)):
        assert type(map_of(teacher, HostNetwork(network()), None)) is kind

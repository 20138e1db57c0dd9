"""Blocks that write in place, as some of ComfyUI's do: gradients with and without recomputation."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from understudy.distill_train.recompute import OutOfPlace, blocks_of, recompute_blocks


class Residual(nn.Module):
    """Adds in place, as FLUX's blocks do, to what an activation has kept."""

    def __init__(self):
        super().__init__()
        self.inner, self.scale = nn.Linear(4, 4), nn.Parameter(torch.full((4,), 1.5))

    def forward(self, x, options):
        x = self.inner(x)
        x += self.inner(torch.tanh(x) * x)
        x *= self.scale
        x -= torch.sigmoid(x)
        x /= 1 + options["step"] * x.square()
        return x


class Method(nn.Module):
    """Changes what its own activation has kept, by a method."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x, options):
        y = torch.exp(self.inner(x))
        y.mul_(2)
        return y


class Input(Residual):
    """Changes its input by a method, though nothing has kept that."""

    def forward(self, x, options):
        return self.inner(x.mul_(2))


class Network(nn.Module):
    def __init__(self, block):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.blocks = nn.Linear(4, 4), nn.ModuleList([block(), block()])

    def forward(self, x):
        options, x = {}, self.first(x)
        for step, block in enumerate(self.blocks):
            options["step"] = step + 1
            x = block(x, options)
        return x


def gradients(network, x):
    parameters = list(network.parameters())
    return torch.autograd.grad(network(x).square().sum(), parameters)


def recomputing(network, as_now=lambda: nullcontext):
    recompute_blocks(network, list(network.parameters()), as_now)
    return network


def plain(x):
    """As it would be were nothing written in place: with copies."""

    class Copies(Residual):
        def forward(self, x, options):
            x = self.inner(x)
            x = x + self.inner(torch.tanh(x) * x)
            x = x * self.scale
            x = x - torch.sigmoid(x)
            return x / (1 + options["step"] * x.square())

    return gradients(Network(Copies), x)


def test_recomputed_gradients_are_those_of_code_that_writes_nothing_in_place():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    wanted = plain(x)
    assert all(map(torch.equal, gradients(recomputing(Network(Residual)), x), wanted))
    with OutOfPlace():
        assert all(map(torch.equal, gradients(Network(Residual), x), wanted))


def test_without_it_they_would_be_others_and_nobody_would_be_told():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    network = Network(Residual)
    for block in network.blocks:
        block.forward = lambda *given, own=block.forward: checkpoint(own, *given, use_reentrant=False)
    apart = [(a - b).abs().max() / b.abs().max() for a, b in zip(gradients(network, x), plain(x), strict=True)]
    assert max(apart) > 0.01
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(Network(Residual), x)


@pytest.mark.parametrize(("block", "said"), [(Method, "inplace operation"), (Input, "it writes over its input")])
def test_a_block_that_cannot_be_recomputed_is_refused_by_its_name(block, said):
    with pytest.raises(RuntimeError, match=said) as raised:
        gradients(recomputing(Network(block)), torch.ones(3, 4))
    assert block.__name__ in str(raised.value) and "loop.checkpointing = false" in str(raised.value)


def test_a_block_works_again_as_it_was_then():
    """Whatever has been switched meanwhile, as other adapters are that share the network."""
    entered, at = [], iter("abcdefgh")

    def as_now():
        name = next(at)

        class Around(nullcontext):
            def __enter__(self):
                entered.append(name)

        return Around

    gradients(recomputing(Network(Residual), as_now), torch.ones(3, 4))
    assert entered == ["a", "a", "b", "b", "a"]  # proven, forward; forward; and backward from the end


def test_within_it_other_tensors_are_changed_as_ever():
    counts, learned = torch.zeros(3), torch.ones(3, requires_grad=True)
    view = counts[1:]
    with OutOfPlace():
        counts += 1  # of nobody's interest to autograd
        made = learned * 2
        same = made
        made.add_(1)
        with torch.no_grad():
            learned += 1
    assert view.tolist() == [1, 1] and same is made and same.tolist() == [3, 3, 3]
    assert learned.tolist() == [2, 2, 2]


def test_a_sum_keeps_the_precision_of_what_it_is_added_to():
    half, whole = torch.ones(2, dtype=torch.bfloat16, requires_grad=True) * 1, torch.ones(2)
    with OutOfPlace():
        half += whole
    assert half.dtype == torch.bfloat16


def test_blocks_are_the_outermost_modules_with_parts_in_lists_of_modules():
    inner = nn.Sequential(nn.Linear(2, 2), nn.SiLU())
    network = nn.Module()
    network.embed, network.single = nn.Sequential(nn.Linear(2, 2)), Residual()
    network.deep = nn.ModuleList([nn.Sequential(nn.Conv2d(1, 1, 1), Residual()), nn.ModuleList([Residual(), inner])])
    assert [type(block) for block in blocks_of(network)] == [Residual, Residual]

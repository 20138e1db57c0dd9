"""What tensors take, and what there is."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from understudy.distill_train.run.memory import LiveTensors, metered, room
from understudy.distill_train.run.optimizers import make_optimizer, state_bytes

from .tiny import CPU, TinyTeacher, recipe

KIB = 1024


def zeros():
    return torch.zeros(KIB // 4)


def test_what_is_held_is_counted_once_and_only_while_it_is():
    before = zeros()
    with LiveTensors() as live:
        first = before + 1
        assert live.now == KIB, "what was there before does not count"
        view = first.view(2, -1)[0]
        first.add_(1)
        assert live.now == KIB, "what shares memory counts once"
        second = first * before
        del first
        assert live.now == 2 * KIB, "a view holds what it looks into"
        del view
        assert live.now == KIB and live.peak == 2 * KIB
        live.forget_peak()
        assert live.peak == KIB
        live.hold([before, second])
        assert live.now == 2 * KIB and live.peak == 2 * KIB


def test_what_a_backward_pass_needs_is_held_until_it_was():
    weight = torch.zeros(KIB // 4, requires_grad=True)
    with LiveTensors() as live:
        loss = (weight * 2).exp().exp().sum()
        kept = live.now
        loss.backward()
        del loss
        assert live.now == KIB, "the gradient"
    assert 2 * KIB <= kept <= 3 * KIB


def passes(unet, count):
    """Forward and backward of so many samples."""
    output = unet(torch.randn(count, 4, 8, 8), torch.tensor([500] * count), torch.randn(count, 3, 8)).sample
    output.square().mean().backward()


def test_fake_tensors_count_as_real_ones():
    def counted():
        unet = TinyTeacher().unet.requires_grad_(True)
        with LiveTensors() as live:
            passes(unet, 3)
        return live.peak, live.now

    real = counted()
    with FakeTensorMode():
        assert counted() == real
    assert real[1] == sum(4 * p.numel() for p in TinyTeacher().unet.parameters()), "gradients alone remain"


def test_the_counter_agrees_with_torch_s_own_allocator():
    """Which also sees the work memory within an operation."""
    unet = TinyTeacher().unet.requires_grad_(True)
    passes(unet, 64)
    unet.zero_grad()
    with LiveTensors() as live:
        passes(unet, 64)
    unet.zero_grad()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        passes(unet, 64)
    allocated = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            allocated += event.nbytes()
            peak = max(peak, allocated)
    assert live.peak == pytest.approx(peak, rel=0.05)


def test_the_meter_counts_from_where_it_began():
    with metered(CPU) as most:
        kept = []
        assert most(lambda: kept.append(zeros())) == KIB
        assert most(lambda: zeros() + zeros()) == 4 * KIB, "what stays of earlier work counts"


def test_the_room_is_what_is_free_and_allowed(monkeypatch):
    free = room(CPU)
    assert 2**20 < free < 2**50
    assert room(CPU, 1e6) == pytest.approx(free, rel=0.1)
    assert room(CPU, 1e-3) < 0, "this process takes more than that already"


@pytest.mark.parametrize("optimizer", ["adamw", "radam"])
def test_what_an_optimizer_keeps_is_foreseen(optimizer):
    parameters = [torch.nn.Parameter(torch.zeros(100, 10)), torch.nn.Parameter(torch.zeros(7))]
    loop = recipe("pd", {"optimizer": optimizer}).loop
    made = make_optimizer(loop, parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    made.step()
    kept = [value for state in made.state.values() for value in state.values() if value.numel() > 1]
    assert sum(value.nbytes for value in kept) == state_bytes(loop, parameters)

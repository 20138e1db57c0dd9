"""LoRA beside a network, against peft's inside of it."""

import copy

import pytest
import torch
from torch import nn
from understudy.distill_train.students.adapters import Adapters, from_peft

from .tiny import TinyTeacher, changed

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2")
INPUTS = (torch.randn(2, 4, 8, 8), torch.tensor([500, 900]), torch.randn(2, 3, 8))


def unet():
    return TinyTeacher().unet


def adapted(rank=2, alpha=4.0):
    made = Adapters(unet())
    made.add("student", TARGETS, rank, alpha)
    return made


def with_peft(rank=2, alpha=4.0, targets=TARGETS):
    from peft import LoraConfig, inject_adapter_in_model

    network = unet()
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets)), network, "default")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return network


def trained_weights(network):
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def from_the_same(peft_s, ours):
    """Our adapters with the weights of peft's."""
    ours.load_state_dict(from_peft(trained_weights(peft_s), "student"))


def output(network):
    return network(*INPUTS).sample


def test_outputs_and_twenty_steps_are_those_of_peft():
    theirs, ours = changed(with_peft()), adapted()
    from_the_same(theirs, ours)
    torch.testing.assert_close(output(ours), output(theirs), rtol=0, atol=1e-6)
    target = torch.randn(2, 4, 8, 8)
    networks = (theirs, ours)
    optimizers = [torch.optim.SGD(trained_weights(network).values(), lr=0.05, momentum=0.9) for network in networks]
    for _ in range(20):
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            (output(network) - target).square().mean().backward()
            optimizer.step()
    renamed = from_peft(trained_weights(theirs), "student")
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight, renamed[name], rtol=0, atol=1e-6)
    assert output(ours).sub(output(adapted())).abs().max() > 1e-2  # they did learn


def test_the_base_is_untouched():
    base = unet()
    before = {key: value.clone() for key, value in base.state_dict().items()}
    made = Adapters(base)
    made.add("student", TARGETS, 2)
    alone = output(unet())
    assert torch.equal(output(made), alone)  # a new adapter adds nothing
    changed(made)
    assert list(base.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in base.state_dict().items())
    assert type(base) is type(unet()) and made.base is base
    assert not torch.allclose(output(made), alone)
    with made.only():
        assert torch.equal(output(made), alone) and torch.equal(output(base), alone)
    assert not torch.allclose(output(made), alone)
    assert all(key.startswith("pairs.student.") for key in made.state_dict())
    assert {p.dtype for p in made.parameters()} == {torch.float32}


def test_adapters_on_one_base_act_alone_or_add_up():
    made = Adapters(nn.Sequential(nn.Linear(4, 4, bias=False)))
    made.add("a", ["0"], 1)
    made.add("b", ["0"], 2)
    changed(made)
    x = torch.randn(3, 4)

    def gain(*names):
        with made.only(*names):
            return made(x)

    plain = gain()
    torch.testing.assert_close(gain("a", "b") - plain, gain("a") - plain + gain("b") - plain)
    torch.testing.assert_close(made(x), gain("a", "b"))
    down, up = made.factors("b")["0"]
    torch.testing.assert_close(gain("b") - plain, x @ (up @ down).T)


class Quantised(nn.Module):
    """A layer as quantised ones are: it says its sizes, and has no weight of floating point."""

    def __init__(self, layer):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("codes", (layer.weight * 100).round().to(torch.int8))

    def forward(self, x):
        return x @ (self.codes.to(x.dtype) / 100).T


def test_a_layer_without_a_weight_will_do():
    made = Adapters(nn.Sequential(Quantised(nn.Linear(4, 6))))
    made.add("student", ["0"], 2)
    changed(made)
    assert made(torch.randn(3, 4)).shape == (3, 6)
    made(torch.randn(3, 4)).sum().backward()
    assert all(p.grad.any() for p in made.parameters())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("stride, padding, dilation", [(1, 1, 1), (2, 1, 1), (1, "same", 2)])
def test_a_convolution_s_factors_multiply_to_a_change_of_its_weight(stride, padding, dilation, layout):
    layer = nn.Conv2d(3, 5, 3, stride, padding, dilation).to(memory_format=layout)
    merged, made = copy.deepcopy(layer), Adapters(nn.Sequential(layer))
    made.add("student", ["0"], 2, alpha=3)
    changed(made)
    down, up = made.factors("student")["0"]
    merged.weight.data += 1.5 * (up.flatten(1) @ down.flatten(1)).view_as(layer.weight)
    x = torch.randn(2, 3, 8, 8).to(memory_format=layout)
    torch.testing.assert_close(made(x), merged(x), rtol=1e-5, atol=1e-6)
    assert made(x).is_contiguous(memory_format=layout), "or every layer behind it would have to turn it"
    for result in (made(x), merged(x)):
        (result.sin().sum()).backward()
    weight = merged.weight.grad.flatten(1)
    torch.testing.assert_close(up.grad.flatten(1), 1.5 * weight @ down.detach().flatten(1).T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(down.grad.flatten(1), 1.5 * up.detach().flatten(1).T @ weight, rtol=1e-4, atol=1e-5)


def test_in_half_precision_the_adapters_stay_in_full():
    base = nn.Sequential(nn.Linear(4, 4)).to(torch.bfloat16)
    made = Adapters(base)
    made.add("student", ["0"], 2)
    changed(made)
    assert made(torch.randn(3, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        result = made(torch.randn(3, 4))
    assert result.dtype == torch.bfloat16
    result.sum().backward()
    assert {p.grad.dtype for p in made.parameters()} == {torch.float32}


def test_what_cannot_be_adapted_is_named():
    made = Adapters(nn.Sequential(nn.LayerNorm(4), nn.Conv2d(4, 4, 1, groups=2), nn.Linear(4, 4)))
    with pytest.raises(ValueError, match="nothing, none names no layer"):
        made.add("student", ["nothing", "none"], 2)
    with pytest.raises(ValueError, match="0 is a LayerNorm"):
        made.add("student", ["0"], 2)
    with pytest.raises(ValueError, match="1 is a convolution in groups"):
        made.add("student", ["1"], 2)
    made.add("student", ["2"], 2)
    with pytest.raises(ValueError, match="an adapter 'student' already"):
        made.add("student", ["2"], 2)


def test_an_adapter_like_another_has_its_layers_rank_and_scale():
    made = Adapters(nn.Sequential(nn.Linear(4, 6), nn.ModuleDict({"0": nn.Linear(6, 6)}), nn.Conv2d(3, 5, 3)))
    made.add("student", ["2"], 3, alpha=6)
    made.add("other", ["1.0"], 2)
    made.add_like("student", "fake")
    made.add_like("other", "second")
    assert made.active == ("student", "other", "fake", "second")
    for one, like in (("student", "fake"), ("other", "second")):
        ours, theirs = made.factors(like), made.factors(one)
        assert ours.keys() == theirs.keys()
        assert all(a.shape == b.shape for at in ours for a, b in zip(ours[at], theirs[at], strict=True))
        assert [p.scale for p in made.pairs[like].values()] == [p.scale for p in made.pairs[one].values()]
        assert not torch.equal(ours[next(iter(ours))].down, theirs[next(iter(ours))].down)
    with pytest.raises(ValueError, match="an adapter 'fake' already"):
        made.add_like("other", "fake")


def test_names_end_at_a_dot():
    made = Adapters(nn.ModuleDict({"to_q": nn.Linear(2, 2), "not_to_q": nn.Linear(2, 2)}))
    made.add("student", ["to_q"], 1)
    assert list(made.factors("student")) == ["to_q"]

"""What trains: all weights, or a LoRA in the teacher's own network."""

import json
import weakref

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from understudy.distill_train.config import RecipeError
from understudy.distill_train.run.processes import start_process
from understudy.distill_train.run.training import Training
from understudy.distill_train.students.ema import Ema, standing_in
from understudy.pipelines.lora import merge_lora

from .tiny import TinyTeacher, changed, method


def test_a_lora_is_one_network_that_teaches_with_its_adapter_off():
    teacher = TinyTeacher()
    z, t, given = torch.randn(2, 4, 8, 8), torch.tensor([500, 900]), teacher.embed(["a", "b"])
    with torch.no_grad():
        alone = teacher.call(teacher.unet, z, t, given)
    pd = method("pd", student={"train": "lora", "rank": 2}, teacher=teacher, teacher_steps=4)
    assert pd.network.base is teacher.unet
    changed(pd.network)
    with torch.no_grad():
        adapted = teacher.call(pd.network, z, t, given)
        with pd.student.teaching() as network:
            torch.testing.assert_close(teacher.call(network, z, t, given), alone)
        torch.testing.assert_close(teacher.call(pd.network, z, t, given), adapted)
    assert not torch.allclose(adapted, alone)
    assert not any(p.requires_grad for p in teacher.unet.parameters())
    assert {p.dtype for p in pd.student.parameters} == {torch.float32}


def test_a_half_precision_teacher_still_trains_in_full_precision():
    teacher = TinyTeacher()
    teacher.unet.to(torch.bfloat16)
    pd = method("pd", {"precision": "bf16"}, {"train": "lora", "rank": 2}, teacher, teacher_steps=4)
    assert {p.dtype for p in teacher.unet.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in pd.student.parameters} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        pd.loss(pd.network, 0).backward()
    assert all(torch.isfinite(p.grad).all() for p in pd.student.parameters)


def test_exports_have_diffusers_and_kohya_s_names_and_say_what_they_are(tmp_path):
    from diffusers import UNet2DConditionModel

    full = method("pd", teacher_steps=4)
    changed(full.network)
    full.export(full.network, tmp_path / "full.safetensors")
    fresh = UNet2DConditionModel.from_config(full.teacher.unet.config)
    fresh.load_state_dict(load_file(tmp_path / "full.safetensors"))
    for a, b in zip(fresh.parameters(), full.network.parameters(), strict=True):
        assert torch.equal(a, b)

    lora = method("lcm", student={"train": "lora", "rank": 2, "alpha": 4})
    changed(lora.network)
    lora.export(lora.network, tmp_path / "lora.safetensors")
    assert all(key.startswith("lora_unet_") for key in load_file(tmp_path / "lora.safetensors"))
    plain = TinyTeacher().unet
    merge_lora(plain, tmp_path / "lora.safetensors")
    call = torch.randn(2, 4, 8, 8), torch.tensor([5, 900]), torch.randn(2, 3, 8)
    torch.testing.assert_close(plain(*call).sample, lora.network(*call).sample)
    assert not torch.allclose(plain(*call).sample, TinyTeacher().unet(*call).sample)
    with safe_open(tmp_path / "lora.safetensors", framework="pt") as file:
        said = file.metadata()
    assert said["understudy_method"] == "lcm" and said["base"] == "sd1" and said["prediction"] == "epsilon"
    assert (said["teacher_file"], said["teacher_sha256"]) == ("tiny.safetensors", "0" * 64)
    assert (said["trained"], said["rank"], said["alpha"], said["keys"]) == ("lora", "2", "4", "kohya")
    assert (said["steps"], said["guidance"], said["sampler"]) == ("4", "1", "lcm")


def test_a_demo_student_is_a_file_that_the_family_loads(tmp_path):
    from understudy.demo_family import family
    from understudy.distill_train.data.batch import Batch
    from understudy.distill_train.methods import make_method
    from understudy.distill_train.teachers import load_teacher

    from .tiny import CPU, recipe

    teacher = load_teacher("demo")
    pd = make_method(recipe("pd", teacher_steps=4), CPU, teacher=teacher, source=object())
    tokens = family.tokens_of(["red star"] * 2)
    from understudy.distill_train.data.randomness import Draws

    loss = pd.batch_loss(pd.network, Batch(torch.randn(2, 8, 8, 8), {"tokens": tokens}), Draws(0, range(2)))
    loss.backward()
    assert pd.network.text.weight.grad is None
    pd.export(pd.network, tmp_path / "student.safetensors")
    network = family.load_network(tmp_path / "student.safetensors")
    assert torch.equal(network.text.weight, teacher.unet.text.weight)
    with safe_open(tmp_path / "student.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["config"]) == teacher.unet.config


def test_a_lora_of_the_demo_family_is_exported_in_the_network_s_weights(tmp_path):
    from understudy.demo_family import family
    from understudy.distill_train.methods import make_method
    from understudy.distill_train.teachers import load_teacher

    from .tiny import CPU, recipe

    teacher = load_teacher("demo")
    lora = {"train": "lora", "rank": 2, "alpha": 6, "dtype": "fp32"}
    pd = make_method(recipe("pd", student=lora, teacher_steps=4), CPU, teacher=teacher, source=object())
    changed(pd.network)
    pd.export(pd.network, tmp_path / "student.safetensors")
    assert teacher.knows(tmp_path / "student.safetensors")
    call = torch.randn(2, 8, 8, 8), torch.tensor([5, 900]), family.tokens_of(["red star"] * 2)
    with torch.no_grad():
        read = family.load_network(tmp_path / "student.safetensors")(*call)
        torch.testing.assert_close(read, pd.network(*call), rtol=1e-4, atol=1e-4)
        assert (read - load_teacher("demo").unet(*call)).abs().max() > 0.01
    with safe_open(tmp_path / "student.safetensors", framework="pt") as file:
        said = file.metadata()
    assert (said["understudy"], said["trained"], said["base"]) == ("demo-student", "full", "demo")


def test_layers_that_do_not_exist_are_refused():
    with pytest.raises(RecipeError, match="student.targets: nothing names no layer of tiny.safetensors; the usual"):
        method("lcm", student={"train": "lora", "targets": ["nothing"]})
    with pytest.raises(RecipeError, match="student.targets: .*norm1 is a LayerNorm, which does not say its sizes"):
        method("lcm", student={"train": "lora", "targets": ["to_q", "norm1"]})


def test_other_weights_stand_in_and_go_again_even_after_an_error():
    layer = torch.nn.Linear(2, 2)
    own = [p.detach().clone() for p in layer.parameters()]
    other = [torch.zeros(2, 2), torch.ones(2)]
    with pytest.raises(ZeroDivisionError), standing_in(layer.parameters(), other):
        assert layer(torch.ones(1, 2)).tolist() == [[1, 1]]
        raise ZeroDivisionError
    assert all(torch.equal(a, b) for a, b in zip(own, layer.parameters(), strict=True))


def test_what_stands_in_is_seen_under_autocast_too():
    layer = torch.nn.Linear(2, 2, bias=False)
    x = torch.ones(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        before = layer(x)
        with torch.no_grad(), standing_in(layer.parameters(), [torch.zeros(2, 2)]):
            assert not layer(x).any()
        after = layer(x)
    assert torch.equal(before, after) and after.requires_grad


def test_an_average_warms_up_and_without_decay_takes_no_memory():
    layer = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(0)
    average, none = Ema(layer, 0.9), Ema(layer, 0.0)
    with torch.no_grad():
        layer.weight.fill_(1)
    average.update()
    assert average.weights[0].item() == pytest.approx(0.9)  # the decay begins at 1 / 10
    with average.applied():
        assert layer.weight.item() == pytest.approx(0.9)
    assert not none.weights
    with none.applied():
        assert layer.weight.item() == 1


def test_an_average_is_float32_whatever_the_weights_are():
    """In bfloat16 it would stand still: a hundredth of the way to 1.25 is less than half of what it can tell at 1."""
    layer = torch.nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    with torch.no_grad():
        layer.weight.fill_(1)
    average = Ema(layer, 0.99, warmup=False)
    with torch.no_grad():
        layer.weight.fill_(1.25)
    average.update()
    assert average.weights[0].dtype == torch.float32 and average.weights[0].item() == pytest.approx(1.0025)
    for _ in range(300):
        average.update()
    with average.applied():
        assert layer.weight.dtype == torch.bfloat16 and layer.weight.item() == pytest.approx(1.234, abs=5e-3)
    assert layer.weight.item() == 1.25


def test_an_average_in_main_memory_is_the_same(monkeypatch):
    layer, moved = torch.nn.Linear(3, 3), []
    kept, offloaded = Ema(layer, 0.9), Ema(layer, 0.9, offload=True)
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *a, **k: moved.append(a) or to(self, *a, **k))
    Ema(layer, 0.9, offload=True)
    assert [device for device, *_ in moved] == ["cpu", "cpu"]
    with torch.no_grad():
        layer.weight += 1
    for average in (kept, offloaded):
        average.update()
    assert all(map(torch.equal, kept.weights, offloaded.weights))
    with kept.applied():
        seen = layer.weight.clone()
    with offloaded.applied():
        assert torch.equal(layer.weight, seen)


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("name", ["lcm", "cd"])
def test_a_run_s_averages_lie_where_its_recipe_says(name, offload, monkeypatch):
    asked, init = [], Ema.__init__

    def watched(average, *given, offload=False, **more):
        asked.append(offload)
        init(average, *given, offload=offload, **more)

    monkeypatch.setattr(Ema, "__init__", watched)
    Training(method(name, {"ema": 0.9, "ema_offload": offload}, target_ema=0.5), start_process("cpu"))
    assert asked == [offload] * 2


def test_without_decay_weights_that_a_network_gives_up_are_freed():
    layer = torch.nn.Linear(1, 1)
    none, before = Ema(layer, 0.0), weakref.ref(layer.weight)
    layer.weight = torch.nn.Parameter(torch.ones(1, 1))  # as FSDP puts shards into its place
    none.update()
    assert before() is None


@pytest.mark.parametrize("name", ["lcm", "cd"])
def test_a_student_that_is_its_own_target_computes_with_casts_of_its_own(name, monkeypatch):
    """Before torch 2.10 autocast hands casts of a pass without gradients to one with, which then has none."""
    made, events = method(name, target_ema=0.0), []
    call, clear = made.teacher.call, torch.clear_autocast_cache
    made.teacher.call = lambda *given: events.append(torch.is_grad_enabled()) or call(*given)
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: events.append("clear") or clear())
    with torch.autocast("cpu", torch.bfloat16):
        made.loss(made.network, 0)
    assert events[-4:] == [False, "clear", True, "clear"]  # the target, the student, the end of autocast

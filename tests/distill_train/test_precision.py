"""Half precision, and what a GPU is asked for: as far as it can be seen without one."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from understudy.distill_train.config import RecipeError
from understudy.distill_train.methods import make_method
from understudy.distill_train.run.loop import train
from understudy.distill_train.run.processes import start_process
from understudy.distill_train.run.training import Training
from understudy.distill_train.teachers.precision import (
    OwnPrecision,
    autocast,
    laid_out,
    prefer_speed,
    require_precision,
    with_own_norms,
)

from .students import noise_and_text, small_unet
from .test_loop import losses, on_tiny  # noqa: F401 - a fixture
from .tiny import TinySource, TinyTeacher, method, recipe

CUDA = torch.device("cuda")


def error_of_eps(unet, precision):
    """Relative to float32, of weights and passes in a precision."""
    given = noise_and_text(unet)
    with torch.no_grad():
        exact = unet(**given).sample
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        rounded = type(unet).from_config(unet.config).to(half)
        rounded.load_state_dict(unet.state_dict())
        with autocast("cpu", precision):
            return float((rounded(**given).sample.float() - exact).norm() / exact.norm())


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_bf16_answers_with_seven_times_fp16_s_error(kind):
    """Why recipes whose sources have fp16 do: it keeps three more bits of each number."""
    unet = small_unet(kind)
    assert 5 < error_of_eps(unet, "bf16") / error_of_eps(unet, "fp16") < 10


class Waits(TorchDispatchMode):
    """Operations for which Python waits for a device: those that hand it a number."""

    seen = 0

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        self.seen += operation.name() in ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal")
        return operation(*arguments, **(named or {}))


@pytest.mark.parametrize("name", ["lcm", "cd", "pd"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_waits_for_no_number(name, precision):
    loop, settings = {"precision": precision, "accumulate": 2}, {"teacher_steps": 2} if name == "pd" else {}
    training = Training(method(name, loop, {"train": "lora", "rank": 2}, **settings), start_process("cpu"))
    training.advance()
    with Waits() as waits:
        training.advance()
        assert not waits.seen
        float(training.watch.broken)
        assert waits.seen == 1, "or it would not have been seen"


def test_a_step_whose_gradients_overflow_is_not_taken(on_tiny, tmp_path):  # noqa: F811
    training = Training(method("pd", {"precision": "fp16"}, teacher_steps=2), start_process("cpu"))
    training.advance()
    before = [p.detach().clone() for p in training.parameters[0]]
    scale = training.scaler.get_scale()
    hook = training.parameters[0][0].register_hook(lambda gradient: gradient * torch.inf)
    training.advance()
    assert all(map(torch.equal, before, training.parameters[0])) and training.scaler.get_scale() == scale / 2
    hook.remove()
    training.advance()
    assert not all(map(torch.equal, before, training.parameters[0]))


def test_a_card_without_bfloat16_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GTX 1080")
    with pytest.raises(RecipeError, match="loop.precision is bf16, which a GTX 1080 does not compute in; take fp16"):
        require_precision(CUDA, "bf16")
    for device, precision in ((CUDA, "fp16"), (CUDA, "fp32"), (torch.device("cpu"), "bf16")):
        require_precision(device, precision)


def test_float32_is_fast_on_a_gpu_alone():
    backends, cudnn = torch.backends, torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    prefer_speed(torch.device("cpu"))
    assert (torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark) == before
    try:
        prefer_speed(CUDA)
        assert (torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark) == ("high", True, True)
    finally:
        torch.set_float32_matmul_precision(before[0])
        backends.cudnn.allow_tf32, backends.cudnn.benchmark = before[1:]


def test_convolutions_lie_channels_last_on_a_gpu_alone():
    def lies(network):
        return {weight.is_contiguous(memory_format=torch.channels_last) for weight in convolutions(network)}

    def convolutions(network):
        return [weight for weight in network.parameters() if weight.ndim == 4 and min(weight.shape[1:3]) > 1]

    network = method("lcm", student={"train": "lora", "rank": 2})
    for part in (network.teacher.unet, network.network):
        assert lies(laid_out(part, torch.device("cpu"))) == {False}
        before = [weight.clone() for weight in part.parameters()]
        assert lies(laid_out(part, CUDA)) == {True}
        assert all(map(torch.equal, before, part.parameters()))


@pytest.mark.parametrize("student", [{"train": "full"}, {"train": "lora", "rank": 2}])
def test_compiled_blocks_learn_the_same(on_tiny, tmp_path, monkeypatch, student):  # noqa: F811
    compiled, compile_it = [], torch.compile

    def eagerly(function, **how):
        compiled.append(function)
        return compile_it(function, backend="eager", **how)

    train(recipe("lcm", student=student), tmp_path / "plain", device="cpu")
    assert not compiled
    monkeypatch.setattr(torch, "compile", eagerly)
    train(recipe("lcm", {"compile": True}, student), tmp_path / "compiled", device="cpu")
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)
    assert len(compiled) == (8 if student["train"] == "full" else 4)


def test_norms_keep_half_precision_under_autocast(monkeypatch):
    """As CUDA's autocast would not; a CPU's does in any case, so here it is seen by whether it is on."""
    plain, own = small_unet("sdxl").bfloat16(), with_own_norms(small_unet("sdxl").bfloat16())
    assert plain.state_dict().keys() == own.state_dict().keys()
    norms = [module for module in own.modules() if isinstance(module, torch.nn.GroupNorm | torch.nn.LayerNorm)]
    assert len(norms) > 20 and all(isinstance(norm, OwnPrecision) for norm in norms)
    under_autocast, kernel = [], torch.nn.functional.group_norm
    monkeypatch.setattr(
        torch.nn.functional,
        "group_norm",
        lambda *given: under_autocast.append(torch.is_autocast_enabled("cpu")) or kernel(*given),
    )
    given = noise_and_text(own)
    with torch.no_grad(), autocast("cpu", "bf16"):
        ours = own(**given).sample
        assert under_autocast and not any(under_autocast)
        assert torch.equal(ours, plain(**given).sample) and any(under_autocast)
    norm = with_own_norms(torch.nn.GroupNorm(1, 4))
    with autocast("cpu", "bf16"):
        norm(torch.zeros(1, 4, 2, 2).bfloat16())
        assert under_autocast[-1], "of an input in another precision autocast knows what to make"


def test_what_has_no_blocks_is_not_compiled():
    class Plain(TinyTeacher):
        def __init__(self):
            super().__init__()
            self.unet = torch.nn.Linear(1, 1)

    teacher = Plain()
    with pytest.raises(RecipeError, match="loop.compile is for networks with diffusers' transformer blocks"):
        make_method(recipe("pd", {"compile": True}), "cpu", teacher=teacher, source=TinySource(teacher))

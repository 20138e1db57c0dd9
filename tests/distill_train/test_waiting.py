"""A step of a training tells a GPU what to do and reads nothing back, for which it would have to wait.

Tensors on torch's meta device have no values, so reading one is an error.
"""

from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from understudy.distill_train.data.batch import Batch
from understudy.distill_train.methods import make_method
from understudy.distill_train.process import Discrete, Flow
from understudy.distill_train.teachers.comfy import ComfyTeacher
from understudy.distill_train.teachers.ragged import NUMBER, alike, batch_of, rows_of
from understudy.samplers.denoisers import scaled_linear

from .test_flow import METHODS, Eyes
from .tiny import TinySource, TinyTeacher, recipe

META = torch.device("meta")
FLOW = Flow(shift=3.0)


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch):
    """Which torch does not have for the meta device."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    monkeypatch.setattr(torch, "autocast", lambda *given, **more: nullcontext())


def far_away(name, process, **settings):
    """A method whose networks are on the meta device."""
    teacher = TinyTeacher(process=process)
    teacher.unet, teacher.device, embed = teacher.unet.to(META), META, teacher.embed
    teacher.embed = lambda prompts: {key: value.to(META) for key, value in embed(prompts).items()}
    near = TinyTeacher(process=process)
    given = {"teacher": teacher, "source": TinySource(near)}
    if name == "cfd":
        given["classifier"], settings = Eyes().to(META), {"classifier": "given"} | settings
    student = {"train": "lora", "rank": 2} if name == "dmd" else None
    with META:  # where the loop would have put what trains
        return make_method(recipe(name, student=student, **METHODS[name] | settings), META, **given)


@pytest.mark.parametrize("process", [Discrete(scaled_linear()), FLOW], ids=["eps", "flow"])
@pytest.mark.parametrize("name", METHODS)
def test_a_step_reads_nothing_back(name, process):
    of = far_away(name, process)
    for turn in of.turns():
        turn.loss(of.network, 0, range(4)).backward()
    of.after_step()
    assert all(p.grad is not None for p in of.student.parameters)


def test_sizes_and_numbers_of_embeddings_stay_where_they_can_be_read():
    rows = [{"text": torch.ones(length, 2), f"layers{NUMBER}": torch.tensor(length)} for length in (2, 3)]
    batch = Batch(torch.zeros(2, 4, 8, 8), batch_of(rows)).to(META)
    assert batch.latents.device == batch.embeddings["text"].device == META
    again = rows_of(batch_of(rows_of(batch.embeddings)))
    assert [row["text"].shape for row in again] == [(2, 2), (3, 2)] and alike(again) == [[0], [1]]
    assert [row[f"layers{NUMBER}"].item() for row in again] == [2, 3]


class NoCopies(TorchDispatchMode):
    """Refuses what a list of places makes of a tensor: a tensor in main memory, which is waited for."""

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        assert operation is not torch.ops.aten.index.Tensor
        return operation(*arguments, **(named or {}))


def test_what_comfyui_loads_is_told_without_waiting():
    teacher = object.__new__(ComfyTeacher)  # without a ComfyUI
    teacher.process, teacher.takes_guidance, told = FLOW.to(META), False, []
    rows = [{"cross_attn": torch.ones(length, 2), f"layers{NUMBER}": torch.tensor(length)} for length in (2, 3, 2)]
    batch = Batch(torch.zeros(3, 4, 8, 8), batch_of(rows)).to(META)

    def network(z, sigma, given):
        told.extend((each["layers"], each["cross_attn"].shape) for each in given)
        return z * sigma.view(-1, 1, 1, 1)

    with NoCopies():
        output = teacher.call(network, batch.latents, torch.ones(3, device=META), batch.embeddings)
    assert output.shape == (3, 4, 8, 8) and told == [(2, (2, 2)), (2, (2, 2)), (3, (3, 2))]

"""Every distillation with a teacher that is a rectified flow, on a tiny network."""

import pytest
import torch
from torch import nn
from understudy.distill_train.process import Flow

from .tiny import TinyTeacher, lowers_its_loss, method, timesteps_seen

METHODS = {"lcm": {"intervals": 10}, "cd": {"intervals": 10}, "pd": {"teacher_steps": 4}, "cfd": {"teacher_steps": 4}}


class Eyes(nn.Module):
    """Stands in for a classifier: features and logits of pictures."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.features, self.classes = nn.Linear(3 * 8 * 8, 6), nn.Linear(6, 4)

    def forward(self, pixels):
        features = self.features(pixels.flatten(1))
        return features, self.classes(features)


def made(name, **changes):
    eyes = {"eyes": Eyes()} if name == "cfd" else {}
    return method(name, teacher=TinyTeacher(process=Flow(shift=3.0)), **eyes, **METHODS[name], **changes)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_lowers_the_loss(name):
    assert lowers_its_loss(made(name))


@pytest.mark.parametrize("name", METHODS)
def test_a_perfect_flow_needs_no_student(name):
    """Where the network's velocity is right, every step lands on the data, so student and target agree."""
    it = made(name)
    batch = it.source.batch(0, range(4))

    def perfect(network, noisy, t, given):
        x0 = batch.latents.repeat(len(noisy) // 4, 1, 1, 1)
        s = (t / 1000).view(-1, 1, 1, 1).clamp(min=1e-6)
        return (noisy - x0) / s + 0 * next(network.parameters()).sum()

    it.teacher.call = perfect
    loss = it.loss(it.network, 0)
    assert loss.item() < (1e-3 if name == "cfd" else 1e-6)


@pytest.mark.parametrize(("name", "times"), [("lcm", 10), ("cd", 10), ("pd", 2), ("cfd", 2)])
def test_the_student_is_told_the_flow_s_own_times(name, times):
    places = torch.arange(1, times + 1) / times
    expected = 1000 * 3 * places / (1 + 2 * places)
    seen = sorted(timesteps_seen(made(name), 30))
    torch.testing.assert_close(torch.tensor(seen), expected)


@pytest.mark.parametrize("name", METHODS)
def test_previews_and_metadata(name):
    it = made(name)
    it.preview.prepare()
    with torch.no_grad():
        latents = it.sample(it.network, torch.randn(2, 4, 8, 8), it.teacher.embed(["a", "b"]), 2)
    assert latents.isfinite().all() and latents.shape == (2, 4, 8, 8)
    said = it.metadata()
    assert said["prediction"] == "flow" and said["terminal_snr"] == "zero"

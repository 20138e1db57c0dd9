"""Every distillation with a teacher that is a rectified flow, on a tiny network."""

import pytest
import torch
from torch import nn
from understudy.distill_train.config import AttentionSettings
from understudy.distill_train.methods import make_method
from understudy.distill_train.process import Flow

from .tiny import CPU, TinySource, TinyTeacher, lowers_its_loss, method, recipe, timesteps_seen

# Whose student matches a target; of dmd's the scores differ by more than rounding only where there is an error.
MATCHING = {"lcm": {"intervals": 10}, "cd": {"intervals": 10}, "pd": {"teacher_steps": 4}, "cfd": {"teacher_steps": 4}}
METHODS = MATCHING | {"dmd": {"student_steps": 2}}
GUIDANCE = {
    "lcm": {"none": {"w_min": 0, "w_max": 0}, "fixed": {"w_min": 2, "w_max": 2}, "random": {"w_min": 1, "w_max": 2}},
    "cd": {"none": {"cfg": 1}, "fixed": {"cfg": 3}, "random": {"cfg": 3, "random_cfg": True}},
    "pd": {"none": {"cfg": 1}, "fixed": {"cfg": 3}},
    "cfd": {"none": {"cfg": 1}, "fixed": {"cfg": 3}},
    "dmd": {"none": {"cfg": 1}, "fixed": {"cfg": 3}},
}


class Eyes(nn.Module):
    """Stands in for a classifier: features and logits of pictures."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.features, self.classes = nn.Linear(3 * 8 * 8, 6), nn.Linear(6, 4)

    def forward(self, pixels):
        features = self.features(pixels.flatten(1))
        return features, self.classes(features)


def made(name, shift=3.0, **changes):
    eyes = {"eyes": Eyes()} if name == "cfd" else {}
    student = {"train": "lora", "rank": 2} if name == "dmd" else None
    teacher = TinyTeacher(process=Flow(shift))
    return method(name, student=student, teacher=teacher, **eyes, **METHODS[name], **changes)


def by_size(height, width):
    return height * width / 32


def shift_at(shift, size):
    return shift(*size) if callable(shift) else shift


def shifted(places, shift):
    """Noise levels at places of a flow's time."""
    return shift * places / (1 + (shift - 1) * places)


def watched(it):
    """What networks are told from now on, of each call its noise level and the latents."""
    levels, latents, call = [], [], it.teacher.call

    def watching(network, noisy, t, given):
        levels.append(t[0] / 1000)
        latents.append(noisy)
        return call(network, noisy, t, given)

    it.teacher.call = watching
    return levels, latents


@pytest.mark.parametrize("name", MATCHING)
def test_a_step_lowers_the_loss(name):
    assert lowers_its_loss(made(name))


@pytest.mark.parametrize("name", MATCHING)
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


@pytest.mark.parametrize("shift", [3.0, by_size], ids=["fixed", "by size"])
@pytest.mark.parametrize(("name", "times"), [("lcm", 10), ("cd", 10), ("pd", 2), ("cfd", 2), ("dmd", 2)])
def test_the_student_is_told_the_flow_s_own_times(name, times, shift):
    expected = 1000 * shifted(torch.arange(1, times + 1) / times, shift_at(shift, (8, 8)))
    seen = sorted(timesteps_seen(made(name, shift), 30))
    torch.testing.assert_close(torch.tensor(seen), expected)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in GUIDANCE.items() for kind in kinds])
def test_guidance_may_be_fixed_random_or_none(name, kind):
    """Without any the teacher is asked for the prompt alone, as one that has its guidance distilled in must be."""
    it, asked = made(name, **GUIDANCE[name][kind]), []
    call, free = it.teacher.call, it.teacher.unconditional(1)["context"]

    def watching(network, noisy, t, given):
        if network is it.teacher.unet:
            asked.append((given["context"] == free).flatten(1).all(dim=1).tolist())
        return call(network, noisy, t, given)

    it.teacher.call = watching
    assert it.loss(it.network, 0).isfinite()
    assert asked and set(map(tuple, asked)) == {(False,) * 4 if kind == "none" else (False,) * 4 + (True,) * 4}


@pytest.mark.parametrize("name", ["lcm", "cd", "pd", "dmd"])
def test_attention_guides_a_flow_too(name):
    """SFERD's: one more pass of the teacher at z + (1 - s)(x_bar - x0), and eps moved so that z stays what it is."""
    student = {"train": "lora", "rank": 2} if name == "dmd" else None
    asked = recipe(name, student=student, **METHODS[name]).model_copy(update={"attention": AttentionSettings(weight=1)})
    teacher = TinyTeacher(process=Flow(shift=3.0))
    it = make_method(asked, CPU, teacher=teacher, source=TinySource(teacher))
    assert it.loss(it.network, 0).isfinite()
    z, t, given = torch.randn(2, 4, 8, 8), torch.tensor([0.4, 0.9]), teacher.embed(["a", "b"])
    with torch.no_grad():
        x0, eps = it.teach(z, t, given, 3.0)
        plain, _ = it.denoise_guided(teacher.unet, z, t, given, 3.0)
    s = t.view(-1, 1, 1, 1)
    torch.testing.assert_close((1 - s) * x0 + s * eps, z, rtol=1e-4, atol=1e-4)
    assert (x0 - plain).abs().max() > 1e-4


@pytest.mark.parametrize("shift", [3.0, by_size], ids=["fixed", "by size"])
@pytest.mark.parametrize("name", METHODS)
def test_previews_and_metadata(name, shift, tmp_path):
    it = made(name, shift)
    it.prepare(tmp_path / "run")
    noise = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        latents = it.sample(it.network, noise, it.teacher.embed(["a", "b"]), 2)
    assert latents.isfinite().all() and latents.shape == (2, 4, 8, 8)
    levels, begun = watched(it)
    with torch.no_grad():
        it.preview.teach(noise, it.teacher.embed(["a", "b"]))
    assert torch.equal(begun[0][:2], noise)  # under guidance, the branch without a prompt stands below
    places = torch.linspace(1, 0.001, it.recipe.samples.teacher_steps + 1)[:-1]
    torch.testing.assert_close(torch.stack(levels), shifted(places, shift_at(shift, (8, 8))), rtol=1e-3, atol=1e-3)
    said = it.metadata()
    assert said["prediction"] == "flow" and said["terminal_snr"] == "zero"


SAMPLED = {
    "lcm": ("lcm", (1, 0.8, 0.5, 0.3, 0)),
    "cd": ("lcm", (1, 0.8, 0.6, 0.4, 0.2, 0)),
    "pd": ("euler", (1, 0.5, 0)),
    "cfd": ("euler", (1, 0.5, 0)),
    "dmd": ("lcm", (1, 0.5, 0)),
}


@pytest.mark.parametrize("shift", [3.0, by_size], ids=["fixed", "by size"])
@pytest.mark.parametrize("name", METHODS)
def test_a_file_says_the_noise_levels_that_previews_go_through(name, shift):
    (sampler, places), it = SAMPLED[name], made(name, shift)
    it.preview.sides = (16, 8)  # not those of the teacher's own pictures
    said = it.metadata()
    student = {key: said.get(key) for key in ("sampler", "scheduler", "preset", "shift", "intervals")}
    shift_said = f"{shift_at(shift, it.preview.sides):g}"
    assert student == {
        "sampler": sampler,
        "scheduler": "simple",
        "preset": None,
        "shift": shift_said,
        "intervals": None,
    }
    levels = torch.tensor([float(level) for level in said["sigmas"].split(",")])
    torch.testing.assert_close(levels, shifted(torch.tensor(places), shift_at(shift, it.preview.sides)))
    for size in (it.preview.sides, (16, 12)):  # pictures of any size are sampled at its own
        noise, (seen, begun) = torch.randn(2, 4, *size), watched(it)
        with torch.no_grad():
            it.sample(it.network, noise, it.teacher.embed(["a", "b"]), int(said["steps"]))
        expected = shifted(torch.tensor(places), shift_at(shift, size))[:-1]
        torch.testing.assert_close(torch.stack(seen), expected)
        assert torch.equal(begun[0][:2], noise)

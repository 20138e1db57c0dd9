"""Distribution matching on tiny networks."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from understudy.distill_train.config import RecipeError
from understudy.distill_train.data.batch import Batch
from understudy.distill_train.methods.dmd import FAKE_SCORE, normalised
from understudy.distill_train.process import Flow
from understudy.distill_train.run.directory import Run
from understudy.distill_train.run.loop import set_up, train
from understudy.pipelines.lora import merge_lora

from .tiny import TinySource, TinyTeacher, changed, method, recipe

LORA = {"train": "lora", "rank": 2}
STUDENT = "student"


def made(teacher=None, loop=None, **settings):
    """With adapters that have both learned something."""
    of = method("dmd", loop, LORA, teacher, **{"student_steps": 2, "cfg": 3.0} | settings)
    changed(of.network)
    return of


def drawn(of, last, rows=3):
    """A batch and its draws, with the student's last step chosen."""
    batch, draws = of.drawn(0, range(rows))
    draws.one = lambda *_: last
    return batch, draws


def levels(of, place):
    """(alpha, sigma, what the network is told) at a place [B] of the schedule, worked out again."""
    place = place.view(-1, 1, 1, 1)
    if of.process.prediction == "flow":
        s = 3 * place / (1 + 2 * place)
        return 1 - s, s, 1000 * s.flatten()
    t = (999 * place).round().long()
    ab = of.process.alphas_cumprod[t]
    return ab.sqrt(), (1 - ab).sqrt(), t.flatten()


def x0_of(of, z, place, text, *adapters, cfg=1.0):
    """x0 of the network under these adapters, by the formulas of eps and of a flow."""
    alpha, sigma, told = levels(of, place)
    with of.network.only(*adapters):
        output = of.network(z, told, text).sample
        if cfg != 1:
            free = of.network(z, told, of.teacher.unconditional(len(z))["context"]).sample
            output = free + cfg * (output - free)
    return z - sigma * output if of.process.prediction == "flow" else (z - sigma * output) / alpha


def pictures(of, text, draws, last):
    """What a student of two steps has made after one or both of them."""
    shape, ones = (4, 8, 8), torch.ones(len(text))
    x = x0_of(of, draws.normal("noise", shape), ones, text, STUDENT)
    if last == 1:
        alpha, sigma, _ = levels(of, ones / 2)
        z = alpha * x.detach() + sigma * draws.normal("noise 1", shape)
        x = x0_of(of, z, ones / 2, text, STUDENT)
    return x


def gradients(of, adapter):
    return [p.grad for p in of.network.pairs[adapter].parameters()]


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("process", [None, Flow(shift=3.0)], ids=["eps", "flow"])
def test_the_students_gradient_is_the_difference_of_the_scores(process, last):
    """(x0_fake - x0_real) / mean |x - x0_real| over the number of values, with guidance on the real score alone."""
    of = made(TinyTeacher(process=process))
    batch, draws = drawn(of, last)
    text = batch.embeddings["context"]
    of.batch_loss(of.network, batch, draws).backward()
    assert all(g is None for g in gradients(of, FAKE_SCORE))
    ours = gradients(of, STUDENT)
    of.network.zero_grad()

    x = pictures(of, text, draws, last)
    place = draws.uniform("score time", 0.02, 0.98)
    with torch.no_grad():
        alpha, sigma, _ = levels(of, place)
        z = alpha * x + sigma * draws.normal("score noise", (4, 8, 8))
        real, fake = x0_of(of, z, place, text, cfg=3.0), x0_of(of, z, place, text, FAKE_SCORE)
        wanted = (fake - real) / (x - real).abs().mean(dim=(1, 2, 3), keepdim=True) / x.numel()
    x.backward(wanted)
    theirs = gradients(of, STUDENT)
    assert max(g.abs().max() for g in theirs) > 1e-6
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("process", [None, Flow(shift=3.0)], ids=["eps", "flow"])
def test_the_fake_score_learns_to_denoise_the_students_pictures(process):
    of = made(TinyTeacher(process=process))
    batch, draws = drawn(of, 1)
    text = batch.embeddings["context"]
    loss = of.fake_loss(of.network, batch, draws)
    loss.backward()
    assert all(g is None for g in gradients(of, STUDENT)) and all(g is not None for g in gradients(of, FAKE_SCORE))

    with torch.no_grad():
        x, eps = pictures(of, text, draws, 1), draws.normal("fake noise", (4, 8, 8))
        alpha, sigma, told = levels(of, 1 - draws.uniform("fake time", 0, 1))
        with of.network.only(FAKE_SCORE):
            output = of.network(alpha * x + sigma * eps, told, text).sample
        target = eps - x if process else eps
        torch.testing.assert_close(loss, (output - target).square().mean())


def test_a_turn_does_not_depend_on_the_adapter_of_the_one_before():
    of = made()
    first = of.batch_loss(of.network, *drawn(of, 1))
    of.fake_loss(of.network, *drawn(of, 1))
    assert of.batch_loss(of.network, *drawn(of, 1)) == first


def test_without_guidance_the_teacher_is_asked_once():
    of, asked = made(cfg=1.0), []
    call = of.teacher.call
    of.teacher.call = lambda network, z, *rest: (
        asked.append((network is of.teacher.unet, len(z))) or call(network, z, *rest)
    )
    of.batch_loss(of.network, *drawn(of, 0))
    assert asked == [(False, 3), (True, 3), (False, 3)]


def test_a_sample_that_the_teacher_would_leave_as_it_is_stays_finite():
    zeros, ones = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    error = torch.cat([zeros[:1], -4 * ones[:1]])
    found = normalised(ones, error)
    assert found.isfinite().all() and torch.equal(found[1], ones[1] / 4)


def test_the_last_step_in_training_is_any_and_one_for_the_batch():
    of = made(student_steps=4)
    lasts = []
    for step in range(40):
        batch, draws = of.drawn(step, range(2))
        lasts.append(draws.one("step", 0, 4))
        parts = [of.drawn(step, range(at, at + 1))[1].one("step", 0, 4) for at in range(2)]
        assert parts == [lasts[-1]] * 2
    assert set(lasts) == {0, 1, 2, 3}


@pytest.mark.parametrize("process", [None, Flow(shift=3.0)], ids=["eps", "flow"])
def test_a_preview_is_what_training_simulates(process):
    of = made(TinyTeacher(process=process), student_steps=3)
    batch, draws = drawn(of, 2)
    noises = [draws.normal(f"noise {at}", (4, 8, 8)) for at in (1, 2)]
    of.preview.fresh_noise = lambda noise: lambda sigma, following: noises.pop(0)
    of.student.use()
    with torch.no_grad():
        simulated = of.simulated(of.network, batch.embeddings, draws, batch.latents.shape)
        shown = of.sample(of.network, draws.normal("noise", (4, 8, 8)), batch.embeddings, 3)
    torch.testing.assert_close(shown, simulated, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("asked", "times"), [({}, 5), ({"fake_updates": 2}, 2)])
def test_each_step_is_one_update_of_the_student_and_five_of_the_fake_score(tmp_path, asked, times):
    training = set_up(run_recipe(**asked), tmp_path / "run", device="cpu", make=make).training
    of, told = training.method, []
    assert of.network.active == (STUDENT,)
    student_s, fake_s = of.batch_loss, of.fake_loss

    def watch(name, loss):
        def watched(network, batch, draws):
            told.append((name, draws.step, list(draws.indices)[0], weights(of)))
            return loss(network, batch, draws)

        return watched

    of.batch_loss, of.fake_loss = watch("student", student_s), watch("fake", fake_s)
    for _ in range(2):
        training.advance()
    assert [name for name, *_ in told] == (["student"] + ["fake"] * times) * 2
    batches = [1, *range(times, 2 * times)]
    assert [(step, first) for _, step, first, _ in told[1 + times :]] == [(n, 4 * n) for n in batches]
    before = [both for *_, both in told] + [weights(of)]
    for (name, *_), old, new in zip(told, before, before[1:], strict=False):
        moved = {part for part in (STUDENT, FAKE_SCORE) if not torch.equal(old[part], new[part])}
        assert moved == ({STUDENT} if name == "student" else {FAKE_SCORE})
    assert of.network.active == (STUDENT,)


def weights(of):
    return {
        name: torch.cat([p.detach().flatten() for p in part.parameters()]) for name, part in of.network.pairs.items()
    }


def run_recipe(loop=None, **settings):
    loop = {"steps": 4, "checkpoint_every": 2, "sample_every": 4, "ema": 0.5} | (loop or {})
    return recipe("dmd", loop, {"dtype": "fp32"} | LORA, student_steps=2, cfg=2.0, **settings)


def make(recipe, device):
    from understudy.distill_train.methods import make_method

    teacher = TinyTeacher()
    return make_method(recipe, device, teacher=teacher, source=TinySource(teacher))


def test_a_run_that_was_cut_off_goes_on_to_the_last_bit(tmp_path):
    whole = load_file(train(run_recipe(), tmp_path / "whole", device="cpu", make=make))
    train(run_recipe(), tmp_path / "run", device="cpu", make=make)
    Run(tmp_path / "run").checkpoints()[-1].unlink()
    resumed = load_file(train(run_recipe(), tmp_path / "run", resume=True, device="cpu", make=make))
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
    states = [torch.load(Run(tmp_path / n).checkpoints()[-1], weights_only=True) for n in ("run", "whole")]
    ours, theirs = (state["network"] for state in states)
    assert any(FAKE_SCORE in key for key in theirs) and all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_batch_in_parts_is_the_batch(tmp_path):
    found = [
        load_file(train(run_recipe({"accumulate": parts}), tmp_path / str(parts), device="cpu", make=make))
        for parts in (1, 2)
    ]
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("turn", ["batch_loss", "fake_loss"])
def test_recomputed_activations_are_of_the_same_adapter(turn):
    found = []
    for checkpointing in (False, True):
        of = made(loop={"checkpointing": checkpointing})
        of.network.train()
        getattr(of, turn)(of.network, *drawn(of, 1)).backward()
        found.append([p.grad for p in of.network.parameters() if p.grad is not None])
    assert found[0]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_in_half_precision_the_simulated_steps_do_not_hide_the_last_ones_gradients():
    of = made()
    with torch.autocast("cpu", torch.bfloat16):
        of.batch_loss(of.network, *drawn(of, 1)).backward()
    assert all(g is not None and g.isfinite().all() for g in gradients(of, STUDENT))


def test_the_export_is_the_student_without_the_fake_score(tmp_path):
    of = made()
    of.export(of.network, tmp_path / "dmd.safetensors")
    merge_lora(plain := TinyTeacher().unet, tmp_path / "dmd.safetensors")
    call = torch.randn(2, 4, 8, 8), torch.tensor([5, 900]), torch.randn(2, 3, 8)
    with torch.no_grad(), of.network.only(STUDENT):
        torch.testing.assert_close(plain(*call).sample, of.network(*call).sample, rtol=1e-3, atol=2e-3)
    said = of.metadata()
    assert (said["steps"], said["guidance"], said["sampler"], said["scheduler"]) == ("2", "1", "lcm", "sgm_uniform")
    learned = [levels(of, torch.tensor([place])) for place in (1.0, 0.5)]
    learned = [sigma / alpha for alpha, sigma, _ in learned] + [torch.zeros(1)]
    found = torch.tensor([float(level) for level in said["sigmas"].split(",")])
    torch.testing.assert_close(found, torch.cat([each.flatten() for each in learned]))


def test_what_cannot_be_trained_is_refused_by_name():
    with pytest.raises(RecipeError, match="dmd with student.train = full; expected lora"):
        method("dmd", student={"train": "full"})
    with pytest.raises(RecipeError, match="t_max is 0.3; expected more than t_min = 0.5"):
        method("dmd", student=LORA, t_min=0.5, t_max=0.3)


class GaussianFlow(nn.Module):
    """The exact flow of pictures of two values, normal with this mean and deviation; and a layer that adds nothing yet.

    That layer is linear in z, with weights that depend on the time.
    """

    mean, deviation = torch.tensor([1.0, -0.5]), torch.tensor([0.5, 1.5])

    def __init__(self):
        super().__init__()
        self.free = nn.Linear(3 * 8, 2, bias=False)
        nn.init.zeros_(self.free.weight)

    def forward(self, z, t):
        s, z = (t / 1000).view(-1, 1, 1, 1), z.movedim(1, -1)
        variance = ((1 - s) * self.deviation).square() + s.square()
        from_mean = (z - (1 - s) * self.mean) / variance
        velocity = s * from_mean - self.mean - (1 - s) * self.deviation.square() * from_mean
        at = torch.exp(-((s - torch.linspace(0, 1, 8)) * 7).square()).unsqueeze(-1)
        known = torch.cat([z, torch.ones_like(z[..., :1])], dim=-1).unsqueeze(-2)
        return (velocity + self.free((at * known).flatten(-2))).movedim(-1, 1)


class Gaussian(TinyTeacher):
    """Teaches that distribution, whatever the text."""

    latent_channels = 2

    def __init__(self):
        super().__init__(process=Flow(), kind="values")
        self.unet = GaussianFlow().requires_grad_(False)

    def call(self, unet, noisy, t, embeddings):
        return unet(noisy, t)


class Nothing:
    """Texts without pictures."""

    def batch(self, step, indices):
        count = len(indices)
        return Batch(torch.zeros(count, 2, 1, 1), {"context": torch.zeros(count, 1, 1)}, [""] * count, 1, 1, {})


@torch.no_grad()
def one_step(of, count=4000):
    z = torch.randn(count, 2, 1, 1, generator=torch.Generator().manual_seed(1))
    return of.denoise(of.network, z, torch.ones(count), {})[0].flatten(1)


def test_a_student_of_one_step_comes_to_its_teachers_distribution(tmp_path):
    from understudy.distill_train.methods import make_method

    def values(recipe, device):
        return make_method(recipe, device, teacher=Gaussian(), source=Nothing())

    student = {"train": "lora", "rank": 24, "targets": ["free"]}
    loop = {"steps": 150, "batch_size": 64, "lr": 2e-2, "ema": 0.0}
    asked = recipe("dmd", loop, student, student_steps=1, cfg=1.0)
    training = set_up(asked, tmp_path / "run", device="cpu", make=values).training
    of = training.method
    begun = one_step(of)
    torch.testing.assert_close(begun, GaussianFlow.mean.expand_as(begun), rtol=0, atol=1e-4)  # the mean alone
    for _ in range(150):
        training.advance()
    reached = one_step(of)
    torch.testing.assert_close(reached.mean(0), GaussianFlow.mean, rtol=0, atol=0.15)
    torch.testing.assert_close(reached.std(0), GaussianFlow.deviation, rtol=0.2, atol=0)

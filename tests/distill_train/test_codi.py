"""CoDi on tiny networks: every case is one that public code got wrong, or what the equations say."""

import copy

import pytest
import torch
from understudy.distill_train.config import AttentionSettings, RecipeError
from understudy.distill_train.data.randomness import Draws
from understudy.distill_train.methods import make_method
from understudy.distill_train.process import Flow

from .tiny import CPU, TinySource, TinyTeacher, changed, lowers_its_loss, method, recipe, timesteps_seen

BASES = {"frozen": {}, "lora": {"rank": 2}, "full": {}}
NAMES = {"frozen": "pe-codi", "lora": "codi", "full": "codi"}
PREDICTIONS = ["epsilon", "v_prediction", "flow"]


def teacher_of(prediction):
    return TinyTeacher(process=Flow(shift=3.0)) if prediction == "flow" else TinyTeacher(prediction)


def made(base="frozen", prediction="epsilon", loop=None, **settings):
    student = {"train": "control", "base": base, **BASES[base]}
    return method(NAMES[base], loop, student, teacher_of(prediction), **{"intervals": 10, **settings})


def step_of(codi, number):
    """The loss of a batch at the grid's time of that number, and the batch."""
    draws, batch = Draws(1, range(2)), codi.source.batch(0, range(2))
    draws.shared = lambda name, low, high: torch.full((2,), number if name == "timestep" else low)
    return codi.batch_loss(codi.network, batch, draws), batch, draws


def reference(codi, target, number):
    """The paper's loss written out again, by scalars of the schedule, for one time of the grid."""
    _, batch, draws = step_of(codi, number)
    x, e = batch.latents, draws.normal("noise", (4, 8, 8))
    grid = codi.process.grid(10)
    t, s = grid[number], grid[number - 1]

    def split(network, z, t):
        level = codi.process.level(t[None])
        a, b = level.alpha, level.sigma
        told = t * 1000 if codi.process.prediction == "flow" else t
        given = batch.embeddings["context"]
        out = network(z, told.expand(2), encoder_hidden_states=given, condition=batch.extras["condition"]).sample
        if codi.process.prediction == "epsilon":
            return (z - b * out) / a, out
        if codi.process.prediction == "v_prediction":
            return a * z - b * out, b * z + a * out
        return z - b * out, z + a * out

    a, b = codi.process.level(t[None])
    xt, et = split(codi.network, a * x + b * e, t)
    a, b = codi.process.level(s[None])
    _, es = split(target, (a * xt + b * et).detach(), s)
    return (et - es.detach()).square().mean() + (xt - x).square().mean()


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("base", BASES)
def test_the_loss_is_the_papers_and_its_gradient_too(base, prediction):
    codi = made(base, prediction)
    changed(codi.network)
    codi.target.restart()
    target = None
    if base != "lora":  # of which a copy would be adapted, too
        target = copy.deepcopy(codi.network)
        changed(codi.network, seed=6)
    else:
        target = codi.network
        codi.target.restart()
    ours, _, _ = step_of(codi, 7)
    ours.backward()
    gradients = [p.grad.clone() for p in codi.student.parameters]
    codi.network.zero_grad()
    theirs = reference(codi, target, 7)
    theirs.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    for ours, parameter in zip(gradients, codi.student.parameters, strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("base", BASES)
def test_a_step_lowers_the_loss(base, prediction):
    codi = made(base, prediction)
    changed(codi.network)
    assert lowers_its_loss(codi, 1e-4)


def seen_by_target(codi):
    """z_s and s, as the target is asked about them."""
    seen, call = [], codi.teacher.call

    def watching(unet, noisy, t, given):
        if not torch.is_grad_enabled():
            seen.append((noisy, t))
        return call(unet, noisy, t, given)

    codi.teacher.call = watching
    step_of(codi, 7)
    codi.teacher.call = call
    return seen[-1]


@pytest.mark.parametrize("ode", ["own", "teacher"])
def test_the_ode_step_follows_the_present_weights(ode):
    codi = made(ode=ode)
    before, s = seen_by_target(codi)
    changed(codi.network)
    after, _ = seen_by_target(codi)
    assert torch.equal(before, after) == (ode == "teacher")
    assert s.tolist() == [599, 599]


def guided(base, weight, **settings):
    """With attention that is far from even in the block that guides; weight: of its guidance, None for none."""
    teacher = TinyTeacher()
    for projection in ("to_q", "to_k"):
        getattr(teacher.unet.get_submodule(teacher.attention_block), projection).weight.mul_(8)
    asked = recipe(NAMES[base], None, {"train": "control", "base": base, **BASES[base]}, intervals=10, **settings)
    asked = asked.model_copy(update={"attention": weight if weight is None else AttentionSettings(weight=weight)})
    return make_method(asked, CPU, teacher=teacher, source=TinySource(teacher))


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("base", BASES)
def test_attention_guides_the_teacher_whose_step_it_is(base, given):
    """Alone, and under the ControlNet that the run began from."""

    def nearer(weight):
        codi = guided(base, weight, ode="teacher")
        if given:
            codi.student.given = changed(copy.deepcopy(codi.network.control))
        return seen_by_target(codi)[0]

    plain = nearer(None)
    torch.testing.assert_close(nearer(0.0), plain)
    assert not torch.allclose(nearer(0.3), plain, atol=1e-3)


@pytest.mark.parametrize("settings", [{}, {"ode": "own"}, {"ode": "teacher", "consistency_weight": 0.0}])
def test_attention_is_refused_where_no_teacher_is_asked(settings):
    with pytest.raises(RecipeError, match=r"codi asks no guided teacher .* settings.ode = teacher and a consistency_w"):
        guided("full", 0.3, **settings)


def test_the_target_is_the_average_and_follows_it():
    codi = made(target_ema=0.5)
    first, _, _ = step_of(codi, 7)
    changed(codi.network)
    with_old, _, _ = step_of(codi, 7)
    for _ in range(60):
        codi.after_step()
    with_new, _, _ = step_of(codi, 7)
    assert with_old != with_new != first


def test_the_noise_is_compared_as_it_is_and_only_x0_with_a_boundary():
    """c_skip and c_out at such a scaling would make any eps the same; x0 then is the identity at every t."""
    assert step_of(made(), 1)[0] == step_of(made(timestep_scaling=1e-9), 1)[0]
    alone = {"consistency": "x0", "reconstruction_weight": 0.0}
    scaled, plain = (step_of(made(**alone, timestep_scaling=by), 1)[0] for by in (1e-9, 10.0))
    assert scaled != plain
    codi = made(**alone, timestep_scaling=1e-9)
    z = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(codi._compared(z, torch.tensor([99, 99]), 2 * z, z), z)


def test_each_weight_leaves_its_term_out():
    whole = step_of(made(), 7)[0]
    noise, x0 = (step_of(made(**{key: 0.0}), 7)[0] for key in ("reconstruction_weight", "consistency_weight"))
    torch.testing.assert_close(noise + x0, whole)
    assert noise > 0 and x0 > 0
    with pytest.raises(RecipeError, match="nothing would be learned"):
        made(reconstruction_weight=0, consistency_weight=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_batch_has_one_time_of_the_grid_and_its_steps_all_of_them(prediction):
    codi, seen = made(prediction=prediction), []
    call = codi.teacher.call

    def watching(unet, noisy, t, given):
        seen.append(t)
        return torch.zeros_like(noisy, requires_grad=True)

    codi.teacher.call = watching
    for step in range(60):
        codi.loss(codi.network, step)
    codi.teacher.call = call
    pairs = {tuple(float(pair.unique()) for pair in both) for both in zip(seen[::2], seen[1::2], strict=True)}
    grid = codi.process.network_time(codi.process.grid(10)).tolist()
    assert len(pairs) == 10
    for (t, s), above, below in zip(sorted(pairs), grid[1:], grid, strict=False):
        assert (
            t == pytest.approx(above) and t > s and s == pytest.approx(below, abs=1)
        )  # the last s is next to the data


def test_the_time_is_the_same_in_any_split_of_a_batch():
    whole = Draws(1, range(8, 16), step=2).shared("timestep", 1, 1000)
    parts = [Draws(1, range(at, at + 2), step=2).shared("timestep", 1, 1000) for at in range(8, 16, 2)]
    assert torch.equal(torch.cat(parts), whole) and len(whole.unique()) == 1
    assert whole[0] != Draws(1, range(8, 16), step=3).shared("timestep", 1, 1000)[0]
    codi = made()
    loss = codi.part_loss(codi.network, 2, range(8, 12))
    halves = [codi.part_loss(codi.network, 2, part) for part in (range(8, 10), range(10, 12))]
    torch.testing.assert_close(sum(halves) / 2, loss)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_it_is_sampled_at_the_times_that_it_was_trained_at(prediction):
    codi = made(prediction=prediction)
    known = timesteps_seen(codi, 60)
    asked, call = [], codi.teacher.call
    codi.teacher.call = lambda unet, z, t, given: asked.append(t) or call(unet, z, t, given)
    given = codi.conditioning(codi.source.batch(0, range(2)))
    with torch.no_grad():
        for steps in (1, 2, 3, 4):
            assert codi.sample(codi.network, torch.randn(2, 4, 8, 8), given, steps).isfinite().all()
    assert len(asked) == 10
    known = torch.tensor(sorted(known))
    assert all((known - float(t[0])).abs().min() < 1e-2 for t in asked)


def test_guidance_has_its_branches_in_the_right_order():
    """cond and uncond in one pass: the first half is the prompt's, and eps = uncond + w (cond - uncond)."""
    codi = made(cfg_min=3, cfg_max=3, sample_cfg=3)
    conditions = []

    def answers(unet, noisy, t, given):
        conditions.append(given["condition"])
        empty = (given["context"] == codi.teacher.unconditional(1)["context"]).all(dim=(1, 2)).float()
        return torch.ones_like(noisy) * (1 - 0.75 * empty).view(-1, 1, 1, 1) + 0 * next(unet.parameters()).sum()

    codi.teacher.call = answers
    batch = codi.source.batch(0, range(2))
    z, t = torch.randn(2, 4, 8, 8), torch.tensor([500, 500])
    _, eps = codi.denoise_guided(codi.network, z, t, codi.conditioning(batch), 3.0)
    torch.testing.assert_close(eps, torch.full_like(eps, 0.25 + 3 * 0.75))
    assert torch.equal(conditions[0], batch.extras["condition"].repeat(2, 1, 1, 1))  # never dropped
    loss, _, draws = step_of(codi, 7)
    a, b = codi.process.level(torch.tensor([699]))
    z = a * batch.latents + b * draws.normal("noise", (4, 8, 8))
    torch.testing.assert_close(loss, ((z - b * 2.5) / a - batch.latents).square().mean())


def test_what_a_recipe_cannot_have():
    for settings, said in (
        ({"intervals": 1000}, "settings.intervals is 1000; expected a smaller divisor of 1000"),
        ({"cfg_min": 2, "cfg_max": 6, "sample_cfg": 8}, "sample_cfg is 8; expected cfg_min = 2 to cfg_max = 6"),
    ):
        with pytest.raises(RecipeError, match=said):
            made(**settings)
    for name, student, said in (
        ("pe-codi", {"train": "control", "base": "full"}, "pe-codi with student.base = full; expected frozen"),
        ("codi", {"train": "control"}, "codi with student.base = frozen; expected lora or full"),
        ("codi", {"train": "full"}, "codi with student.train = full; expected control"),
        ("cd", {"train": "control"}, "cd with student.train = control; expected full or lora"),
    ):
        with pytest.raises(RecipeError, match=said):
            method(name, student=student)


def test_an_export_says_how_it_is_sampled():
    said = made(cfg_min=2, cfg_max=6, sample_cfg=4.5).metadata()
    assert (said["understudy_method"], said["trained"], said["base_trained"]) == ("pe-codi", "control", "frozen")
    assert (said["sampler"], said["scheduler"], said["steps"]) == ("euler", "sgm_uniform", "4")
    assert said["preset"] == "codi"
    assert (said["guidance"], said["intervals"]) == ("4.5", "10")

"""Progressive distillation on a tiny network."""

import pytest
import torch
from understudy.distill_train.config import RecipeError
from understudy.distill_train.methods.cd import truncated_snr
from understudy.distill_train.methods.pd import closed_form
from understudy.distill_train.process import Discrete, solve
from understudy.samplers.denoisers import DiscreteDenoiser, scaled_linear
from understudy.samplers.schedules import trailing_sigmas

from .tiny import TinyTeacher, changed, lowers_its_loss, method, timesteps_seen


@pytest.mark.parametrize("substeps", [2, 3])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_one_step_with_the_closed_form_is_the_teachers_steps(prediction, substeps):
    pd = method("pd", teacher=TinyTeacher(prediction), teacher_steps=4)
    given, z = pd.teacher.embed(["a"]), torch.randn(1, 4, 8, 8)
    times = [torch.tensor([t]) for t in (800, 600, 400, 200)[: substeps + 1]]
    with torch.no_grad():
        reached = solve(lambda z, t: pd.denoise(pd.teacher.unet, z, t, given), pd.process, z, times)
    t, s = pd.process.level(times[0]), pd.process.level(times[-1])
    x0 = closed_form(z, t, reached, s)
    torch.testing.assert_close(s.noisy(x0, (z - t.alpha * x0) / t.sigma), reached, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("train", ["full", "lora"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_student_that_starts_as_the_teacher_has_no_loss_with_one_substep(prediction, train):
    student = {"train": train, "rank": 2}
    pd = method("pd", student=student, teacher=TinyTeacher(prediction), teacher_steps=8, substeps=1)
    assert pd.loss(pd.network, 0).item() < 1e-8
    assert method("pd", teacher=TinyTeacher(prediction), teacher_steps=8).loss(pd.network, 0).item() > 1e-6


def test_the_weight_makes_the_loss_the_larger_of_data_and_noise_error():
    process, x, y = Discrete(scaled_linear()), torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    level, z = process.level(torch.tensor([50, 400, 999])), torch.randn(3, 4, 8, 8)
    eps = [(z - level.alpha * x0) / level.sigma for x0 in (x, y)]
    larger = torch.maximum((x - y).square().mean((1, 2, 3)), (eps[0] - eps[1]).square().mean((1, 2, 3)))
    torch.testing.assert_close((truncated_snr(level) * (x - y).square()).mean((1, 2, 3)), larger, rtol=1e-4, atol=1e-5)


def test_the_loss_has_that_weight():
    pd, x, y = method("pd", teacher_steps=4), torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    level = pd.process.level(torch.tensor([50, 400, 999]))
    assert level.snr.min() < 1 < level.snr.max()
    errors = (x - y).square().mean((1, 2, 3)) * level.snr.flatten().clamp(min=1)
    torch.testing.assert_close(pd.distance(x, y, level), errors.mean())


@pytest.mark.parametrize(("teacher_steps", "timesteps"), [(2, {999}), (8, {250, 500, 749, 999})])
def test_the_student_learns_at_each_of_its_timesteps(teacher_steps, timesteps):
    assert timesteps_seen(method("pd", teacher_steps=teacher_steps), 30) == timesteps


def test_a_preview_of_one_step_is_what_the_student_sees_in_noise():
    pd = method("pd", teacher_steps=4)
    noise, given = torch.randn(2, 4, 8, 8), pd.teacher.embed(["a", "b"])
    last = torch.tensor([999, 999])
    with torch.no_grad():
        expected, _ = pd.denoise(pd.network, noise, last, given)
        torch.testing.assert_close(pd.sample(pd.network, noise, given, 1), expected, rtol=1e-4, atol=1e-4)


def test_the_grid_is_that_of_the_hosts_sgm_uniform():
    model = DiscreteDenoiser(lambda x, t: x, scaled_linear())
    for steps in (1, 2, 4, 8):
        ours = Discrete(scaled_linear()).times(torch.arange(steps, -1, -1) / steps)
        theirs = model.sigma_to_t(trailing_sigmas(model, steps)[:-1])
        assert ours[-1] == -1 and torch.all((ours[:-1] - theirs).abs() <= 0.5 + 1e-3)


def test_a_file_says_the_noise_levels_that_its_student_learned_which_a_scheduler_only_comes_near():
    pd = method("pd", teacher_steps=8)
    said = torch.tensor([float(level) for level in pd.metadata()["sigmas"].split(",")])
    ab = scaled_linear()[[999, 749, 500, 250]]  # of 999, 749.25, 499.5, 249.75
    torch.testing.assert_close(said, torch.cat([((1 - ab) / ab).sqrt(), torch.zeros(1)]).float())
    seen, pd.teacher.call = [], lambda network, z, t, given: seen.append(int(t[0])) or z
    pd.sample(pd.network, torch.randn(1, 4, 8, 8), pd.teacher.embed(["a"]), 4)
    assert seen == [999, 749, 500, 250]
    assert "sigmas" not in method("lcm").metadata()  # of which the preset and the grid say them


def test_stages_follow_until_one_step_and_the_last_are_longer():
    pd = method("pd", {"steps": 50}, teacher_steps=8)
    assert pd.chain == [4, 2, 1]
    assert [(s.start, s.stop, s.name) for s in pd.stages()] == [
        (0, 10, "4-step"),
        (10, 30, "2-step"),
        (30, 50, "1-step"),
    ]
    assert method("pd", teacher_steps=16, student_steps=4).chain == [8, 4]
    with pytest.raises(RecipeError, match="6 steps, divided by 2 again and again, never are 1"):
        method("pd", teacher_steps=6)
    with pytest.raises(RecipeError, match="settings.teacher_steps is 1024; expected fewer than 1000"):
        method("pd", teacher_steps=1024)
    with pytest.raises(RecipeError, match="loop.steps is 2; expected more, for 3 stages"):
        method("pd", {"steps": 2}).stages()


@pytest.mark.parametrize("train", ["full", "lora"])
def test_in_the_next_stage_the_student_is_the_teacher(train):
    pd = method("pd", student={"train": train, "rank": 2}, teacher_steps=4)
    changed(pd.network)
    pd.begin(1)
    assert pd.steps == 1
    given, z, t = pd.teacher.embed(["a"]), torch.randn(1, 4, 8, 8), torch.tensor([999])
    with torch.no_grad():
        before, _ = pd.denoise(pd.network, z, t, given)
        changed(pd.network, seed=6)  # the student goes on, its teacher stays
        taught = pd._taught(z, [t, torch.tensor([500])], given)
        x0, eps = before, (z - pd.process.level(t).alpha * before) / pd.process.level(t).sigma
        torch.testing.assert_close(taught, pd.process.level(torch.tensor([500])).noisy(x0, eps), rtol=1e-3, atol=1e-4)
        after, _ = pd.denoise(pd.network, z, t, given)
        assert not torch.allclose(after, before, atol=1e-3)


def test_only_the_first_teacher_is_guided():
    pd = method("pd", teacher_steps=4, cfg=5.0)
    scales = []
    plain = pd.denoise_guided
    pd.denoise_guided = lambda *arguments: scales.append(arguments[-1]) or plain(*arguments)
    pd.loss(pd.network, 0)
    assert scales == [5.0, 5.0]
    pd.begin(1)
    pd.loss(pd.network, 0)
    assert len(scales) == 2


@pytest.mark.parametrize("train", ["full", "lora"])
def test_one_step_lowers_the_loss(train):
    assert lowers_its_loss(method("pd", student={"train": train, "rank": 2}, teacher_steps=4), rate=1e-4)

"""The adaptive paper's consistency distillation on a tiny network."""

import pytest
import torch
from understudy.distill_train.config import RecipeError
from understudy.distill_train.data.randomness import Draws
from understudy.distill_train.methods.cd import WEIGHTS
from understudy.distill_train.methods.distances import pseudo_huber_norm

from .tiny import TinyTeacher, changed, lowers_its_loss, method, timesteps_seen


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_student_is_the_identity_at_the_boundary(prediction):
    cd = method("cd", teacher=TinyTeacher(prediction))
    z, given = torch.randn(2, 4, 8, 8), cd.teacher.embed(["a", "b"])
    with torch.no_grad():
        x0, _ = cd.denoise_guided(cd.network, z, torch.tensor([1, 1]), given, 8.0)
        torch.testing.assert_close(x0, z)
        assert not torch.allclose(cd.denoise_guided(cd.network, z, torch.tensor([21, 21]), given, 8.0)[0], z, atol=1e-2)


def test_the_loss_is_the_papers():
    """Written out again for one sample: guidance in student, teacher and target, one DDIM step, squared distance."""
    cd = method("cd", cfg=8.0)
    import copy

    target = copy.deepcopy(cd.network)
    changed(cd.network)
    draws = Draws(1, range(1))
    draws.whole = lambda *_: torch.tensor([7])
    batch = cd.source.batch(0, range(1))
    ours = cd.batch_loss(cd.network, batch, draws)

    ab, text, free = (
        cd.teacher.process.alphas_cumprod,
        batch.embeddings["context"],
        cd.teacher.unconditional(1)["context"],
    )
    t, s, noise = torch.tensor([141]), torch.tensor([121]), draws.normal("noise", (4, 8, 8))
    z = ab[t].sqrt() * batch.latents + (1 - ab[t]).sqrt() * noise

    def eps(network, z, t):
        empty = network(z, t, free).sample
        return empty + 8 * (network(z, t, text).sample - empty)

    with torch.no_grad():
        e = eps(cd.teacher.unet, z, t)
        x = (z - (1 - ab[t]).sqrt() * e) / ab[t].sqrt()
        nearer = ab[s].sqrt() * x + (1 - ab[s]).sqrt() * e
        wanted = (nearer - (1 - ab[s]).sqrt() * eps(target, nearer, s)) / ab[s].sqrt()
        student = (z - (1 - ab[t]).sqrt() * eps(cd.network, z, t)) / ab[t].sqrt()
    torch.testing.assert_close(ours, (student - wanted).square().mean(), rtol=1e-4, atol=1e-6)


def test_its_timesteps_are_those_of_leading_ddim():
    from diffusers import DDIMScheduler

    cd = method("cd")
    scheduler = DDIMScheduler(steps_offset=1, timestep_spacing="leading")
    scheduler.set_timesteps(50)
    seen = []
    cd.denoise_guided = lambda network, z, t, given, cfg: seen.append(int(t[0])) or (z, z)
    for place in range(1, 50):
        draws = Draws(1, range(1))
        draws.whole = lambda *_, place=place: torch.tensor([place])
        cd.batch_loss(cd.network, cd.source.batch(0, range(1)), draws)
    assert set(seen) == set(scheduler.timesteps.tolist()) and max(seen) == 981 and min(seen) == 1


def test_the_student_learns_at_all_of_them_but_the_boundary():
    assert timesteps_seen(method("cd", intervals=5), 30) == {201, 401, 601, 801}
    with pytest.raises(RecipeError, match="settings.intervals is 1000; expected a smaller divisor of 1000"):
        method("cd", intervals=1000)


def test_the_weights_are_those_of_the_signal_to_noise_ratio():
    level = method("cd").process.level(torch.tensor([21, 981]))
    snr = level.alpha.square() / level.sigma.square()
    assert snr[0] > 1 > snr[1]
    assert WEIGHTS["uniform"](level) == 1
    torch.testing.assert_close(WEIGHTS["snr"](level), snr)
    torch.testing.assert_close(WEIGHTS["snr+1"](level), snr + 1)
    torch.testing.assert_close(WEIGHTS["truncated-snr"](level), torch.maximum(snr, torch.ones(())))


def test_random_guidance_is_a_whole_scale_for_each_sample():
    cd = method("cd", random_cfg=True, cfg=8.0)
    scales = []
    cd.denoise_guided = lambda network, z, t, given, cfg: scales.append(cfg) or (z, z)
    for step in range(40):
        cd.loss(cd.network, step)
    for teacher, target, student in zip(scales[::3], scales[1::3], scales[2::3], strict=True):
        assert torch.equal(teacher, target) and torch.equal(teacher, student) and teacher.shape == (4,)
    assert set(torch.cat(scales).tolist()) == {1, 2, 3, 4, 5, 6, 7, 8}


def test_a_teacher_that_predicts_x0_is_refused():
    with pytest.raises(RecipeError, match="predicts eps or v"):
        method("cd", teacher=TinyTeacher("sample"))


def test_the_pseudo_huber_norm_runs_where_its_tensors_are():
    assert pseudo_huber_norm(*torch.ones(2, 3, 4, 8, 8, device="meta"), 0.1).device.type == "meta"


@pytest.mark.parametrize("settings", [{}, {"loss": "huber", "weight": "truncated-snr"}, {"weight": "snr+1"}])
def test_one_step_lowers_the_loss(settings):
    assert lowers_its_loss(method("cd", **settings), rate=1e-5)

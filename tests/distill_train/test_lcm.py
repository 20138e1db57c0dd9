"""Latent consistency distillation on a tiny network."""

import pytest
import torch
import torch.nn.functional as F
from understudy.distill_train.config import RecipeError
from understudy.distill_train.data.randomness import Draws
from understudy.samplers.boundary import boundary_scalings

from .tiny import TinyTeacher, changed, lowers_its_loss, method, timesteps_seen


def test_the_consistency_function_is_the_identity_at_the_boundary():
    lcm = method("lcm")
    z, given = torch.randn(2, 4, 8, 8), lcm.teacher.embed(["a", "b"])
    with torch.no_grad():
        torch.testing.assert_close(lcm.consistency(lcm.network, z, torch.tensor([0, 0]), given), z)
        assert not torch.allclose(lcm.consistency(lcm.network, z, torch.tensor([19, 19]), given), z, atol=0.1)


def test_the_boundary_scalings_are_those_of_diffusers_scheduler():
    from diffusers import LCMScheduler

    scheduler, t = LCMScheduler(), torch.tensor([0, 19, 999])
    skip, out = boundary_scalings(t, 4, 10.0)
    for i, timestep in enumerate(t):
        theirs = scheduler.get_scalings_for_boundary_condition_discrete(timestep)
        torch.testing.assert_close(torch.stack([skip[i, 0, 0, 0], out[i, 0, 0, 0]]), torch.stack(theirs).float())


def reference_loss(teacher, unet, target_unet, x0, prompt, uncond, index, noise, w, embedded, loss, huber_c):
    """The loss of diffusers' train_lcm_distill_sd_wds.py, worked out again from its steps for one batch.

    Its DDIM solver, boundary scalings and guidance, sample by sample and in double precision.
    """
    ab = teacher.process.alphas_cumprod.double()
    cond_width = 16
    frequencies = torch.exp(-torch.arange(8) * torch.log(torch.tensor(10000.0)) / 7)
    losses = []
    for i in range(len(x0)):
        t = 20 * (int(index[i]) + 1) - 1
        s = t - 20 if t >= 20 else 0
        a, b = ab[t].sqrt(), (1 - ab[t]).sqrt()
        z = a * x0[i : i + 1] + b * noise[i : i + 1]
        told = None
        if embedded:
            angles = 1000 * w[i] * frequencies
            told = torch.cat([angles.sin(), angles.cos()])[None]
            assert told.shape[1] == cond_width

        def output(network, z, t, text, told=None):
            return network(z.float(), torch.tensor([t]), text, timestep_cond=told).sample.double()

        def x0_of(network_output, z, t):
            a, b = ab[t].sqrt(), (1 - ab[t]).sqrt()
            return (
                (z - b * network_output) / a if teacher.process.prediction == "epsilon" else a * z - b * network_output
            )

        def noise_of(network_output, z, t):
            a, b = ab[t].sqrt(), (1 - ab[t]).sqrt()
            return network_output if teacher.process.prediction == "epsilon" else b * z + a * network_output

        def consistent(x, z, t):
            return 0.25 / ((10 * t) ** 2 + 0.25) * z + 10 * t / ((10 * t) ** 2 + 0.25) ** 0.5 * x

        text, free = prompt[i : i + 1], uncond[i : i + 1]
        ours = consistent(x0_of(output(unet, z, t, text, told), z, t), z, t)
        with torch.no_grad():
            cond, empty = output(teacher.unet, z, t, text), output(teacher.unet, z, t, free)
            x = x0_of(cond, z, t) + w[i] * (x0_of(cond, z, t) - x0_of(empty, z, t))
            e = noise_of(cond, z, t) + w[i] * (noise_of(cond, z, t) - noise_of(empty, z, t))
            before = ab[0] if index[i] == 0 else ab[t - 20]
            nearer = before.sqrt() * x + (1 - before).sqrt() * e
            theirs = consistent(x0_of(output(target_unet, nearer, s, text, told), nearer, s), nearer, s)
        difference = ours - theirs
        losses.append(difference.square() if loss == "l2" else (difference.square() + huber_c**2).sqrt() - huber_c)
    return torch.cat(losses).mean()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("embedded", "loss"), [(True, "huber"), (False, "l2")])
def test_loss_and_gradients_are_those_of_diffusers_public_script(prediction, embedded, loss):
    import copy

    teacher = TinyTeacher(prediction)
    lcm = method("lcm", teacher=teacher, embed_guidance=embedded, embedding_width=16, loss=loss, huber_c=0.001)
    target = copy.deepcopy(lcm.network)
    changed(lcm.network)  # student and target differ, and the guidance embedding does something
    indices = range(6)
    batch, draws = lcm.source.batch(0, indices), Draws(1, indices)
    index = draws.whole("timestep", 0, 50)
    index[0] = 0  # the first interval has an end of its own
    draws.whole = lambda *_: index
    ours = lcm.batch_loss(lcm.network, batch, draws)
    w, noise = draws.uniform("guidance", 3.0, 15.0), draws.normal("noise", (4, 8, 8))
    assert w.min() >= 3 and w.max() < 15 and w.unique().numel() == 6
    uncond, prompt = teacher.unconditional(6)["context"], batch.embeddings["context"]
    theirs = reference_loss(
        teacher, lcm.network, target, batch.latents, prompt, uncond, index, noise, w, embedded, loss, 0.001
    )
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    gradients = [torch.autograd.grad(value, lcm.student.parameters) for value in (ours, theirs)]
    ours, theirs = (torch.cat([gradient.flatten() for gradient in each]) for each in gradients)
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()


def test_the_student_learns_at_each_timestep_of_the_grid():
    assert timesteps_seen(method("lcm", intervals=5), 30) == {199, 399, 599, 799, 999}


@pytest.mark.parametrize("student", [{"train": "full"}, {"train": "lora", "rank": 2}])
def test_one_step_lowers_the_loss(student):
    assert lowers_its_loss(method("lcm", student=student))


def test_the_target_is_an_average_that_follows_the_student():
    lcm = method("lcm", target_ema=0.75)
    before = [w.clone() for w in lcm.target.weights]
    changed(lcm.network)
    lcm.after_step()
    for old, average, new in zip(before, lcm.target.weights, lcm.student.parameters, strict=True):
        torch.testing.assert_close(average, 0.75 * old + 0.25 * new)


def test_without_a_target_average_the_student_is_its_own_target():
    lcm = method("lcm", target_ema=0.0)
    assert not lcm.target.weights
    before = lcm.loss(lcm.network, 0)
    changed(lcm.network)
    lcm.after_step()
    assert lcm.loss(lcm.network, 0) != before


def test_a_student_with_guidance_input_starts_as_the_teacher():
    lcm = method("lcm", embed_guidance=True, embedding_width=16)
    z, t, given = torch.randn(2, 4, 8, 8), torch.tensor([500, 900]), lcm.teacher.embed(["a", "b"])
    with torch.no_grad():
        told = lcm.teacher.call(lcm.network, z, t, {**given, "guidance": torch.tensor([3.0, 9.0])})
        torch.testing.assert_close(told, lcm.teacher.call(lcm.teacher.unet, z, t, given))


def test_the_kind_of_student_says_which_preset_is_its_own():
    assert method("lcm").usage()["preset"] == "LCM"
    assert method("lcm", student={"train": "lora", "rank": 2}).usage()["preset"] == "LCM-LoRA"


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(RecipeError, match="embed_guidance.*student.train = full"):
        method("lcm", student={"train": "lora"}, embed_guidance=True)
    with pytest.raises(RecipeError, match="intervals is 30; expected a divisor of 1000"):
        method("lcm", intervals=30)
    with pytest.raises(RecipeError, match="w_max is 2; expected at least w_min = 3"):
        method("lcm", w_max=2.0)


def test_the_shape_of_a_huber_distance():
    from understudy.distill_train.methods.distances import pseudo_huber, pseudo_huber_norm

    a, b = torch.zeros(2, 1, 1, 2), torch.tensor([[[[3.0, 4.0]]], [[[0.0, 0.0]]]])
    torch.testing.assert_close(pseudo_huber_norm(a, b, 0.0), torch.tensor(2.5))
    torch.testing.assert_close(pseudo_huber(a, b, 1e-6), F.l1_loss(a, b), atol=1e-5, rtol=0)

from functools import partial

import pytest
import torch
from understudy.pipelines.model import LatentModel, StudentPlan, TeacherPlan, draw, redo
from understudy.samplers.denoisers import DiscreteDenoiser, scaled_linear
from understudy.samplers.presets import STUDENTS, TEACHERS, way_back
from understudy.samplers.schedules import consistency_sigmas, trailing_sigmas


class Linear(LatentModel):
    """Latents are pictures; the network says that they are a tenth of what they are, moved by the prompt's length."""

    device = torch.device("cpu")

    def __init__(self):
        self.denoiser = DiscreteDenoiser(
            lambda x, t, shift: 0.1 * x + shift[:, None, None, None], scaled_linear(), prediction="x0"
        )

    def conditioning(self, prompts, cfg, size):
        shift = torch.tensor([len(prompt) / 100 for prompt in prompts])
        return {"cond": {"shift": shift}, "uncond": {"shift": torch.zeros_like(shift)}}

    def encode(self, images):
        return images

    def decode(self, latents):
        return latents

    def latent_shape(self, size):
        return 3, *size


def quiet(step, steps):
    pass


def drawn(seeds, plan=None):
    return draw(Linear(), ["a cat"] * len(seeds), seeds, (4, 4), plan or StudentPlan(3), quiet)


def test_every_image_has_its_own_noise():
    together, evaluations = drawn([5, 6, 7])
    assert evaluations == 3
    for i, seed in enumerate((5, 6, 7)):
        assert torch.equal(drawn([seed])[0][0], together[i])
    assert (together[0] - together[1]).abs().max() > 1e-3
    start = torch.zeros(3, 3, 4, 4)
    refined, _ = redo(Linear(), start, ["a"] * 3, [5, 6, 7], (4, 4), TeacherPlan(2, 1), quiet)
    alone, _ = redo(Linear(), start[:1], ["a"], [6], (4, 4), TeacherPlan(2, 1), quiet)
    assert torch.equal(refined[1], alone[0])


def test_the_noise_of_a_seed_s_three_uses_is_independent():
    """Starting noise, the student's and the teacher's: no draw of one image may return in it or in another."""
    from understudy.pipelines import model

    seen = []
    for seed in (5, 6):
        seen.append(model.initial_noise([seed], [model.STARTING_NOISE], (3, 64, 64)).flatten())
        for stream in (model.STUDENT_NOISE, model.REFINE_NOISE):
            noise = model.PerImageNoise([seed], [stream], (3, 64, 64))
            seen += [noise().flatten(), noise().flatten()]
    correlation = torch.corrcoef(torch.stack(seen)) - torch.eye(len(seen))
    assert correlation.abs().max() < 0.05


def test_refine_starts_from_the_image_and_regenerate_from_the_student_s_noise():
    """Guided by a network that knows the answer to be x, what comes out tells what went in."""
    start = torch.full((1, 3, 4, 4), 0.5)
    seen = []

    class Watched(Linear):
        def __init__(self):
            super().__init__()
            network = self.denoiser.network

            def watching(x, t, shift):
                seen.append((x, t))
                return network(x, t, shift)

            self.denoiser = DiscreteDenoiser(watching, scaled_linear(), prediction="x0")

    model = Watched()
    draw(model, ["a"], [3], (4, 4), StudentPlan(1), quiet)
    student_start = seen[0][0]
    redo(model, None, ["a"], [3], (4, 4), TeacherPlan(2, 1, strategy="regenerate"), quiet)
    assert torch.allclose(seen[1][0], student_start, atol=1e-5)
    plan = TeacherPlan(2, 1, rollback=0.2, rollback_mode="noise")
    redo(model, start, ["a"], [3], (4, 4), plan, quiet)
    # sqrt(1 - s) x0 + sqrt(s) noise, line 5 of algorithm 1.
    residual = (seen[3][0] - 0.8**0.5 * start) / 0.2**0.5
    assert abs(float(residual.mean())) < 0.5 and 0.7 < float(residual.std()) < 1.3
    assert not torch.allclose(residual, student_start, atol=0.1)


@pytest.mark.parametrize("scheduler", ["karras", "normal", "trailing"])
def test_steps_of_the_teacher_alone(scheduler):
    denoiser = Linear().denoiser
    of_schedule = partial(TeacherPlan, 4, rollback_mode="schedule", scheduler=scheduler)
    assert of_schedule(rollback=0.4).full_steps_from_noise(denoiser) == 10
    assert TeacherPlan(4, strategy="regenerate", scheduler=scheduler).full_steps_from_noise(denoiser) == 4
    assert TeacherPlan(4, alone_steps=25, scheduler=scheduler).full_steps_from_noise(denoiser) == 25
    plan = TeacherPlan(4, rollback=0.4, rollback_mode="noise", scheduler=scheduler)
    steps = plan.full_steps_from_noise(denoiser)
    same = of_schedule(rollback=4 / steps).sigmas(denoiser)
    # Both begin at about the same noise: within one step of the longer schedule.
    longer = of_schedule(rollback=4 / (steps + 1)).sigmas(denoiser)
    shorter = of_schedule(rollback=min(4 / (steps - 1), 1)).sigmas(denoiser)
    assert longer[0] <= same[0] <= plan.sigmas(denoiser)[0] * 1.001 <= shorter[0] * 1.001
    whole = TeacherPlan(4, rollback=1, scheduler=scheduler)
    assert whole.full_steps_from_noise(denoiser) == 4
    torch.testing.assert_close(whole.sigmas(denoiser), of_schedule(rollback=1).sigmas(denoiser))


def test_the_default_way_back_is_the_table_s_for_stable_diffusion():
    for teacher in ("sd15", "sdxl"):
        assert TeacherPlan().rollback == round(way_back(STUDENTS["LCM-LoRA"], TEACHERS[teacher]), 2)
    assert TeacherPlan().sigmas(Linear().denoiser)[0] == pytest.approx((0.41 / 0.59) ** 0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StudentPlan(0), "student steps is 0"),
        (lambda: StudentPlan(sampler="lcm"), "'lcm'; expected one of consistency"),
        (lambda: TeacherPlan(rollback=1.2), "rollback is 1.2; expected above 0 and at most 1"),
        (lambda: TeacherPlan(rollback=1.01, rollback_mode="noise"), "expected above 0 and at most 1"),
        (lambda: TeacherPlan(rollback_mode="noise_variance"), "'noise_variance'; expected one of noise, schedule"),
        (lambda: TeacherPlan(rollback_mode="sigma"), "rollback mode is 'sigma'"),
    ],
)
def test_impossible_plans(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def from_source(sources, strength, plan=StudentPlan, **options):
    seeds = list(range(5, 5 + len(sources)))
    plan = plan(3, strength=strength, **options)
    if isinstance(plan, TeacherPlan):
        return redo(Linear(), None, ["a cat"] * len(seeds), seeds, (4, 4), plan, quiet, sources)
    return draw(Linear(), ["a cat"] * len(seeds), seeds, (4, 4), plan, quiet, sources)


STARTS = [(StudentPlan, {}), (StudentPlan, {"sampler": "euler"}), (TeacherPlan, {"strategy": "regenerate", "cfg": 1})]


@pytest.mark.parametrize(("plan", "options"), STARTS)
@pytest.mark.parametrize(
    ("steps", "strength", "said"), [(1, 0.6, True), (3, 0.8, True), (3, 0.75, False), (1, 0.5, False)]
)
def test_where_a_strength_below_1_leaves_nothing_of_the_picture_that_is_said(plan, options, steps, strength, said):
    denoiser, made = Linear().denoiser, plan(steps, strength=strength, **options)
    assert bool(made.sigmas(denoiser)[0] >= denoiser.sigma_max * 0.9999) == said
    assert any("starts from all the noise, as 1 does" in remark for remark in made.remarks) == said
    for plain in (plan(steps, **options), plan(steps, strength=1.0, **options), TeacherPlan(steps, strength=strength)):
        assert not plain.remarks


@pytest.mark.parametrize(("plan", "options"), STARTS)
def test_strength_1_is_from_noise_to_the_bit_and_less_follows_the_source(plan, options):
    sources = torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 50.0)])
    plain, evaluations = from_source(sources[:0].new_zeros(2, 3, 4, 4), 1.0, plan, **options)
    assert torch.equal(from_source(sources, 1.0, plan, **options)[0], plain) and evaluations == 3
    edited, evaluations = from_source(sources, 0.4, plan, **options)
    assert evaluations == 3
    other, _ = from_source(sources[[0, 0]], 0.4, plan, **options)
    assert torch.equal(edited[0], other[0]) and (edited[1] - other[1]).abs().max() > 0.01
    alone = from_source(sources[:1], 0.4, plan, **options)[0]
    torch.testing.assert_close(alone[0], edited[0])


def test_a_source_is_put_at_the_level_of_the_host_s_denoise():
    """The last steps of int(steps / strength), the source in the image's own starting noise."""
    denoiser = Linear().denoiser
    assert torch.equal(
        StudentPlan(3, sampler="euler", strength=0.5).sigmas(denoiser), trailing_sigmas(denoiser, 6)[-4:]
    )
    assert torch.equal(StudentPlan(2, strength=0.5).sigmas(denoiser), consistency_sigmas(denoiser, 4)[-3:])
    half = {"rollback": 0.5, "rollback_mode": "schedule"}
    assert TeacherPlan(6, **half, strength=0.5).full_steps_from_noise(denoiser) == 6
    assert TeacherPlan(6, **half).full_steps_from_noise(denoiser) == 12
    with pytest.raises(ValueError, match="40 steps at a strength of 0.5, but of the 50 timesteps .* more strength"):
        StudentPlan(40, strength=0.5).sigmas(denoiser)
    with pytest.raises(ValueError, match="strength is 0; expected above 0"):
        StudentPlan(strength=0.0)
    with pytest.raises(ValueError, match="strength is 2"):
        TeacherPlan(strength=2)

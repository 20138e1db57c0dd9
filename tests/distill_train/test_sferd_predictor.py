"""SFERD's gradient predictor on a tiny network."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from understudy.distill_train.config import Recipe, RecipeError
from understudy.distill_train.methods import make_method
from understudy.distill_train.methods.pd import closed_form
from understudy.distill_train.process import Discrete, Flow, solve
from understudy.distill_train.run.loop import set_up
from understudy.distill_train.students.predictor import load_student, mode_of
from understudy.pipelines.layout import original_unet_names
from understudy.pipelines.stable_diffusion import zero_terminal_snr
from understudy.predictor import read_predictor
from understudy.predictor.denoiser import feature_channels
from understudy.samplers.denoisers import scaled_linear

from .tiny import TinySource, TinyTeacher, changed, lowers_its_loss, method

PROCESSES = {
    "eps": (Discrete(scaled_linear(), "epsilon"), "gradient"),
    "v": (Discrete(scaled_linear(), "v_prediction"), "gradient"),
    "zero SNR": (Discrete(zero_terminal_snr(scaled_linear()), "v_prediction"), "shift"),
    "flow": (Flow(3.0), "shift"),
}


@pytest.fixture
def student(tmp_path):
    return write_student(tmp_path / "student.safetensors")


def write_student(path):
    """A whole student's file, whose weights are not the teacher's."""
    save_file(changed(TinyTeacher().unet.requires_grad_(True), by=0.02).state_dict(), path, metadata=told())
    return path


def told(**more):
    said = {"understudy_method": "lcm", "intervals": "10", "steps": "2", "guidance": "1", "scheduler": "sgm_uniform"}
    return said | more


def made(student, process="eps", **settings):
    teacher, settings = TinyTeacher(process=PROCESSES[process][0]), {"cfg": 2.0} | settings
    return method("sferd-predictor", None, {"train": "predictor", "file": student}, teacher, **settings)


def arguments(of, t, rows=2):
    """z at a level, its time, what it is told, and pictures."""
    given = of.teacher.embed(["a", "b"][:rows])
    g = torch.Generator().manual_seed(3)
    z, x0 = torch.randn(2, rows, 4, 8, 8, generator=g)
    return z, torch.tensor([t] * rows), given, x0


def trained(of, by=0.1):
    changed(of.network, by=by)
    return of


@pytest.mark.parametrize("process", PROCESSES)
def test_untrained_it_changes_nothing_to_the_last_bit_and_trained_it_does(student, process):
    sferd = made(student, process)
    z, t, given, x0 = arguments(sferd, 1.0 if process == "flow" else 999)
    with torch.no_grad():
        plain, _ = sferd.denoise(sferd.base, z, t, given)
        assert torch.equal(sferd.moved(sferd.network, z, t, given, x0), plain)
        moved = sferd.moved(trained(sferd).network, z, t, given, x0)
    assert moved.isfinite().all() and not torch.allclose(moved, plain, atol=1e-2)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_branch_says_the_shift_itself_where_alpha_comes_too_low(student, process):
    assert mode_of(PROCESSES[process][0]) == PROCESSES[process][1]
    assert made(student, process).metadata()["mode"] == PROCESSES[process][1]


@pytest.mark.parametrize("rule", ["consistency", "closed-form"])
@pytest.mark.parametrize("process", PROCESSES)
def test_losses_and_gradients_are_finite_at_the_first_level(student, process, rule):
    # One interval: every t is the last time, all noise.
    sferd = trained(made(student, process, rule=rule, intervals=1))
    loss = sferd.loss(sferd.network, 0)
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in sferd.student.parameters)


def test_the_shift_is_taken_at_the_students_own_t(student):
    """By hand from the branch's answer; with the coefficient of the target's time it is another."""
    sferd = trained(made(student))
    z, t, given, x0 = arguments(sferd, 999)
    said = []
    sferd.network.register_forward_hook(lambda module, inputs, output: said.append(output))
    with torch.no_grad():
        plain, _ = sferd.denoise(sferd.base, z, t, given)
        moved = sferd.moved(sferd.network, z, t, given, x0)
    kept = scaled_linear().float()

    def expected(t):
        return plain + (1 - kept[t]) / kept[t].sqrt() * said[0]

    torch.testing.assert_close(moved, expected(999), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(moved, expected(899), rtol=1e-2, atol=1e-2)


def spied(sferd, step=0):
    """A loss, and the times and results of the moved x0s in it: the target's, then the prediction's."""
    seen, plain = [], sferd.moved

    def moved(network, z, t, given, picture):
        x0 = plain(network, z, t, given, picture)
        seen.append((z, t, x0))
        return x0

    sferd.moved = moved
    loss = sferd.loss(sferd.network, step)
    sferd.moved = plain
    return loss, seen


def test_the_weight_stands_once_and_outside_the_square(student):
    sferd = trained(made(student))
    with torch.no_grad():
        loss, ((_, s, target), (_, t, prediction)) = spied(sferd)
    kept = scaled_linear().float()[t]
    squares = (prediction - target).square().mean((1, 2, 3))
    torch.testing.assert_close(loss, ((1 + kept / (1 - kept)) * squares).mean())
    assert not torch.allclose(loss, ((1 + kept / (1 - kept)).square() * squares).mean(), rtol=1e-2)
    assert (t - s == 100).all()


def test_the_consistency_target_is_the_moved_average_after_one_guided_step(student):
    sferd = trained(made(student, target_ema=0.5))
    z, t, given, x0 = arguments(sferd, 999)
    with torch.no_grad():
        before = sferd.moved(sferd.network, z, t, given, x0)
        sferd.target.restart()
        changed(sferd.network, seed=8, by=0.2)
        _, ((nearer, s, target), (z, t, prediction)) = spied(sferd)
        with sferd.target.applied():
            given = sferd.conditioning(sferd.source.batch(0, range(4)))
            x0 = sferd.source.batch(0, range(4)).latents
            torch.testing.assert_close(sferd.moved(sferd.network, nearer, s, given, x0), target)
        reached = sferd.process.level(s).noisy(*sferd.teach(z, t, given, 2.0))
        torch.testing.assert_close(nearer, reached)
        unguided = sferd.process.level(s).noisy(*sferd.teach(z, t, given, 1.0))
        assert not torch.allclose(nearer, unguided, atol=1e-4)
        assert not torch.allclose(sferd.moved(sferd.network, nearer, s, given, x0), target, atol=1e-3)
    assert before.isfinite().all()


@pytest.mark.parametrize("process", PROCESSES)
def test_at_the_data_the_target_is_what_was_reached(student, process):
    sferd = trained(made(student, process))
    z, t, given, x0 = arguments(sferd, 0.0 if process == "flow" else -1)
    with torch.no_grad():
        assert torch.equal(sferd.moved(sferd.network, z, t, given, x0), z)


def test_the_closed_forms_target_is_the_guided_teachers_steps(student):
    sferd = trained(made(student, rule="closed-form", intervals=2, substeps=3))
    with torch.no_grad():
        loss, ((z, t, prediction),) = spied(sferd)
        places = {999: (1.0, 0.5), 500: (0.5, 0.0)}
        ends = torch.tensor([places[int(time)] for time in t]).T
        times = [sferd.process.times(torch.lerp(*ends, j / 3)) for j in range(4)]
        given = sferd.conditioning(sferd.source.batch(0, range(4)))
        reached = solve(lambda z, t: sferd.teach(z, t, given, 2.0), sferd.process, z, times)
        level, end = sferd.process.level(t), sferd.process.level(times[-1])
        target = closed_form(z, level, reached, end)
        torch.testing.assert_close(
            loss, ((1 + level.snr) * (prediction - target).square()).mean(), rtol=1e-3, atol=1e-6
        )


def test_a_student_that_keeps_its_guidance_is_moved_in_both_branches(student, tmp_path):
    save_file(load_file(student), tmp_path / "cd.safetensors", metadata=told(guidance="4", understudy_method="cd"))
    sferd = trained(made(tmp_path / "cd.safetensors"))
    z, t, given, x0 = arguments(sferd, 999)
    with torch.no_grad():
        branches = []
        for embedded in (given, sferd.teacher.unconditional(2)):
            sferd.own_cfg = 1.0
            branches.append(sferd.moved(sferd.network, z, t, embedded, x0))
        sferd.own_cfg = 4.0
        cond, uncond = branches
        guided = sferd.moved(sferd.network, z, t, given, x0)
    torch.testing.assert_close(guided, uncond + 4 * (cond - uncond), rtol=1e-4, atol=1e-3)


def test_grids_are_the_students(student, tmp_path):
    told_by = {"consistency": {99, 199, 299, 399, 499, 599, 699, 799, 899, 999}, "closed-form": {999, 500}}
    for rule, times in told_by.items():
        of = made(student, rule=rule, intervals=2 if rule == "closed-form" else None)
        seen = set()
        for step in range(12):
            _, moved = spied(of, step)
            seen |= set(moved[-1][1].tolist())
        assert seen == times
    said = told(understudy_method="cd", scheduler="leading", intervals="4")
    save_file(load_file(student), tmp_path / "cd.safetensors", metadata=said)
    of = made(tmp_path / "cd.safetensors")
    _, ((_, s, _), (_, t, _)) = spied(of)
    assert set(t.tolist()) <= {251, 501, 751} and of.process.level(torch.tensor([1])).sigma == 0


def test_one_step_lowers_the_loss_and_only_the_predictor_learns(student):
    sferd = made(student)
    before = {key: value.clone() for key, value in sferd.base.state_dict().items()}
    assert lowers_its_loss(trained(sferd, by=0.02), rate=1e-3)
    assert all(torch.equal(before[key], value) for key, value in sferd.base.state_dict().items())
    assert not any(p.requires_grad for p in sferd.base.parameters())


def test_the_file_comes_back(student, tmp_path):
    sferd = trained(made(student))
    sferd.export(sferd.network, tmp_path / "predictor.safetensors")
    read = read_predictor(tmp_path / "predictor.safetensors")
    z, t, given, x0 = arguments(sferd, 999)
    with torch.no_grad():
        expected = sferd.moved(sferd.network, z, t, given, x0)
        assert torch.equal(sferd.moved(read, z, t, given, x0), expected)
        assert not torch.equal(sferd.moved(made(student).network, z, t, given, x0), expected)
    assert read.about["base"] == "sd1" and read.about["student_sha256"] == sferd.student.sha256
    assert read.about["method"] == "sferd-predictor" and read.about["intervals"] == "10" and read.prior is None


def test_what_cannot_be_trained_is_refused_by_name(student, tmp_path):
    with pytest.raises(RecipeError, match="name its file, e.g. --set student.file=FILE"):
        method("sferd-predictor", student={"train": "predictor"}, cfg=1.0)
    with pytest.raises(RecipeError, match="sferd-predictor with student.train = full; expected predictor"):
        method("sferd-predictor", cfg=1.0)
    with pytest.raises(RecipeError, match="lcm with student.train = predictor; expected full or lora"):
        method("lcm", student={"train": "predictor", "file": student})
    save_file(load_file(student), tmp_path / "unknown.safetensors")
    with pytest.raises(RecipeError, match="unknown.safetensors does not say how it was distilled; set settings.rule"):
        made(tmp_path / "unknown.safetensors")
    with pytest.raises(RecipeError, match="has no intervals; set settings.intervals"):
        made(tmp_path / "unknown.safetensors", rule="consistency")
    save_file(
        load_file(student) | {"time_embedding.cond_proj.weight": torch.zeros(8, 4)}, tmp_path / "told.safetensors"
    )
    with pytest.raises(RecipeError, match="told.safetensors is told its guidance; fix that with"):
        made(tmp_path / "told.safetensors")


def test_a_transformer_is_refused_by_name():
    class FluxTransformer(torch.nn.Module):
        pass

    with pytest.raises(ValueError, match="FluxTransformer is no UNet: a gradient predictor needs"):
        feature_channels(FluxTransformer())
    assert feature_channels(TinyTeacher().unet) == (8, [8, 8])


@pytest.mark.parametrize("layout", ["LoRA", "original"])
def test_a_lora_and_a_unet_in_the_original_layout_are_students_too(layout, tmp_path):
    teacher = TinyTeacher()
    lcm = method("lcm", student={"train": "lora" if layout == "LoRA" else "full", "rank": 2}, intervals=10)
    changed(lcm.network)
    if layout == "LoRA":
        lcm.export(lcm.network, tmp_path / "student.safetensors")
    else:
        names = original_unet_names(lcm.network.state_dict(), 1)
        weights = {names[key]: value for key, value in lcm.network.state_dict().items()}
        save_file(weights, tmp_path / "student.safetensors")
    student, (z, t, given, _) = (
        load_student(tmp_path / "student.safetensors", teacher, teacher.unet),
        arguments(lcm, 500),
    )
    with torch.no_grad():
        own = teacher.call(student, z, t, given)
        torch.testing.assert_close(own, teacher.call(lcm.network, z, t, given), rtol=1e-3, atol=1e-4)
        assert not torch.allclose(own, teacher.call(teacher.unet, z, t, given), atol=1e-3)


@pytest.mark.parametrize("rule", ["consistency", "closed-form"])
def test_a_run_that_was_cut_off_goes_on_to_the_last_bit(student, tmp_path, rule):
    r = run_recipe("predictor", student, {"cfg": 2.0, "rule": rule, "intervals": 10})
    whole, cut = start(r, tmp_path / "whole"), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        start(r, cut, steps=4)
    resumed, whole = load_file(start(r, cut, resume=True)), load_file(whole)
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert whole["branch.out.weight"].abs().max() > 0
    save_file(load_file(student), student, metadata=told(steps="3"))
    with pytest.raises(RecipeError, match="something else in the place of its student"):
        start(r, cut, resume=True)


def run_recipe(train, student, settings, **files):
    loop = {"steps": 6, "checkpoint_every": 2, "sample_every": 3, "batch_size": 4, "lr": 1e-3, "tracker": "none"}
    name = f"sferd-{train}"
    files = {"train": train, "file": student, "dtype": "fp32", **files}
    return Recipe(method=name, seed=1, export="out.safetensors", loop=loop, student=files, settings=settings)


def start(recipe, directory, resume=False, steps=6):
    def make(recipe, device):
        teacher = TinyTeacher()
        return make_method(recipe, device, teacher=teacher, source=TinySource(teacher))

    trainer = set_up(recipe, directory, resume, "cpu", make)
    training, advance = trainer.training, trainer.training.advance

    def interrupt():
        raise KeyboardInterrupt

    training.advance = lambda: advance() if training.step < steps else interrupt()
    return trainer.train()

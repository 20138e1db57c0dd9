"""The demo family's teachers, in timesteps and in flow time."""

import json

import pytest
import torch
from understudy.demo_family import family
from understudy.distill_train.config import RecipeError, load_recipe
from understudy.distill_train.data.randomness import generator
from understudy.distill_train.demo.scenes import LatentSet
from understudy.distill_train.methods import make_method
from understudy.distill_train.process import Flow
from understudy.distill_train.run.command import RECIPES
from understudy.distill_train.run.loop import train
from understudy.distill_train.students.predictor import load_student
from understudy.distill_train.teachers import load_teacher
from understudy.files import read_header

CPU = torch.device("cpu")


def made(name, **settings):
    shipped = load_recipe(RECIPES / f"demo-{name}.toml")
    loop = shipped.loop.model_copy(update={"steps": 2, "batch_size": 8, "sample_every": 2, "checkpoint_every": 1})
    settings = shipped.settings | {"block_out_channels": [32, 32]} | settings
    return shipped.model_copy(update={"loop": loop, "settings": settings})


def drawn(method):
    """The pictures, texts, times and noise of step 0."""
    count, g = method.recipe.loop.batch_size, generator(method.recipe.seed, "step", 0)
    x0, tokens = method.data.draw(count, g)
    t = method.draw_times(count, g)
    return x0, tokens, t, torch.randn(x0.shape, generator=g)


def asked(method):
    """What the network is told at step 0, and the loss where it answers with ones."""
    told = []
    method.data = LatentSet(torch.randn(16, 8, 8, 8), torch.ones(16, 8, dtype=torch.long))
    loss = method.loss(lambda z, t, tokens: told.append((z, t)) or torch.ones_like(z), 0)
    return *told[0], loss


def test_the_flow_teacher_learns_the_velocity():
    method = make_method(made("flow-teacher", shift=3.0), CPU)
    z, told, loss = asked(method)
    x0, _, s, noise = drawn(method)
    at = s.view(-1, 1, 1, 1)
    torch.testing.assert_close(z, (1 - at) * x0 + at * noise)
    torch.testing.assert_close(told, 1000 * s)
    torch.testing.assert_close(loss, (1 - (noise - x0)).square().mean())


def test_the_times_are_uniform_before_the_shift():
    method = make_method(made("flow-teacher", shift=3.0), CPU)
    s = method.draw_times(4000, torch.Generator().manual_seed(0))
    places = s / (3 - 2 * s)
    torch.testing.assert_close(places.sort().values, torch.linspace(0, 1, 4000), rtol=0, atol=0.03)


def test_the_shipped_teachers_loss_is_still_min_snr_on_v():
    method = make_method(made("teacher"), CPU)
    z, told, loss = asked(method)
    x0, _, t, noise = drawn(method)
    squared = method.process.alphas_cumprod[t].view(-1, 1, 1, 1)
    alpha, sigma = squared.sqrt(), (1 - squared).sqrt()
    torch.testing.assert_close(z, alpha * x0 + sigma * noise)
    assert torch.equal(told, t)
    weight = (squared / (1 - squared)).clamp(max=5) * (1 - squared)
    torch.testing.assert_close(loss, (weight * (1 - (alpha * noise - sigma * x0)).square()).mean())


@pytest.fixture(scope="module")
def flow_teacher(tmp_path_factory):
    asked = made("flow-teacher", pictures=16, measured=8)
    return train(asked, tmp_path_factory.mktemp("runs") / "flow", device="cpu")


def test_its_file_says_its_time_and_teaches_in_it(flow_teacher):
    teacher = load_teacher(flow_teacher)
    assert isinstance(teacher.process, Flow) and teacher.process.plan == ("flow", 2.0)
    with pytest.raises(RecipeError, match="files of the demo family say what they predict"):
        load_teacher(flow_teacher, prediction="v_prediction")
    last = json.loads((flow_teacher.parents[1] / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 2 and 0 <= last["exact@16"] <= 1


def test_its_students_files_say_it_too_and_are_sampled_in_it(flow_teacher, tmp_path):
    from ..tiny import recipe

    teacher = load_teacher(flow_teacher)
    cd = make_method(recipe("cd", intervals=10, cfg=3.0), CPU, teacher=teacher, source=object())
    cd.export(cd.network, tmp_path / "student.safetensors")
    said = read_header(tmp_path / "student.safetensors").metadata
    assert (said["prediction"], said["shift"], said["understudy"]) == ("flow", "2", "demo-student")
    load_student(tmp_path / "student.safetensors", teacher, teacher.unet)
    with pytest.raises(RecipeError, match="not in the time of the teacher teacher.safetensors, flow or timesteps"):
        load_student(tmp_path / "student.safetensors", load_teacher("demo"), teacher.unet)


def test_a_method_with_timesteps_refuses_it(flow_teacher):
    with pytest.raises(RecipeError, match="is in flow time, but this method has timesteps"):
        make_method(made("student").model_copy(update={"settings": {"teacher": flow_teacher}}), CPU)


def test_the_family_s_own_networks_are_in_timesteps():
    assert load_teacher(family.FOLDER / "student.safetensors").process.prediction == "v_prediction"

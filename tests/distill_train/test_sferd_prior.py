"""SFERD's prior of z on a tiny network."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from understudy.distill_train.config import RecipeError
from understudy.distill_train.data.randomness import Draws
from understudy.distill_train.exports.export import export
from understudy.distill_train.exports.kind import ExportError
from understudy.predictor import read_predictor
from understudy.predictor.denoiser import pooled_text
from understudy.samplers.latent_prior import level

from .test_sferd_predictor import made as predictor
from .test_sferd_predictor import run_recipe, start, told, trained, write_student
from .tiny import CPU, TinyTeacher, changed, lowers_its_loss, method


@pytest.fixture
def files(tmp_path):
    student = write_student(tmp_path / "student.safetensors")
    first = trained(predictor(student))
    first.export(first.network, tmp_path / "predictor.safetensors")
    return student, tmp_path / "predictor.safetensors"


def made(files, **settings):
    student = {"train": "prior", "file": files[0], "predictor": files[1]}
    return method("sferd-prior", student=student, teacher=TinyTeacher(), **{"statistics": 16} | settings)


def test_the_loss_is_the_absolute_error_of_the_noise_in_a_normalised_z(files):
    prior = made(files, dropped=0.0)
    prior.take_statistics()
    batch, draws = prior.source.batch(0, range(4)), Draws(1, range(4), CPU)
    z = torch.cat([prior.meaning(prior.source.batch(b, range(4 * b, 4 * b + 4))) for b in range(4)])
    y = (prior.meaning(batch) - z.mean(0)) / z.std(0)
    (alpha, sigma), eps = level(draws.whole("step", 0, 1000)), draws.normal("noise", y.shape[1:])
    with torch.no_grad():
        text = batch.embeddings["context"].mean(1)
        said = prior.network(alpha * y + sigma * eps, draws.whole("step", 0, 1000), text)
        torch.testing.assert_close(prior.loss(prior.network, 0), (said - eps).abs().mean())
        assert not torch.allclose((said - eps).square().mean(), (said - eps).abs().mean(), rtol=1e-2)


def test_a_tenth_of_the_prompts_is_dropped(files):
    prior = made(files)
    told_of = prior.keeps_prompt(Draws(1, range(4000), CPU)).float().mean()
    assert 0.88 < told_of < 0.92
    assert not made(files, dropped=1.0).keeps_prompt(Draws(1, range(50), CPU)).any()
    changed(prior.network)
    y, n, text = torch.randn(2, 8), torch.tensor([500, 500]), torch.randn(2, 8)
    with torch.no_grad():
        mixed = prior.network(y, n, text, torch.tensor([True, False]))
        torch.testing.assert_close(mixed[:1], prior.network(y, n, text)[:1])
        torch.testing.assert_close(mixed[1:], prior.network(y, n, None)[1:])
        assert not torch.allclose(prior.network(y, n, text), prior.network(y, n, None), atol=1e-3)


def test_the_published_prior_is_told_nothing(files, tmp_path):
    prior = made(files, conditional=False)
    prior.take_statistics()
    assert prior.loss(prior.network, 0).isfinite()
    prior.export(prior.network, tmp_path / "whole.safetensors")
    read, noise = read_predictor(tmp_path / "whole.safetensors"), torch.randn(2, 4, 8, 8)
    assert read.layout.text == 0 and torch.equal(read.drawn(noise, None), read.drawn(noise, torch.randn(2, 8)))


def test_only_the_prior_learns(files):
    prior = made(files)
    prior.take_statistics()
    assert lowers_its_loss(prior, rate=1e-3)
    kept = load_file(files[1])
    for key, value in prior.student.predictor.state_dict().items():
        if key.startswith(("encoder", "branch")):
            assert torch.equal(value, kept[key])


def test_the_complete_file_comes_back(files, tmp_path):
    prior = made(files)
    prior.take_statistics()
    changed(prior.network)
    prior.export(prior.network, tmp_path / "whole.safetensors")
    read, noise = read_predictor(tmp_path / "whole.safetensors"), torch.randn(2, 4, 8, 8)
    given = prior.teacher.embed(["a", "b"])
    text = pooled_text(prior.base, given)
    assert torch.equal(read.drawn(noise, text), prior.student.predictor.drawn(noise, text))
    assert read.deviation.std() > 0 and read.about["rule"] == "consistency" and read.about["intervals"] == "10"
    assert torch.equal(prior.meanings(noise, given), read.drawn(noise, text))
    assert not torch.allclose(read.drawn(noise, text), read.drawn(noise, text.flip(0)), atol=1e-3)


def test_a_predictor_of_another_student_is_refused(files, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file(load_file(files[0]), other, metadata=told(steps="7"))
    with pytest.raises(RecipeError, match="is for the student student.safetensors, of which student.file .*other"):
        made((other, files[1]))
    with pytest.raises(RecipeError, match="needs the predictor, e.g. --set student.predictor=FILE"):
        made((files[0], None))


def test_a_predictor_needs_no_export_and_the_command_says_where_it_goes(files, tmp_path):
    start(run_recipe("prior", files[0], {"statistics": 8}, predictor=files[1]), tmp_path / "run")
    with pytest.raises(ExportError, match="out.safetensors is a gradient predictor, .*models/understudy_predictors"):
        export(tmp_path / "run")


def test_a_run_that_was_cut_off_goes_on_to_the_last_bit(files, tmp_path):
    r = run_recipe("prior", files[0], {"statistics": 8}, predictor=files[1])
    whole = load_file(start(r, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        start(r, tmp_path / "run", steps=4)
    resumed = load_file(start(r, tmp_path / "run", resume=True))
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert whole["deviation"].std() > 0  # taken before the first step, both times

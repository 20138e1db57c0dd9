"""The loop around a distillation: parts, precision, checkpoints, stopping, stages and previews, in one process."""

import json
import math
import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from understudy.distill_train import loop as loop_module
from understudy.distill_train.config import RecipeError
from understudy.distill_train.loop import Trainer, TrainingError, train
from understudy.distill_train.methods import make_method
from understudy.stopping import Stopped, StopRequest

from .tiny import TinySource, TinyTeacher, recipe


@pytest.fixture
def on_tiny(monkeypatch):
    """Runs of the loop get the tiny teacher and its data instead of what their recipes would name."""
    return use(monkeypatch, TinyTeacher)


def use(monkeypatch, kind):
    made = []

    def make(recipe, device):
        teacher = kind()
        made.append(make_method(recipe, device, teacher=teacher, source=TinySource(teacher)))
        return made[-1]

    monkeypatch.setattr(loop_module, "make_method", make)
    return made


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def losses(run):
    return [entry["loss"] for entry in log_of(run) if "loss" in entry]


def same(first, second):
    first, second = load_file(first), load_file(second)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


PD = {"teacher_steps": 4, "cfg": 2.0}


def test_a_batch_in_parts_is_the_whole_batch(on_tiny, tmp_path):
    train(recipe("pd", **PD), tmp_path / "whole", device="cpu")
    train(recipe("pd", {"accumulate": 4}, **PD), tmp_path / "parts", device="cpu")
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    with pytest.raises(RecipeError, match="batch_size is 4; expected a multiple of 3"):
        train(recipe("pd", {"accumulate": 3}, **PD), tmp_path / "three", device="cpu")


@pytest.mark.parametrize("student", [{"train": "full"}, {"train": "lora", "rank": 2}])
def test_checkpointed_activations_change_nothing_but_memory(on_tiny, tmp_path, student):
    train(recipe("lcm", student=student), tmp_path / "plain", device="cpu")
    train(recipe("lcm", {"checkpointing": True}, student), tmp_path / "saving", device="cpu")
    assert losses(tmp_path / "saving") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_nearly_the_same(on_tiny, tmp_path, precision):
    train(recipe("pd", **PD), tmp_path / "whole", device="cpu")
    train(recipe("pd", {"precision": precision}, **PD), tmp_path / "half", device="cpu")
    assert losses(tmp_path / "half")[0] == pytest.approx(losses(tmp_path / "whole")[0], rel=0.1)
    assert all(math.isfinite(value) for value in losses(tmp_path / "half"))


@pytest.mark.parametrize(("name", "student"), [("pd", {}), ("lcm", {"train": "lora", "rank": 2}), ("cd", {})])
def test_a_run_that_was_stopped_goes_on_to_the_last_bit(on_tiny, tmp_path, monkeypatch, name, student):
    settings = PD if name == "pd" else {}
    r = recipe(name, {"steps": 8, "checkpoint_every": 100, "sample_every": 100}, student, **settings)
    whole = train(r, tmp_path / "whole", device="cpu")
    advance = Trainer.advance

    def interrupted(self):
        if self.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(self)

    with (
        monkeypatch.context() as patched,
        pytest.raises(Stopped, match=r"step 6 of 8, saved in .*; go on with --resume"),
    ):
        patched.setattr(Trainer, "advance", interrupted)
        train(r, tmp_path / "run", device="cpu")
    assert same(train(r, tmp_path / "run", resume=True, device="cpu"), whole)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_second_ctrl_c_does_not_wait():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert request.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_loss_that_is_no_number_stops_with_the_step_and_its_pictures(on_tiny, tmp_path, monkeypatch):
    r = recipe("pd", {"steps": 8, "log_every": 4, "checkpoint_every": 2, "sample_every": 100}, **PD)

    class Broken(TinyTeacher):
        def call(self, unet, noisy, t, embeddings):
            bad = self.embed(["picture-13.png"])["context"]
            hit = (embeddings["context"] == bad).all(dim=(1, 2))
            return super().call(unet, noisy, t, embeddings).masked_fill(hit[:, None, None, None], math.nan)

    use(monkeypatch, Broken)
    with pytest.raises(TrainingError, match=r"at step 4, batch picture-12.png, picture-13.png, .*--resume"):
        train(r, tmp_path / "run", device="cpu")
    # What was saved before is sound, and nothing was saved after.
    (newest,) = sorted((tmp_path / "run" / "checkpoints").glob("*.pt"))
    state = torch.load(newest, weights_only=True)
    assert state["step"] == 2 and all(torch.isfinite(v).all() for v in state["network"].values())


def test_every_stage_teaches_the_next_and_leaves_a_student(on_tiny, tmp_path):
    r = recipe("pd", {"steps": 10, "warmup": 1, "lr": 1e-2, "decay": "cosine", "ema": 0.5}, teacher_steps=8)
    final = train(r, tmp_path / "run", device="cpu")
    exports = sorted(path.name for path in (tmp_path / "run" / "exports").iterdir())
    assert exports == ["student-2-step.safetensors", "student-4-step.safetensors", "student.safetensors"]
    log = [entry for entry in log_of(tmp_path / "run") if "loss" in entry]
    assert [entry["stage"] for entry in log] == ["4-step"] * 2 + ["2-step"] * 4 + ["1-step"] * 4
    assert [entry["lr"] for entry in log][::2][:2] == [1e-2, 1e-2]  # the curve begins again in each stage
    from safetensors import safe_open

    steps = []
    for name in exports:
        with safe_open(final.with_name(name), framework="pt") as file:
            steps.append(file.metadata()["steps"])
    assert steps == ["2", "4", "1"]
    # The second stage's teacher is the first's average.
    taught, first = on_tiny[0].teacher_weights, load_file(final.with_name("student-2-step.safetensors"))
    names = [name for name, p in on_tiny[0].network.named_parameters() if p.requires_grad]
    assert all(torch.equal(w, first[name]) for name, w in zip(names, taught, strict=True))


@pytest.mark.parametrize("name", ["lcm", "cd", "pd"])
def test_the_grid_shows_the_student_beside_the_teacher(on_tiny, tmp_path, name):
    from PIL import Image

    r = recipe(name, {"steps": 1}, **(PD if name == "pd" else {}))
    r = r.model_copy(update={"settings": r.settings | ({"student_steps": 2} if name == "pd" else {})})
    train(r, tmp_path / "run", device="cpu")
    (file,) = (tmp_path / "run" / "samples").iterdir()
    assert Image.open(file).size == (4 * 8, 4 * 8)
    preview = on_tiny[0].preview
    with torch.no_grad():
        first, _ = preview(on_tiny[0].network)
        again, _ = preview(on_tiny[0].network)
    assert torch.equal(first, again)
    columns = first.view(4, 4, 3, 8, 8)
    assert not torch.equal(columns[:, 0], columns[:, 1]) and not torch.equal(columns[:, 2], columns[:, 3])


def test_the_grid_is_scored_by_an_oracle(on_tiny, tmp_path, monkeypatch):
    class Brightness:
        def __call__(self, images, prompts):
            assert len(images) == len(prompts) and images.min() >= 0 and images.max() <= 1
            return images.mean((1, 2, 3))

    monkeypatch.setattr("understudy.oracles.load_oracle", lambda path: Brightness())
    r = recipe("lcm", {"steps": 1})
    r = r.model_copy(
        update={"samples": r.samples.model_copy(update={"oracle": "o.safetensors", "prompts": ("a", "b")})}
    )
    train(r, tmp_path / "run", device="cpu")
    figures = log_of(tmp_path / "run")[-1]
    assert {"score student@1", "score student@2", "score student@4", "score teacher"} <= figures.keys()
    grid = on_tiny[0].preview.taught
    assert figures["score teacher"] == pytest.approx(grid.mean().item())


def test_the_log_also_goes_to_tensorboard(on_tiny, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(recipe("pd", {"tracker": "tensorboard"}, **PD), tmp_path / "run", device="cpu")
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    assert [event.value for event in board.Scalars("loss")] == pytest.approx(losses(tmp_path / "run"))


def test_what_is_not_installed_is_asked_for_in_one_line(on_tiny, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(RecipeError, match="needs bitsandbytes; pip install bitsandbytes, or use adamw"):
        train(recipe("pd", {"optimizer": "adamw8bit"}, **PD), tmp_path / "a", device="cpu")
    monkeypatch.setattr("understudy.distill_train.progress.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="trackio, which is not installed"):
        train(recipe("pd", {"tracker": "trackio"}, **PD), tmp_path / "b", device="cpu")
    assert train(recipe("pd", {"tracker": "auto"}, **PD), tmp_path / "c", device="cpu").exists()


def test_an_8_bit_optimizer_is_used_where_it_is_installed(on_tiny, tmp_path, monkeypatch):
    import sys
    import types

    used = []

    class AdamW8bit(torch.optim.AdamW):
        def __init__(self, *arguments, **named):
            used.append(named)
            super().__init__(*arguments, **named)

    module = types.ModuleType("bitsandbytes.optim")
    module.AdamW8bit = AdamW8bit
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", module)
    train(recipe("pd", {"optimizer": "adamw8bit", "steps": 2}, **PD), tmp_path / "run", device="cpu")
    assert used[0]["lr"] == 1e-3


def test_an_estimate_measures_ten_steps_and_leaves_only_the_cache(on_tiny, tmp_path):
    from understudy.distill_train.estimate import estimate

    r = recipe("pd", {"steps": 1000, "sample_every": 100, "checkpoint_every": 500}, student={"dtype": "fp16"}, **PD)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "latents").write_bytes(b"x" * 1000)
    found = estimate(r, tmp_path / "run", "cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert len(on_tiny) == 1
    parameters = sum(p.numel() for p in on_tiny[0].network.parameters())
    assert 2 * parameters < found.export_bytes < 3 * parameters + 100_000
    assert found.checkpoint_bytes > 4 * 4 * parameters  # weights, their average, two of the optimizer's
    assert found.disk_bytes == 3 * found.checkpoint_bytes + 2 * found.export_bytes
    assert found.cache_bytes == 1000 and found.memory_gib > 0.05
    assert found.total_seconds > 1000 * found.step_seconds + 10 * found.sample_seconds
    assert "s a step" in found.summary() and "GiB on cpu" in found.summary()

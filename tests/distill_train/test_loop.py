"""The loop around a distillation: parts, precision, checkpoints, stopping, stages and previews, in one process."""

import io
import json
import math
import os
import signal
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from safetensors.torch import load_file
from understudy.distill_train.config import RecipeError
from understudy.distill_train.methods import make_method
from understudy.distill_train.run import processes, setup
from understudy.distill_train.run.directory import Run
from understudy.distill_train.run.failures import TrainingError
from understudy.distill_train.run.loop import set_up, train
from understudy.distill_train.run.stopping import Stopped, StopRequest
from understudy.distill_train.run.training import Training

from .test_cfd import eyes
from .tiny import TinySource, TinyTeacher, method, recipe


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

    monkeypatch.setattr(setup, "make_method", make)
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
    advance = Training.advance

    def interrupted(self):
        if self.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(self)

    with (
        monkeypatch.context() as patched,
        pytest.raises(Stopped, match=r"step 6 of 8, saved in .*; go on with --resume"),
    ):
        patched.setattr(Training, "advance", interrupted)
        train(r, tmp_path / "run", device="cpu")
    assert same(train(r, tmp_path / "run", resume=True, device="cpu"), whole)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def tensors_in(state, name=""):
    """name -> tensor, of all that a checkpoint holds."""
    if isinstance(state, torch.Tensor):
        return {name: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {key: value for at, part in items for key, value in tensors_in(part, f"{name}.{at}").items()}


@pytest.mark.parametrize(
    ("name", "loop", "student", "settings"),
    [
        ("lcm", {"ema": 0.0}, {"train": "lora", "rank": 2}, {"target_ema": 0.0}),
        ("lcm", {"ema": 0.9}, {"train": "lora", "rank": 2}, {"target_ema": 0.5}),
        ("pd", {"ema": 0.5}, {}, PD),
        ("pe-codi", {"ema": 0.5}, {"train": "control"}, {"target_ema": 0.3}),
    ],
)
def test_a_checkpoint_holds_what_is_needed_once(on_tiny, tmp_path, name, loop, student, settings):
    train(recipe(name, {"steps": 7, "lr": 1e-2} | loop, student, **settings), tmp_path / "run", device="cpu")
    (path,) = Run(tmp_path / "run").checkpoints()[-1:]
    every = tensors_in(torch.load(path, weights_only=True))
    held, seen = {key: value for key, value in every.items() if value.numel() > 64}, {}
    for key, value in held.items():
        if value.any():
            seen.setdefault((tuple(value.shape), value.double().sum().item()), []).append(key)
    assert [keys for keys in seen.values() if len(keys) > 1] == []
    trains = {key for key, p in on_tiny[-1].network.named_parameters() if p.requires_grad}
    assert {key.removeprefix(".network.") for key in held if key.startswith(".network.")} <= trains
    assert path.stat().st_size < sum(value.nbytes + 2048 for value in every.values()), "each with a name, and no more"


def of_an_earlier_pack(state, order=1):
    """A checkpoint as it was when peft had the LoRA and one optimizer was all."""
    from understudy.distill_train.students.adapters import from_peft
    from understudy.distill_train.students.lora import USUAL

    from .test_adapters import with_peft

    peft_s = [name for name, p in with_peft(targets=USUAL).named_parameters() if p.requires_grad]
    ours = from_peft({name: name for name in peft_s[::order]}, "student")
    network = {name: state["network"][our] for our, name in ours.items()}
    assert len(network) == len(state["network"])
    (optimizer,) = state.pop("optimizers")
    return {**state, "network": network, "optimizer": optimizer}


def test_a_lora_s_run_that_peft_began_goes_on_to_the_last_bit(on_tiny, tmp_path):
    r = recipe("lcm", {"steps": 6, "checkpoint_every": 3, "ema": 0.5}, {"train": "lora", "rank": 2})
    whole = train(r, tmp_path / "whole", device="cpu")
    train(r, tmp_path / "run", device="cpu")
    first, last = Run(tmp_path / "run").checkpoints()
    last.unlink()
    state = torch.load(first, weights_only=True)
    torch.save(of_an_earlier_pack(dict(state)), first)
    assert same(train(r, tmp_path / "run", resume=True, device="cpu"), whole)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    last.unlink()
    torch.save(of_an_earlier_pack(dict(state), order=-1), first)  # its averages and optimizer would be, too
    with pytest.raises(RecipeError, match="is of another network"):
        train(r, tmp_path / "run", resume=True, device="cpu")


def test_a_run_of_all_weights_goes_on_from_a_checkpoint_of_one_optimizer(on_tiny, tmp_path):
    r = recipe("pd", {"checkpoint_every": 1}, **PD)
    whole = train(r, tmp_path / "whole", device="cpu")
    train(r, tmp_path / "run", device="cpu")
    before, last = Run(tmp_path / "run").checkpoints()
    last.unlink()
    state = torch.load(before, weights_only=True)
    (state["optimizer"],) = state.pop("optimizers")
    torch.save(state, before)
    assert same(train(r, tmp_path / "run", resume=True, device="cpu"), whole)


def test_a_lora_on_a_layer_that_is_not_called_is_named(on_tiny, tmp_path, monkeypatch):
    class Passing(TinyTeacher):
        def __init__(self):
            super().__init__()
            self.unet.mid_block.attentions[0].proj_in.forward = lambda x: x

    class Skipping(TinyTeacher):
        def __init__(self):
            super().__init__()
            self.unet.mid_block.attentions[0].forward = lambda x, **given: (x,)

    lora, said = {"train": "lora", "rank": 2, "targets": ["proj_in", "to_k"]}, "mid_block.attentions.0.proj_in, "
    use(monkeypatch, Passing)  # another's way through a layer, which is called all the same
    train(recipe("pd", {"steps": 2}, lora, **PD), tmp_path / "called", device="cpu")
    use(monkeypatch, Skipping)
    said += r"mid_block\.\S+attn1.to_k, mid_block\.\S+attn2.to_k, which should train; .* out of student.targets"
    for number, loop in enumerate([{}, {"accumulate": 2, "checkpointing": True}]):
        with pytest.raises(TrainingError, match=f"the loss does not depend on {said}"):
            train(recipe("pd", loop, lora, **PD), tmp_path / f"run-{number}", device="cpu")
        assert not (tmp_path / f"run-{number}" / "log.jsonl").exists()


@pytest.mark.parametrize("kind", ["folder", "webdataset"])
def test_data_go_on_where_a_run_was_stopped(tmp_path, kind):
    (tmp_path / "data").mkdir()
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as tar:
        for number in range(7):
            path = tmp_path / "data" / f"{number}.png"
            Image.new("RGB", (8, 8), (30 * number, 90, 200)).save(path)
            path.with_suffix(".txt").write_text(f"number {number}")
            tar.write({"__key__": str(number), "png": path.read_bytes(), "txt": f"number {number}"})
    given = {"kind": kind, "path": str(tmp_path / ("data" if kind == "folder" else "0.tar")), "max_aspect": 1}
    r = recipe("pd", {"steps": 6, "checkpoint_every": 1}, **PD).model_copy(update={"data": given})

    def start(run, resume=False, steps=6):
        trainer = set_up(r, run, resume, "cpu", lambda *a: make_method(*a, teacher=TinyTeacher()))
        training, advance = trainer.training, trainer.training.advance
        training.advance = lambda: advance() if training.step < steps else interrupt()
        return trainer.train()

    def interrupt():
        raise KeyboardInterrupt

    whole = start(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "run", steps=4)
    assert same(start(tmp_path / "run", resume=True), whole)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    (tmp_path / "data" / "3.txt").write_text("another caption")
    if kind == "folder":
        with pytest.raises(RecipeError, match="in the place of its data .7 samples"):
            start(tmp_path / "run", resume=True)


def test_too_few_steps_are_refused_before_data_are_made(tmp_path):
    prepared = []

    def make(recipe, device):
        made = make_method(recipe, device, teacher=TinyTeacher())
        made.prepare = prepared.append
        return made

    with pytest.raises(RecipeError, match="loop.steps is 2; expected more, for 3 stages"):
        set_up(recipe("pd", {"steps": 2}, teacher_steps=8), tmp_path / "run", device="cpu", make=make)
    assert prepared == []
    set_up(recipe("pd", {"steps": 3}, teacher_steps=8), tmp_path / "run", device="cpu", make=make)
    assert prepared == [tmp_path / "run"]


def test_classifier_feature_distillation_goes_through_its_stages(tmp_path):
    r = recipe("cfd", {"ema": 0.5}, teacher_steps=4, cfg=2.0, beta=0.003, anchor=0.1, classifier="given")

    def make(recipe, device):
        teacher = TinyTeacher()
        return make_method(recipe, device, teacher=teacher, source=TinySource(teacher), classifier=eyes())

    final = train(r, tmp_path / "run", device="cpu", make=make)
    log = [entry for entry in log_of(tmp_path / "run") if "loss" in entry]
    assert [entry["stage"] for entry in log] == ["2-step"] * 2 + ["1-step"] * 2
    assert all(math.isfinite(entry["loss"]) and entry["grad_norm"] > 0 for entry in log)
    assert not same(final, final.with_name("student-2-step.safetensors"))


SHARDING = SimpleNamespace(distributed_type=SimpleNamespace(value="FSDP"))  # an Accelerator that does


@pytest.mark.parametrize(
    ("loop", "target_ema", "fits"),
    [
        ({}, 0.0, False),
        ({"ema": 0.0}, 0.95, False),
        ({"ema": 0.0, "precision": "fp16"}, 0.0, False),
        ({"ema": 0.0, "precision": "bf16"}, 0.0, True),
    ],
)
def test_what_needs_whole_weights_is_refused_with_fsdp(loop, target_ema, fits):
    made = method("lcm", loop, target_ema=target_ema)
    with nullcontext() if fits else pytest.raises(RecipeError, match="with FSDP no process holds whole weights"):
        processes.require_whole_weights(made, SHARDING)


def test_a_lora_is_not_shared_in_shards():
    made = method("lcm", student={"train": "lora", "rank": 2}, target_ema=0.0)
    with pytest.raises(RecipeError, match="with student.train = lora they are few; launch without its configuration"):
        processes.require_whole_weights(made, SHARDING)


def test_a_run_goes_on_only_from_what_it_began_with(on_tiny, tmp_path, monkeypatch):
    r = recipe("pd", **PD)
    train(r, tmp_path / "run", device="cpu")
    cut_off = tmp_path / "run" / "checkpoints" / "step-00000009.partial"
    cut_off.write_bytes(b"half")
    train(r, tmp_path / "run", resume=True, device="cpu")
    assert not cut_off.exists()

    class Other(TinyTeacher):
        fingerprint = "1" * 64

    use(monkeypatch, Other)
    with pytest.raises(RecipeError, match=r"in the place of its teacher \(0000.*, now 1111.*\); put that back"):
        train(r, tmp_path / "run", resume=True, device="cpu")
    use(monkeypatch, TinyTeacher)
    monkeypatch.setattr(TinySource, "fingerprint", "15 samples", raising=False)
    with pytest.raises(RecipeError, match=r"in the place of its data \(None, now 15 samples\)"):
        train(r, tmp_path / "run", resume=True, device="cpu")


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
    # The advice can be followed, and what the run is made by now is noted.
    use(monkeypatch, TinyTeacher)
    calmer = r.model_copy(update={"loop": r.loop.model_copy(update={"lr": 1e-4, "grad_clip": 0.5, "log_every": 1})})
    train(calmer, tmp_path / "run", resume=True, device="cpu")
    assert log_of(tmp_path / "run")[-1]["step"] == 8 and log_of(tmp_path / "run")[0]["lr"] < 1e-4
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["loop"]["lr"] == 1e-4
    other = r.model_copy(update={"loop": r.loop.model_copy(update={"lr": 1e-4, "steps": 9})})
    with pytest.raises(
        RecipeError, match=r"these differ: loop.steps \(8, now 9\)\. What may differ is loop.lr, loop.grad_clip, "
    ):
        train(other, tmp_path / "run", resume=True, device="cpu")


def test_gradients_that_never_fit_into_fp16_stop_the_run(on_tiny, tmp_path, monkeypatch):
    class Steep(TinyTeacher):
        def call(self, unet, noisy, t, embeddings):
            output = super().call(unet, noisy, t, embeddings)
            if output.requires_grad:
                output.register_hook(lambda gradient: gradient * math.inf)
            return output

    use(monkeypatch, Steep)
    r = recipe("pd", {"steps": 60, "precision": "fp16", "log_every": 5}, teacher_steps=2)
    with pytest.raises(TrainingError, match="overflow in fp16.*loop.precision = bf16"):
        train(r, tmp_path / "run", device="cpu")
    scales = [entry["loss_scale"] for entry in log_of(tmp_path / "run")]
    assert scales[:2] == [65536 / 2**5, 65536 / 2**10] and all(map(math.isfinite, losses(tmp_path / "run")))


def test_the_recipe_says_how_to_train_and_not_the_launcher(on_tiny, tmp_path, monkeypatch):
    from accelerate.state import AcceleratorState, GradientState

    train(recipe("pd", **PD), tmp_path / "plain", device="cpu")
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network, **how: compiled.append(how) or network)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    for state in (AcceleratorState, GradientState):
        state._reset_state()  # as in a new process
    train(recipe("pd", **PD), tmp_path / "launched", device="cpu")
    assert losses(tmp_path / "launched") == losses(tmp_path / "plain") and not compiled


@pytest.mark.parametrize(("seconds", "asked"), [(0.1, 12), (4.0, 100)])
def test_processes_ask_each_other_about_once_a_second_whether_to_stop(monkeypatch, seconds, asked):
    clock, told = [0.0], []
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def reduce(value, how):
        told.append(step)
        return value + torch.tensor([float(step > 50), seconds])  # the other process is asked at step 50

    vote = processes.StopVote(SimpleNamespace(num_processes=2, reduce=reduce, device=torch.device("cpu")))
    stops = []
    for step in range(1, 101):
        clock[0] += seconds
        if vote(step, False):
            stops.append(step)
    assert len(told) == pytest.approx(asked, abs=2)
    assert stops == [step for step in told if step > 50] and stops[0] <= 61


def test_the_bar_moves_with_every_step(on_tiny, tmp_path, monkeypatch):
    from rich.progress import Progress

    seen, update = [], Progress.update
    monkeypatch.setattr(Progress, "update", lambda self, *a, **what: seen.append(what) or update(self, *a, **what))
    train(recipe("pd", {"log_every": 4}, **PD), tmp_path / "run", device="cpu")
    assert [what["completed"] for what in seen if "completed" in what] == [1, 2, 3, 4]
    (entry,) = [entry for entry in log_of(tmp_path / "run") if entry["step"] == 4 and "loss" in entry]
    assert entry["samples_per_second"] > 0 and entry["memory_gib"] > 0.05
    assert any(what.get("loss") == f"{losses(tmp_path / 'run')[-1]:.4g}" for what in seen)


def test_the_bar_shows_no_figures_before_there_are_any(on_tiny, tmp_path, monkeypatch):
    from rich.progress import Progress

    shown, add = [], Progress.add_task

    def adding(self, *given, **fields):
        task = add(self, *given, **fields)
        shown.append(self.columns[3].render(self.tasks[0]).plain)
        return task

    monkeypatch.setattr(Progress, "add_task", adding)
    train(recipe("pd", **PD), tmp_path / "run", device="cpu")
    assert shown == ["loss –  – samples/s  0.0 GiB"]


@pytest.mark.parametrize("student", [{"train": "full"}, {"train": "lora", "rank": 2}])
def test_a_teacher_that_is_no_numbers_is_named_before_the_first_step(tmp_path, monkeypatch, student):
    class Broken(TinyTeacher):
        def __init__(self):
            super().__init__()
            self.unet.conv_out.weight.data[0] = math.nan

    class Answers(TinyTeacher):
        def call(self, *given):
            return super().call(*given) * math.inf

    for kind, said in (
        (Broken, "weights that are no numbers: conv_out.weight"),
        (Answers, "answers with what is no num"),
    ):
        use(monkeypatch, kind)
        with pytest.raises(RecipeError, match=f"the teacher tiny.safetensors (has )?{said}"):
            train(recipe("lcm", student=student, intervals=4), tmp_path / kind.__name__, device="cpu")
        assert not (tmp_path / kind.__name__ / "log.jsonl").exists()


def test_every_stage_teaches_the_next_and_leaves_a_student(on_tiny, tmp_path):
    r = recipe("pd", {"steps": 10, "warmup": 1, "lr": 1e-2, "decay": "cosine", "ema": 0.5}, teacher_steps=8)
    final = train(r, tmp_path / "run", device="cpu")
    exports = sorted(path.name for path in (tmp_path / "run" / "exports").iterdir())
    assert exports == ["student-2-step.safetensors", "student-4-step.safetensors", "student.safetensors"]
    log = [entry for entry in log_of(tmp_path / "run") if "loss" in entry]
    assert [entry["stage"] for entry in log] == ["4-step"] * 2 + ["2-step"] * 4 + ["1-step"] * 4
    assert [entry["lr"] for entry in log][::2][:2] == [1e-2, 1e-2]  # the curve begins again in each stage
    newest = torch.load(tmp_path / "run" / "checkpoints" / "step-00000010.pt", weights_only=True)
    assert {state["step"].item() for state in newest["optimizers"][0]["state"].values()} == {4}  # and so does Adam
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
    r = recipe(name, {"steps": 1}, **(PD if name == "pd" else {}))
    r = r.model_copy(update={"settings": r.settings | ({"student_steps": 2} if name == "pd" else {})})
    train(r, tmp_path / "run", device="cpu")
    (file,) = (tmp_path / "run" / "samples").iterdir()
    shown = np.array(Image.open(file))
    heading, pictures = shown[: -4 * 8], shown[-4 * 8 :]
    assert pictures.shape == (4 * 8, 4 * 8, 3) and heading.min() < 128 < heading.max()  # letters on paper
    preview = on_tiny[0].preview
    with torch.no_grad():
        first, _ = preview(on_tiny[0].network)
        again, _ = preview(on_tiny[0].network)
    assert torch.equal(first, again)
    columns = first.view(4, 4, 3, 8, 8)
    taught = np.concatenate([picture.movedim(0, 2).mul(255).round().byte().numpy() for picture in columns[:, 3]])
    assert np.array_equal(pictures[:, -8:], taught)
    assert not torch.equal(columns[:, 0], columns[:, 1]) and not torch.equal(columns[:, 2], columns[:, 3])


def test_the_grid_is_scored_by_an_oracle(on_tiny, tmp_path, monkeypatch):
    class Brightness:
        network = torch.nn.Identity()

        def __call__(self, images, prompts):
            assert len(images) == len(prompts) and images.min() >= 0 and images.max() <= 1
            return images.mean((1, 2, 3))

    monkeypatch.setattr("understudy.oracles.load_oracle", lambda path, family: {"hpsv2": Brightness()}[family])
    r = recipe("lcm", {"steps": 1})
    r = r.model_copy(
        update={
            "samples": r.samples.model_copy(
                update={"oracle": "o.safetensors", "oracle_family": "hpsv2", "prompts": ("a", "b")}
            )
        }
    )
    train(r, tmp_path / "run", device="cpu")
    figures = log_of(tmp_path / "run")[-1]
    assert {"score student@1", "score student@2", "score student@4", "score teacher"} <= figures.keys()
    grid = on_tiny[0].preview.taught
    assert figures["score teacher"] == pytest.approx(grid.mean().item())


def test_a_full_disk_is_one_error_and_the_checkpoint_before_stays_whole(on_tiny, tmp_path, monkeypatch):
    save, written = torch.save, []

    def full(state, file):
        written.append(state)
        if len(written) == 2:
            file.write(b"a part")
            raise RuntimeError("enforce fail") from OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="step-00000002.pt cannot be written: .* GiB are free there"):
        train(recipe("lcm", {"checkpoint_every": 1}), tmp_path / "run", device="cpu")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000001.pt"]
    monkeypatch.setattr(torch, "save", save)
    train(recipe("lcm", {"checkpoint_every": 1}), tmp_path / "run", resume=True, device="cpu")


def test_the_log_is_json_whatever_a_gradient_was(tmp_path):
    run = Run(tmp_path)
    run.log({"step": 1, "loss": 0.5, "grad_norm": float("inf")})
    assert "Infinity" not in (tmp_path / "log.jsonl").read_text()
    assert log_of(tmp_path) == [{"step": 1, "loss": 0.5, "grad_norm": None}]


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
    assert on_tiny == []  # before anything is loaded
    monkeypatch.setattr("understudy.distill_train.run.progress.find_spec", lambda name: None)
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


def test_an_estimate_measures_ten_steps_of_two_stages_and_leaves_nothing(on_tiny, tmp_path, monkeypatch):
    from understudy.distill_train.run.estimate import _Counter, estimate

    r = recipe("pd", {"steps": 1000, "sample_every": 100, "checkpoint_every": 500}, student={"dtype": "fp16"}, **PD)
    (tmp_path / ".estimate-run").mkdir()
    (tmp_path / ".estimate-run" / "left by one that was killed").touch()
    monkeypatch.delattr(Run, "save_checkpoint")  # a disk need not have room for one
    found = estimate(r, tmp_path / "runs" / "new" / "run", "cpu")
    assert [path.name for path in tmp_path.iterdir()] == [".estimate-run"]  # of another folder's run
    found = estimate(r, tmp_path / "run", "cpu")
    assert list(tmp_path.iterdir()) == []
    counter, state = _Counter(), on_tiny[0].network.state_dict()
    torch.save(state, counter)
    torch.save(state, file := io.BytesIO())
    assert counter.bytes == len(file.getvalue())
    parameters = sum(p.numel() for p in on_tiny[0].network.parameters())
    assert 2 * parameters < found.export_bytes < 3 * parameters + 100_000
    # Weights, their average, two of the optimizer's, and from the second stage on those that teach.
    assert on_tiny[0].teacher_weights is not None
    assert 5 * 4 * parameters < found.checkpoint_bytes < 10 * 4 * parameters
    assert found.disk_bytes == 3 * found.checkpoint_bytes + 2 * found.export_bytes
    assert found.cache_bytes == 0 and found.memory_gib > 0.05
    first, later = found.step_seconds
    steps = 500 * first + 500 * later
    assert found.total_seconds > steps + found.sample_seconds[0] + 9 * found.sample_seconds[1]
    assert "s a step" in found.summary() and "GiB on cpu" in found.summary()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="without accelerate launch"):
        estimate(r, tmp_path / "run", "cpu")


def test_an_estimate_of_scenes_leaves_out_what_happens_once(tmp_path, monkeypatch):
    from understudy.distill_train.demo.scenes import LatentSet
    from understudy.distill_train.run import first_samples

    clock, cost = [0.0], {1: 50.0, 24: 3.0}

    def render(vae, count, *_):
        clock[0] += cost[count]
        return [0] * count

    monkeypatch.setattr(LatentSet, "of_renders", render)
    monkeypatch.setattr(first_samples, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    r = recipe("pd", **PD).model_copy(update={"data": {"kind": "scenes", "pictures": 240}})
    made, extent = SimpleNamespace(recipe=r, teacher=SimpleNamespace(kind="demo", device="cpu")), first_samples.Extent()
    source = first_samples.make_first_samples(made, extent, tmp_path)
    assert len(source.scenes) == 24 and extent == first_samples.Extent(0.1, 0.1, pytest.approx(27.0))

"""From a checkpoint file and data to an exported file: nothing given by hand, every kind of data, any precision."""

import json
import os
import shutil
import signal
from itertools import chain, repeat
from types import SimpleNamespace

import pytest
import torch
import webdataset
from PIL import Image
from safetensors.torch import load_file
from understudy.cli import main
from understudy.demo_family import family
from understudy.distill_train.config import Recipe
from understudy.distill_train.data import make_source
from understudy.distill_train.data.cache import Cache
from understudy.distill_train.exports.export import export
from understudy.distill_train.run.loop import set_up
from understudy.distill_train.run.training import Training
from understudy.distill_train.teachers.demo import SCENES
from understudy.distill_train.teachers.precision import DTYPES
from understudy.distill_train.teachers.stable_diffusion import StableDiffusionTeacher
from understudy.files import sha256
from understudy.files.student_file import StudentFile
from understudy.oracles import load_oracle
from understudy.pipelines.lora import merge_lora
from understudy.pipelines.single_file import load_single_file

from .students import noise_and_text

SIDE = 16


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """kind -> [data] of a recipe, each of a few small pictures of two shapes or of prompts."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "pictures").mkdir()
    with webdataset.TarWriter(str(folder / "0.tar")) as tar:
        for number, size in enumerate([(20, 20), (40, 20), (20, 20), (40, 20), (20, 20)]):
            path = folder / "pictures" / f"{number}.png"
            Image.new("RGB", size, (40 * number, 90, 200)).save(path)
            path.with_suffix(".txt").write_text(f"number {number}")
            tar.write({"__key__": str(number), "png": path.read_bytes(), "txt": f"number {number}"})
    (folder / "prompts.txt").write_text("a cat\na dog\na fox\n")
    pictures = {"size": SIDE, "stride": 4}
    return {
        "folder": {"kind": "folder", "path": str(folder / "pictures"), **pictures},
        "webdataset": {"kind": "webdataset", "path": str(folder / "0.tar"), **pictures},
        "prompts": {"kind": "prompts", "path": str(folder / "prompts.txt"), "size": SIDE, "steps": 2},
    }


CASES = {
    "sd1-folder-lora": ("sd15", "folder", "fp32", "lora", "lcm", {}),
    "sd1-prompts-lora": ("sd15", "prompts", "bf16", "lora", "lcm", {}),
    "sd1-webdataset-full": ("sd15", "webdataset", "bf16", "full", "pd", {"teacher_steps": 4, "cfg": 2.0}),
    "sd1-prompts-full": ("sd15", "prompts", "fp16", "full", "cd", {}),
    "sdxl-prompts-embedded": ("sdxl", "prompts", "bf16", "full", "lcm", {"embed_guidance": True}),
    "sdxl-folder-lora": ("sdxl", "folder", "bf16", "lora", "cd", {"loss": "huber"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_and_data_become_a_file_of_what_was_trained(request, data, tmp_path, case):
    base, kind, precision, train, method, settings = CASES[case]
    _, file = request.getfixturevalue(base)
    recipe = Recipe(
        method=method,
        seed=1,
        export="student.safetensors",
        teacher={"path": file},
        student={"train": train, "rank": 2, "dtype": "fp32"},
        data=data[kind],
        samples={"prompts": ["a cat"], "size": SIDE, "teacher_steps": 1},
        loop={"steps": 2, "batch_size": 2, "lr": 1e-3, "ema": 0.0, "precision": precision, "tracker": "none"},
        settings=settings,
    )
    trainer = set_up(recipe, tmp_path / "run", device="cpu")
    trainer.train()
    result = export(tmp_path / "run", "lora" if train == "lora" else "checkpoint", **guidance(settings))
    student = StudentFile.read(result.path)
    assert (student.method, student.trained, student.teacher_sha256) == (method, train, sha256(file))
    assert student.base == {"sd15": "sd1", "sdxl": "sdxl"}[base]
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == (2 if method == "pd" else 1)

    network = trainer.training.network.base if train == "lora" else trainer.training.network
    trained, embedding = network.float().eval(), {}
    if train == "lora":
        exported = load_single_file(file, DTYPES[precision]).unet.float()
        before = output(exported)
        merge_lora(exported, result.path)
    else:
        exported = load_single_file(result.path, torch.float32).unet
        before = output(load_single_file(file, torch.float32).unet)
    if settings.get("embed_guidance"):
        from understudy.pipelines.stable_diffusion import guidance_embedding

        embedding = {"timestep_cond": guidance_embedding(torch.full((2,), 7.0), 256)}
    torch.testing.assert_close(output(exported), output(trained, **embedding), rtol=1e-4, atol=1e-4)
    assert (output(exported) - before).abs().max() > 1e-3


def test_what_a_recipe_says_of_its_teacher_is_trained_by_and_handed_on(sd15, data, tmp_path):
    def trained(name, **teacher):
        recipe = Recipe(
            method="lcm",
            seed=1,
            export="student.safetensors",
            teacher={"path": sd15[1], **teacher},
            student={"train": "full", "dtype": "fp32"},
            data=data["folder"],
            samples={"prompts": ["a cat"], "size": SIDE, "teacher_steps": 1},
            loop={"steps": 1, "batch_size": 2, "lr": 1e-3, "ema": 0.0, "log_every": 1, "tracker": "none"},
        )
        trainer = set_up(recipe, tmp_path / name, device="cpu")
        trainer.train()
        return json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[0])["loss"]

    losses = [trained("eps"), trained("v", prediction="v_prediction")]
    losses.append(trained("zero", prediction="v_prediction", zero_snr=True))
    assert len(set(losses)) == 3
    for name, said in (("v", "set v_prediction in"), ("zero", "set v_prediction and zsnr in")):
        assert said in export(tmp_path / name).summary()


def test_the_demo_oracle_decides_which_samples_of_the_teacher_are_learned_from(tmp_path):
    (tmp_path / "prompts.txt").write_text("\n".join(SCENES))
    told = {"kind": "prompts", "path": str(tmp_path / "prompts.txt"), "count": 8, "steps": 2, "cfg": 3.0}
    file = family.FOLDER / "oracle.safetensors"
    recipe = Recipe(
        method="pd",
        seed=1,
        export="student.safetensors",
        teacher={"path": "demo"},
        student={"train": "full", "dtype": "fp32"},
        data=told | {"filter": {"oracle": str(file), "percentile": 50.0}},
        samples={"teacher_steps": 1},
        loop={"steps": 1, "batch_size": 2, "lr": 1e-3, "ema": 0.0, "tracker": "none"},
        settings={"teacher_steps": 2, "cfg": 2.0},
    )
    trainer = set_up(recipe, tmp_path / "run", device="cpu")
    assert trainer.train().exists()
    teacher, oracle, scores = trainer.method.teacher, load_oracle(file), {}
    (everything,) = make_source(told, teacher, recipe, tmp_path / "cache").by_size
    cache = trainer.method.source.encoder.cache
    for item in everything:
        latents = cache.load("latents", item.latents)["latents"]
        scores[item.name] = oracle(teacher.decode(latents[None]), [item.caption]).item()
    (kept,) = trainer.method.source.by_size
    assert {item.name for item in kept} == set(sorted(scores, key=scores.get)[4:])


@pytest.mark.parametrize("kind", ["folder", "webdataset", "prompts"])
def test_an_estimate_encodes_a_few_samples_and_speaks_of_all(sd15, data, tmp_path, monkeypatch, kind):
    from understudy.distill_train.data import pictures, prompts
    from understudy.distill_train.run import estimate as module
    from understudy.distill_train.run import first_samples

    monkeypatch.setattr(first_samples, "SAMPLES", 2)
    monkeypatch.setattr(module, "MEASURED", 1)
    clock = [0.0]

    def taking(seconds, work):
        def slow(*arguments):
            clock[0] += next(seconds)
            return work(*arguments)

        return slow

    for part in (module, first_samples):
        monkeypatch.setattr(part, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    # All captions are read however few pictures are encoded, and the first picture takes what happens once.
    monkeypatch.setattr(pictures, "_from_files", taking(iter([1000.0]), pictures._from_files))
    each = chain([100.0], repeat(2.0))
    monkeypatch.setattr(StableDiffusionTeacher, "encode", taking(each, StableDiffusionTeacher.encode))
    monkeypatch.setattr(prompts, "sampled", taking(each, prompts.sampled))
    encode, decoded = Cache.save, []
    monkeypatch.setattr(Cache, "save", lambda self, *what: decoded.append(what[0]) or encode(self, *what))
    recipe = Recipe(
        method="lcm",
        seed=1,
        export="student.safetensors",
        teacher={"path": sd15[1]},
        student={"rank": 2},
        data=data[kind] | ({"count": 200} if kind == "prompts" else {}),
        samples={"prompts": ["a cat"], "size": SIDE, "teacher_steps": 1},
        loop={"steps": 20, "batch_size": 2, "lr": 1e-3, "tracker": "none"},
    )
    found = module.estimate(recipe, tmp_path / "run", "cpu")
    assert "GiB on cpu" in found.summary()
    assert decoded.count("latents") == 2 and list(tmp_path.iterdir()) == []
    # A tar file of five tiny ones has three times their size, by headers and padding that real pictures make up for.
    samples, captions = {"folder": (5, 5), "webdataset": (15, 15), "prompts": (200, 3)}[kind]
    latents, embedding = 4 * 8 * 8 * 4, 77 * 32 * 4  # in float32
    assert found.cache_bytes == pytest.approx(samples * latents + captions * embedding, rel=0.1)
    assert found.data_seconds == pytest.approx((1000 if kind == "folder" else 0) + 100 + (samples - 1) * 2)
    assert len(found.step_seconds) == 1


def test_the_command_trains_and_estimates(sd15, data, tmp_path, capsys, monkeypatch):
    from understudy.distill_train.run import estimate as module

    monkeypatch.setattr(module, "MEASURED", 1)
    for more, said in ((["--estimate"], "s a step"), ([], "Exported")):
        assert command("lcm-lora", "--out", tmp_path / "run", *sets(asked(sd15[1], data)), *more) == 0
        assert said in capsys.readouterr().out
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 2


def test_a_stopped_run_goes_on_by_its_own_recipe_wherever_its_files_lie_by_now(
    sd15, data, tmp_path, capsys, monkeypatch
):
    """Nothing that was said at first is said again; what is said anew is done, if no step would have been another."""
    keys = asked(sd15[1], data) | {"loop.steps": 4}
    assert command("lcm-lora", "--out", tmp_path / "unbroken", *sets(keys)) == 0
    teacher, pictures = tmp_path / "model.safetensors", tmp_path / "pictures"
    shutil.copy(sd15[1], teacher)
    shutil.copytree(data["folder"]["path"], pictures)
    advance = Training.advance

    def interrupted(self):
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(self)

    with monkeypatch.context() as patched:
        patched.setattr(Training, "advance", interrupted)
        keys |= {"teacher.path": teacher, "data.path": pictures, "loop.steps": 3}
        assert command("lcm-lora", "--out", tmp_path / "run", *sets(keys)) == 130
    told = tmp_path / "run" / "recipe.json"
    earlier = json.loads(told.read_text())
    del earlier["samples"]["seed"]  # as if the pack had learned this key since
    told.write_text(json.dumps(earlier))
    assert command("lcm-lora", "--resume", "--out", tmp_path / "run") == 0
    teacher, pictures = teacher.rename(tmp_path / "m.safetensors"), pictures.rename(tmp_path / "p")
    moved = {"teacher.path": teacher, "data.path": pictures, "samples.prompts": '["a dog"]'}
    assert command("--resume", "--out", tmp_path / "run", *sets(moved | {"loop.steps": 4})) == 0
    runs = [load_file(tmp_path / run / "exports" / "lcm-lora.safetensors") for run in ("run", "unbroken")]
    assert all(torch.equal(runs[0][key], value) for key, value in runs[1].items())
    assert json.loads(told.read_text())["loop"]["steps"] == 4
    capsys.readouterr()
    for more, said in (
        (["--out", tmp_path / "run", *sets({"student.rank": 4})], "these differ: student.rank (2, now 4)"),
        (["--out", tmp_path / "run", *sets({"student.rang": 4})], "student.rang: Extra inputs"),
        (["--out", tmp_path / "nothing"], "holds no run to resume"),
        ([], "name a recipe, a file or one of cd, "),
    ):
        assert command("--resume", *more) == 2
        assert said in capsys.readouterr().err


def asked(teacher, data):
    """What a short run of the recipe lcm-lora is given at least."""
    keys = {"teacher.path": teacher, **{f"data.{key}": value for key, value in data["folder"].items()}}
    keys |= {"samples.size": SIDE, "samples.prompts": '["a cat"]', "samples.teacher_steps": 1, "student.rank": 2}
    return keys | {"loop.steps": 2, "loop.batch_size": 3, "loop.log_every": 1}


def sets(keys):
    return [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]


def command(*arguments):
    """Exit code of ``understudy train`` on the CPU."""
    with pytest.raises(SystemExit) as end:
        main(["train", "--device", "cpu", *map(str, arguments)])
    return end.value.code


def guidance(settings):
    return {"guidance": 8.0} if settings.get("embed_guidance") else {}


@torch.no_grad()
def output(unet, **more):
    return unet(**noise_and_text(unet), **more).sample

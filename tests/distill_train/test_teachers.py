"""Teachers from files and folders: what they say must be what diffusers and the demo family say."""

import gc
import hashlib
import json
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from understudy.demo_family import family
from understudy.distill_train.config import AttentionSettings, RecipeError, TeacherSettings
from understudy.distill_train.data.encode import DataError
from understudy.distill_train.methods import make_method, method_classes
from understudy.distill_train.students.predictor import load_student
from understudy.distill_train.teachers import base, comfy, load_teacher
from understudy.distill_train.teachers.stable_diffusion import StableDiffusionTeacher
from understudy.files import CheckpointError, read_header, sha256
from understudy.pipelines.checkpoint import Checkpoint, open_checkpoint
from understudy.pipelines.folder_files import fingerprint

from ..pipelines.conftest import save_pair, sd15_parts, sdxl_parts
from .tiny import TinyTeacher, recipe

PROMPTS = ["a cat", "a very long red train"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """kind -> (diffusers folder, single file)"""
    torch.manual_seed(1)
    made = {}
    for kind, parts in (("sd1", sd15_parts("v_prediction")), ("sdxl", sdxl_parts())):
        made[kind] = save_pair(parts, tmp_path_factory.mktemp(kind))
    return made


@pytest.mark.parametrize(("kind", "prediction"), [("sd1", "v_prediction"), ("sdxl", "epsilon")])
def test_a_folder_and_a_file_are_one_teacher(pairs, kind, prediction):
    folder, file = map(load_teacher, pairs[kind])
    assert folder.kind == file.kind == kind
    assert folder.process.prediction == prediction and file.process.prediction == "epsilon"  # this file does not say it
    assert file.fingerprint == sha256(pairs[kind][1]) and len(folder.fingerprint) == 64
    assert file.file == "file.safetensors" and file.latent_channels == 4 and file.factor == 2
    noisy, t = torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
    outputs = []
    for teacher in (folder, file):
        given = teacher.embed(PROMPTS) | teacher.sizes(16, 16, 2)
        assert set(given) == ({"context"} if kind == "sd1" else {"context", "pooled", "time_ids"})
        outputs.append(teacher.call(teacher.unet, noisy, t, given))
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(folder.process.alphas_cumprod, file.process.alphas_cumprod)


def test_what_a_file_does_not_say_a_recipe_can(pairs, tmp_path):
    folder, file = pairs["sd1"]
    assert load_teacher(file, prediction="v_prediction").process.prediction == "v_prediction"
    assert load_teacher(folder, prediction="epsilon").process.prediction == "epsilon"
    told = load_teacher(file, prediction="v_prediction", zero_snr=True)
    assert told.process.zero_snr and not load_teacher(file).process.zero_snr
    said = shutil.copytree(folder, tmp_path / "folder")
    scheduler = said / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"rescale_betas_zero_snr": True}))
    torch.testing.assert_close(told.process.alphas_cumprod, load_teacher(said).process.alphas_cumprod)
    assert torch.equal(
        load_teacher(said, zero_snr=True).process.alphas_cumprod, load_teacher(said).process.alphas_cumprod
    )
    with pytest.raises(RecipeError, match="set teacher.prediction = v_prediction"):
        load_teacher(file, zero_snr=True)
    for wrong in ({"prediction": "epsilon"}, {"zero_snr": True}, {"empty": "zeros"}):
        with pytest.raises(RecipeError, match="files of the demo family say what they predict"):
            load_teacher("demo", **wrong)


def test_an_eps_teacher_without_a_signal_is_refused(pairs, tmp_path):
    """A scheduler's config can say both; x0 = (z - sigma eps) / alpha then divides by next to nothing."""
    folder = shutil.copytree(pairs["sdxl"][0], tmp_path / "folder")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"rescale_betas_zero_snr": True}))
    with pytest.raises(CheckpointError, match="folder predicts eps, .* noise alone .*teacher.prediction in a recipe"):
        load_teacher(folder)
    with pytest.raises(CheckpointError, match="predicts eps"):
        open_checkpoint(folder).load(torch.float32)
    assert load_teacher(folder, prediction="v_prediction").process.zero_snr
    # A file that marks zero SNR alone is read as the host reads it: of eps the mark says nothing.
    marked = tmp_path / "marked.safetensors"
    save_file(load_file(pairs["sdxl"][1]) | {"ztsnr": torch.zeros(0)}, marked)
    assert not load_teacher(marked).process.zero_snr


def test_an_autoencoder_may_be_given(pairs, tmp_path):
    folder, file = pairs["sdxl"]
    vae = shutil.copy(folder / "vae" / "diffusion_pytorch_model.safetensors", tmp_path / "vae.safetensors")
    save_file({key: value * 1.5 for key, value in load_file(vae).items()}, vae)
    pixels, own = torch.rand(1, 3, 16, 16), load_teacher(file)
    for path in (folder, file):
        given = load_teacher(path, vae=vae)
        assert not torch.allclose(given.encode(pixels), own.encode(pixels))
        assert given.maker != own.maker and given.maker != load_teacher(path, vae=folder / "vae").maker
    assert own.maker == own.fingerprint


def test_the_libraries_advice_does_not_come_between(pairs):
    import diffusers
    import transformers

    levels = [library.utils.logging for library in (diffusers, transformers)]
    for logging in levels:
        logging.set_verbosity_warning()
    load_teacher(pairs["sd1"][0])
    assert all(logging.get_verbosity() == logging.ERROR for logging in levels)


def test_no_prompt_is_zeros_or_the_empty_text(pairs):
    sdxl, sd1 = pairs["sdxl"][1], pairs["sd1"][1]
    told = load_teacher(sdxl, empty="text")
    for key, value in told.embed([""]).items():
        assert torch.equal(told.unconditional(1)[key], value)
    assert not load_teacher(sd1, empty="zeros").unconditional(1)["context"].any()
    assert load_teacher(sd1).unconditional(1)["context"].any()


def test_zeros_are_zeros_whatever_the_text_encoder_gives(pairs):
    """In half precision the second text encoder of some SDXL files overflows, and inf * 0 is no number."""
    teacher = load_teacher(pairs["sdxl"][1])
    embed = teacher.embed
    teacher.embed = lambda prompts: {key: value + torch.inf for key, value in embed(prompts).items()}
    assert not any(value.any() for value in teacher.unconditional(1).values())


def test_texts_that_are_cut_are_counted(pairs):
    teacher = load_teacher(pairs["sd1"][1])
    exact, long = " ".join(["cat"] * 75), " ".join(["cat"] * 76)
    assert teacher.too_long([exact, "a cat"]) == ""
    said = "1 of 2 prompts is longer than the 77 tokens that the text encoder reads"
    advice = " (teacher.max_tokens: 75; a multiple of 75 reads more)"
    assert teacher.too_long([exact, long, long]) == said + advice
    assert teacher.too_long(["\N{CAT}" * 80]).startswith("1 of 1")
    teacher.read_texts_as(None, 150)
    assert teacher.too_long([exact, long]) == ""
    assert teacher.too_long([f"{exact} {long}"]).startswith("1 of 1 prompts is longer than the 2 times 77 tokens that")


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_long_prompt_is_read_in_windows(pairs, kind):
    teacher, plain = (load_teacher(pairs[kind][1]) for _ in range(2))
    teacher.read_texts_as(None, 225)
    first, second = " ".join(["red"] * 75), " ".join(["train"] * 40)
    long = teacher.embed([f"{first} {second}"])
    one, other = plain.embed([first]), plain.embed([second])
    torch.testing.assert_close(long["context"], torch.cat([one["context"], other["context"]], dim=1))
    if kind == "sdxl":
        torch.testing.assert_close(long["pooled"], one["pooled"])
    longest = teacher.embed([" ".join([first, first, first, second])])["context"]
    torch.testing.assert_close(longest, one["context"].repeat(1, 3, 1))
    assert teacher.embed(["a cat"])["context"].shape[1] == 77


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_prompts_of_several_lengths_share_a_batch_and_each_acts_as_alone(pairs, kind):
    teacher = load_teacher(pairs[kind][1])
    teacher.read_texts_as(None, 225)
    prompts = ["a cat", " ".join(["red"] * 80), " ".join(["train"] * 160)]
    alone = [teacher.embed([prompt]) for prompt in prompts]
    rows = teacher.separate(teacher.embed(prompts))
    assert [len(row["context"]) for row in rows] == [77, 2 * 77, 3 * 77]
    for row, own in zip(rows, alone, strict=True):
        assert all(torch.allclose(row[key], own[key][0], atol=1e-5) for key in own)
    batch = teacher.collate(rows)
    joined = teacher.join([batch, teacher.unconditional(3)])
    noisy, t = torch.randn(6, 4, 8, 8), torch.tensor([900] * 6)
    with torch.no_grad():
        together = teacher.call(teacher.unet, noisy, t, joined | teacher.sizes(16, 16, 6))
        for place, given in enumerate([*alone, *[teacher.unconditional(1)] * 3]):
            here = slice(place, place + 1)
            own = teacher.call(teacher.unet, noisy[here], t[here], given | teacher.sizes(16, 16, 1))
            torch.testing.assert_close(together[here], own, rtol=1e-4, atol=1e-5)


def test_as_it_was_trained_nothing_is_repeated_or_known_by_another_name(pairs):
    teacher, before = load_teacher(pairs["sd1"][1]), load_teacher(pairs["sd1"][1])
    teacher.read_texts_as(None, 75)
    assert teacher.text_plan == before.text_plan == (torch.float32,) and teacher.padded == ()
    plans = set()
    for clip_skip, tokens in ((None, 75), (2, 75), (1, 75), (None, 150), (2, 150)):
        teacher.read_texts_as(clip_skip, tokens)
        plans.add(teacher.text_plan)
    assert len(plans) == 5


def test_clip_skip_reads_an_earlier_layer_as_hosts_do(pairs):
    sd1, sdxl = load_teacher(pairs["sd1"][1]), load_teacher(pairs["sdxl"][1])
    usual = {"sd1": sd1.embed(PROMPTS), "sdxl": sdxl.embed(PROMPTS)}
    (text,) = sd1.texts
    ids = torch.tensor(text.tokenizer(PROMPTS, padding="max_length", max_length=77)["input_ids"])
    with torch.no_grad():
        states = text.network(ids, output_hidden_states=True).hidden_states[-2]
        norm = dict(text.network.named_modules())
        (final,) = (module for name, module in norm.items() if name.endswith("final_layer_norm"))
        sd1.read_texts_as(2, 75)
        torch.testing.assert_close(sd1.embed(PROMPTS)["context"], final(states))
    sd1.read_texts_as(1, 75)
    torch.testing.assert_close(sd1.embed(PROMPTS)["context"], usual["sd1"]["context"])
    sdxl.read_texts_as(2, 75)
    torch.testing.assert_close(sdxl.embed(PROMPTS), usual["sdxl"])
    sdxl.read_texts_as(1, 75)
    again = sdxl.embed(PROMPTS)
    assert not torch.allclose(again["context"], usual["sdxl"]["context"])
    assert torch.equal(again["pooled"], usual["sdxl"]["pooled"])
    with pytest.raises(RecipeError, match="teacher.clip_skip is 99; a text encoder of file.safetensors has 3 layers"):
        sd1.read_texts_as(99, 75)
    with pytest.raises(RecipeError, match="for the text encoders of SD 1.x and SDXL, and .* of the demo architecture"):
        load_teacher("demo").read_texts_as(2, 75)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_texts_are_embedded_in_float32_whatever_the_network_is_read_in(pairs, kind):
    half, whole = load_teacher(pairs[kind][1], dtype=torch.float16), load_teacher(pairs[kind][1])
    assert all(torch.equal(value, whole.embed(PROMPTS)[key]) for key, value in half.embed(PROMPTS).items())
    assert half.unet.dtype == torch.float16 and half.text_plan == whole.text_plan


def test_a_folder_is_known_by_its_weights_and_configs(pairs, tmp_path):
    folder = shutil.copytree(pairs["sdxl"][0], tmp_path / "folder")
    before = fingerprint(folder)
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".git").mkdir()
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    others = ".cache/huggingface/x.lock", ".git/index", "README.md", "card.png", "unet/a.md", "vae/b.txt", ".DS_Store"
    for name in others:
        (folder / name).write_text("later")
    shutil.copy(weights, weights.with_suffix(".fp16.safetensors"))
    assert fingerprint(folder) == before
    assert fingerprint(pairs["sdxl"][1]) == sha256(pairs["sdxl"][1])
    for name in ("scheduler/scheduler_config.json", "unet/config.json", "model_index.json"):
        content = (folder / name).read_text()
        (folder / name).write_text(content + " ")
        assert fingerprint(folder) != before
        (folder / name).write_text(content)
    save_file({key: value + 1 for key, value in load_file(weights).items()}, weights)
    assert fingerprint(folder) != before


def test_a_folder_that_an_earlier_run_knew_by_all_its_files_is_recognised(pairs, tmp_path):
    folder = shutil.copytree(pairs["sd1"][0], tmp_path / "folder")
    (folder / "README.md").write_text("a model")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = "".join(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n" for path in files)
    earlier = hashlib.sha256(listed.encode()).hexdigest()
    teacher = load_teacher(folder)
    assert teacher.fingerprint != earlier and teacher.is_of(earlier) and teacher.is_of(teacher.fingerprint)
    (folder / "README.md").write_text("another")
    assert not teacher.is_of(earlier)


def test_sdxl_is_told_sizes_and_its_empty_prompt_is_zero(pairs):
    teacher = load_teacher(pairs["sdxl"][1])
    assert teacher.sizes(512, 768, 2)["time_ids"].tolist() == [[512, 768, 0, 0, 512, 768]] * 2
    free = teacher.unconditional(3)
    assert all(len(value) == 3 and not value.any() for value in free.values())
    plain = load_teacher(pairs["sd1"][1])
    torch.testing.assert_close(plain.unconditional(2)["context"], plain.embed(["", ""])["context"])


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_text_encoders_do_not_outlast_what_is_embedded(pairs, kind):
    teacher = load_teacher(pairs[kind][0])
    free = load_teacher(pairs[kind][0]).unconditional(2)
    encoders = [weakref.ref(text.network) for text in teacher.texts]
    teacher.rest()
    gc.collect()
    assert encoders and all(encoder() is None for encoder in encoders)
    assert all(torch.equal(value, free[key]) for key, value in teacher.unconditional(2).items())
    assert teacher.decode(torch.zeros(1, 4, 8, 8)).shape == (1, 3, 16, 16)
    with pytest.raises(RuntimeError, match="embed what is needed before"):
        teacher.embed(PROMPTS)


def test_latents_are_scaled_and_come_back_with_gradients(pairs):
    teacher = load_teacher(pairs["sd1"][0])
    pixels = torch.rand(2, 3, 16, 16)
    posterior = teacher.vae.encode(pixels * 2 - 1).latent_dist
    torch.testing.assert_close(teacher.encode(pixels), posterior.mode() * 0.18215)
    drawn = [teacher.encode(pixels, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    latents = (teacher.encode(pixels) * 50).requires_grad_()
    low, high = teacher.decode(latents).aminmax()
    assert low >= 0 and high <= 1
    open_ended = teacher.decode(latents, clamp=False)
    assert open_ended.shape == pixels.shape and (open_ended.max() > 1 or open_ended.min() < 0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(teacher.decode(latents, clamp=False), open_ended)
    open_ended.sum().backward()
    assert latents.grad.abs().sum() > 0


def test_large_pictures_are_decoded_in_tiles_unless_they_are_trained_through(pairs, monkeypatch):
    teacher, sizes = load_teacher(pairs["sd1"][0]), []
    for coder in (teacher.vae.encoder, teacher.vae.decoder):
        coder.register_forward_hook(lambda _, given, made: sizes.append(max(*given[0].shape, *made.shape)))
    monkeypatch.setattr("understudy.distill_train.teachers.stable_diffusion.WHOLE", 32)
    teacher.vae.tile_sample_min_size, teacher.vae.tile_latent_min_size = 32, 16

    def largest(work, given):
        sizes.clear()
        shape = work(given).shape
        return shape[-1], max(sizes)

    latents = torch.randn(1, 4, 32, 32)
    assert largest(teacher.decode, latents) == (64, 32)
    assert largest(lambda given: teacher.decode(given, clamp=False), latents) == (64, 64)
    assert largest(teacher.decode, latents[..., :16, :16]) == (32, 32)
    assert largest(teacher.encode, torch.rand(1, 3, 64, 64)) == (32, 64)


def test_a_student_with_guidance_input_starts_as_the_teacher(pairs):
    teacher = load_teacher(pairs["sdxl"][1])
    network = teacher.with_guidance_input(32)
    given = teacher.embed(PROMPTS) | teacher.sizes(16, 16, 2)
    noisy, t = torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
    with torch.no_grad():
        told = teacher.call(network, noisy, t, {**given, "guidance": torch.tensor([2.0, 7.0])})
        torch.testing.assert_close(told, teacher.call(teacher.unet, noisy, t, given))
        network.time_embedding.cond_proj.weight.fill_(0.1)
        other = teacher.call(network, noisy, t, {**given, "guidance": torch.tensor([2.0, 7.0])})
    assert not torch.allclose(told, other)


def test_every_file_of_teachers_holds_one_or_is_shared():
    """What lies in teachers/ and is found by being there is whole, and nothing else by chance."""
    from understudy.distill_train import teachers

    shared = {"__init__", "architectures", "base", "companions", "padding", "precision", "ragged"}
    shared |= {"comfy"}  # which a recipe asks for by a key of its own, whatever the path
    files = {path.stem for path in Path(teachers.__file__).parent.glob("*.py")} - shared
    found = teachers.teacher_classes()
    assert files == {teacher.__module__.rpartition(".")[2] for teacher in found}
    assert all(teacher.__doc__ and not teacher.__abstractmethods__ for teacher in found)
    known = [teacher for teacher in found[:-1] if "knows" not in vars(teacher)]
    assert not known, "only the last is asked for what no other knows"


def test_hashes_of_what_comfyui_loads_are_remembered(monkeypatch):
    monkeypatch.setattr(comfy, "known_sha256", lambda path: f"known {path}")
    teacher = object.__new__(comfy.ComfyTeacher)  # without a ComfyUI
    teacher.told = TeacherSettings(comfy="a", clip=("b", "c"), clip_type="flux", vae="d")
    teacher.fingerprint = "known a"
    assert teacher.maker == hashlib.sha256(b"known a known b known c flux known d").hexdigest()


@pytest.mark.parametrize(("kind", "lacks"), [("WaitingTeacher", "outline"), ("FromPath", "load")])
def test_half_a_teacher_cannot_be_made(kind, lacks):
    class Half(getattr(base, kind), TinyTeacher):
        pass

    with pytest.raises(TypeError, match=f"abstract.*{lacks}"):
        Half()


def test_a_teacher_that_knows_a_path_reads_it(monkeypatch, pairs):
    from understudy.distill_train import teachers

    class Stranger(teachers.FromPath, teachers.Teacher):
        @classmethod
        def knows(cls, path):
            return path.suffix == ".stranger"

        @classmethod
        def load(cls, path, device, dtype, vae, prediction, zero_snr, empty):
            return path, device, dtype, vae, prediction, zero_snr, empty

    found = (Stranger, *teachers.teacher_classes())
    monkeypatch.setattr(teachers, "teacher_classes", lambda: found)
    given = {"dtype": torch.float16, "vae": Path("vae"), "prediction": "epsilon", "zero_snr": True, "empty": "text"}
    assert load_teacher("a.stranger", **given) == (Path("a.stranger"), torch.device("cpu"), *given.values())
    assert load_teacher(pairs["sd1"][1]).kind == "sd1"


def test_the_demo_family_teaches():
    teacher = load_teacher("demo")
    assert (teacher.kind, teacher.process.prediction, teacher.latent_channels) == ("demo", "v_prediction", 8)
    assert teacher.fingerprint == sha256(family.FOLDER / "teacher.safetensors")
    given = teacher.embed(["red star", ""])
    noisy = torch.randn(2, 8, 8, 8)
    with torch.no_grad():
        outputs = teacher.call(teacher.unet, noisy, torch.tensor([5, 5]), given)
    assert outputs.shape == noisy.shape and torch.equal(teacher.unconditional(1)["tokens"], given["tokens"][1:])
    pixels = torch.rand(1, 3, 64, 64)
    assert teacher.decode(teacher.encode(pixels)).shape == pixels.shape
    with pytest.raises(
        CheckpointError, match="vae.safetensors is no teacher or student of the demo family; .* demo-vae"
    ):
        load_teacher(family.FOLDER / "vae.safetensors")
    with pytest.raises(CheckpointError, match="oracle.safetensors is no teacher or student of the demo family"):
        load_student(family.FOLDER / "oracle.safetensors", teacher, teacher.unet)
    own = load_student(family.FOLDER / "student.safetensors", teacher, teacher.unet)
    assert not torch.equal(own.unet.conv_in.weight, teacher.unet.unet.conv_in.weight)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"double_blocks.0.img_attn.qkv.weight": 1}, "Flux"),
        ({"model.diffusion_model.joint_blocks.0.x": 1}, "SD 3"),
        ({"model.diffusion_model.x": 1, "cond_stage_model.model.x": 1, "first_stage_model.x": 1}, "SD 2"),
        ({"model.diffusion_model.x": 1, "conditioner.embedders.0.model.x": 1}, "the SDXL refiner"),
        ({"lora_unet_x.lora_up.weight": 1}, "LoRA"),
        ({"down_blocks.0.x": 1}, "a single network"),
        ({"what": 1}, "something else"),
    ],
)
def test_another_checkpoint_is_refused_with_what_it_looks_like(tmp_path, tensors, said):
    save_file({key: torch.zeros(n) for key, n in tensors.items()}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=said):
        load_teacher(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError):
        load_teacher(tmp_path / "missing.safetensors")


@pytest.mark.parametrize(
    ("part", "config", "said"),
    [
        ("unet", {"in_channels": 9}, "reads 9 channels and gives 4: an inpainting"),
        ("text_encoder", {"hidden_act": "gelu"}, "looks like SD 2.x"),
        (
            "text_encoder",
            {"model_type": "chatglm"},
            "is a StableDiffusionPipeline with a text encoder of the type chatglm",
        ),
    ],
)
def test_a_folder_of_another_architecture_is_refused_too(pairs, tmp_path, part, config, said):
    folder = shutil.copytree(pairs["sd1"][0], tmp_path / "folder")
    file = folder / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    with pytest.raises(CheckpointError, match=said):
        load_teacher(folder)


def test_a_folder_without_a_unet_says_what_it_is(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(CheckpointError, match="is a FluxPipeline and has no unet/; expected .* SD 1.x or SDXL"):
        load_teacher(tmp_path)


def test_the_demo_family_s_latents_are_of_its_autoencoder(tmp_path):
    other = shutil.copy(family.FOLDER / "vae.safetensors", tmp_path / "vae.safetensors")
    assert load_teacher("demo", vae=other).maker == load_teacher("demo").maker
    save_file({key: value * 1.5 for key, value in load_file(other).items()}, other, read_header(other).metadata)
    assert load_teacher("demo", vae=other).maker != load_teacher("demo").maker


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@pytest.mark.parametrize("data", ["folder", "prompts"])
@pytest.mark.parametrize(("name", "train"), [("cd", "full"), ("lcm", "lora")])
def test_the_unet_is_read_when_every_text_is_embedded_and_no_encoder_left(
    pairs, kind, data, name, train, tmp_path, monkeypatch
):
    (tmp_path / "prompts.txt").write_text("a fox\na train\n")
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a red wall")
    settings = {"folder": {"path": str(tmp_path), "size": 16, "max_aspect": 1}}
    settings["prompts"] = {"path": str(tmp_path / "prompts.txt"), "size": 16, "steps": 1}
    told = {"teacher": TeacherSettings(path=pairs[kind][1]), "data": {"kind": data, **settings[data]}}
    encoders, living, embedded = [], [], []
    load_texts, load_unet, embed = Checkpoint.load_texts, Checkpoint.load_unet, StableDiffusionTeacher.embed

    def texts(checkpoint, dtype):
        loaded = load_texts(checkpoint, dtype)
        encoders.extend(weakref.ref(text.network) for text in loaded)
        return loaded

    def unet(checkpoint, dtype):
        gc.collect()
        living.append(sum(encoder() is not None for encoder in encoders))
        return load_unet(checkpoint, dtype)

    def watched(teacher, prompts):
        embedded.extend(prompts)
        assert "unet" not in vars(teacher)
        return embed(teacher, prompts)

    monkeypatch.setattr(Checkpoint, "load_texts", texts)
    monkeypatch.setattr(Checkpoint, "load_unet", unet)
    monkeypatch.setattr(StableDiffusionTeacher, "embed", watched)
    made = make_method(recipe(name, student={"train": train}, intervals=4).model_copy(update=told), torch.device("cpu"))
    assert living == encoders == []
    made.prepare(tmp_path / "run")
    assert len(encoders) == {"sd1": 1, "sdxl": 2}[kind] and living == [0]
    assert embedded and made.loss(made.network, 0).isfinite()
    # A teacher whose UNet is asked for first has both in memory.
    teacher = load_teacher(pairs[kind][1])
    encoders.clear()
    monkeypatch.setattr(StableDiffusionTeacher, "embed", embed)
    teacher.embed(PROMPTS)
    assert teacher.unet and living == [0, len(encoders)]


@pytest.fixture
def few(pairs, tmp_path, monkeypatch):
    """What a recipe on one picture says of teacher and data; whoever reads weights of the checkpoint fails."""

    def read(*_):
        raise AssertionError("weights were read")

    for name in ("load_unet", "load_texts"):
        monkeypatch.setattr(Checkpoint, name, read)
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.png")
    return {
        "teacher": TeacherSettings(path=pairs["sd1"][1]),
        "data": {"kind": "folder", "path": str(tmp_path), "size": 16, "condition": {"kind": "grey"}},
    }


def begun(name, told, student, **settings):
    asked = recipe(name, student=student, **settings)
    if not method_classes()[name].bases:
        told = told | {"data": {key: value for key, value in told["data"].items() if key != "condition"}}
    attention = told.get("attention") and AttentionSettings(**told["attention"])
    return make_method(asked.model_copy(update=told | {"attention": attention}), torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "student", "attention", "words"),
    [
        ("lcm", {"train": "lora", "targets": ["to_qq"]}, None, "student.targets: to_qq names no layer of file"),
        ("lcm", {"train": "lora", "targets": ["to_q", "to_kk"]}, None, "student.targets: to_kk names no layer of file"),
        ("lcm", {"train": "lora", "targets": ["to_q", "norm1"]}, None, "norm1 is a (Layer|Group)Norm, which does not"),
        ("codi", {"train": "control", "base": "lora", "targets": ["to_qq"]}, None, "student.targets: to_qq names no"),
        ("pe-codi", {"train": "control", "control": "UNET"}, None, "student.control: .* is no ControlNet of the teach"),
        ("sferd-predictor", {"train": "predictor"}, None, "name its file, e.g. --set student.file=FILE"),
        ("sferd-predictor", {"train": "predictor", "file": "WIDER"}, None, "conv_in.weight of its UNet2D.* is"),
        ("sferd-predictor", {"train": "predictor", "file": "LORA"}, None, "does not fit this student: conv_in: its f"),
        ("sferd-predictor", {"train": "predictor", "file": "UNET"}, None, "does not say how it was distilled; set set"),
        ("sferd-prior", {"train": "prior", "file": "UNET"}, None, "needs the predictor, e.g. --set student.predictor"),
        ("cd", {"train": "full"}, {"block": "mid_block.attn"}, "has no self-attention 'mid_block.attn'; expected one"),
    ],
)
def test_what_does_not_fit_the_unet_is_refused_before_any_weight_is_read(
    few, pairs, name, student, attention, words, tmp_path
):
    weights = load_file(pairs["sd1"][0] / "unet" / "diffusion_pytorch_model.safetensors")
    wider = torch.zeros(*[2 * n for n in weights["conv_in.weight"].shape])
    lora = {"lora_unet_conv_in.lora_up.weight": torch.zeros(3, 2, 1, 1)}
    lora |= {"lora_unet_conv_in.lora_down.weight": torch.zeros(2, 4, 3, 3)}
    files = {"UNET": weights, "WIDER": weights | {"conv_in.weight": wider}, "LORA": lora}
    for key, value in student.items():
        if isinstance(value, str) and value in files:
            save_file(files[value], tmp_path / f"{value}.safetensors")
            student = student | {key: str(tmp_path / f"{value}.safetensors")}
    settings = {"cfg": 2.0} if name == "sferd-predictor" else {"intervals": 4} if name in ("lcm", "cd") else {}
    with pytest.raises((RecipeError, CheckpointError), match=words):
        begun(name, few | {"attention": attention}, student, **settings)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("lcm", {"train": "lora"}),
        ("lcm", {"train": "lora", "targets": ["to_q", "attn2.to_k"]}),
        ("cd", {"train": "full"}),
        ("codi", {"train": "control", "base": "lora"}),
        ("sferd-predictor", {"train": "predictor", "file": "UNET"}),
    ],
)
def test_what_fits_the_unet_is_not_refused(few, pairs, kind, name, student, tmp_path):
    folder, file = pairs[kind]
    if "file" in student:
        unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
        save_file(unet, tmp_path / "unet.safetensors", {"understudy_method": "lcm", "intervals": "4"})
        student = student | {"file": str(tmp_path / "unet.safetensors")}
    settings = {"cfg": 2.0} if name == "sferd-predictor" else {"intervals": 4}
    for path in (folder, file):
        assert begun(name, few | {"teacher": TeacherSettings(path=path)}, student, **settings)


@pytest.mark.parametrize("layout", ["folder", "file"])
@pytest.mark.parametrize("change", ["lacks", "shape"])
def test_a_unet_that_is_not_complete_is_refused_by_its_header(few, pairs, layout, change, tmp_path):
    folder, file = pairs["sd1"]
    if layout == "folder":
        path = shutil.copytree(folder, tmp_path / "folder")
        (holds,) = (path / "unet").glob("*.safetensors")
        key = "mid_block.resnets.0.conv1.weight"
    else:
        path = holds = shutil.copy(file, tmp_path / "broken.safetensors")
        key = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    weights = load_file(holds)
    value = weights.pop(key)
    save_file(weights if change == "lacks" else weights | {key: value[:-1].contiguous()}, holds)
    with pytest.raises(CheckpointError, match=r"mid_block\.resnets\.0\.conv1\.weight"):
        begun("lcm", few | {"teacher": TeacherSettings(path=path)}, {"train": "lora"}, intervals=4)


@pytest.mark.parametrize("data", ["folder", "prompts"])
def test_what_is_no_number_is_not_kept(pairs, data, tmp_path):
    """Of a picture or a prompt; the same with numbers is."""
    (tmp_path / "prompts.txt").write_text("a fox\n")
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a red wall")
    weights, broken = load_file(pairs["sd1"][1]), tmp_path / "broken.safetensors"
    part = "first_stage_model.quant_conv" if data == "folder" else "model.diffusion_model.out.2"
    save_file(weights | {f"{part}.weight": weights[f"{part}.weight"] * torch.nan}, broken)
    settings = {"folder": {"path": str(tmp_path), "max_aspect": 1}}
    settings["prompts"] = {"path": str(tmp_path / "prompts.txt"), "steps": 1}
    told = {"data": {"kind": data, "size": 16, **settings[data]}}
    train = {"train": "lora"}
    kept = tmp_path / "cache"
    with pytest.raises(
        DataError, match=r"the teacher broken.safetensors makes of '(\S*a\.png|a fox)' \(latents\) is no"
    ):
        begun("lcm", told | {"teacher": TeacherSettings(path=broken)}, train, intervals=4).prepare(tmp_path / "run")
    assert not [*kept.glob("*/latents/*/*")]
    begun("lcm", told | {"teacher": TeacherSettings(path=pairs["sd1"][1])}, train, intervals=4).prepare(tmp_path / "r")
    assert len([*kept.glob("*/latents/*/*")]) == 1

"""A new recipe: what it looks for, what it says, and that the trainer reads it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves
from understudy.distill_train.config import RecipeError, StudentSettings, load_recipe
from understudy.distill_train.init.plan import Plan, _ends, _published, _values
from understudy.distill_train.init.recipe import recipe_text
from understudy.distill_train.init.sought import Sought, autoencoder, text_encoders
from understudy.distill_train.init.summary import summary
from understudy.distill_train.init.ways import WAYS, way_of
from understudy.distill_train.methods import make_method, method_classes
from understudy.distill_train.methods.lcm import LCM
from understudy.distill_train.process import Flow
from understudy.distill_train.run.checkpoint import saved_state
from understudy.distill_train.run.loop import set_up
from understudy.distill_train.students.host_lora import usual_targets
from understudy.distill_train.teachers.companions import COMPANIONS, companions_of
from understudy.samplers.presets import ARCHITECTURES, TEACHERS

from .tiny import TinySource, TinyTeacher
from .tiny import recipe as tiny_recipe

FLUX = ("Flux", "BASE", "object")


class Files:
    """Stands in for a ComfyUI: models folders, and what it recognises of the files in them."""

    def __init__(self, folder: Path, **kinds):
        self.folder, self.kinds = folder, kinds

    def place(self, kind):
        return self.folder / "models" / kind

    def files(self, kind):
        return sorted(self.place(kind).glob("*.safetensors"))

    def text_encoder(self, path):
        return self.kinds.get(path.stem)

    def put(self, kind, *names):
        for name in names:
            path = self.place(kind) / f"{name}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")


@pytest.fixture
def files(tmp_path):
    there = {"clip_l": "CLIP_L", "t5xxl_fp8": "T5_XXL", "a_umt5_xxl": "T5_XXL", "qwen": "QWEN3_4B", "other": None}
    files = Files(tmp_path, **there)
    files.put("text_encoders", *there)
    files.put("vae", "ae", "flux2-vae", "wan_2.1_vae", "my_ae_flux_vae")
    return files


def names(*sought):
    return [each.path.stem for each in sought]


def test_text_encoders_are_found_by_what_they_are_and_in_the_loader_s_order(files):
    found = text_encoders(files, companions_of(FLUX, 4096))
    assert names(*found) == ["clip_l", "t5xxl_fp8"] and not any(each.missing for each in found)
    assert names(*text_encoders(files, companions_of(("ZImage", "Lumina2"), None))) == ["qwen"]
    assert names(*text_encoders(files, companions_of(("WAN21_T2V",), 4096))) == ["a_umt5_xxl"]


def test_what_is_missing_is_named_as_published_where_it_belongs(files):
    (found,) = text_encoders(files, companions_of(("Krea2",), None))
    assert found.missing and found.path == files.place("text_encoders") / "qwen3vl_4b_fp8_scaled.safetensors"
    vae = autoencoder(files, companions_of(("Krea2",), None))
    assert vae.path.name == "qwen_image_vae.safetensors" and str(vae) == "qwen_image_vae.safetensors is missing"


@pytest.mark.parametrize(
    ("classes", "name"), [(FLUX, "ae"), (("Flux2", "Flux"), "flux2-vae"), (("WAN21_T2V",), "wan_2.1_vae")]
)
def test_autoencoders_of_one_shape_are_told_apart_by_their_names(files, classes, name):
    assert autoencoder(files, companions_of(classes, 7680)).path.stem == name


def test_the_published_name_comes_first_and_others_are_said(files):
    files.put("vae", "ae_old")
    vae = autoencoder(files, companions_of(FLUX, 4096))
    assert str(vae) == "ae.safetensors (or ae_old.safetensors, my_ae_flux_vae.safetensors)"


@pytest.mark.parametrize(
    ("width", "encoder"), [(7680, "qwen_3_4b"), (12288, "qwen_3_8b_fp8mixed"), (15360, "mistral_3_small_flux2_bf16")]
)
def test_models_of_one_class_need_what_they_are_wide_enough_for(width, encoder):
    needed = companions_of(("Flux2", "Flux"), width)
    assert [Path(each.published).stem for each in needed.texts] == [encoder] and needed.clip_type == "flux2"


def test_what_nobody_knows_needs_nothing_known():
    assert companions_of(("Flux2", "Flux"), 4096) is None
    assert companions_of(("Nobody", "BASE"), None) is None


def test_every_row_of_the_table_is_of_a_known_architecture_and_finds_its_own_file():
    assert {*COMPANIONS} - {*ARCHITECTURES} == {"WAN21_T2V"}
    for rows in COMPANIONS.values():
        for file in (file for row in rows for file in (*row.texts, row.vae)):
            assert file.called_so(Path(file.published)), file


@pytest.mark.parametrize(
    ("file", "classes", "guided", "key"),
    [
        ("z_image_bf16", ("ZImage", "Lumina2"), False, "z-image"),
        ("z_image_turbo_bf16", ("ZImage", "Lumina2"), False, "z-image-turbo"),
        ("flux-2-klein-base-4b", ("Flux2", "Flux"), False, "flux2-klein-base"),
        ("flux2_dev_fp8mixed", ("Flux2", "Flux"), True, "flux2-dev"),
        ("flux1-dev", FLUX, True, "flux1-dev"),
        ("lcm-lora mine", ("SD15", "BASE"), False, "sd15"),
        ("mine", ("Nobody", "BASE"), False, None),
    ],
)
def test_guidance_is_the_published_one(file, classes, guided, key):
    row = _published(Path(f"/turbo/{file}.safetensors"), classes, guided)
    assert (row and row.key) == key


class Blocks(nn.Module):
    """Two blocks with an attention and something beside; outside of them a layer with an attention's name."""

    def __init__(self, outside="proj"):
        super().__init__()
        blocks = [
            nn.ModuleDict({"attn": nn.ModuleDict({"qkv": nn.Linear(4, 4)}), "mod": nn.Linear(4, 4)}) for _ in "ab"
        ]
        self.blocks = nn.ModuleList(blocks)
        self.final = nn.ModuleDict({outside: nn.ModuleDict({"qkv": nn.Linear(4, 4)})})


def test_targets_are_ends_of_names_where_these_mean_no_other_layer():
    assert _ends(usual_targets(Blocks()), Blocks()) == ("attn.qkv",)
    assert _ends(usual_targets(Blocks("attn")), Blocks("attn")) == () == _ends([], Blocks())


def test_an_adapter_s_values_are_counted():
    rank = StudentSettings().rank
    assert _values(Blocks(), usual_targets(Blocks())) == 2 * (4 + 4) * rank and _values(Blocks(), []) == 0


@pytest.fixture
def plan(files):
    model = files.folder / "models" / 'it\'s \\ a "flux" – é.safetensors'
    model.write_bytes(b"\0" * 900)
    needed = companions_of(FLUX, 4096)
    return Plan(
        host=files,
        file=model,
        kind="Flux",
        process=Flow(3.0),
        whole=False,
        companions=needed,
        texts=text_encoders(files, needed),
        vae=autoencoder(files, needed),
        row=TEACHERS["flux1-dev"],
        guidance=3.5,
        side=1024,
        targets=("attn.qkv", "mlp.0"),
        layers=12,
        values=1_000_000,
        network_values=400,
    )


def text_of(plan, method="lcm"):
    return recipe_text(plan, way_of(method))


def said_of(plan, method="lcm"):
    return summary(plan, way_of(method))


def written(plan, tmp_path, method="lcm"):
    path = tmp_path / "recipe.toml"
    path.write_text(text_of(plan, method), encoding="utf-8")
    return load_recipe(path)


def test_the_trainer_reads_the_recipe(plan, tmp_path):
    recipe = written(plan, tmp_path)
    teacher, student = recipe.teacher, recipe.student
    assert teacher.comfy == plan.file and teacher.comfyui == plan.host.folder and teacher.path is None
    assert [file.stem for file in teacher.clip] == ["clip_l", "t5xxl_fp8"] and teacher.vae.name == "ae.safetensors"
    assert (teacher.clip_type, teacher.guidance, teacher.shift) == ("flux", 3.5, "by size")
    assert (student.train, student.targets) == ("lora", ())  # so that idle layers are left out
    assert 'targets = ["attn.qkv", "mlp.0"]\n' in text_of(plan)
    settings = LCM.Settings.model_validate(recipe.settings)
    assert (settings.w_min, settings.w_max, settings.intervals) == (0, 0, 50)
    assert recipe.data["size"] == recipe.samples.size == 1024 and recipe.samples.teacher_cfg == 1
    assert recipe.export == "it-s-a-flux-é-student.safetensors"


def test_guidance_and_shift_are_those_of_the_published_sampling(plan, tmp_path):
    image = replace(plan, kind="QwenImage", row=TEACHERS["qwen-image"], guidance=None)
    recipe = written(image, tmp_path)
    assert (recipe.settings["w_min"], recipe.settings["w_max"]) == (3, 3) and recipe.teacher.shift == 3.1
    assert recipe.samples.teacher_cfg == 4 and recipe.teacher.guidance is None
    assert "shift 3.1" in said_of(image) and "cfg 4, which the student learns, as the preset qwen-image" in said_of(
        image
    )
    assert "shift by size\n" in said_of(plan) and "shift 3\n" in said_of(replace(plan, kind="ZImage", row=None))
    # By size: mu 0.5 to 1.15 from 256 to 6400 tokens; 4096 of them at 1024 pixels.
    krea = replace(plan, kind="Krea2", row=TEACHERS["krea2-raw"])
    assert written(krea, tmp_path).teacher.shift == pytest.approx(2.475, abs=1e-3)


def test_of_an_unknown_family_it_is_said_what_to_set(plan, tmp_path):
    unknown = replace(plan, companions=None, texts=(), vae=None, row=None, guidance=None, kind="New", targets=())
    recipe = written(unknown, tmp_path)
    assert recipe.teacher.clip == () and recipe.teacher.vae is None and recipe.student.targets == ()
    said = said_of(unknown)
    assert "set teacher.clip and teacher.clip_type" in said and "no preset is of New" in said
    assert "attention and feed-forward of all blocks" in said and "targets =" not in text_of(unknown)
    assert "set student.targets" in said_of(replace(unknown, layers=0, values=0))


def test_a_checkpoint_has_its_parts_with_it(plan, tmp_path):
    whole = replace(plan, whole=True, companions=None, texts=(), vae=None)
    assert written(whole, tmp_path).teacher.clip == () and said_of(whole).count("in the file") == 2


def test_what_is_missing_stands_in_recipe_and_summary(plan, tmp_path):
    lacking = replace(plan, vae=Sought(plan.host.place("vae") / "gone.safetensors"))
    assert f"# Missing: {lacking.vae.path}\n" in text_of(lacking)
    assert written(lacking, tmp_path).teacher.vae == lacking.vae.path
    assert f"Missing: put gone.safetensors into {plan.host.place('vae')}" in said_of(lacking)
    assert "Missing" not in text_of(plan) + said_of(plan)


def test_memory_and_disk_are_counted(plan):
    said = said_of(plan)
    # 16 and 12 bytes for each of a million values; the network's 400 in 16 bits are less than the file's 900 bytes.
    assert "15.3 MiB at least: 800 B for the network, 15.3 MiB for 1 million values that train" in said
    assert "checkpoints of 11.4 MiB, exports of 1.91 MiB" in said
    assert "900 B for the network" in said_of(replace(plan, network_values=4000))
    large = replace(plan, network_values=2**22)
    large.file.write_bytes(bytes(2**23))
    assert "23.3 MiB at least: 8 MiB for the network, 15.3 MiB for" in said_of(large)


@pytest.mark.parametrize("method", WAYS)
def test_each_method_has_a_recipe_that_is_right_for_the_model(plan, tmp_path, method):
    image = replace(plan, kind="QwenImage", row=TEACHERS["qwen-image"], guidance=None)
    recipe = written(image, tmp_path, method)
    settings = method_classes()[method].Settings.model_validate(recipe.settings)
    cfg = settings.w_max + 1 if method == "lcm" else settings.cfg
    assert recipe.method == method and cfg == 4 and recipe.teacher.shift == 3.1 and recipe.student.train == "lora"
    assert (recipe.loop.accumulate, recipe.loop.checkpointing, recipe.loop.ema) == ("auto", "auto", 0)
    said = said_of(image, method)
    assert f"method      {method}, into" in said and "as the preset qwen-image has it" in said
    assert ("which the student keeps" if method == "cd" else "which the student learns") in said
    assert "which is none" in said_of(plan, method)
    note = ". LCM's w is cfg - 1." if method == "lcm" else "."
    assert f", as the preset qwen-image has it{note}\n[settings]\n" in text_of(image, method)


@pytest.mark.parametrize("method", WAYS)
def test_what_each_method_holds_is_what_it_is_said_to(method, tmp_path):
    """By a run on a tiny network, of which only what trains counts."""

    def make(asked, device):
        teacher = TinyTeacher()
        return make_method(asked, device, teacher=teacher, source=TinySource(teacher))

    way = WAYS[method]
    asked = tiny_recipe(method, {"steps": 12, "ema": 0.0}, {"train": "lora", "rank": 2}, **way.settings(3.0))
    training = set_up(asked, tmp_path / "run", device="cpu", make=make).training
    training.advance()
    while training.step <= training.stages[0].stop < asked.loop.steps:  # from where on pd keeps the student before
        training.advance()
    trains = sum(p.numel() for p in training.method.student.parameters)
    state = saved_state(training)
    kept = tree_leaves([state[part] for part in ("network", "ema", "optimizers", "method")])
    saved = sum(value.nbytes for value in kept if isinstance(value, torch.Tensor) and value.ndim)
    values = trains // 2 if method == "dmd" else trains  # whose fake score has as many as the student
    assert (saved, saved + 4 * trains) == (way.saved * values, way.held * values)  # and their gradients


def test_another_method_is_refused():
    with pytest.raises(RecipeError, match="--method sferd: expected one of lcm, cd, pd, dmd"):
        way_of("sferd")

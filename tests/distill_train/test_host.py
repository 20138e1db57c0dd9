"""How the user's ComfyUI is found, and what of a recipe for it is refused before it is opened."""

import sys
from types import SimpleNamespace

import pytest
import torch
from understudy.distill_train import host
from understudy.distill_train.config import Recipe, RecipeError, TeacherSettings
from understudy.distill_train.host import Host, Loaded, host_folder, open_host, side_of
from understudy.distill_train.methods import make_method
from understudy.distill_train.run import processes

CPU = torch.device("cpu")


def comfyui(folder, version="0.33.0", needs="nothing_that_there_is"):
    """What of a ComfyUI is looked at before it is imported, and a first import that fails."""
    (folder / "comfy").mkdir(parents=True)
    (folder / "comfy" / "sd.py").write_text("")
    (folder / "comfy" / "cli_args.py").write_text(f"import {needs}\n")
    (folder / "comfyui_version.py").write_text(f'# a comment about 1.2 things\n__version__ = "{version}"\n')
    return folder


@pytest.fixture
def own_modules(monkeypatch):
    """What a test imports is forgotten after it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_it_is_where_the_recipe_the_environment_or_the_pack_s_own_place_says(tmp_path, monkeypatch):
    given, named, around = (comfyui(tmp_path / name) for name in ("given", "named", "around"))
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(host, "PACK", around / "custom_nodes" / "pack")
    assert host_folder() == around
    monkeypatch.setenv("COMFYUI_PATH", str(named))
    assert host_folder() == named
    assert host_folder(given) == given
    monkeypatch.delenv("COMFYUI_PATH")
    monkeypatch.setattr(host, "PACK", tmp_path / "elsewhere" / "pack")
    with pytest.raises(RecipeError, match="--comfyui DIR or COMFYUI_PATH"):
        host_folder()


def test_another_folder_and_an_old_comfyui_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="empty is no ComfyUI; expected the folder that holds its main.py"):
        host_folder(tmp_path / "empty")
    with pytest.raises(RecipeError, match=r"is 0\.7\.12; expected 0\.8\.0 or newer"):
        host_folder(comfyui(tmp_path / "old", "0.7.12"))
    assert host_folder(comfyui(tmp_path / "oldest", "0.8.0"))


def test_what_its_python_lacks_is_named_with_what_adds_what_training_needs(tmp_path, own_modules):
    with pytest.raises(RecipeError, match="needs the Python module nothing_that_there_is, which .* has not") as raised:
        open_host(comfyui(tmp_path), CPU)
    assert f"PYTHON -m pip install -e {host.PACK}[train]" in str(raised.value)


def test_what_training_lacks_is_named_with_the_command_that_adds_it(monkeypatch):
    monkeypatch.setattr(processes, "NEEDED", ("torch", "no_such_library", "another"))
    with pytest.raises(RecipeError, match="-m pip install no_such_library another$"):
        processes.start_process("cpu")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, "expected path, .* or comfy"),
        ({"path": "a.safetensors", "comfy": "b.safetensors"}, "expected path, .* or comfy"),
        ({"path": "a.safetensors", "clip": ["c.safetensors"], "clip_type": "flux"}, "clip, clip_type: .* comfy, not"),
        ({"path": "a.safetensors", "guidance": 0.0}, "guidance: for a teacher that ComfyUI loads"),
        ({"path": "a.safetensors", "shift": "by size"}, "shift: for a teacher that ComfyUI loads"),
        ({"comfy": "a.safetensors", "shift": "by sise"}, "'by size'"),
        ({"comfy": "a.safetensors", "prediction": "v_prediction"}, "prediction and zero_snr are for path"),
        ({"comfy": "a.safetensors", "shift": 0}, "greater than 0"),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(told, said):
    with pytest.raises(ValueError, match=said):
        TeacherSettings(**told)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"student": {"train": "full"}}, "student.train = full: of what ComfyUI loads a LoRA trains"),
        ({"settings": {"embed_guidance": True}}, "settings.embed_guidance adds an input"),
        ({"method": "cfd", "settings": {"classifier": "any"}}, "name a TAESD decoder in settings.decoder"),
    ],
)
def test_what_only_diffusers_networks_can_is_refused_before_anything_is_opened(more, said):
    told = {"method": "lcm", "loop": {"steps": 1, "batch_size": 1, "lr": 1e-3}, **more}
    recipe = Recipe(seed=1, export="a.safetensors", teacher={"comfy": "no-such-file.safetensors"}, **told)
    with pytest.raises(RecipeError, match=said):
        make_method(recipe, CPU)


@pytest.mark.parametrize(
    ("family", "base", "side"), [("SD15", "BASE", 512), ("Own", "SD15", 512), ("Flux", "BASE", 1024)]
)
def test_a_family_s_pictures_have_the_size_of_the_one_that_it_is_made_of(family, base, side):
    config = type(family, (type(base, (), {}),), {})
    assert side_of(SimpleNamespace(model_config=config())) == side


def model_of(family, dimensions=2):
    """What is looked at of a ``BaseModel``."""
    return SimpleNamespace(
        model_config=type(family, (), {})(),
        latent_format=SimpleNamespace(latent_dimensions=dimensions),
        diffusion_model=torch.nn.Identity(),
    )


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *((family, "model") for family in ("WAN21_I2V", "WAN21_Vace", "SD_X4Upscaler", "SD15_instructpix2pix")),
        *(("Flux", name) for name in ("flux1-kontext-dev", "FLUX1-Fill-dev", "flux1_redux")),
        *(("QwenImage", name) for name in ("qwen_image_edit_2509", "Qwen-Image-Edit")),
        ("SDXL", "sd_xl_base_1.0_inpainting_0.1"),
    ],
)
def test_what_takes_a_picture_is_refused_by_its_class_or_its_file_s_name(family, name, tmp_path):
    newest = Host(comfyui(tmp_path), CPU)
    with pytest.raises(RecipeError, match=f"{name}.* is {family} to ComfyUI and takes a picture beside the text"):
        newest._require_trainable(tmp_path / f"{name}.safetensors", model_of(family))


@pytest.mark.parametrize(
    ("family", "name"),
    [("Flux", "flux1-dev"), ("QwenImage", "qwen_image_fp8"), ("SDXL", "myCredits_refilled"), ("WAN21_T2V", "wan")],
)
def test_what_makes_pictures_of_text_is_not_refused(family, name, tmp_path):
    edits = tmp_path / "edit"  # a folder's name says nothing of a model
    Host(comfyui(edits), CPU)._require_trainable(edits / f"{name}.safetensors", model_of(family, 3))


def test_a_network_that_is_given_a_picture_is_refused_whatever_it_is_called(tmp_path):
    model = model_of("Flux")
    model.extra_conds = lambda **told: {"c_concat": None}
    loaded = Loaded(Host(comfyui(tmp_path), CPU), SimpleNamespace(model=model))
    with pytest.raises(RecipeError, match="Flux takes a picture beside the text"):
        loaded._conds(torch.zeros(1, 4, 8, 8), {})

"""A LoRA for what ComfyUI loads, with a stand-in for ComfyUI; tests/host/test_hosted_exports.py has the real one."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from understudy.distill_train.exports import hosted
from understudy.distill_train.exports.export import ExportError, export
from understudy.files import CheckpointError, read_header, sha256
from understudy.files.student_file import StudentFile

ALPHA = 6.1  # which bfloat16 does not have


def small(folder, architecture, file):
    """A run that left a LoRA of two layers of a model of that class; file: the model's."""
    student = StudentFile(
        method="lcm",
        base=architecture,
        teacher_file=file.name,
        teacher_sha256=sha256(file),
        prediction="flow",
        trained="lora",
        steps=2,
        guidance=1.0,
        sampler="lcm",
        scheduler="simple",
        rank=3,
        alpha=ALPHA,
        shift=3.0,
        sigmas=(1.0, 0.75, 0.0),
        flux_guidance=3.5,
    )
    draw, lora = torch.Generator().manual_seed(5), {}
    for layer in ("diffusion_model.blocks.0.attn.qkv", "diffusion_model.blocks.1.attn.qkv"):
        lora[f"{layer}.lora_A.weight"] = torch.randn(3, 8, generator=draw)
        lora[f"{layer}.lora_B.weight"] = torch.randn(24, 3, generator=draw)
        lora[f"{layer}.alpha"] = torch.tensor(ALPHA)
    (folder / "exports").mkdir(parents=True)
    recipe = {"export": "student.safetensors", "loop": {"steps": 10}}
    recipe["teacher"] = {"path": None, "comfy": str(file), "comfyui": "the run's ComfyUI"}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    save_file(lora, folder / "exports" / "student.safetensors", metadata=student.metadata())
    return folder


class StandIn:
    """A ComfyUI that loads one model, whose weights may have 8 bits and lack some places.

    kind: what it calls the model's class.
    """

    def __init__(self, quantised=False, lost=(), kind="Flux"):
        self.quantised, self.lost, self.kind, self.asked = quantised, lost, kind, None

    def outline(self, path):
        model = nn.Module()
        model.model_config = type(self.kind, (), {})()
        return model

    def in_8_bits(self, path):
        return self.quantised

    def unmatched(self, model, lora):
        self.asked = {*lora}
        return list(self.lost)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Exports the small run by such a ComfyUI: (result, the ComfyUI, the folder it was looked for in)."""
    file = tmp_path / "flux.safetensors"
    file.write_bytes(b"flux")
    run = small(tmp_path / "run", "Flux", file)

    def make(host, *arguments, **options):
        opened = []
        monkeypatch.setattr(hosted, "open_host", lambda comfyui, device: opened.append(comfyui) or host)
        return export(run, *arguments, **options), opened[0]

    make.run = run
    return make


def test_names_and_factors_are_those_of_the_run(made):
    host = StandIn()
    result, comfyui = made(host)
    trained, written = load_file(made.run / "exports" / "student.safetensors"), load_file(result.path)
    assert written.keys() == trained.keys() == host.asked and result.tensors == 6
    assert all(torch.equal(written[key], trained[key]) for key in trained)
    assert str(comfyui) == "the run's ComfyUI" and result.path.name == "run-student-lora.safetensors"


def test_alpha_is_not_rounded_with_the_factors(made):
    written = load_file(made(StandIn(), dtype="bfloat16")[0].path)
    assert written["diffusion_model.blocks.0.attn.qkv.alpha"] == torch.tensor(ALPHA)
    assert written["diffusion_model.blocks.0.attn.qkv.lora_A.weight"].dtype == torch.bfloat16


def test_the_file_says_how_it_is_sampled(made):
    result, _ = made(StandIn(), "lora", comfyui=made.run)
    assert StudentFile.read(result.path) == result.student
    assert (result.student.shift, result.student.sigmas) == (3.0, (1.0, 0.75, 0.0))
    metadata = read_header(result.path).metadata
    assert metadata["modelspec.architecture"] == "flux/lora"
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("3", "6.1")
    said = result.summary()
    assert "models/loras; Load LoRA loads it" in said and "noise levels 1, 0.75, 0" in said
    assert "set FluxGuidance to it" in said and "ModelSamplingDiscrete" not in said


@pytest.mark.parametrize("quantised", [True, False])
def test_that_a_merge_rounds_is_said_where_it_does(made, quantised):
    said = made(StandIn(quantised))[0].summary()
    assert ("Load LoRA (Bypass) works beside them" in said) == quantised


def test_a_lora_that_would_be_loaded_in_part_is_refused_and_not_written(made):
    with pytest.raises(CheckpointError, match=r"Load LoRA finds no place in .*flux.safetensors for a.b"):
        made(StandIn(lost=["a.b"]))
    assert [path.name for path in (made.run / "exports").iterdir()] == ["student.safetensors"]


def test_another_family_and_another_kind_are_refused(made):
    with pytest.raises(ExportError, match="--to unet: the student is of what ComfyUI loads; export a lora"):
        made(StandIn(), "unet")
    with pytest.raises(ExportError, match="flux.safetensors is SD3, but the student was distilled from flux"):
        made(StandIn(kind="SD3"))

"""Exports: what is written is what was trained, in the layouts of the stock loaders; and what cannot be written."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from understudy.distill_train.config import RecipeError
from understudy.distill_train.exports.base import open_base
from understudy.distill_train.exports.export import ExportError, export
from understudy.distill_train.exports.guidance import fold_guidance
from understudy.files import CheckpointError, read_header, sha256
from understudy.files.student_file import StudentFile
from understudy.pipelines.folder_files import fingerprint
from understudy.pipelines.layout import original_unet_names
from understudy.pipelines.single_file import load_single_file
from understudy.pipelines.stable_diffusion import guidance_embedding

from .students import make_run, output, small_unet, unet_in, with_lora


def test_every_tensor_has_the_name_that_the_checkpoint_s_converter_reads(architecture):
    kind, folder, file = architecture
    assert open_base(folder).names == open_base(file).names
    assert open_base(folder).shapes == open_base(file).shapes


def test_names_of_no_unet_are_refused():
    with pytest.raises(CheckpointError, match="encoder.norm_out.weight"):
        original_unet_names(["encoder.norm_out.weight"], 2)


@pytest.mark.parametrize("cfg", [1.0, 4.5, 8.0])
def test_folded_guidance_equals_the_embedded_one(cfg):
    unet = small_unet("sd1", time_cond_proj_dim=24)
    folded = small_unet("sd1")
    folded.load_state_dict(fold_guidance(unet.state_dict(), cfg))
    w = guidance_embedding(torch.full((2,), cfg - 1), 24)
    torch.testing.assert_close(output(folded), output(unet, timestep_cond=w), rtol=1e-5, atol=1e-5)
    other = guidance_embedding(torch.full((2,), cfg), 24)
    assert (output(folded) - output(unet, timestep_cond=other)).abs().max() > 1e-3


def test_guidance_is_chosen_at_export_and_written_down(sd15, tmp_path):
    unet, said = small_unet("sd1", time_cond_proj_dim=24), {"guidance": "embedded", "w_min": 2.0, "w_max": 14.0}
    run = make_run(tmp_path / "run", sd15[1], "sd1", "full", unet.state_dict(), sha256(sd15[1]), **said)
    chosen = export(run, guidance=4.0)
    assert (chosen.student.folded_guidance, chosen.student.guidance) == (4.0, 1.0)
    assert StudentFile.read(chosen.path) == chosen.student
    assert chosen.path.stem == "run-student-unet-cfg4" and "guidance 4 is fixed" in chosen.summary()
    w = guidance_embedding(torch.full((2,), 3.0), 24)
    torch.testing.assert_close(
        output(unet_in(chosen.path, sd15[1])), output(unet, timestep_cond=w), rtol=1e-5, atol=1e-5
    )
    for wrong in (None, 2.5, 15.5):
        with pytest.raises(ExportError, match="--guidance .*3 to 15"):
            export(run, guidance=wrong)


def test_file_says_how_it_was_made_and_how_to_sample_it(full_run, architecture):
    metadata = read_header(export(full_run[0]).path).metadata
    assert metadata["teacher_sha256"] == sha256(architecture[2]) and metadata["teacher_file"] == architecture[2].name
    assert metadata["understudy_method"] == "lcm" and metadata["preset"] == "LCM"
    assert (metadata["steps"], metadata["guidance"], metadata["sampler"]) == ("4", "1", "lcm")
    assert architecture[2].name in metadata["licence"]


@pytest.mark.parametrize("folder", [True, False])
def test_an_sdxl_student_that_predicts_v_says_so(sdxl, tmp_path, folder):
    teacher, weights = sdxl[0 if folder else 1], small_unet("sdxl").state_dict()
    run = make_run(tmp_path / "run", teacher, "sdxl", "full", weights, fingerprint(teacher), prediction="v_prediction")
    result = export(run)
    assert read_header(result.path).shapes["v_pred"] == (0,)
    assert not any("ModelSamplingDiscrete" in note for note in result.notes)


def test_what_the_host_cannot_know_is_said(sd15, tmp_path):
    weights = small_unet("sd1").state_dict()
    run = make_run(tmp_path / "run", sd15[1], "sd1", "full", weights, sha256(sd15[1]), prediction="v_prediction")
    result = export(run)
    assert "v_pred" not in read_header(result.path).shapes
    assert "takes it for a network that predicts eps: set v_prediction in ModelSamplingDiscrete" in result.summary()
    assert "no other node" not in result.summary()
    of_cd = {"preset": "consistency", "sampler": "consistency", "scheduler": "leading"}
    run = make_run(tmp_path / "cd", sd15[1], "sd1", "full", weights, sha256(sd15[1]), **of_cd)
    assert "consistency, leading, which no other node has." in export(run).summary()
    run = make_run(tmp_path / "codi", sd15[1], "sd1", "full", weights, sha256(sd15[1]), preset="codi", sampler="euler")
    assert "sgm_uniform at the timesteps of its training, which other nodes meet at 1 step" in export(run).summary()
    weights = with_lora(load_single_file(sd15[1], torch.float32).unet)
    told = {"prediction": "v_prediction", "rank": 3, "alpha": 6.0}
    run = make_run(tmp_path / "lora", sd15[1], "sd1", "lora", weights, sha256(sd15[1]), **told)
    assert "takes its base for a network that predicts eps" in export(run).summary()


@pytest.mark.parametrize("said_by", ["teacher", "recipe"])
def test_zero_terminal_snr_is_handed_on(architecture, tmp_path, said_by):
    kind, folder, file = architecture
    told = {"prediction": "v_prediction"} | ({"terminal_snr": "zero"} if said_by == "recipe" else {})
    run = make_run(tmp_path / "run", file, kind, "full", small_unet(kind).state_dict(), sha256(file), **told)
    base = shutil.copytree(folder, tmp_path / "base")
    if said_by == "teacher":
        scheduler = base / "scheduler" / "scheduler_config.json"
        scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"rescale_betas_zero_snr": True}))
    result = export(run, base=base)
    markers = read_header(result.path).shapes.keys() & {"v_pred", "ztsnr"}
    assert markers == ({"v_pred", "ztsnr"} if kind == "sdxl" else set())
    assert ("v_prediction and zsnr in ModelSamplingDiscrete" in result.summary()) == (kind == "sd1")
    assert StudentFile.read(result.path).terminal_snr == "zero"


def test_precision_is_the_run_s_or_the_one_asked_for(sd15, tmp_path):
    weights = small_unet("sd1").half().state_dict()
    run = make_run(tmp_path / "run", sd15[1], "sd1", "full", weights, sha256(sd15[1]))
    assert {v.dtype for v in load_file(export(run).path).values()} == {torch.float16}
    other = export(run, dtype="bfloat16").path
    assert {v.dtype for v in load_file(other).values()} == {torch.bfloat16}
    assert other.stem == "run-student-unet-bfloat16"


def test_a_stage_s_file_is_exported_by_itself(full_run, tmp_path):
    run, unet = full_run
    stage = run / "exports" / "student-2-step.safetensors"
    shutil.copy(run / "exports" / "student.safetensors", stage)
    assert export(stage).path == run / "exports" / "run-student-2-step-unet.safetensors"


@pytest.mark.parametrize(
    "value, dtype, said", [(1e6, "float16", "too large"), (float("nan"), "auto", "infinite or not numbers")]
)
def test_weights_that_are_no_numbers_are_refused(sd15, tmp_path, value, dtype, said):
    weights = small_unet("sd1").state_dict()
    weights["conv_in.bias"][0] = value
    run = make_run(tmp_path / "run", sd15[1], "sd1", "full", weights, sha256(sd15[1]))
    with pytest.raises(CheckpointError, match=f"input_blocks.0.0.bias are {said}"):
        export(run, dtype=dtype)
    assert [path.name for path in (run / "exports").iterdir()] == ["student.safetensors"]


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda weights: weights.pop("conv_out.bias"), "lacks out.2.bias"),
        (lambda weights: weights.update({"conv_out.bias": torch.zeros(7)}), "another shape out.2.bias"),
        (lambda weights: weights.update({"conv_new.bias": torch.zeros(7)}), "conv_new.bias"),
    ],
)
def test_a_student_unlike_its_base_is_refused_and_leaves_no_file(sd15, tmp_path, change, said):
    weights = small_unet("sd1").state_dict()
    change(weights)
    run = make_run(tmp_path / "run", sd15[1], "sd1", "full", weights, sha256(sd15[1]))
    with pytest.raises(CheckpointError, match=said):
        export(run)
    assert [path.name for path in (run / "exports").iterdir()] == ["student.safetensors"]


def test_requests_that_make_no_sense_are_refused(sd15, sdxl, full_run, architecture, tmp_path):
    run = full_run[0]
    with pytest.raises(ExportError, match="trained all weights"):
        export(run, "lora")
    with pytest.raises(ExportError, match="--to gguf"):
        export(run, "gguf")
    with pytest.raises(ExportError, match="does not take the guidance"):
        export(run, guidance=3.0)
    with pytest.raises(ExportError, match="--base"):
        export(run, "checkpoint", base=architecture[1])
    with pytest.raises(ExportError, match="distilled from"):
        export(run, base={"sd1": sdxl, "sdxl": sd15}[architecture[0]][1])
    with pytest.raises(ExportError, match="--out"):
        export(run, out=tmp_path / "student.ckpt")
    with pytest.raises(FileNotFoundError, match="recipe.json"):
        export(tmp_path)


def test_nothing_but_an_earlier_export_is_replaced(sd15, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    teacher = shutil.copy(sd15[1], folder / "teacher.safetensors")
    run = make_run(tmp_path / "run", teacher, "sd1", "full", small_unet("sd1").state_dict(), sha256(teacher))
    own, others = run / "exports" / "student.safetensors", folder / "notes.safetensors"
    others.write_text("mine")
    for taken in (teacher, own, others):
        before = sha256(taken)
        with pytest.raises(FileExistsError, match=f"{taken.name} is there already .*--out"):
            export(run, out=taken)
        assert sha256(taken) == before
    whole = export(run, "checkpoint", out=folder)
    assert export(run, "checkpoint", out=folder).path == whole.path
    # An export may be a teacher in its turn.
    again = make_run(tmp_path / "again", whole.path, "sd1", "full", small_unet("sd1").state_dict(), sha256(whole.path))
    with pytest.raises(FileExistsError, match="is there already"):
        export(again, "checkpoint", out=whole.path)
    assert sorted(path.name for path in folder.iterdir()) == [others.name, whole.path.name, teacher.name]


def test_a_run_that_goes_on_has_not_ended(full_run, monkeypatch):
    run, _ = full_run
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "step-00000010.pt").touch()
    export(run)
    (run / "recipe.json").write_text((run / "recipe.json").read_text().replace('"steps": 10', '"steps": 30'))
    (run / "checkpoints" / "step-00000011.pt").touch()
    with pytest.raises(ExportError, match="has not ended: it is at step 11 of 30"):
        export(run)
    monkeypatch.chdir(run / "exports")
    assert export(Path("student.safetensors")).path.is_file()
    (run / "recipe.json").write_text("{")
    with pytest.raises(RecipeError, match="recipe.json cannot be read"):
        export(run)


def test_a_file_that_cannot_be_written_is_one_error(full_run):
    with pytest.raises(OSError, match="cannot be written"):
        export(full_run[0], out=Path("/proc/student.safetensors"))


def test_a_teacher_that_changed_is_noticed(sd15, tmp_path):
    teacher = shutil.copy(sd15[1], tmp_path / "teacher.safetensors")
    run = make_run(tmp_path / "run", teacher, "sd1", "full", small_unet("sd1").state_dict(), "f" * 64)
    with pytest.raises(ExportError, match="no longer what"):
        export(run)
    assert "whether it is the same model was not checked" in export(run, base=teacher).summary()
    teacher.unlink()
    with pytest.raises(FileNotFoundError, match="--base"):
        export(run)


def test_a_file_that_says_nothing_is_no_student_s(sd15, tmp_path):
    with pytest.raises(CheckpointError, match="understudy export"):
        StudentFile.read(sd15[1])
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"understudy_method": "lcm"})
    with pytest.raises(CheckpointError, match="lacks base"):
        StudentFile.read(tmp_path / "a.safetensors")


def test_command_says_where_the_file_belongs(sd15, tmp_path, capsys):
    from understudy.cli import main

    weights = small_unet("sd1").state_dict()
    run = make_run(tmp_path / "run", sd15[1], "sd1", "full", weights, sha256(sd15[1]))
    with pytest.raises(SystemExit) as end:
        main(["export", str(run), "--to", "checkpoint"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "run-student-checkpoint.safetensors" in said and "models/checkpoints" in said and "Load Checkpoint" in said
    with pytest.raises(SystemExit) as end:
        main(["export", str(run), "--to", "lora"])
    assert end.value.code == 2 and "--to lora" in capsys.readouterr().err

"""Every kind of export is whole: what is known of it stands in its record, and all that names kinds is made from it.

A file that is added to ``distill_train/exports/kinds`` is found by these tests, which fail until it is right.
"""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from understudy.cli import main
from understudy.distill_train.exports import choice, kinds
from understudy.distill_train.exports.export import ExportError, export
from understudy.distill_train.exports.kind import Contents, Kind
from understudy.distill_train.exports.kinds import KINDS, MODULES, choices, names
from understudy.distill_train.teachers.architectures import ARCHITECTURES, Facts
from understudy.files import read_header, sha256
from understudy.files.student_file import TRAINED, StudentFile
from understudy.nodes.folders import STUDENTS as FOLDERS

from .students import make_run

RECORDS = dict(zip(MODULES, KINDS, strict=True))


@pytest.mark.parametrize("module", MODULES)
def test_a_kind_has_a_test_that_makes_a_small_run_for_it(module):
    path = Path(__file__).with_name(f"test_export_{module}.py")
    assert path.is_file(), f"write {path.name}, with small(folder, architecture, file) and a test of what is written"
    made = import_module(f".{path.stem}", __package__)
    assert callable(made.small) and any(name.startswith("test_") for name in vars(made)), path


@pytest.mark.parametrize("module", MODULES)
def test_a_record_says_all_that_is_asked_of_it(module):
    record = RECORDS[module]
    assert record.node and record.against
    assert record.architectures and {*record.architectures} <= ARCHITECTURES.keys()
    assert record.trained and {*record.trained} <= TRAINED.keys(), "student_file.TRAINED says in words what trained"
    assert {*record.usual_for} <= {*record.trained}
    assert record.folder in FOLDERS, "nodes/folders.py: where the sampler node looks for students"
    assert not record.modelspec or record.modelspec.startswith("/")
    mine = [other for other in KINDS if other.name == record.name]
    of = [architecture for other in mine for architecture in other.architectures]
    assert len(of) == len({*of}), f"two kinds called {record.name} are of one architecture"
    if len(mine) == 1:
        assert record.name.replace("-", "_") == module, "so that a kind's file is found by its name"


def test_a_student_has_one_usual_export_for_each_architecture():
    for architecture in {architecture for kind in KINDS for architecture in kind.architectures}:
        mine = [kind for kind in KINDS if architecture in kind.architectures]
        for trained in {trained for kind in mine for trained in kind.trained}:
            assert len([kind for kind in mine if trained in kind.usual_for]) == 1, (architecture, trained)


@pytest.mark.parametrize("module", MODULES)
def test_a_small_run_becomes_one(module, architecture, tmp_path):
    """The same for all of them: that it says what it is, holds what it promised, and is chosen as its record says."""
    (base, _, file), record = architecture, RECORDS[module]
    if base not in record.architectures:
        return
    run = import_module(f".test_export_{module}", __package__).small(tmp_path / "run", base, file)
    trained = StudentFile.read(run / "exports" / "student.safetensors").trained
    assert trained in record.trained
    result = export(run, record.name)
    header = read_header(result.path)
    assert result.path.name == f"run-student-{record.name}.safetensors" and result.tensors == len(header.shapes)
    assert StudentFile.read(result.path) == result.student and result.student.trained == trained
    assert header.metadata["modelspec.architecture"] == ARCHITECTURES[base].modelspec + record.modelspec
    assert record.metadata(result.student).items() <= header.metadata.items()
    said = result.summary()
    assert f"models/{record.folder}; {record.node} loads it" in said
    assert all(note in said for note in record.notes(result.student))
    assert (export(run).kind == record) == (trained in record.usual_for)


def test_a_student_that_nothing_exports_is_refused(sd15, tmp_path):
    run = make_run(tmp_path / "run", sd15[1], "sd1", "prior", {"weight": torch.zeros(1)}, sha256(sd15[1]))
    with pytest.raises(ExportError, match="student.train = prior makes; exported is full, lora, control"):
        export(run)


def test_what_lists_kinds_to_users_names_all_of_them(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    told = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert choices() in told
    assert all(f"{kind.name} ({kind.node})" in told for kind in KINDS)


def test_records_are_light(tmp_path):
    """The command's help lists kinds."""
    code = "import sys, understudy.distill_train.exports.kinds; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "diffusers", "safetensors"} & set(re.findall(r"'([^']+)'", done.stdout))


class ToyBase:
    """What exports ask of a base, for an architecture that nobody knows."""

    class architecture:
        kind, name = "toy", "Toy"

    zero_snr, others, shapes = False, {}, {"weight": (2, 3)}

    def __init__(self, path, comfyui):
        self.path = path


def test_a_record_and_the_facts_are_all_that_a_kind_of_another_architecture_needs(monkeypatch, tmp_path):
    teacher = tmp_path / "toy.safetensors"
    teacher.write_bytes(b"toy")
    run = make_run(tmp_path / "run", teacher, "toy", "full", {"weight": torch.ones(2, 3)}, sha256(teacher))
    with pytest.raises(
        ExportError, match="a student of the toy architecture; exported are those of SD 1.x, SDXL and what ComfyUI"
    ):
        export(run)
    toy = Kind(
        name="transformer",
        folder="diffusion_models",
        node="Load Diffusion Model",
        architectures=("toy",),
        trained=("full",),
        usual_for=("full",),
        contents=lambda trained: Contents(trained.weights, trained.base.shapes),
        modelspec="/part",
        notes=lambda student: ("Of Toy.",),
        metadata=lambda student: {"toy_base": student.base},
        open_base=ToyBase,
    )
    monkeypatch.setitem(ARCHITECTURES, "toy", Facts("Toy", "toy-v1", "toy", False, False, False))
    for module in (kinds, choice):
        monkeypatch.setattr(module, "KINDS", (*KINDS, toy))
    result = export(run)
    assert result.path.name == "run-student-transformer.safetensors" and "Of Toy." in result.summary()
    metadata = read_header(result.path).metadata
    assert (metadata["modelspec.architecture"], metadata["toy_base"]) == ("toy-v1/part", "toy")
    assert names()[-1] == "transformer"
    with pytest.raises(ExportError, match="--to unet: the student is of Toy; export a transformer"):
        export(run, "unet")
    with pytest.raises(ExportError, match="--to gguf: expected .*transformer"):
        export(run, "gguf")

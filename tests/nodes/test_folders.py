"""Names of calibrations become file names, so only harmless ones are taken; files of a kind are remembered."""

import json
import logging
import os

import pytest
import torch
from safetensors.torch import save_file
from understudy.nodes import folders


@pytest.fixture(autouse=True)
def calibrations(monkeypatch, tmp_path):
    monkeypatch.setattr(folders, "calibrations_folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["a", "my student", "lcm-lora_4.steps", "x" * 64, "é", "мой ученик", "學生" * 32, "हिन्दी", "می\u200cشود", "٣"],
)
def test_plain_names_are_files_in_the_folder(name, calibrations):
    assert folders.calibration_path(name) == calibrations / f"{name}.json"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../x",
        "a/b",
        "a\\b",
        ".hidden",
        "ends.",
        "ends ",
        "con",
        "LPT1.x",
        "com¹",
        "none",
        "x" * 65,
        "a\n",
        "a:b",
        "a\u202eb",
        "\u0301",
        "\ud800",
        "𐎀" * 51,
        "-a",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="calibration name"):
        folders.calibration_path(name)


def test_two_ways_of_writing_the_same_letters_are_one_name(calibrations):
    assert folders.calibration_path("e\u0301") == calibrations / "\xe9.json"
    (calibrations / "e\u0301.json").write_text("{}")  # as a file that came from another system
    if not (calibrations / "\xe9.json").exists():  # some systems take both for one file themselves
        assert folders.calibration_path("\xe9") == calibrations / "e\u0301.json"


@pytest.fixture
def loras(monkeypatch, tmp_path):
    """``models/loras`` with one student, one LoRA and what is no safetensors file at all; counts what is opened."""
    from understudy.files.student_file import METHOD, is_student

    folder = tmp_path / "loras"
    folder.mkdir()
    save_file({"a": torch.zeros(1)}, folder / "student.safetensors", metadata={METHOD: "lcm"})
    save_file({"a": torch.zeros(1)}, folder / "other.safetensors", metadata={"ss_steps": "4"})
    (folder / "pickle.ckpt").write_bytes(b"PK\x03\x04" * 20)
    (folder / "empty.safetensors").touch()
    opened = []

    def asked(path):
        opened.append(os.path.basename(path))
        return is_student(path)

    def found(names=None, memory=None):
        memory = memory or folders.Remembered(asked, lambda: tmp_path / "user" / "students.json")
        names = names or sorted(path.name for path in folder.iterdir())
        return memory.among(names, lambda name: str(folder / name))

    return folder, opened, found


def test_only_students_are_found_and_each_file_is_opened_once(loras):
    folder, opened, found = loras
    assert found() == ["student.safetensors"]
    assert sorted(opened) == ["empty.safetensors", "other.safetensors", "pickle.ckpt", "student.safetensors"]
    opened.clear()
    assert found() == ["student.safetensors"] and opened == []  # another server, the same user


def test_a_file_that_changed_is_opened_again(loras):
    folder, opened, found = loras
    found()
    opened.clear()
    save_file({"a": torch.zeros(1)}, folder / "other.safetensors", metadata={"understudy_method": "cd"})
    assert found() == ["other.safetensors", "student.safetensors"] and opened == ["other.safetensors"]


def test_what_was_remembered_may_be_damaged(loras, tmp_path):
    folder, opened, found = loras
    found()
    for text in ("{", "[1]", json.dumps({str(folder / "other.safetensors"): 5})):
        (tmp_path / "user" / "students.json").write_text(text)
        assert found() == ["student.safetensors"]


def test_a_file_that_cannot_be_read_is_named_once(loras, caplog):
    folder, opened, found = loras

    def refuse(path):
        raise PermissionError("not yours")

    memory = folders.Remembered(refuse, lambda: folder / "x.json")
    with caplog.at_level(logging.WARNING):
        for names in (["other.safetensors"], ["other.safetensors", "student.safetensors"]):
            assert found(names, memory) == []
    assert [record.getMessage().count("other.safetensors") for record in caplog.records] == [1, 0]


def test_new_names_are_seen_at_once(loras):
    folder, opened, found = loras
    memory = folders.Remembered(lambda path: True, lambda: folder / "x.json")
    assert found(["other.safetensors"], memory) == ["other.safetensors"]
    assert found(["other.safetensors", "gone.safetensors"], memory) == ["other.safetensors"]

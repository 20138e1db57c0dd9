"""Calibrations renamed, exported, imported and reset; nothing is lost on the way."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
from understudy.oracles.calibration import Calibration, CalibrationError


@pytest.fixture
def folder(without_host, monkeypatch, tmp_path):
    """Where calibrations are kept, in a host whose input and output folders lie beside it."""
    from understudy.nodes import folders

    files = ModuleType("folder_paths")
    files.get_input_directory, files.get_output_directory = lambda: str(tmp_path / "in"), lambda: str(tmp_path / "out")
    monkeypatch.setitem(sys.modules, "folder_paths", files)
    kept = tmp_path / "kept"
    monkeypatch.setattr(folders, "calibrations_folder", lambda: kept)
    monkeypatch.setattr("understudy.nodes.calibrations.calibrations_folder", lambda: kept)
    (tmp_path / "in").mkdir()
    for name, count in (("mine", 30), ("other", 40)):
        table = Calibration(name, {str(i): float(i) for i in range(count)}, {"steps": 4}, "f" * 64, "", began="today")
        table.save(kept / f"{name}.json")
    return kept


def do(action, calibration, name=""):
    from understudy.nodes.manage_calibration import UnderstudyManageCalibration

    UnderstudyManageCalibration.hidden = SimpleNamespace(unique_id="1")
    UnderstudyManageCalibration.execute(action, calibration, name)


def held(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(folder, said, *given):
    before = held(folder)
    with pytest.raises(ValueError, match=said):
        do(*given)
    assert held(folder) == before, "a refusal changes nothing"


def test_a_renamed_calibration_keeps_its_scores(folder):
    was = Calibration.load(folder / "mine.json")
    do("rename", "mine", " Yours ")
    now = Calibration.load(folder / "Yours.json")
    assert now.name == "Yours" and now.scores_by_image == was.scores_by_image and now.began == "today"
    assert sorted(held(folder)) == ["Yours.json", "other.json"]
    refused(folder, "a calibration 'other' is there already", "rename", "Yours", "other")
    refused(folder, "calibration name '../x'", "rename", "Yours", "../x")
    refused(folder, "not 'mine'; there are: Yours, other", "rename", "mine", "new")


def test_what_is_exported_can_be_imported_elsewhere(folder, tmp_path):
    do("export", "mine")
    do("export", "mine", "for a friend")
    assert {path.name for path in (tmp_path / "out" / "understudy").iterdir()} == {"mine.json", "for a friend.json"}
    refused(folder, "mine.json is there already: give the export another name", "export", "mine")
    was = held(folder)
    refused(folder, "a calibration 'mine' is there already", "import", "none", "for a friend.json")
    (folder / "mine.json").unlink()
    do("import", "none", "for a friend")
    assert held(folder) == was


def test_an_import_refuses_what_is_no_calibration(folder, tmp_path):
    there = tmp_path / "in"
    for name, text in {"a": "no json", "b": "[1]", "c": '{"format": 1}'}.items():
        (there / f"{name}.json").write_text(text)
        refused(folder, rf"{name}\.json (is not a calibration|lacks)", "import", "none", name)
    changed = json.loads((folder / "mine.json").read_text()) | {"name": "new", "settings": {"steps": 8}}
    (there / "changed.json").write_text(json.dumps(changed))
    refused(folder, "the file was changed by hand", "import", "none", "changed.json")
    (there / "named.json").write_text(json.dumps(changed | {"name": "../../x", "settings": {"steps": 4}}))
    refused(folder, "calibration name '../../x'", "import", "none", "named.json")
    refused(folder, "no file '../kept/mine.json' to import .* there are: a.json", "import", "none", "../kept/mine.json")
    (there / "named.json").write_text(json.dumps(changed | {"name": "new", "settings": {"steps": 4}}))
    do("import", "none", "named.json")
    assert Calibration.load(folder / "new.json").n == 30


def test_a_reset_needs_the_name_and_happens_once(folder):
    was = held(folder)
    for typed in ("", "yes", "Mine", "other"):
        refused(folder, f"type exactly that name to confirm; got {typed!r}", "reset", "mine", typed)
    do("reset", "mine", "mine")
    assert held(folder) == {"mine.json.bak": was["mine.json"], "other.json": was["other.json"]}
    Calibration("mine", {"a": 1.0}, {}, "f" * 64, "").save(folder / "mine.json")  # begun anew by the same graph
    refused(folder, "'mine' was reset before, and what it was is in .*mine.json.bak", "reset", "mine", "mine")
    (folder / "mine.json.bak").rename(folder / "mine, first.json.bak")
    do("reset", "mine", "mine")
    assert sorted(held(folder)) == ["mine, first.json.bak", "mine.json.bak", "other.json"]


@pytest.mark.parametrize("name", ["none", "demo (shipped)", "ImageReward, SDXL-Turbo at 2 steps (published)"])
def test_only_the_user_s_own_are_managed(folder, name):
    for action in ("rename", "export", "reset"):
        with pytest.raises(CalibrationError, match="choose one of your own calibrations"):
            do(action, name, name)

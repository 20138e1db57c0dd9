"""Names of calibrations become file names, so only harmless ones are taken."""

import pytest
from understudy.nodes import folders


@pytest.fixture(autouse=True)
def calibrations(monkeypatch, tmp_path):
    monkeypatch.setattr(folders, "calibrations_folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["a", "my student", "lcm-lora_4.steps", "x" * 64])
def test_plain_names_are_files_in_the_folder(name, calibrations):
    assert folders.calibration_path(name) == calibrations / f"{name}.json"


@pytest.mark.parametrize(
    "name",
    ["", "..", "../x", "a/b", "a\\b", ".hidden", "ends.", "ends ", "con", "LPT1.x", "none", "x" * 65, "é", "a\n"],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="calibration name"):
        folders.calibration_path(name)

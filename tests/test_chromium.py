"""Without a browser its tests are skipped, and fail where all have to run."""

import pytest

from .chromium import chromium

SKIPPED, FAILED = pytest.skip.Exception, pytest.fail.Exception


@pytest.mark.parametrize("required, ends", [("0", SKIPPED), ("1", FAILED)])
def test_a_machine_without_chromium_is_told_in_one_line(tmp_path, monkeypatch, required, ends):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("UNDERSTUDY_REQUIRE_HOST", required)
    said = r"\Athere is no Chromium with its chromedriver here [^\n]+\Z"
    with pytest.raises((SKIPPED, FAILED), match=said) as ended, chromium():
        pass
    assert ended.type is ends

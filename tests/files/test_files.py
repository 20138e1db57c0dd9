import pytest
from understudy.files import preview, write_whole
from understudy.receipts.folder import check_output, whole_directory


def test_directory_appears_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    with whole_directory(out) as folder:
        (folder / "report.json").write_text("1")
        assert not out.exists() and folder.parent == out.parent
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    with whole_directory(out) as folder:
        (folder / "report.json").write_text("2")
        assert (out / "report.json").read_text() == "1"
    assert (out / "report.json").read_text() == "2"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_nothing_new(tmp_path, error):
    out = tmp_path / "out"
    with pytest.raises(error), whole_directory(out) as folder:
        (folder / "half.png").write_text("x")
        raise error
    assert not list(tmp_path.iterdir())


def test_only_an_empty_folder_or_an_earlier_report_is_replaced(tmp_path):
    check_output(tmp_path / "new")
    check_output(tmp_path)
    (tmp_path / "grid.png").write_text("mine")
    with pytest.raises(FileExistsError, match="grid.png"):
        check_output(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "final").mkdir()
    check_output(tmp_path)
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(FileExistsError, match=r"other files \(thesis.txt\), which would be lost"):
        check_output(tmp_path)


def test_text_is_written_whole(tmp_path):
    write_whole(tmp_path / "a" / "b.json", "ä\n")
    assert (tmp_path / "a" / "b.json").read_bytes() == "ä\n".encode()
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "a" / "b.json").stat().st_mode == (tmp_path / "plain").stat().st_mode  # who may read it
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]


def test_preview():
    assert preview({"b", "a"}) == "a, b"
    assert preview("dcba") == "a, b, c and 1 more"

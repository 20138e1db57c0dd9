"""Generated tables and pictures through the whole command: right scores or one clear line, and nothing left behind."""

import csv

import pytest
from PIL import Image
from understudy.cli import main

from ..oracles import small_files
from .outcomes import Refused
from .pictures import picture_cases
from .tables import NAMES, table_cases

TABLES, PICTURES = table_cases(seed=15, count=81), picture_cases(seed=15, count=70)
PROMPT = "a red star"


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    path = tmp_path_factory.mktemp("oracle") / "clip.safetensors"
    return small_files.write(small_files.open_clip_network().state_dict(), path)


def score(capsys, *words):
    """(exit code, output, errors) of ``understudy score``."""
    code = 0
    try:
        main(["score", *map(str, words), "--device", "cpu"])
    except SystemExit as end:
        code = end.code or 0
    told = capsys.readouterr()
    assert "Traceback" not in told.out + told.err
    return code, told.out, told.err


def rows(out):
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def one_line(text):
    """What was printed, with the console's own line breaks taken out."""
    return " ".join(text.split())


@pytest.mark.parametrize("case", TABLES, ids=str)
def test_table(case, oracle, tmp_path, capsys):
    case.make(tmp_path)
    (prompts,) = (path for path in tmp_path.iterdir() if path.is_file())
    out = tmp_path / "scores.csv"
    before = set(tmp_path.rglob("*"))
    code, _, errors = score(capsys, tmp_path / "pictures", "--oracle", oracle, "--prompts", prompts, "--out", out)
    if isinstance(case.outcome, Refused):
        assert code != 0
        assert all(word in one_line(errors) for word in case.outcome.says), errors
        assert set(tmp_path.rglob("*")) == before
        return
    assert code == 0, errors
    assert [row["prompt"] for row in rows(out)] == case.outcome.value
    assert [row["image"].rsplit("/", 1)[1] for row in rows(out)] == list(NAMES)
    assert set(tmp_path.rglob("*")) == before | {out}


@pytest.mark.parametrize("case", PICTURES, ids=str)
def test_picture(case, oracle, tmp_path, capsys):
    case.make(tmp_path)
    (file,) = (path for path in (tmp_path / "pictures").rglob("*") if path.is_file())
    reference = tmp_path / "pictures" / "zz reference.png"
    right = getattr(case.outcome, "value", None) or Image.new("RGB", (9, 9))
    right.save(reference)
    out = tmp_path / "scores.csv"
    code, told, errors = score(capsys, tmp_path / "pictures", "--oracle", oracle, "--prompt", PROMPT, "--out", out)
    assert code == 0, errors
    scores = {row["image"]: float(row["clipscore"]) for row in rows(out)}
    assert reference.as_posix() in scores
    if isinstance(case.outcome, Refused):
        assert file.as_posix() not in scores
        assert all(word in one_line(told + errors) for word in case.outcome.says)
    elif case.outcome.value is None:
        assert len(scores) == 1 and file.name not in told + errors
    else:
        assert scores[file.as_posix()] == pytest.approx(scores[reference.as_posix()], abs=1e-4)
    assert not [path for path in tmp_path.rglob(".*") if path.is_file() and path != file]

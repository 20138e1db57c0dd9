"""Every oracle family is whole: what is known of it stands in its record, and all that names families is made from it.

A file that is added to ``oracles/families`` is found by these tests, which fail until it is right.
"""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from understudy.cli import main
from understudy.oracles import FAMILIES, load_oracle
from understudy.oracles.about import about
from understudy.oracles.base import Oracle
from understudy.oracles.convert import convert
from understudy.oracles.families import MODULES, TITLES, UNITS
from understudy.oracles.family import Family
from understudy.oracles.published import PUBLISHED, by_name, encoder_for, family_of, folder_for

from . import small_files

PACK = Path(__file__).parents[2]
PROMPTS = ["a small red star left of a large blue circle", "a large yellow triangle", "a large yellow triangle"]
BY_MODULE = dict(zip(MODULES, FAMILIES.values(), strict=True))


@pytest.mark.parametrize("module", MODULES)
def test_a_family_has_a_test_that_makes_a_small_file_of_it(module):
    path = Path(__file__).with_name("families") / f"test_{module}.py"
    assert path.is_file(), f"write {path.relative_to(PACK)}, with small(folder) and a comparison of its scores"
    made = import_module(f".families.test_{module}", __package__)
    assert callable(made.small) and any(name.startswith("test_") for name in vars(made)), path


@pytest.mark.parametrize("module", MODULES)
def test_a_record_says_all_that_is_asked_of_it(module):
    record = BY_MODULE[module]
    assert record.name.replace(".", "_").replace("-", "_") == module, "so that a family's file is found by its name"
    assert record.title and record.unit and record.takes
    assert record.published or (record.licence and record.source), "users must be told whose it is"
    for entry in record.published:
        assert entry.licence and entry.source and entry.url.startswith("https://") and entry.page in entry.url
        assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert entry.folder in ("oracles", "clip_vision") and family_of(entry) == record.name
        assert encoder_for(entry) == (record.encoder and record.encoder.published)


@pytest.mark.parametrize("module", MODULES)
def test_a_file_is_known_told_scored_and_converted(tmp_path, module):
    """The same for all of them: that a small file of each goes through everything that reads oracles."""
    path, encoder = small_files.write_family(module, tmp_path)
    record, family = BY_MODULE[module], BY_MODULE[module].name
    oracle = load_oracle(path, family, encoder=encoder)
    assert (oracle.family, oracle.unit, oracle.reads_prompts) == (record.name, record.unit, record.reads_prompts)
    images = torch.rand(3, 3, 70, 90, generator=torch.Generator().manual_seed(0))
    scores = oracle(images, PROMPTS)
    assert scores.isfinite().all() and scores.unique().numel() == 3
    alone = torch.cat([oracle(images[i : i + 1], PROMPTS[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(scores, alone, atol=1e-4 * scores.abs().max().item(), rtol=0)
    assert (oracle(images, PROMPTS[::-1]) == scores).all() == (not record.reads_prompts)
    assert convert(path, tmp_path / "whole.safetensors", family, encoder) == family
    again = load_oracle(tmp_path / "whole.safetensors")
    assert again.family == family and torch.equal(again(images, PROMPTS), scores)
    told = about(tmp_path / "whole.safetensors")
    assert told["family"] == family and told["unit"] == record.unit and "needs" not in told
    if encoder is not None:
        assert record.encoder.published.name in about(path)["needs"]
        assert family in about(encoder)["family"] or family_of(record.encoder.published)


class Mean(Oracle):
    """A stranger's oracle: how bright a picture is, times the one weight of its file."""

    def __init__(self, file):
        self.network, self.fingerprint = torch.nn.Linear(1, 1, bias=False), "f"
        self.network.weight.data.copy_(file["mean.weight"])

    def prepare(self, images):
        return images

    def score_prepared(self, pixels, prompts):
        return self.network.weight[0, 0] * pixels.mean((1, 2, 3))


def test_a_record_is_all_that_a_family_needs(monkeypatch, tmp_path, capsys):
    """Once it had to stand in two tables, and where one was forgotten `oracle info` died with a bare KeyError."""
    path = small_files.write({"mean.weight": torch.full((1, 1), 2.0)}, tmp_path / "mean.safetensors")
    assert run("info", path) == 2 and "is not an oracle" in capsys.readouterr().err
    record = Family(
        name="mean",
        title="Mean",
        unit="levels of grey",
        takes="`mean.safetensors`",
        fits=lambda file: "mean.weight" in file,
        load=lambda file, fingerprint, dtype, encoder: Mean(file),
        reads_prompts=False,
        licence="MIT",
        source="a stranger",
    )
    monkeypatch.setitem(FAMILIES, "mean", record)
    assert run("info", path) == 0
    told = capsys.readouterr().out
    assert all(words in told for words in ("mean", "levels of grey", "MIT", "a stranger"))
    oracle = load_oracle(path)
    assert (oracle.family, oracle.unit, oracle.reads_prompts) == ("mean", "levels of grey", False)
    torch.testing.assert_close(oracle(torch.full((1, 3, 4, 4), 0.25), [""]), torch.tensor([0.5]))
    assert run("convert", path, "--out", tmp_path / "again.safetensors") == 0


def run(*words):
    """Exit code of an oracle command."""
    try:
        main(["oracle", *map(str, words)])
    except SystemExit as end:
        return end.code or 0
    return 0


def test_published_names_are_all_different():
    assert len({each.name for each in PUBLISHED}) == len({each.file.lower() for each in PUBLISHED}) == len(PUBLISHED)
    assert len(MODULES) == len(FAMILIES), "two records have one name"
    with pytest.raises(ValueError, match="'hps' is no published file; choose one of aesthetic-v2.5"):
        by_name("hps")
    with pytest.raises(ValueError, match="--to FOLDER"):
        folder_for(PUBLISHED[0])


def test_the_readme_lists_every_family():
    section = (PACK / "README.md").read_text(encoding="utf-8").partition("## Oracles")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
    expected = [(f"{each.title}, `{name}`", each.takes, each.unit, _licence(each)) for name, each in FAMILIES.items()]
    missing = "\n".join(f"| {' | '.join(row)} |" for row in expected if row not in rows)
    assert not missing, f"README.md, the table of section Oracles lacks:\n{missing}"
    named = [row for row in rows if row[0] != "family" and "`" in row[0]]
    assert named == expected, "in the order of the records, and none beside them"


def _licence(record):
    return record.licence or " or ".join(dict.fromkeys(entry.licence for entry in record.published))


def test_what_lists_families_to_users_names_all_of_them(capsys):
    for record in FAMILIES.values():
        assert record.title in TITLES and record.unit in UNITS
    source = (PACK / "nodes" / "load_oracle.py").read_text(encoding="utf-8")
    assert not [name for name in FAMILIES if f'"{name}"' in source], "nodes name no family by hand"
    with pytest.raises(SystemExit):
        main(["score", "--help"])
    told = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert not [name for name in FAMILIES if name not in told]


def test_records_are_light(tmp_path):
    """Hosts list families when they start, and so does the command's help."""
    code = "import sys, understudy.cli, understudy.oracles.published; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "transformers", "safetensors", "PIL"} & set(re.findall(r"'([^']+)'", done.stdout))

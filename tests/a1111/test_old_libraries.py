"""Oracles under A1111's own pins: each scores there as it does here, or says in one sentence what it lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from understudy.oracles.convert import convert
from understudy.oracles.families import FAMILIES

from ..host.environment import PACK
from ..oracles import small_files
from ..oracles.references import images
from . import watching
from .test_txt2img import asked

LACKING = {"aesthetic-v2.5"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    return {family: list(map(str, filter(None, pair))) for family, pair in small_files.write_families(folder).items()}


def run(python, files, folder) -> dict:
    listed, pictures = folder / "files.json", folder / "pictures.pt"
    listed.write_text(json.dumps({family: [*pair, None][:2] for family, pair in files.items()}))
    torch.save(images()[:3], pictures)
    command = [str(python), str(Path(__file__).with_name("old_libraries.py")), str(PACK), str(listed), str(pictures)]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=offline)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_family_scores_there_as_here_or_says_what_it_lacks(a1111, files, tmp_path):
    here, there = run(sys.executable, files, tmp_path), run(a1111.python, files, tmp_path)
    assert a1111.lacks or (there["python"] == [3, 10] and there["transformers"] == "4.30.2")
    old = tuple(map(int, there["transformers"].split(".")[:2])) < (4, 37)
    assert set(there["found"]) == set(FAMILIES)
    for family, scores in there["found"].items():
        expected = here["found"][family]
        if old and family in LACKING:
            assert scores.startswith("CheckpointError: ") and "\n" not in scores, scores
            assert f"needs SigLIP, which transformers has from 4.37 on; here is {there['transformers']}" in scores
            assert expected[0] == family
            continue
        assert scores[0] == expected[0] == family
        assert scores[1:] == pytest.approx(expected[1:], rel=1e-4, abs=1e-4), family
        assert len(set(expected[1:])) == 3, "these scores could not differ"


def test_in_the_host_itself(a1111, files):
    """Which replaces torch.load by one that looks into pickles first, and answers None."""
    folder = a1111.base / "models" / "oracles"
    plain = a1111.make()
    # By its own torch: what later ones write has files in it that the host's look does not know.
    save = "import sys, torch, safetensors.torch as s; torch.save(s.load_file(sys.argv[1]), sys.argv[2])"
    subprocess.run([str(a1111.python), "-c", save, files["clipscore"][0], str(folder / "clipscore.pt")], check=True)
    torch.save(load_file(files["clipscore"][0]), folder / "later.pt")
    joined = folder / "v2_5.safetensors"
    convert(files["aesthetic-v2.5"][0], joined, encoder=files["aesthetic-v2.5"][1])
    try:
        made = a1111.make(*asked(oracle="clipscore.pt"))
        assert sorted(made.said("decision")) == ["kept", "kept", "redone", "redone"]
        assert len(set(made.said("score"))) == 4
        for name, words in (("later.pt", "own check refuses"), (joined.name, "aesthetic v2.5 needs")):
            made = a1111.make(*asked(oracle=name))
            if a1111.lacks:  # a host with later libraries, that does not look
                assert made.said("decision").count("redone") == 2
                continue
            assert made.pixels == plain.pixels
            (said,) = watching.page(a1111)
            assert words in said and name in said, said
    finally:
        for name in ("clipscore.pt", "later.pt", joined.name):
            (folder / name).unlink()

"""The demo oracle's targets, its data on disk, and what it makes of a reading."""

from pathlib import Path

import pytest
import torch
from understudy.demo_family import checker
from understudy.demo_family.language import TOKENS, parse, token_ids
from understudy.demo_family.oracle_network import SceneOracleNetwork
from understudy.demo_family.render import render
from understudy.demo_family.scenes import RELATIONS, split_of
from understudy.distill_train.config import Recipe
from understudy.distill_train.demo import pictures as module
from understudy.distill_train.demo.oracle import (
    NOTHING_FITS,
    UNKNOWN,
    SceneOracle,
    Targets,
    held_out_texts,
    text_shown,
)
from understudy.distill_train.demo.pictures import PictureMaker, Pictures
from understudy.distill_train.demo.scenes import draw_scenes

G = torch.Generator().manual_seed(0)
SCENES = draw_scenes(48, G)
PIXELS = render(SCENES, G)
READINGS = checker.read(PIXELS)


def test_the_target_of_a_render_is_its_own_text():
    assert [text_shown(reading) for reading in READINGS] == [token_ids(scene) for scene in SCENES]


def test_mirrored_targets_are_those_of_mirrored_pictures():
    mirrored, read = Targets(READINGS, flip=True), Targets(checker.read(PIXELS.flip(-1)))
    assert torch.equal(mirrored.text, read.text)
    # A centre on the line between two places may fall to either side.
    assert (mirrored.places == read.places).all(dim=-1).float().mean() > 0.99


def test_held_out_scenes_are_known_also_in_the_mirror():
    def reading(first_x, second_x, color):
        thing = checker.Found("small", "red", "star", first_x, 20.0)
        return checker.Reading("gray", (thing, checker.Found("large", color, "circle", second_x, 20.0)))

    for color in ("green", "blue", "yellow", "purple", "cyan"):
        here, there = (f"a small red star {way} a large {color} circle on a gray background" for way in RELATIONS[::2])
        readings = [reading(16.0, 48.0, color), reading(48.0, 16.0, color)]
        expected = [split_of(parse(text).canonical()) != "train" for text in (here, there)]
        assert Targets(readings).held_out.tolist() == expected
        assert Targets(readings, flip=True).held_out.tolist() == expected[::-1]


def test_nothing_is_trained_on_that_shows_a_held_out_scene(monkeypatch):
    monkeypatch.setattr(PictureMaker, "__init__", lambda self, *_: None)
    pictures = Pictures(PIXELS.mul(255).round().byte(), SCENES, READINGS)
    everything = [*SCENES, *draw_scenes(48, G, "test")]
    pixels = render(everything, G)
    mixed = Pictures(pixels.mul(255).round().byte(), everything, checker.read(pixels))
    monkeypatch.setattr(PictureMaker, "sampled", lambda self, *_, **__: mixed)
    monkeypatch.setattr(PictureMaker, "reconstructed", lambda self, *_: pictures)
    recipe = Recipe(method="oracle", seed=0, export="x.safetensors", loop={"steps": 1, "batch_size": 64, "lr": 1e-3})
    oracle = SceneOracle(SceneOracle.Settings(student_steps=(1,), teacher_steps=(4,)), recipe, torch.device("cpu"))
    oracle.prepare(Path("run"))
    assert len(oracle.pixels) == 3 * len(SCENES)
    seen, read = [], oracle.network.read
    monkeypatch.setattr(oracle.network, "read", lambda pixels: (seen.append(pixels), read(pixels))[1])
    oracle.loss(oracle.network, 0)
    shown = [text_shown(reading) for reading in checker.read(seen[0])]
    assert len(shown) == 64 and not any(tuple(text) in held_out_texts() for text in shown)


def test_what_no_text_describes():
    red = checker.Found("small", "red", "star", 20.0, 20.0)
    shapeless = checker.Found("large", "blue", None, 44.0, 24.0)
    three = text_shown(checker.Reading("gray", (red, red, red)))
    assert three[4] == NOTHING_FITS and three[1] == three[7] == UNKNOWN and three[0] > 0
    pair = text_shown(checker.Reading(None, (shapeless, red)))
    assert pair[0] == NOTHING_FITS and pair[7] == NOTHING_FITS and all(pair[1:7])
    places = Targets([checker.Reading("gray", (red, shapeless))]).places[0]
    assert (places[2 * 8 + 2] > 0).all() and places[3 * 8 + 5, 2] == UNKNOWN
    assert (places != NOTHING_FITS).any(dim=-1).sum() == 2


def test_a_score_is_the_log_odds_of_the_text():
    torch.manual_seed(0)
    network = SceneOracleNetwork()
    pictures, tokens = torch.rand(3, 3, 64, 64), torch.tensor([token_ids(scene) for scene in SCENES[:3]])
    probability = torch.ones(3)
    slots = network.read(pictures)[0].softmax(dim=-1)
    assert torch.allclose(slots.sum(dim=-1), torch.ones(3, TOKENS)) and slots[:, 0, tokens[:, 1]].max() == 0
    for row in range(3):
        for slot in range(TOKENS):
            probability[row] *= slots[row, slot, tokens[row, slot]]
    assert torch.allclose(network(pictures, tokens), torch.logit(probability), atol=1e-3)


def test_scores_stay_finite_for_a_sure_network():
    network = SceneOracleNetwork()
    tokens = torch.tensor([token_ids(SCENES[0])])
    with torch.no_grad():
        network.words.weight.zero_()
        network.words.bias.fill_(-1000)
        network.words.bias[tokens[0]] = 1000
    other = torch.tensor([token_ids(SCENES[1])])
    sure, wrong = network(torch.rand(1, 3, 64, 64), tokens), network(torch.rand(1, 3, 64, 64), other)
    assert torch.isfinite(sure).all() and torch.isfinite(wrong).all() and sure > 10 > -10 > wrong


def test_pictures_are_made_once(tmp_path, monkeypatch):
    def maker():
        parts = (Path(f"{part}.safetensors") for part in ("vae", "teacher", "student"))
        return PictureMaker(*parts, seed=1, device=torch.device("cpu"), cache=tmp_path)

    first = maker().sampled("student", 1, 3), maker().reconstructed(3)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(module.family, "decode", lambda *_: pytest.fail("made again"))
    again = maker().sampled("student", 1, 3), maker().reconstructed(3)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.pixels, b.pixels) and a.scenes == b.scenes and a.readings == b.readings

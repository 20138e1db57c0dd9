"""The teacher's part of a job: one pass for a batch, what becomes of its pictures, what it costs to load."""

import logging
import math
import re
from types import SimpleNamespace

import pytest
import torch
from understudy.a1111 import redoing
from understudy.a1111.choices import SCORE, Choices
from understudy.a1111.entry import Entry
from understudy.a1111.files import REPLACE, Files, written
from understudy.a1111.gallery import Gallery
from understudy.a1111.redoing import Teacher
from understudy.a1111.second_pass import Redone
from understudy.a1111.sources import Picture
from understudy.a1111.trouble import NotRedone

REASON = "it has values that are none"


def entry(score, seed=1) -> Entry:
    pixels = torch.full((3, 4, 4), score)
    return Entry(Picture("a cat", "", seed, seed, pixels, None, score), evaluations=4)


def judge(images, prompts):
    means = [float(image.mean()) for image in images]
    return [(mean, REASON if math.isnan(mean) else "") for mean in means]


@pytest.fixture
def teacher(stand_in, monkeypatch):
    """Makes a Teacher whose pictures have these means; ``passes`` are what it was asked for."""
    passes = []

    def of(means, unusable=None, **choices):
        def redo(p, asked, pictures):
            passes.append(len(pictures))
            made = [torch.full((3, 4, 4), mean) for mean in means]
            return Redone(made, unusable or [""] * len(made), 2.5, (), 40)

        monkeypatch.setattr(redoing, "redo", redo)
        p = SimpleNamespace(comments=[], comment=lambda text: p.comments.append(text))
        made = Teacher(p, Choices(enabled=True, oracle="o", rule=SCORE, **choices), judge)
        made.passes = passes
        return made

    return of


def test_one_pass_takes_all_and_only_the_better_stay(teacher):
    made = teacher([0.5, 0.25, 0.75])
    entries = [entry(0.25), entry(0.5), entry(0.5)]
    assert list(made.redoes(entries)) == [entries[0], entries[2]] and made.passes == [3]
    assert [each.decision for each in entries] == ["redone", "redone but the student's was better", "redone"]
    assert [each.teacher is not None for each in entries] == [True, False, True]
    assert all(each.evaluations == 44 and each.by_teacher == 40 and each.sigma == 2.5 for each in entries)
    assert list(teacher([0.5]).redoes([])) == [] and made.passes == [3]


@pytest.mark.parametrize("keep_better", [True, False])
def test_a_teachers_picture_without_a_score_leaves_the_students_and_the_others(teacher, keep_better):
    entries = [entry(0.25), entry(0.25)]
    changed = list(teacher([math.nan, 0.5], keep_better=keep_better).redoes(entries))
    assert changed == [entries[1]]
    assert entries[0].decision == f"not redone: the teacher's picture is not scored: {REASON}"
    assert entries[0].teacher is None and entries[0].score_after is None


def test_what_cannot_be_used_is_said_of_its_picture_alone(teacher):
    made = teacher([0.5, 0.5], unusable=["black", ""])
    entries = [entry(0.25), entry(0.25)]
    assert list(made.redoes(entries)) == [entries[1]] and entries[0].decision == "not redone: black"
    assert made.p.comments == ["Understudy: 1 picture not redone: black"]


def test_a_pass_that_did_not_end_is_said_of_all(teacher, monkeypatch):
    made, entries = teacher([]), [entry(0.25), entry(0.25)]

    def fail(*_):
        raise NotRedone("out of memory")

    monkeypatch.setattr(redoing, "redo", fail)
    assert list(made.redoes(entries)) == []
    assert [each.decision for each in entries] == ["not redone: out of memory"] * 2
    assert all(each.evaluations == 4 for each in entries)


@pytest.mark.parametrize(
    ("limit", "loaded", "words"),
    [(1, False, "for each batch .* at 2 keeps both"), (2, False, "for each batch"), (1, True, None)],
)
def test_what_another_checkpoint_costs_is_said_once(teacher, stand_in, monkeypatch, caplog, limit, loaded, words):
    stand_in.shared.opts.sd_checkpoints_limit = limit
    monkeypatch.setattr(redoing.host, "checkpoint_title", lambda name: name)
    monkeypatch.setattr(redoing.host, "is_loaded", lambda title: loaded)
    made = teacher([0.5], teacher="slow.safetensors")
    for _ in range(2):
        list(made.redoes([entry(0.25)]))
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    said = [record.getMessage() for record in told if "another checkpoint" in record.getMessage()]
    assert len(said) == (words is not None)
    if words is not None:
        assert re.search(words, said[0]) and ("keeps both" in said[0]) == (limit == 1)


def test_what_the_student_took_to_load_again_is_said_once(teacher, monkeypatch, caplog):
    made = teacher([0.5])
    took = iter([None, 3.14, 2.0])
    redo = redoing.redo
    monkeypatch.setattr(redoing, "redo", lambda *given: redo(*given)._replace(seconds=next(took)))
    for _ in range(3):
        list(made.redoes([entry(0.25)]))
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["Understudy: loading the student's checkpoint again took 3.1 s"]


def test_a_text_has_no_number_that_is_none():
    kept = entry(math.nan)
    kept.evaluations = None
    assert kept.keys() == {"Understudy decision": "kept"} and not kept.scored
    full = entry(0.25)
    full.tries, full.first_seed = 3, 7
    assert full.keys()["Understudy score"] == "0.25" and full.keys()["Understudy tries"] == "3"
    assert full.keys()["Understudy first seed"] == "7" and full.keys()["Understudy evaluations"] == "4"


class Image:
    def __init__(self, name):
        self.name, self.info = name, {}

    def __repr__(self):
        return self.name


@pytest.fixture
def gallery(stand_in):
    """Of two pictures with a mask each, a grid before them and another extension's picture behind them."""
    opts = stand_in.shared.opts
    opts.return_mask, opts.return_mask_composite, opts.enable_pnginfo = True, False, True
    opts.grid_only_if_multiple, opts.grid_save = True, True
    images = [Image(name) for name in ("grid", "one", "mask", "two", "mask", "extra")]
    entries = [entry(0.25), entry(0.5)]
    for place, at in enumerate((1, 3)):
        entries[place].image, entries[place].place = images[at], place
    processed = SimpleNamespace(images=images, infotexts=["of all", "of one", "of two"], index_of_first_image=1)
    p = SimpleNamespace(mask_for_overlay=object(), do_not_save_grid=False, batch_size=1)
    stand_in.images.image_grid = lambda pictures, batch_size: Image("+".join(each.name for each in pictures))
    return Gallery(p, processed, entries)


def test_pictures_are_told_from_grid_masks_and_what_others_add(gallery):
    first, second = gallery.entries
    assert [gallery.place(first), gallery.place(second)] == [1, 3]
    assert gallery.text(second) == "of two"
    gallery.put(second, 3, Image("new"), "another text")
    assert gallery.processed.infotexts == ["of all", "of one", "another text"]
    assert str(gallery.processed.images) == "[grid, one, mask, new, mask, extra]"
    written = []
    saved = SimpleNamespace(last=SimpleNamespace(path="grid.png", text="of all"))
    saved.write = lambda image, path, text: written.append((image.name, path, text))
    gallery.renew_grid(saved)
    assert gallery.processed.images[0].name == "one+mask+new+mask"
    assert written == [("one+mask+new+mask", "grid.png", "of all")]
    assert gallery.processed.images[0].info == {"parameters": "of all"}


def test_a_picture_that_another_extension_replaced_has_no_place(gallery):
    gallery.processed.images[1] = Image("theirs")
    assert gallery.place(gallery.entries[0]) is None


def test_where_the_host_tells_no_image_the_order_does(gallery):
    gallery.processed.images = [Image("grid"), Image("one"), Image("two")]
    for each in gallery.entries:
        each.image = each.place = None
    assert [gallery.place(each) for each in gallery.entries] == [1, 2]
    assert gallery.text(gallery.entries[1]) == "of two"


def test_the_one_text_that_the_page_shows_follows(gallery):
    gallery.first, gallery.processed.index_of_first_image = 0, 0
    gallery.processed.infotexts = ["of one", "of two"]
    gallery.put(gallery.entries[0], 1, Image("new"), "another text")
    assert gallery.processed.info == "another text"


@pytest.mark.parametrize(("replace", "count"), [("Replace", "Add number suffix"), ("Override", "Number Suffix")])
def test_the_file_that_was_just_written_is_found_where_the_host_counts_up(stand_in, tmp_path, replace, count):
    """A1111's and Forge's words, and Forge Neo's."""
    opts = stand_in.shared.opts
    opts.get_default = lambda name: replace
    opts.save_images_replace_action = replace
    for name in ("7.png", "7-1.png", "7-2.png", "7-9.png"):
        (tmp_path / name).touch()
    assert written(tmp_path / "7.png") == tmp_path / "7.png"
    opts.save_images_replace_action = count
    assert written(tmp_path / "7.png") == tmp_path / "7-2.png"
    opts.data[REPLACE] = count
    with Files(SimpleNamespace(), False).own():
        assert opts.data == {REPLACE: replace}
    assert opts.data == {REPLACE: count}

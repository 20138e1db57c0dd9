"""The receipt says what its pictures show: no change that is not there, and none unsaid."""

import json

import pytest
import torch
from understudy.decisions import KEPT, REDONE, REFINED, REGENERATED, REVERTED
from understudy.oracles.scores import Scores
from understudy.oracles.threshold import Threshold

STUDENT, TEACHER, UPSCALED = torch.zeros(4, 4, 3), torch.ones(4, 4, 3), torch.ones(8, 8, 3)


@pytest.mark.parametrize(
    ("after", "asked", "judged", "word"),
    [
        (TEACHER, REFINED, None, REFINED),
        (TEACHER, REGENERATED, REDONE, REGENERATED),
        (STUDENT, KEPT, KEPT, KEPT),
        (STUDENT, REFINED, REVERTED, REVERTED),
        (STUDENT, REFINED, None, REVERTED),  # whatever put it back
        (TEACHER, REFINED, REVERTED, REDONE),  # the student's with grain on it, say: not what the teacher made
        (TEACHER, KEPT, None, REDONE),  # by a node behind Teacher
        (STUDENT, None, None, KEPT),  # no receipt: Teacher is bypassed
        (STUDENT, None, REVERTED, REVERTED),
        (TEACHER, None, None, REDONE),
        (UPSCALED, KEPT, None, KEPT),
        (UPSCALED, REFINED, REVERTED, REVERTED),
        (UPSCALED, REFINED, REDONE, REFINED),
        (UPSCALED, None, None, REDONE),
    ],
)
def test_the_pixels_decide_what_became_of_an_image(without_host, after, asked, judged, word):
    from understudy.nodes.receipt import decided

    assert decided(STUDENT, after, asked, judged) == word
    assert decided(STUDENT.half(), after, asked, judged) == word  # the teacher's images may be of another type


def test_an_infinite_score_leaves_the_metadata_json(without_host, monkeypatch, tmp_path):
    from understudy.nodes import receipt as module

    saved = []
    monkeypatch.setattr(module, "_save", lambda picture, name, hidden, facts: saved.append(facts))
    node = module.UnderstudyReceipt
    monkeypatch.setattr(node, "hidden", None, raising=False)
    scores = Scores((float("-inf"), 1.0), ("",) * 2, None, ("",) * 2)
    node.execute([torch.stack([STUDENT] * 2)], [torch.stack([STUDENT] * 2)], [scores], [Threshold.fixed(0)])
    for facts in saved:
        json.dumps(facts, allow_nan=False)
    assert [facts["score"] for facts in saved[1:]] == [None, 1.0]


def told(after, values, threshold, receipts):
    from understudy.nodes.receipt import _rows, _teacher_lines, _threshold_lines

    scores = [Scores(tuple(values), ("",) * len(values), None, ("",) * len(values))]
    counts = {"images": len(after)}
    rows = _rows([STUDENT] * len(values), after, counts, scores, receipts)
    return [*_threshold_lines(rows, threshold, receipts), *_teacher_lines(rows, receipts)]


def test_what_it_says_of_the_threshold_is_what_happened(without_host):
    from understudy.nodes.types import Receipt

    one_of_two = [Receipt((REFINED, KEPT), (8, 0), 2.0)]
    worst = Threshold.worst_fraction(0.25)
    assert told([TEACHER, STUDENT], [1, 2], worst, one_of_two) == [
        "2 images: 1 kept, 1 refined",
        "threshold: the worst 25 %: 1 of 2, those below 2.000",
        "teacher: 8 network evaluations in 2.0 s for 1 of 2 images; for all of them it would have been 16",
    ]
    tied = told([TEACHER, STUDENT], [1, 1], worst, one_of_two)
    assert tied[1] == "threshold: the worst 25 %: 1 of 2"
    alone = told([STUDENT], [1], worst, [Receipt((KEPT,), (0,))])
    assert alone[1] == "threshold: the worst 25 %: 0 of 1" and "a single image has no worst" in alone[2]
    assert alone[3] == "teacher: not needed, so it was not even loaded"
    fixed = told([TEACHER, STUDENT], [1, 2], Threshold.fixed(3), one_of_two)
    assert fixed[1] == "threshold: scores below 3.000: 2 of 2"
    assert fixed[2].startswith("Teacher chose other images than this threshold does")


def test_a_teacher_without_a_receipt_costs_nothing_that_is_made_up(without_host):
    fixed = Threshold.fixed(0.5)
    bypassed = told([STUDENT, STUDENT], [0, 1], fixed, None)
    assert bypassed == [
        "2 images: 2 kept",
        "threshold: scores below 0.500: 1 of 2",
        "teacher: no receipt of it is connected, and no image is changed",
    ]
    of_ones_own = told([TEACHER, STUDENT], [0, 1], fixed, None)
    assert of_ones_own[0] == "2 images: 1 kept, 1 redone"
    assert of_ones_own[2] == "teacher: no receipt of it is connected, what the 1 changed images cost is not known"


@pytest.mark.parametrize("evaluations", [0, 12])
def test_the_teacher_was_needed_where_it_redid_an_image_whatever_was_counted(without_host, evaluations):
    from understudy.nodes.types import Receipt

    for after, word in ((TEACHER, REFINED), (TEACHER, REGENERATED), (STUDENT, REFINED)):
        lines = told(
            [after, *[STUDENT] * 2], [0, 1, 1], Threshold.fixed(0.5), [Receipt((word, KEPT, KEPT), (evaluations, 0, 0))]
        )
        assert lines[2].startswith(f"teacher: {evaluations} network evaluations in 0.0 s for 1 of 3 images")
        assert f"would have been {3 * evaluations}" in lines[2]


@pytest.mark.parametrize("images, scores, decisions", [(1, 2, 2), (2, 3, 2), (2, 2, 3)])
def test_both_counts_are_named(without_host, images, scores, decisions):
    from understudy.nodes.receipt import _rows
    from understudy.nodes.types import Receipt

    scored = [Scores((0.0,) * scores, ("",) * scores, None, ("",) * scores)]
    receipts = [Receipt((KEPT,) * decisions, (0,) * decisions)]
    with pytest.raises(ValueError, match=r"[13] (images|scores|decisions in the receipt) for 2 images_before"):
        _rows([STUDENT] * 2, [STUDENT] * images, {"images": images}, scored, receipts)

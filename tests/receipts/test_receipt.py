"""The receipt says what its pictures show: no change that is not there, and none unsaid."""

import pytest
import torch
from understudy.oracles.scores import Scores
from understudy.oracles.threshold import Threshold
from understudy.receipts.receipt import (
    Receipt,
    decided,
    headline,
    rows_of,
    student_lines,
    teacher_lines,
    threshold_lines,
)
from understudy.samplers.decisions import KEPT, REDONE, REFINED, REGENERATED, REVERTED

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
def test_the_pixels_decide_what_became_of_an_image(after, asked, judged, word):
    assert decided(STUDENT, after, asked, judged) == word
    assert decided(STUDENT.half(), after, asked, judged) == word  # the teacher's images may be of another type


def told(after, values, threshold, receipts):
    scores = [Scores(tuple(values), ("",) * len(values), None, ("",) * len(values))]
    counts = {"images": len(after)}
    rows = rows_of([STUDENT] * len(values), after, counts, scores, receipts)
    return [*threshold_lines(rows, threshold, receipts), *teacher_lines(rows, receipts)]


def test_what_it_says_of_the_threshold_is_what_happened():

    one_of_two = [Receipt((REFINED, KEPT), (8, 0), 2.0)]
    worst = Threshold.worst_fraction(0.25)
    assert told([TEACHER, STUDENT], [1, 2], worst, one_of_two) == [
        "2 images: 1 kept, 1 refined",
        "threshold: the worst 25 %: 1 of 2, those below 2.000",
        "teacher: 8 network evaluations in 2.0 s (0.25 s an evaluation) for 1 of 2 images; "
        "for all of them it would have been 16",
    ]
    by_number = told([TEACHER, STUDENT], [1, 2], Threshold.worst_n(1), one_of_two)
    assert by_number[1] == "threshold: the worst 1: 1 of 2, those below 2.000"
    tied = told([TEACHER, STUDENT], [1, 1], worst, one_of_two)
    assert tied[1] == "threshold: the worst 25 %: 1 of 2"
    alone = told([STUDENT], [1], worst, [Receipt((KEPT,), (0,))])
    assert alone[1] == "threshold: the worst 25 %: 0 of 1" and "a single image has no worst" in alone[2]
    assert alone[3] == "teacher: not needed, so it was not even loaded"
    fixed = told([TEACHER, STUDENT], [1, 2], Threshold.fixed(3), one_of_two)
    assert fixed[1] == "threshold: scores below 3.000: 2 of 2"
    assert fixed[2].startswith("Teacher chose other images than this threshold does")


def test_a_teacher_without_a_receipt_costs_nothing_that_is_made_up():
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
def test_the_teacher_was_needed_where_it_redid_an_image_whatever_was_counted(evaluations):

    for after, word in ((TEACHER, REFINED), (TEACHER, REGENERATED), (STUDENT, REFINED)):
        lines = told(
            [after, *[STUDENT] * 2], [0, 1, 1], Threshold.fixed(0.5), [Receipt((word, KEPT, KEPT), (evaluations, 0, 0))]
        )
        assert lines[2].startswith(f"teacher: {evaluations} network evaluations for 1 of 3 images")
        assert f"would have been {3 * evaluations}" in lines[2]


@pytest.mark.parametrize("images, scores, decisions", [(1, 2, 2), (2, 3, 2), (2, 2, 3)])
def test_both_counts_are_named(images, scores, decisions):
    from understudy.receipts.receipt import Receipt, rows_of

    scored = [Scores((0.0,) * scores, ("",) * scores, None, ("",) * scores)]
    receipts = [Receipt((KEPT,) * decisions, (0,) * decisions)]
    with pytest.raises(ValueError, match=r"[13] (images|scores|decisions in the receipt) for 2 images_before"):
        rows_of([STUDENT] * 2, [STUDENT] * images, {"images": images}, scored, receipts)


def test_a_student_s_tries_are_counted_where_somebody_counted():
    counted = Scores((1.0, 2.0), ("",) * 2, None, ("",) * 2, tries=(4, 1), student_evaluations=(16, 4))
    plain = Scores((1.0,), ("",), None, ("",))
    assert list(student_lines([counted, plain, counted.of([1])])) == [
        "student: 24 network evaluations in 6 tries of 3 images"
    ]
    assert list(student_lines([plain])) == []


def in_short(after, receipts, judged=()):
    """The headline of a student's images, of which these became."""
    count = len(after)
    scores = [Scores((0.0,) * count, ("",) * count, None, ("",) * count, decisions=judged)]
    return headline(rows_of([STUDENT] * count, after, {"images": count}, scores, receipts), receipts)


def test_the_headline_says_what_the_teacher_did_and_saved():
    of_eight = [TEACHER] * 2 + [STUDENT] * 6
    took = [Receipt((REFINED,) * 2 + (KEPT,) * 6, (24,) * 2 + (0,) * 6, 3.14)]
    assert in_short(of_eight, took) == "teacher ran on 2 of 8; 75 % of its work saved; 3.1 s"
    put_back = in_short([STUDENT, *of_eight[1:]], took)
    assert put_back == "teacher ran on 2 of 8, 1 put back; 75 % of its work saved; 3.1 s"
    halves = [Receipt((REFINED, KEPT), (24, 0), 1.5), Receipt((REGENERATED, KEPT), (24, 0), 2.5)]
    assert in_short([TEACHER, STUDENT] * 2, halves) == "teacher ran on 2 of 4; 50 % of its work saved; 4.0 s"
    assert in_short([STUDENT], [Receipt((KEPT,), (0,), 0.1)]) == "teacher not needed; the image passed"
    assert in_short([STUDENT] * 3, [Receipt((KEPT,) * 3, (0,) * 3)]) == "teacher not needed; all 3 passed"


def test_the_headline_has_no_number_that_nobody_measured():
    unmeasured = [Receipt((REFINED, KEPT), (24, 0), 1.5), Receipt((REFINED, KEPT), (24, 0))]
    assert in_short([TEACHER, STUDENT] * 2, unmeasured) == "teacher ran on 2 of 4; 50 % of its work saved"
    own_nodes = [Receipt((REDONE, KEPT), (None, 0))]
    assert in_short([TEACHER, STUDENT], own_nodes) == "your own nodes ran on 1 of 2"
    assert in_short([TEACHER, STUDENT], None) == "1 of 2 changed; no receipt of the teacher is connected"
    back = in_short([STUDENT, STUDENT], None, (REVERTED, KEPT))
    assert back == "0 of 2 changed, 1 put back; no receipt of the teacher is connected"


def test_the_headline_tells_what_nodes_behind_the_teacher_changed():
    took = [Receipt((REFINED, KEPT, KEPT), (24, 0, 0), 1.0)]
    line = in_short([TEACHER, TEACHER, STUDENT], took)
    assert line == "teacher ran on 1 of 3; 66.7 % of its work saved; 1.0 s; 1 more changed by nodes behind it"
    passed = in_short([STUDENT, TEACHER], [Receipt((KEPT, KEPT), (0, 0), 0.1)])
    assert passed == "teacher not needed; all 2 passed; 1 more changed by nodes behind it"


def test_a_row_has_what_divides_its_batch_what_the_teacher_made_and_the_tries():
    scores = [Scores((1.0, 2.0), ("",) * 2, None, ("",) * 2, tries=(4, 1), student_evaluations=(8, 2))]
    given = [STUDENT] * 2, [STUDENT] * 2, {"images": 2}, scores, None
    rows = rows_of(*given, Threshold.worst_n(1), [TEACHER, STUDENT])
    assert [(row.threshold, row.tries) for row in rows] == [(2.0, 4), (2.0, 1)]
    assert rows[0].teacher is TEACHER and rows[1].teacher is STUDENT
    plain = rows_of(*given)
    assert [(row.threshold, row.teacher) for row in plain] == [(None, None)] * 2

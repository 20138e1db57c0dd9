"""The report picture holds every image and its decision."""

import pytest
import torch
from understudy.receipts.cards import COLOURS, Row, report_picture


def row(decision="kept", side=64, **changes):
    facts = {
        "before": torch.zeros(side, side, 3),
        "after": torch.ones(side, side, 4),
        "decision": decision,
        "score": 0.5,
    }
    return Row(**{**facts, "score_after": None, "evaluations": 0, "prompt": "a red star", **changes})


@pytest.mark.parametrize("count", [1, 2, 8, 33])
def test_there_is_a_card_for_each_image(count):
    picture = report_picture([row() for _ in range(count)], ["totals"])
    white = sum(n for n, colour in picture.getcolors(1 << 24) if colour == (255, 255, 255))
    assert white > count * 176 * 176
    assert picture.width < 3 * picture.height or count == 1


def test_decisions_have_their_colours():
    rows = [row(decision, score_after=0.7, evaluations=12) for decision in COLOURS]
    colours = {colour for _, colour in report_picture(rows, ["one", "two"]).getcolors(1 << 24)}
    assert {tuple(bytes.fromhex(colour[1:])) for colour in COLOURS.values()} <= colours


def test_long_prompts_and_odd_shapes_fit():
    wide = row(before=torch.zeros(10, 500, 3), after=torch.zeros(500, 10, 3), prompt="word " * 200)
    assert report_picture([wide], []).width == report_picture([row()], []).width

"""The picture says what happened: the redone images first and large, the kept ones once, each prompt once."""

import colorsys
from itertools import pairwise

import pytest
import torch
from understudy.lettering import length
from understudy.receipts import bars, cards, page, pairs, tiles
from understudy.receipts.bars import Mark
from understudy.receipts.cards import report_picture
from understudy.receipts.looks import DARK, LIGHT, LOOKS
from understudy.receipts.receipt import Row
from understudy.samplers.decisions import DECISIONS, KEPT, REDONE, REFINED, REGENERATED, REVERTED

RED, GREEN, BLUE = (230, 0, 0), (0, 160, 0), (0, 0, 230)


def plain(colour, height=64, width=64):
    return (torch.tensor(colour).float() / 255).expand(height, width, 3)


def row(decision=KEPT, size=(64, 64), **changes):
    """A student's red image, of which the teacher made a blue one."""
    before, made = plain(RED, *size), plain(BLUE, *size)
    facts = {"before": before, "after": before if decision in (KEPT, REVERTED) else made, "decision": decision}
    facts |= {"score": 0.2, "score_after": None if decision == KEPT else 0.7, "evaluations": 12, "prompt": ""}
    return Row(**{**facts, **changes})


def boxes(picture, colour):
    """Where in a picture the rectangles of one colour are, from top to bottom, then left to right."""
    from scipy.ndimage import find_objects, label

    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(*picture.size[::-1], 3)
    found, _ = label((pixels == torch.tensor(colour)).all(-1).numpy())
    return sorted((y.start, x.start, y.stop - y.start, x.stop - x.start) for y, x in find_objects(found))


@pytest.fixture
def first_lines(monkeypatch):
    """The part of the picture, left and right of every text and mark on a part's first line."""
    found = []
    draw, real = bars.Mark.draw, pairs.write

    def wrote(picture, at, text, size, colour, anchor="la"):
        if at[1] == 0:
            left = at[0] - length(text, size) * {"l": 0, "m": 0.5, "r": 1}[anchor[0]]
            found.append((picture, left, left + length(text, size)))
        real(picture, at, text, size, colour, anchor)

    def marked(mark, picture, x, y, inside):
        if y < page.LINE:  # not on a bar, where marks may lie over each other
            found.append((picture, x - bars.RADIUS, x + bars.RADIUS))
        draw(mark, picture, x, y, inside)

    monkeypatch.setattr(pairs, "write", wrote)
    monkeypatch.setattr(bars.Mark, "draw", marked)
    return found


@pytest.fixture
def texts(monkeypatch):
    """The texts that are drawn, in their order."""
    drawn = []

    def noting(module):
        real = module.write
        monkeypatch.setattr(module, "write", lambda *args: (drawn.append(args[2]), real(*args))[1])

    for module in (page, pairs, tiles):
        noting(module)
    return drawn


def test_the_redone_come_first_and_large_and_the_kept_once_and_small():
    picture = report_picture([row(), row(REFINED), row(), row(REDONE), row()], ["two of five"])
    before, after = boxes(picture, RED), boxes(picture, BLUE)
    assert len(before) == 2 + 3 and len(after) == 2
    (first, *_), (second, *_) = after
    assert [each[0] for each in before[:2]] == [first, second] and all(each[0] > second for each in before[2:])
    large, small = after[0][2], before[-1][2]
    assert small * 1.5 < large == before[0][2] and {each[2] for each in before[2:]} == {small}
    assert all(one[1] + one[3] < other[1] for one, other in zip(before, after, strict=False))  # before is on the left


@pytest.mark.parametrize("count", [1, 2, 3, 4, 10])
def test_every_pair_is_there_whatever_their_number(count):
    picture = report_picture([row(REFINED)] * count, ["all"])
    before, after = boxes(picture, RED), boxes(picture, BLUE)
    assert len(before) == len(after) == count and len({each[2:] for each in before + after}) == 1
    assert picture.height < (1.2 if count == 1 else 1.1) * picture.width
    assert before[0][2] > picture.width / (4 if count == 1 else 12)


def test_a_page_is_rather_wide_than_high_as_nodes_and_screens_are():
    rows = [row(REFINED, prompt="a cat")] * 3 + [row(prompt="a dog")] * 5
    three_of_eight = report_picture(rows, ["three", "more"])
    assert 1.2 < three_of_eight.width / three_of_eight.height < 1.8
    assert len({top for top, *_ in boxes(three_of_eight, BLUE)}) == 1, "all three side by side"


def test_what_was_put_back_stands_behind_the_redone_with_what_the_teacher_had_made(texts):
    rows = [row(REVERTED, teacher=plain(GREEN)), row(REFINED), row(REVERTED, score_after=0.1)]
    picture = report_picture(rows, ["one of three"])
    (made,), (redone,) = boxes(picture, GREEN), boxes(picture, BLUE)
    before = boxes(picture, RED)
    assert len(before) == 3 and made[:2] > redone[:2] and made[2] == redone[2]
    told = " ".join(texts)
    assert told.index("image 2") < told.index("image 1") < told.index("image 3") and texts.count("put back") == 2
    assert told.count("is not at hand") == 1, "only where the teacher's is not known"
    # The frame is around the image that stays.
    frames = {decision: tuple(bytes.fromhex(LIGHT.decisions[decision][1:])) for decision in (REFINED, REVERTED)}
    framed = {decision: max(boxes(picture, colour), key=lambda box: box[2]) for decision, colour in frames.items()}
    assert framed[REFINED][1] < redone[1] < framed[REFINED][1] + 10
    assert framed[REVERTED][1] < before[1][1] < framed[REVERTED][1] + 10


def test_images_are_counted_from_one_and_each_prompt_is_written_once(texts):
    prompts = ["a cat", "a dog", "a cat", "a dog", "an owl"]
    decisions = [REFINED, KEPT, REFINED, REDONE, KEPT]
    report_picture([row(d, prompt=p) for d, p in zip(decisions, prompts, strict=True)], ["three of five"])
    assert [text for text in texts if text.startswith("image")] == [
        *("image 1", "image 3", "image 4"),
        *("image 2", "image 5", "image 5: an owl"),
    ]
    told = " ".join(texts)
    assert [told.count(prompt) for prompt in ("a cat", "a dog", "an owl")] == [1, 1, 1]
    assert texts.count("prompt: as image 1") == 1 and "image 0" not in told
    texts.clear()
    report_picture([row(d, prompt="a cat") for d in decisions], ["three of five"])
    assert texts[:2] == ["three of five", "a cat"] and " ".join(texts).count("a cat") == 1
    report_picture([row(REFINED, prompt="a cat"), *[row(prompt="a dog")] * 3], ["one of four"])
    assert "image 2, 3, 4: a dog" in texts
    report_picture([row(REFINED, prompt="a cat"), *[row(prompt="a dog")] * 8], ["one of nine"])
    assert "image 2, 3, 4, 5, 6 and 3 more: a dog" in texts


def test_scores_and_costs_are_written(texts):
    rows = [row(REFINED, threshold=0.5), row(tries=3, score=0.876), row(REDONE, evaluations=None, score_after=None)]
    report_picture([*rows, row(REGENERATED, tries=2), row(REDONE, evaluations=0)], ["four of five", "a line below"])
    for text in ("student 0.200", "teacher 0.700", "redone", "0.876", "3 tries", "cost not known", "a line below"):
        assert text in texts
    assert "12 evaluations, 2 tries" in texts and "by a later node" in texts
    texts.clear()
    report_picture([row(REFINED, evaluations=6.0), row(REFINED, evaluations=1), row(REFINED, evaluations=6.5)], [])
    assert [text for text in texts if "evaluation" in text] == ["6 evaluations", "1 evaluation", "6.5 evaluations"]


@pytest.mark.parametrize("count", [1, 2, 10])
@pytest.mark.parametrize("score", [0.2, -10.034, 123.456, -98765.4, 1.5e12])
def test_long_numbers_and_names_leave_room_for_what_stands_beside_them(first_lines, count, score):
    long = row(REGENERATED, score=score, score_after=-score, tries=12, evaluations=123456, threshold=score)
    report_picture([long] * count, [], names=["image 1234"] * count)
    parts = {id(picture): picture for picture, *_ in first_lines}
    assert len(parts) == 2 * count, "a title and a line of labels for each"
    for key, picture in parts.items():
        spans = sorted(span for part, *span in first_lines if id(part) == key)
        assert spans[0][0] >= 0 and spans[-1][1] <= picture.width
        assert all(one[1] < other[0] for one, other in pairwise(spans)), spans
        assert len(spans) in (2, 4)


def test_numbers_under_a_tile_are_whole(texts):
    report_picture([row(REFINED), *[row(score=-98765.4, tries=12, likeness=0.5)] * 20], [])
    assert {"-98765", "12 tries", "likeness 0.500"} <= {*texts}


def test_texts_of_a_wide_page_grow_by_the_root_of_its_width(monkeypatch):
    sizes, real = [], page.write
    monkeypatch.setattr(page, "write", lambda *args: (sizes.append((args[2], args[3])), real(*args))[1])
    widths = [report_picture([row(REFINED)] * count, ["in short", "below"]).width - 32 for count in (1, 25)]
    for text in ("in short", "below"):
        narrow, wide = (size for said, size in sizes if said == text)
        assert wide / narrow == pytest.approx((widths[1] / widths[0]) ** 0.5, rel=0.03) and widths[1] > 2 * widths[0]


def test_the_kept_are_larger_alone_with_their_scores_on_a_bar():
    beside, alone = report_picture([row(), row(REFINED)], []), report_picture([row(), row()], [])
    assert boxes(alone, RED)[0][2] > 2 * boxes(beside, RED)[-1][2]
    green = tuple(bytes.fromhex(LIGHT.decisions[KEPT][1:]))
    rings = [box for box in boxes(report_picture([row(), row(score=0.9)], []), green) if box[2] == 17]
    assert len(rings) == 2
    cut, cuts = ([row(threshold=each, score=0.9) for each in pair] for pair in ((0.5, 0.5), (0.5, 0.6)))
    rejected = tuple(bytes.fromhex(LIGHT.rejected[1:]))
    assert boxes(report_picture(cut, []), rejected) and not boxes(report_picture(cuts, []), rejected)


def test_portraits_landscapes_and_grains_fit_their_places():
    for height, width in ((1216, 832), (768, 1344), (2, 2), (10, 500)):
        picture = report_picture([row(REFINED, (height, width)), row(size=(height, width))], [])
        for _, _, high, wide in boxes(picture, RED) + boxes(picture, BLUE):
            assert high / wide == pytest.approx(height / width, rel=0.06, abs=0.01)
    mixed = report_picture([row(REFINED, (64, 32)), row(REFINED, (32, 64))], [])
    tall, flat = boxes(mixed, BLUE)
    assert tall[2] > 1.9 * tall[3] and flat[3] > 1.9 * flat[2] and flat[3] == pytest.approx(tall[2] / 1.5, abs=2)


def test_what_is_transparent_shows_the_card():
    clear = torch.cat([plain(BLUE), torch.zeros(64, 64, 1)], -1)
    picture = report_picture([row(REFINED, after=clear)], [])
    assert boxes(picture, BLUE) == boxes(picture, (0, 0, 0)) == []
    grey = torch.full((64, 64, 1), 0.5)
    assert len(boxes(report_picture([row(REFINED, after=grey)], []), (128, 128, 128))) == 1


def test_both_looks_have_a_colour_for_every_decision():
    pictures = []
    for look in LOOKS.values():
        assert look.decisions.keys() == {*DECISIONS} and len(set(look.decisions.values())) == len(DECISIONS)
        pictures.append(report_picture([row(d, score_after=0.7) for d in DECISIONS], ["one", "two"], look=look))
        colours = {colour for _, colour in pictures[-1].getcolors(1 << 24)}
        assert {tuple(bytes.fromhex(colour[1:])) for colour in look.decisions.values()} <= colours
    dark, light = (sum(picture.getpixel((2, 2))) for picture in pictures)
    assert dark < 150 and light > 600 and pictures[0].size == pictures[1].size


def hue(colour):
    return colorsys.rgb_to_hsv(*(int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)))[0]


def test_a_colour_means_the_same_in_both_looks_and_green_is_kept():
    assert LOOKS == {"dark": DARK, "light": LIGHT}
    for decision in DECISIONS:
        assert hue(DARK.decisions[decision]) == pytest.approx(hue(LIGHT.decisions[decision]), abs=0.02), decision
    for look in LOOKS.values():
        assert 1 / 4 < hue(look.decisions[KEPT]) < 1 / 2 and hue(look.decisions[REFINED]) < 1 / 8


@pytest.fixture
def drawn_bars(monkeypatch):
    """What is put on each bar: marks and threshold, and what all of a picture's bars have in common."""
    drawn, real = [], bars.Axis.bar

    def noted(axis, marks, threshold, width):
        drawn.append((axis, list(marks), threshold))
        return real(axis, marks, threshold, width)

    monkeypatch.setattr(bars.Axis, "bar", noted)
    return drawn


def test_a_bar_has_the_student_s_score_as_a_ring_the_teacher_s_filled_and_the_threshold(drawn_bars):
    table = tuple((k / 100, float(k)) for k in range(101))
    for count in (1, 3):
        drawn_bars.clear()
        report_picture([row(REFINED, threshold=0.5)] * count + [row(KEPT, score=5.0)], [], table)
        for axis, marks, threshold in drawn_bars:
            assert marks == [Mark(0.2, LIGHT.ink, False), Mark(0.7, LIGHT.decisions[REFINED], True)]
            assert threshold == 0.5 and axis.distribution == table
            assert sorted(axis.scores) == [0.2] * count + [0.7] * count + [5.0]
        assert len(drawn_bars) == count
    drawn_bars.clear()
    report_picture([row(score=each, threshold=9.0) for each in (0.2, 0.4)], [])
    ((axis, marks, threshold),) = drawn_bars
    assert marks == [Mark(each, LIGHT.decisions[KEPT], False) for each in (0.2, 0.4)] and threshold == 9.0
    assert axis.scale.high > 9, "there is room for the threshold"


def contrast(one, other):
    """WCAG 2's contrast ratio of two colours."""
    shares = [[int(each[k : k + 2], 16) / 255 for k in (1, 3, 5)] for each in (one, other)]
    linear = [[v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in each] for each in shares]
    light, dark = sorted((0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("look", [DARK, LIGHT])
def test_text_stands_out_from_what_is_behind_it(look):
    for text in (look.ink, look.faint, *look.decisions.values()):
        assert min(contrast(text, look.page), contrast(text, look.card)) >= 4.5


def test_long_texts_do_not_widen_it_and_too_many_images_are_told(texts, monkeypatch):
    wordy = report_picture([row(REFINED, prompt="word " * 200)], ["headline " * 40, "line " * 200])
    assert wordy.width == report_picture([row(REFINED)], []).width == 800
    monkeypatch.setattr(cards, "MOST_TILES", 2)
    texts.clear()
    picture = report_picture([row(), row(), row(), row(REFINED)], ["one of four"])
    assert len(boxes(picture, RED)) == 1 + 2 and "1 more images are not drawn; the metadata has them" in texts
    assert "kept: 3" in texts


def test_a_number_of_three_digits_is_whole_under_its_tile(texts):
    report_picture([row(), *[row(REFINED)], *[row()] * 110], [])
    assert "image 112" in texts and not [text for text in texts if text.endswith("...")]

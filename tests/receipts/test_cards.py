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
PROMPTS = [
    f"a {word} star below a small yellow triangle on a black background" for word in ("red", "blue", "cyan", "gray")
]


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
def spans(monkeypatch):
    """For each line of each part of the cards, left and right of every text and mark on it; the part's width."""
    found = {}
    draw, real = bars.Mark.draw, pairs.write

    def wrote(picture, at, text, size, colour, anchor="la"):
        left = at[0] - length(text, size) * {"l": 0, "m": 0.5, "r": 1}[anchor[0]]
        found.setdefault((id(picture), at[1]), (picture, []))[1].append((left, left + length(text, size)))
        real(picture, at, text, size, colour, anchor)

    def marked(mark, picture, x, y, inside):
        if top := [
            top for key, top in found if key == id(picture) and top < y
        ]:  # not on a bar, where marks may overlap
            found[id(picture), max(top)][1].append((x - bars.RADIUS, x + bars.RADIUS))
        draw(mark, picture, x, y, inside)

    monkeypatch.setattr(pairs, "write", wrote)
    monkeypatch.setattr(bars.Mark, "draw", marked)
    return found


@pytest.fixture
def texts(monkeypatch):
    """The texts of the last page that is drawn, in their order."""
    drawn, draw = [], cards._page
    monkeypatch.setattr(cards, "_page", lambda *args: (drawn.clear(), draw(*args))[1])

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
    large, small = after[0][2], min(each[2] for each in before)
    assert small * 1.2 < large and sorted(each[2] for each in before) == [small] * 3 + [large] * 2
    pairs = [each for each in before if each[2] == large]
    for one, other in zip(pairs, after, strict=True):
        assert one[0] == other[0] and one[1] + one[3] < other[1], "before is on the left"
    assert all(each[1] > after[-1][1] for each in before if each[2] == small), "the kept come last"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 10])
def test_every_pair_is_there_whatever_their_number(count):
    picture = report_picture([row(REFINED)] * count, ["all"])
    before, after = boxes(picture, RED), boxes(picture, BLUE)
    assert len(before) == len(after) == count and len({each[2:] for each in before + after}) == 1
    assert picture.height < (1.2 if count == 1 else 1.1) * picture.width
    assert before[0][2] > picture.width / (4 if count == 1 else 14)


MANY = [f"{prompt}, and so on and on for a line or two, no. {k}" for k in range(4) for prompt in PROMPTS]


@pytest.mark.parametrize("count, redone", [(4, 1), (8, 2), (9, 3), (16, 4), (16, 8)])
def test_a_page_of_many_prompts_is_no_higher_than_its_place_and_its_letters_no_smaller(sizes, count, redone):
    rows = [row(REFINED if k < redone else KEPT, prompt=MANY[k], threshold=0.5) for k in range(count)]
    whole, smallest = report_picture(rows, ["so many"]), min(size for _, size in sizes)
    most = 1.4 if count == 4 else 1.1
    assert whole.height > most * whole.width
    picture = report_picture(rows, ["so many"], in_node=True)
    assert picture.width == whole.width and picture.height <= most * picture.width
    assert min(size for _, size in sizes) == smallest
    texts = [text for text, _ in sizes]
    # Each image is there, with its word and its scores, and what is left out of the cards is said once.
    for k in range(count):
        assert texts.count(f"image {k + 1}") == 1
    assert texts.count("refined") == redone
    assert [sum(text.endswith(score) for text in texts) for score in ("0.200", "0.700")] == [count, redone]
    said = {sum(word in text for text in texts) for word in ("student", "teacher", "threshold 0.500")}
    assert said in ({1}, {redone})
    costs, whole = any("evaluations" in text for text in texts), any(t.startswith(f"image {count}: ") for t in texts)
    left_out = [*(["what each cost"] if not costs else []), *(["the prompts of the kept"] if not whole else [])]
    note = f"the metadata has {' and '.join(left_out)}" if left_out else ""
    assert " ".join(texts).endswith(note) and ("metadata" in " ".join(texts)) == bool(note)


def test_a_legend_says_by_whom_as_the_cards_do(texts):
    def said(*rows):
        report_picture([*rows, *(row(prompt=prompt) for prompt in MANY)], ["some"], in_node=True)
        return [text for text in texts if text in ("student", "teacher", "redone", "teacher or redone")]

    alike = [row(REFINED, prompt=MANY[k]) for k in range(8)]
    own = [row(REDONE, prompt=MANY[k]) for k in range(8)]
    assert said(*alike) == ["student", "teacher"]
    assert said(*own) == ["student", "redone", *["redone"] * 8]  # the last are what became of each
    assert said(*alike[:4], *own[:4])[:2] == ["student", "teacher or redone"]
    unknown = [row(REFINED, score_after=None, prompt=MANY[k]) for k in range(8)]
    assert said(*unknown) == ["student", *["teacher"] * 8], "below each picture, as there is no mark"


def test_a_page_that_fits_is_the_same_with_and_without_a_place(texts):
    rows = [row(REFINED if k < 2 else KEPT, prompt=PROMPTS[0]) for k in range(8)]
    assert report_picture(rows, ["two"]).tobytes() == report_picture(rows, ["two"], in_node=True).tobytes()


def test_batches_thresholds_stay_on_their_own_cards(sizes):
    rows = [row(REFINED, prompt=MANY[k], threshold=0.3 + 0.1 * (k % 2)) for k in range(16)]
    report_picture(rows, ["all"], in_node=True)
    assert [[text for text, _ in sizes].count(f"threshold 0.{n}00") for n in (3, 4)] == [8, 8]


@pytest.mark.parametrize("redone", [0, 1, 2, 3, 4])
def test_a_page_is_rather_wide_than_high_as_nodes_and_screens_are(redone):
    rows = [row(REFINED if k < redone else KEPT, prompt=PROMPTS[k // 2]) for k in range(8)]
    picture = report_picture(rows, ["so many of eight"])
    assert 1.1 < picture.width / picture.height < 2
    assert len({top for top, *_ in boxes(picture, BLUE)}) <= 1, "all side by side"


def test_what_was_put_back_stands_behind_the_redone_with_what_the_teacher_had_made(texts):
    rows = [row(REVERTED, teacher=plain(GREEN)), row(REFINED), row(REVERTED, score_after=0.1)]
    picture = report_picture(rows, ["one of three"])
    (made,), (redone,) = boxes(picture, GREEN), boxes(picture, BLUE)
    before = boxes(picture, RED)
    assert len(before) == 3 and made[:2] > redone[:2] and made[2] == redone[2]
    told = " ".join(texts)
    assert told.index("image 2") < told.index("image 1") < told.index("image 3") and texts.count("put back") == 2
    assert told.count("not at hand") == 1, "only where the teacher's is not known"
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
        *("image 5: an owl", "image 2", "image 5"),
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


@pytest.mark.parametrize("others", [[], [row(REFINED)], [row(REFINED)] * 3])
def test_a_prompt_of_75_letters_is_whole_under_the_kept_too(texts, others):
    prompts = [f"a purple star left of a small yellow triangle on a plain background, no. {k}" for k in range(90, 98)]
    assert {len(prompt) for prompt in prompts} == {75}
    report_picture([*others, *[row(prompt=prompt) for prompt in prompts]], ["some of them"])
    last = [text.split()[-1] for text in texts]
    assert [last.count(f"{k}") for k in range(90, 98)] == [1] * 8


def test_scores_and_costs_are_written(texts):
    rows = [row(REFINED, threshold=0.5), row(tries=3, score=0.876), row(REDONE, evaluations=None, score_after=None)]
    report_picture([*rows, row(REGENERATED, tries=2), row(REDONE, evaluations=0)], ["four of five", "a line below"])
    for text in (
        "student",
        "0.200",
        "teacher",
        "0.700",
        "redone",
        "0.876",
        "3 tries",
        "cost not known",
        "a line below",
    ):
        assert text in texts
    assert "12 evaluations, 2 tries" in texts and "by a later node" in texts
    texts.clear()
    report_picture([row(REFINED, evaluations=6.0), row(REFINED, evaluations=1), row(REFINED, evaluations=6.5)], [])
    assert [text for text in texts if "evaluation" in text] == ["6 evaluations", "1 evaluation", "6.5 evaluations"]


@pytest.mark.parametrize("count, others", [(1, 0), (2, 0), (10, 0), (3, 1233)])
@pytest.mark.parametrize("score", [0.2, -10.034, 123.456, -98765.4, 1.5e12])
def test_long_numbers_and_names_leave_room_for_what_stands_beside_them(spans, count, others, score):
    long = row(REGENERATED, score=score, score_after=-score, tries=12, evaluations=123456, threshold=score)
    report_picture([row()] * others + [long] * count, [])
    for part, found in spans.values():
        found.sort()
        assert found[0][0] >= 0 and found[-1][1] <= part.width + 0.5
        assert all(one[1] < other[0] for one, other in pairwise(found)), found
    # A title, what it cost, then words and numbers below the pictures: on the single wide card those are on one line.
    assert len(spans) == (3 if count == 1 else 4) * count


def test_numbers_under_a_tile_are_whole(texts):
    report_picture([row(REFINED), *[row(score=-98765.4, tries=12, likeness=0.5)] * 20], [])
    assert {"-98765", "12 tries", "likeness 0.500"} <= {*texts}


@pytest.fixture
def sizes(monkeypatch):
    """The texts of the last page that is drawn, on bars too, with their sizes."""
    drawn, draw = [], cards._page
    monkeypatch.setattr(cards, "_page", lambda *args: (drawn.clear(), draw(*args))[1])

    def noting(module):
        real = module.write
        monkeypatch.setattr(module, "write", lambda *args: (drawn.append((args[2], args[3])), real(*args))[1])

    for module in (page, pairs, tiles, bars):
        noting(module)
    return drawn


@pytest.mark.parametrize("count, redone", [(4, 1), (8, 3), (8, 1), (8, 2), (16, 2), (8, 0)])
def test_no_text_is_smaller_than_what_can_be_read_in_a_node(sizes, count, redone):
    facts = [{"score": -54.581, "score_after": 10.034, "threshold": -0.375, "prompt": each} for each in PROMPTS]
    rows = [row(REFINED if k < redone else KEPT, **facts[k % 4]) for k in range(count)]
    picture = report_picture(
        rows, [f"teacher ran on {redone} of {count}; 62.5 % of its work saved; 10.7 s", "a remark"]
    )
    assert picture.width in (800, 1192) and min(size for _, size in sizes) == page.TEXT
    assert len(sizes) > 2 * count


def test_all_texts_of_a_page_wider_than_usual_are_larger(sizes):
    def drawn(count):
        sizes.clear()
        width = report_picture(
            [row(REFINED, threshold=0.5, prompt="a cat")] * count + [row()], ["in short", "below"]
        ).width
        return width, {said: size for said, size in sizes}

    (usual, small), (wide, large), (widest, largest) = map(drawn, (3, 4, 25))
    assert usual == 1192 < wide < widest
    said = {"in short", "below", "image 1", "refined", "12 evaluations", "student", "threshold 0.500", "kept: 1"}
    assert said <= {*small} and all(1.2 < large[each] / small[each] < 1.3 for each in said)
    assert all(largest[each] == large[each] for each in said - {"kept: 1"}), "as large as there is room for on a card"


def test_the_kept_are_larger_alone_with_their_scores_on_a_bar():
    beside, alone = report_picture([row(), row(REFINED)], []), report_picture([row(), row()], [])
    assert boxes(alone, RED)[0][2] > 2 * boxes(beside, RED)[-1][2]
    green = tuple(bytes.fromhex(LIGHT.decisions[KEPT][1:]))
    wide = 2 * bars.RADIUS + 1
    rings = [box for box in boxes(report_picture([row(), row(score=0.9)], []), green) if {*box[2:]} == {wide}]
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

    def noted(axis, marks, threshold, width, *told):
        drawn.append((axis, list(marks), threshold))
        return real(axis, marks, threshold, width, *told)

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
    assert len(boxes(picture, RED)) == 1 + 2 and "1 more images are not drawn; the metadata has them" in " ".join(texts)
    assert "kept: 3" in texts


def test_a_number_of_three_digits_is_whole_under_its_tile(texts):
    report_picture([row(), *[row(REFINED)], *[row()] * 110], [])
    assert "image 112" in texts and not [text for text in texts if text.endswith("...")]

"""Text on pictures: every letter is a letter or is said to be missing, and none is a box."""

import io
import json
import struct

import pytest
import torch
from PIL import Image, ImageChops, ImageFont, features
from understudy.distill_train.run.grid import save_grid
from understudy.lettering import drawable, fonts, labels, length, shortened, wrapped, write, writing
from understudy.lettering.fonts import OWN_FONT, characters, mapped
from understudy.receipts.cards import Row, report_picture
from understudy.receipts.grid import draw_grid
from understudy.receipts.report import ImageReport, Report, Totals, save_images

FOX = "\U0001f98a"
ARABIC, HEBREW = "قطة حمراء", "חתול אדום"
CACHED = (fonts.fonts, writing._font_for, writing._runs, writing._sized, writing._shapes)


def forget():
    for each in CACHED:
        each.cache_clear()


@pytest.fixture
def own(monkeypatch, tmp_path):
    """A system without fonts; returns the folder for some."""
    monkeypatch.setattr(fonts, "font_folders", lambda: [tmp_path])
    forget()
    yield tmp_path
    forget()


@pytest.fixture
def fox(own):
    """A system with one font: the pack's own with a fox, drawn as its last character is, in place of that."""
    data = bytearray(OWN_FONT.read_bytes())
    last = max(characters(OWN_FONT))
    groups = data.rindex(struct.pack(">LL", last, last)) if struct.pack(">LL", last, last) in data else None
    if groups is None:  # the last group holds several
        table = data.index(b"cmap")
        start = struct.unpack(">L", data[table + 8 : table + 12])[0]
        groups = next(at for at in range(start, len(data), 2) if data[at + 4 : at + 8] == struct.pack(">L", last))
    data[groups : groups + 8] = struct.pack(">LL", ord(FOX), ord(FOX))
    (own / "NotoColorEmoji.ttf").write_bytes(data)
    forget()
    return own


def picture(text, size=16, anchor="la", at=(10, 10)):
    canvas = Image.new("RGB", (400, 60), "white")
    write(canvas, at, text, size, "black", anchor)
    return canvas


def receipt(prompt, tmp_path):
    return report_picture([Row(torch.zeros(8, 8, 3), torch.ones(8, 8, 3), "kept", 0.5, None, 0, prompt)], [])


def receipt_totals(text, tmp_path):
    return report_picture([Row(torch.zeros(8, 8, 3), torch.ones(8, 8, 3), "kept", 0.5, None, 0, "")], [text])


def grid(prompt, tmp_path):
    save_images(tmp_path, 0, torch.zeros(3, 64, 64), torch.ones(3, 64, 64))
    image = ImageReport(prompt, 0, 0.5, 0.4, "kept", None, 4)
    return draw_grid(Report({}, (image,), Totals(4, 1.0, 8, 2.0)), tmp_path)


def samples(heading, tmp_path):
    save_grid(torch.zeros(1, 3, 64, 256), tmp_path / "grid.png", 1, [heading])
    return Image.open(tmp_path / "grid.png")


@pytest.mark.parametrize("drawn", [receipt, receipt_totals, grid, samples])
@pytest.mark.parametrize("one, other", [("кот", "дом"), ("γάτα", "δέντ"), ("ěšč", "řžů"), ("ơư", "ễỗ")])
def test_letters_are_no_boxes_wherever_text_is_drawn(own, tmp_path, drawn, one, other):
    """Texts of as many letters that look alike would be boxes."""
    assert drawn(one, tmp_path).tobytes() != drawn(other, tmp_path).tobytes()


def test_the_font_has_latin_greek_and_cyrillic_and_is_small():
    letters = "".join(map(chr, [*range(0xA1, 0x180), *range(0x391, 0x3A2), *range(0x3A3, 0x3CF), *range(0x400, 0x460)]))
    assert drawable(letters.replace("\xad", "")) and OWN_FONT.stat().st_size < 1e6
    assert "Bitstream" in (OWN_FONT.parent / "LICENSE.txt").read_text()


def test_a_letter_is_missing_where_the_font_draws_its_box():
    font = ImageFont.truetype(OWN_FONT, 32, layout_engine=ImageFont.Layout.BASIC)
    box = bytes(font.getmask("\U0010fffe"))
    known = characters(OWN_FONT)
    assert [code for code in range(32, 0x3000) if (bytes(font.getmask(chr(code))) != box) != (code in known)] == []


def test_the_tables_of_a_font_are_read_as_the_specification_has_them():
    segments = struct.pack(">3HxxHHH", 0x42, 0x61, 0xFFFF, 0x41, 0x61, 0xFFFF)  # ends, a pad, starts
    segments += struct.pack(">3h3H3H", 0, 0, 1, 6, 0, 0, 7, 0, 0)  # A has glyph 7, B none; a has its own code
    four = struct.pack(">7H", 4, 14 + len(segments), 0, 6, 0, 0, 0) + segments
    twelve = struct.pack(">HHLLL6L", 12, 0, 40, 0, 2, 0x4E00, 0x4E02, 5, 0x1F600, 0x1F601, 0)
    other = struct.pack(">HHH", 6, 10, 0) + b"\0" * 4
    subtables, at = [(3, 1, four), (3, 10, twelve), (1, 0, other)], 4 + 3 * 8
    head, body = struct.pack(">HH", 0, 3), b""
    for platform, encoding, table in subtables:
        head += struct.pack(">HHL", platform, encoding, at + len(body))
        body += table
    expected = {0x41, 0x61, 0x4E00, 0x4E01, 0x4E02, 0x1F601}
    for lead in (b"", struct.pack(">4sLLL", b"ttcf", 0x10000, 1, 16)):
        font = struct.pack(">LHHHH", 0x10000, 1, 0, 0, 0) + struct.pack(">4sLLL", b"cmap", 0, len(lead) + 28, 99)
        assert set(mapped(io.BytesIO(lead + font + head + body))) == expected


def test_a_file_that_is_no_font_has_no_letters(own):
    (own / "NotoSansCJK-Regular.ttc").write_bytes(b"ttcf, but that is all")
    forget()
    assert not drawable("猫") and drawable("cat")


def test_letters_that_no_font_has_are_told_and_left_out(own, tmp_path):
    texts = ["a cat", "猫", f"a {FOX} in the snow", "\ud83d"]
    assert [drawable(text) for text in texts] == [True, False, False, False]
    written, note = labels(texts, ["image 1", "image 2", "image 3", "image 4"], "report.json")
    assert written == ["a cat", "[...]", "a in the snow [...]", "[...]"]
    expected = "no font on this machine can write the whole prompt of image 2, image 3, image 4; report.json has it"
    assert note == expected
    assert labels(texts[:1], ["image 1"], "report.json") == (["a cat"], None)
    assert picture("a猫b").tobytes() == picture("ab").tobytes()
    for drawn in (receipt, grid, receipt_totals):
        assert drawn("猫", tmp_path).tobytes() == drawn("犬", tmp_path).tobytes()  # the number, and no box for each
        assert drawn("猫", tmp_path).height > drawn("cat", tmp_path).height  # and the line that says so


def test_what_a_report_writes_down_is_whole(own, tmp_path):
    made = Report({}, (ImageReport(f"猫 {FOX} é", 0, 0.5, 0.4, "kept", None, 4),), Totals(4, 1.0, 8, 2.0))
    made.save(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["images"][0]["prompt"] == f"猫 {FOX} é"


def test_the_system_s_fonts_have_the_other_letters(fox):
    assert drawable(f"a {FOX}") and not drawable("猫")
    assert picture(FOX).getcolors(1 << 16) != picture("").getcolors(1 << 16)
    assert length(f"a {FOX}", 16) == pytest.approx(length("a ", 16) + length(FOX, 16))
    # What the own font has is its own, and with the marks that belong to it a picture is one letter.
    assert [run.font for run in writing._runs(f"é {FOX}\ufe0f")] == [OWN_FONT, fox / "NotoColorEmoji.ttf"]


def test_fonts_of_bitmaps_are_scaled(fox, monkeypatch):
    def scalable(path, size, real=ImageFont.truetype):
        if path != OWN_FONT and size != 109:
            raise OSError("invalid pixel size")
        return real(path, size)

    outlines, wide = picture(FOX, 24), length(FOX, 24)
    monkeypatch.setattr(ImageFont, "truetype", scalable)
    forget()
    bitmaps = picture(FOX, 24)
    assert length(FOX, 24) == pytest.approx(wide, rel=0.1)
    one, other = (each.convert("L").point(lambda grey: 255 * (grey < 128)).getbbox() for each in (outlines, bitmaps))
    assert all(abs(a - b) <= 2 for a, b in zip(one, other, strict=True)), (one, other)


def test_right_to_left_is_shaped_where_pillow_can(own):
    able = features.check("raqm")
    assert (drawable(ARABIC), drawable(HEBREW)) == (able, able)
    if not able:
        return
    first, second = HEBREW.split()
    assert length(first, 16) != length(second, 16)
    left = ImageChops.invert(picture(HEBREW)).crop((0, 0, 10 + round(length(second, 16)), 60))
    alone = ImageChops.invert(picture(second)).crop((0, 0, 10 + round(length(second, 16)), 60))
    assert left.tobytes() == alone.tobytes(), "the second word stands to the left of the first"
    apart = sum(length(letter, 16) for letter in "قطة")
    assert abs(length("قطة", 16) - apart) > 0.5, "its letters are joined"


def test_where_pillow_cannot_shape_right_to_left_text_is_told_and_not_drawn_backwards(own, monkeypatch):
    monkeypatch.setattr(writing, "_shapes", lambda: False)
    assert labels(["a cat", f"cat {HEBREW}"], "ab", "report.json")[0] == ["a cat", "cat [...]"]


def test_runs_of_two_fonts_follow_the_text_s_direction(fox):
    runs = [[run.text.strip() for run in writing._runs(text)] for text in (f"cat {FOX}", f"קט {FOX}")]
    assert runs[0] == ["cat", FOX]
    if features.check("raqm"):
        assert runs[1] == [FOX, "קט"]


@pytest.mark.parametrize("anchor", ["la", "ma", "ra"])
def test_anchors(own, anchor):
    text = "H" * 4
    box = ImageChops.invert(picture(text, 16, anchor, (200, 10))).getbbox()
    shift = {"l": 0, "m": 0.5, "r": 1}[anchor[0]] * length(text, 16)
    assert abs(box[0] - (200 - shift)) <= 3 and box[1] >= 10
    middle = ImageChops.invert(picture(text, 16, anchor[0] + "m", (200, 30))).getbbox()
    assert abs((middle[1] + middle[3]) / 2 - 30) <= 2


def test_long_texts_are_wrapped_and_cut(own):
    text = "a small red star left of a large blue circle on a gray background " * 3
    lines = wrapped(text, 16, 300, lines=2)
    assert len(lines) == 2 and lines[1].endswith("...") and all(length(line, 16) <= 300 for line in lines)
    assert text.startswith(lines[0])
    assert wrapped("x" * 200, 16, 300, lines=2)[0].endswith("...")
    assert wrapped("short", 16, 300, lines=2) == ["short"] and wrapped("", 16, 300, lines=2) == [""]
    cut = shortened("word " * 5000, 16, 300)
    assert cut.endswith("...") and 250 < length(cut, 16) <= 300
    assert shortened("x\t y\n", 16, 300) == "x y" and shortened("wide", 16, 1) == "..."


def test_scripts_without_spaces_are_wrapped_too(fox):
    lines = wrapped(FOX * 30 + "," + FOX, 16, 10.05 * length(FOX, 16), lines=4)
    assert lines == [FOX * 10, FOX * 10, FOX * 9, FOX + "," + FOX]

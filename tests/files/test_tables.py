"""Texts from lines, from JSON and from tables, right or refused by their line."""

import codecs
import csv
import io
import random

import pytest
from understudy.files.tables import NAME_COLUMNS, TEXT_COLUMNS, read_list, read_prompts, read_table


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def named(path):
    return [row.texts for row in read_table(path, NAME_COLUMNS, TEXT_COLUMNS)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("lines.txt", "\ufeffa cat\r\n\r\n  a dog \n", ["a cat", "a dog"]),
        ("one-line.txt", "a cat\x85a dog\u2028both", ["a cat\x85a dog\u2028both"]),
        ("lines.prompts", '{"prompt": "a cat"}\n', ['{"prompt": "a cat"}']),
        ("parti.tsv", "Prompt\tCategory\tChallenge\nbond\tAbstract\tBasic\n\tAbstract\tBasic\n", ["bond"]),
        (
            "table.csv",
            'image,caption\na.png,"one, two"\nb.png,"over\ntwo ""lines"""\nc.png\n',
            ["one, two", 'over\ntwo "lines"'],
        ),
        (
            "quoted.tsv",
            'prompt\tkind\n"Hello" on a sign\tx\n"open\ty\n5" disk\tz\n',
            ['"Hello" on a sign', '"open', '5" disk'],
        ),
        ("open.csv", 'prompt\n"never closed, and on\na\n"b" and "c"\n', ['"never closed, and on', "a", '"b" and "c"']),
        ("old.csv", 'prompt\r"a, b"\rc, d\r', ["a, b", "c, d"]),
        ("words.jsonl", '"a cat"\n"a dog"\n', ["a cat", "a dog"]),
        ("words.json", '["a cat", " ", "a dog"]', ["a cat", "a dog"]),
        (
            "metadata.jsonl",
            '\ufeff{"file_name": "a", "Text": "a cat"}\n\n{"caption": "a dog", "text": 1}\n',
            ["a cat", "a dog"],
        ),
        ("lines.ndjson", '{"prompt": "a"}\n{"prompt": "b"}\n', ["a", "b"]),
        ("table.json", '[\n {"text": "a\\u2028b"},\n {"text": null},\n {"n": 1}\n]', ["a\u2028b"]),
        ("lines.json", '{"prompt": "a"}\n{"prompt": "b"}', ["a", "b"]),
    ],
)
def test_prompts_of_a_file(tmp_path, name, content, expected):
    assert read_prompts(write(tmp_path, name, content)) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "image,prompt\na.png,a red barn, snow, sunset\nb.png,a cat\n",
            [("a.png", "a red barn, snow, sunset"), ("b.png", "a cat")],
        ),
        ('image,prompt\na.png, "a, b"\n"b, c.png" ,"d" \n', [("a.png", "a, b"), ("b, c.png", "d")]),
        ('image,prompt\na.png,"x" in quotes, y\n', [("a.png", '"x" in quotes, y')]),
        ("sep=;\r\nimage;prompt\r\na.png;snow, ice\r\n", [("a.png", "snow, ice")]),
        ("image;seed;prompt\na.png;1;snow; ice, 1,5\n", [("a.png", "snow; ice, 1,5")]),
        ("image\tprompt\na.png\tsnow, ice\n", [("a.png", "snow, ice")]),
        ("\n\nimage,prompt,,\n\na.png,a cat,,\nb.png,a dog\n", [("a.png", "a cat"), ("b.png", "a dog")]),
        ("prompt,image\na cat,a.png,\n", [("a.png", "a cat")]),
        ('image,prompt\na.png,"a cat\nb.png,"a dog"\n', [("a.png", '"a cat'), ("b.png", "a dog")]),
        ('image,prompt\na.png,"a cat",\n', [("a.png", "a cat")]),
        ("image,prompt\na.png\n,\nb.png,\n", [("a.png", ""), ("b.png", "")]),
    ],
)
def test_the_last_column_takes_the_rest_of_its_line(tmp_path, content, expected):
    assert named(write(tmp_path, "t.csv", content)) == expected


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("prompt,image\na cat,a.png\nsnow, ice,b.png\n", 3),
        ("image,prompt,seed\na.png,snow, ice,1\n", 2),
        ('image,prompt\na.png,"over\ntwo lines"\nb.png,"a cat",0.5\n', 4),
        ("image,prompt,\na.png,snow, ice\n", 2),
        ("image,prompt,\na.png,snow,\nb.png,snow, ice,\n", 3),
        ('image,prompt\na.png,"a \\"red\\" barn, snow"\n', 2),
    ],
)
def test_cells_without_a_column_are_an_error_with_their_line(tmp_path, content, line):
    with pytest.raises(ValueError, match=rf"t.csv line {line}: "):
        named(write(tmp_path, "t.csv", content))


def test_what_the_library_writes_is_read_back(tmp_path):
    """Any cells: separators, quotes, lines and spaces within; three columns, the text in any of them."""
    draw = random.Random(0)
    pieces = ["a", "é", ",", ";", "\t", '"', "\n", "\r\n", " ", "\u2028", "'", "\\", "1"]
    for number in range(200):
        delimiter = draw.choice([",", ";", "\t"])
        columns = draw.sample(["image", "prompt", "seed"], 3)
        rows = [["".join(draw.choices(pieces, k=draw.randrange(7))).strip() for _ in columns] for _ in range(4)]
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter, lineterminator=draw.choice(["\n", "\r\n"])).writerows([columns, *rows])
        path = write(tmp_path, "t.tsv" if delimiter == "\t" else "t.csv", text.getvalue())
        expected = [(row[columns.index("image")], row[columns.index("prompt")]) for row in rows]
        assert named(path) == [row for row in expected if any(row)], (number, text.getvalue())


@pytest.mark.parametrize(
    "mark, encoding",
    [
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF8, "utf-8"),
    ],
)
@pytest.mark.parametrize(
    "name, content",
    [("t.csv", "prompt\nа café, 雪\n"), ("t.txt", "а café, 雪\n"), ("t.jsonl", '{"prompt": "а café, 雪"}')],
)
def test_a_mark_says_the_encoding(tmp_path, mark, encoding, name, content):
    assert read_prompts(write(tmp_path, name, mark + content.encode(encoding))) == ["а café, 雪"]


@pytest.mark.parametrize("name", ["t.txt", "t.csv", "t.tsv", "t.jsonl", "t.json"])
def test_other_encodings_are_an_error_with_their_line(tmp_path, name):
    for content, said in [
        (b"prompt\nsnow\ncaf\xe9\n", "is not UTF-8: .* in line 3"),
        ("prompt\nsnow\n".encode("utf-16-le"), "is not UTF-8: line 1 holds a zero"),
        ("\ufeffprompt\nsnow\n".encode("utf-16-le")[:-1], "is not the UTF-16 that its mark says: .* in line 2"),
    ]:
        with pytest.raises(ValueError, match=f"{name} {said}"):
            read_prompts(write(tmp_path, name, content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("words.csv", "image,words\na.png,b\n", "words.csv has no column prompt .*it has image, words"),
        ("nothing.tsv", "", "nothing.tsv has no column prompt .*it is empty"),
        ("nothing.jsonl", "\n", "nothing.jsonl has no column prompt .*it is empty"),
        ("head.csv", "prompt\n", "head.csv is empty; expected"),
        ("cut.jsonl", '{"prompt": "a"}\n{"prompt": "b', "cut.jsonl line 2 is not JSON"),
        ("other.json", '{"prompts": ["a"]}', "other.json has no column prompt .*it has prompts"),
        ("number.jsonl", '{"prompt": "a"}\n{"prompt": 5}', "number.jsonl line 2: its prompt is 5; expected a text"),
        ("list.json", '["a", ["b"]]', r'list.json entry 2 is \["b"\]; expected an object with prompt'),
        ("half.jsonl", '{"prompt": "\\ud83d"}', "half.jsonl line 1: its prompt holds half a character"),
        ("book.xlsx", b"PK\x03\x04\x14\0\xff", "book.xlsx is a spreadsheet or another archive.*save it as .csv"),
        ("book.csv", b"PK\x03\x04\x14\0\xff", "book.csv is a spreadsheet"),
        ("deep.json", "[" * 100_000, "deep.json line 1 is not JSON"),
    ],
)
def test_files_that_are_no_prompts(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_prompts(write(tmp_path, name, content))


def test_only_what_names_nothing_is_a_list(tmp_path):
    assert read_list(write(tmp_path, "a.txt", "a\n\n")) == ["a", ""]
    assert read_list(write(tmp_path, "a.json", '["a", ""]')) == ["a", ""]
    assert read_list(write(tmp_path, "a.csv", "prompt\na\n")) is None
    assert read_list(write(tmp_path, "b.json", '[{"prompt": "a"}]')) is None
    with pytest.raises(FileNotFoundError, match="gone.txt"):
        read_list(tmp_path / "gone.txt")
    with pytest.raises(ValueError, match=r'a.json entry 1 is "a"; expected an object with image'):
        named(tmp_path / "a.json")

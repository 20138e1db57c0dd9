"""Prompts from lines and from tables."""

import pytest
from understudy.pipelines.images import prompts_for
from understudy.pipelines.prompt_files import read_prompts


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "prompts"),
    [
        ("lines.txt", "\ufeffa cat\r\n\r\n  a dog \n", ["a cat", "a dog"]),
        ("one-line.txt", "a cat\x85a dog\u2028both", ["a cat\x85a dog\u2028both"]),
        ("parti.tsv", "Prompt\tCategory\tChallenge\nbond\tAbstract\tBasic\n\tAbstract\tBasic\n", ["bond"]),
        ("table.csv", 'image,caption\na.png,"one, two"\nb.png,"over\ntwo ""lines"""\nc.png\n', None),
    ],
)
def test_prompts_of_a_file(tmp_path, name, content, prompts):
    expected = prompts or ["one, two", 'over\ntwo "lines"']
    assert read_prompts(write(tmp_path, name, content)) == expected


def test_captions_over_several_lines_stay_with_their_images(tmp_path):
    table = write(tmp_path, "p.csv", 'image,caption\na.png,"over\ntwo lines"\nb.png,short\n')
    assert prompts_for([tmp_path / "b.png", tmp_path / "a.png"], None, table) == ["short", "over\ntwo lines"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("words.csv", "image,words\na.png,b\n", "words.csv has no column prompt .*it has image, words"),
        ("nothing.tsv", "", "nothing.tsv has no column prompt .*it is empty"),
        ("head.csv", "prompt\n", "head.csv is empty; expected"),
        ("latin.txt", b"caf\xe9\n", "latin.txt is not a text file in UTF-8"),
        ("latin.csv", b"prompt\ncaf\xe9\n", "latin.csv is not a text file in UTF-8"),
        ("open.csv", 'prompt\n"never closed\na\nb\n', "open.csv cannot be read as a table after line 1"),
    ],
)
def test_files_that_are_no_prompts(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_prompts(write(tmp_path, name, content))
    if name != "head.csv":
        with pytest.raises(ValueError, match=name):
            prompts_for([tmp_path / "a.png"], None, write(tmp_path, name, content))

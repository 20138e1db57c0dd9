"""Prompts from lines and from tables."""

from pathlib import Path

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


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """photos/1.png and photos/more/1.png and 2.png, below the working directory."""
    monkeypatch.chdir(tmp_path)
    images = [Path("photos/1.png"), Path("photos/more/1.png"), Path("photos/more/2.png")]
    for image in images:
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    return images


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("photos/metadata.csv", ["1.png", "more/1.png", "more/2.png"]),  # from the table's folder
        ("tables/a.csv", ["1.png", "more/1.png", "2.png"]),  # from what is scored, and a bare name
        ("tables/a.csv", ["photos/1.png", r"photos\more\1.png", "./photos/more/2.png"]),  # from the working directory
        ("tables/a.csv", ["../photos/1.png", "{here}/photos/more/1.png", "{here}/photos/../photos/more/2.png"]),
    ],
)
@pytest.mark.parametrize("absolute", [False, True])
def test_names_of_a_table_are_paths_from_several_places(photos, table, names, absolute):
    here, table = Path.cwd(), Path(table)
    table.parent.mkdir(exist_ok=True)
    lines = [f"{name.format(here=here)},{i}" for i, name in enumerate(names)]
    table.write_text("\n".join(["image,prompt", *reversed(lines), "elsewhere.png,x"]))
    images = [here / image for image in photos] if absolute else photos
    for paths in ([Path("photos")], [here / "photos"]):
        assert prompts_for(images, None, table, paths) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1.png"], "'1.png' in t.csv may be .*photos/1.png or .*photos/more/1.png; name images by their path"),
        (["2.png", "photos/more/2.png"], "t.csv has two rows for one image: '2.png' and 'photos/more/2.png'"),
        (["2.png", "2.png"], "two rows for one image"),
        (["photos/1.png", "2.png"], "t.csv has no row for photos/more/1.png; its column image names images by"),
    ],
)
def test_names_that_do_not_say_which_image(photos, names, message):
    Path("t.csv").write_text("\n".join(["image,prompt", *(f"{name},a" for name in names)]))
    with pytest.raises(ValueError, match=message):
        prompts_for(photos, None, Path("t.csv"))


def test_one_name_in_two_folders_that_are_scored(photos):
    table = Path("photos/t.csv")
    table.write_text("image,prompt\n2.png,a\n1.png,b\n")
    folders = [Path("photos"), Path("photos/more")]
    assert prompts_for([photos[0], photos[2]], None, table, folders) == ["b", "a"]
    Path("t.csv").write_text("image,prompt\n1.png,b\n")
    with pytest.raises(ValueError, match="'1.png' in t.csv may be"):
        prompts_for(photos[:2], None, Path("t.csv"), folders)


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

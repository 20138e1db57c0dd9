"""The texts that belong to pictures, by their order or their names."""

import os
from pathlib import Path

import pytest
from understudy.pipelines.image_texts import prompts_for
from understudy.pipelines.images import find_images


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


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
        (["1.png"], "t.csv line 2: '1.png' may be .*photos/1.png or .*photos/more/1.png; name images by their path"),
        (["2.png", "photos/more/2.png"], "t.csv line 3: two rows for one image: '2.png' and 'photos/more/2.png'"),
        (["2.png", "2.png"], "two rows for one image"),
        (["photos/1.png", "2.png"], "t.csv has no row for photos/more/1.png; its column image .* names images by"),
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
    with pytest.raises(ValueError, match="t.csv line 2: '1.png' may be"):
        prompts_for(photos[:2], None, Path("t.csv"), folders)


def test_a_folder_of_the_table_s_own_name_may_stand_before_the_file(photos):
    here = Path.cwd()
    table = write(here, "t.jsonl", '{"file": "photos/2.png", "text": "a"}\n{"file": "photos\\\\1.png", "text": "b"}\n')
    table = table.rename(here / "photos" / "t.jsonl")
    os.chdir("/")
    images = [here / "photos" / "1.png", here / "photos" / "2.png"]
    assert prompts_for(images, None, table, [here / "photos"]) == ["b", "a"]
    assert prompts_for(images, None, table, images) == ["b", "a"]


def test_a_folder_that_is_a_link(photos):
    Path("link").symlink_to("photos")
    Path("t.csv").write_text(f"image,prompt\nlink/1.png,a\n{Path.cwd()}/photos/more/1.png,b\nphotos/more/2.png,c\n")
    images = [Path("link/1.png"), Path("link/more/1.png"), Path("photos/more/2.png")]
    assert prompts_for(images, None, Path("t.csv")) == ["a", "b", "c"]


def test_accents_are_the_same_however_a_system_writes_them(tmp_path):
    image = tmp_path / "cafe\u0301.png"
    table = write(tmp_path, "t.csv", "image,prompt\ncaf\u00e9.png,a\n")
    assert prompts_for([image], None, table) == prompts_for([image], None, table, [Path("/")]) == ["a"]
    write(tmp_path, "t.csv", f"image,prompt\n{tmp_path}/caf\u00e9.png,a\n")
    assert prompts_for([image], None, table) == ["a"]


def test_numbered_pictures_pair_with_lines_by_their_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        Path(f"{number}.png").touch()
    lines = write(tmp_path, "p.txt", "".join(f"picture {number}\n" for number in range(12)))
    images = find_images([Path()]).images
    assert dict(zip(map(str, images), prompts_for(images, None, lines, [Path()]), strict=True)) == {
        f"{number}.png": f"picture {number}" for number in range(12)
    }
    listed = write(tmp_path, "p.json", str([f"picture {number}" for number in range(12)]).replace("'", '"'))
    assert prompts_for(images, None, listed)[10] == "picture 10"
    by_shell = sorted(Path().glob("*.png"))
    with pytest.raises(
        ValueError, match="p.txt has a line per image, but 10.png comes where its number does not belong"
    ):
        prompts_for(by_shell, None, lines, by_shell)
    assert prompts_for(images, None, lines, images)[10] == "picture 10"
    b, a = write(tmp_path, "b1.png", ""), write(tmp_path, "a2.png", "")
    assert prompts_for([b, a], None, write(tmp_path, "two.txt", "of b\nof a\n"), [b, a]) == ["of b", "of a"]

"""Which picture belongs to which prompt, and its pixels."""

import numpy as np
import pytest
import torch
from PIL import Image
from understudy.pipelines.given_pictures import (
    Asked,
    check_pictures,
    read_asked,
    read_hints,
    read_sources,
    strength_of,
)


@pytest.fixture
def folders(tmp_path):
    """Folders of sources and hints of the same names, in grey levels that tell them apart."""
    for place, name in enumerate(("in", "hints")):
        (tmp_path / name).mkdir()
        for number in (1, 2, 10):
            level = 10 * number + place
            Image.new("RGB", (12, 8), (level, 0, 0)).save(tmp_path / name / f"{number}.png")
    return tmp_path / "in", tmp_path / "hints"


def prompts(tmp_path, text, name="prompts.txt"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_without_pictures_there_are_only_prompts(tmp_path):
    assert read_asked(prompts(tmp_path, "a\n\nb\n")) == [Asked("a"), Asked("b")]


def test_one_picture_is_that_of_all_and_several_belong_to_the_lines(tmp_path, folders):
    sources, hints = folders
    file = prompts(tmp_path, "a\nb\nc\n")
    asked = read_asked(file, sources, hints / "2.png")
    assert asked == [Asked(p, sources / f"{n}.png", hints / "2.png") for p, n in (("a", 1), ("b", 2), ("c", 10))]
    assert [each.source.name for each in read_asked(file, hint=hints, source=sources / "1.png")] == ["1.png"] * 3
    with pytest.raises(ValueError, match="has 2 lines for 3 images"):
        read_asked(prompts(tmp_path, "a\nb\n"), sources)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        read_asked(file, tmp_path / "nowhere")


def test_a_table_names_its_pictures_in_any_order_and_more_than_once(tmp_path, folders):
    sources, hints = folders
    file = prompts(tmp_path, "image,prompt\n10.png,ten\n1.png,one\n10.png,again\n", "edits.csv")
    asked = read_asked(file, sources, hints)
    numbers = [(each.prompt, each.source.stem, each.hint.stem) for each in asked]
    assert numbers == [("ten", "10", "10"), ("one", "1", "1"), ("again", "10", "10")]
    assert {each.source.parent for each in asked} == {sources} and {each.hint.parent for each in asked} == {hints}
    with pytest.raises(ValueError, match=r"line 2 has no picture of --control: its name is '3.png'.*one of the 3"):
        read_asked(prompts(tmp_path, "image,prompt\n3.png,three\n", "edits.csv"), None, hints)
    with pytest.raises(ValueError, match="line 2 has no prompt"):
        read_asked(prompts(tmp_path, "image,prompt\n1.png,\n", "edits.csv"), sources)
    with pytest.raises(ValueError, match="no column image"):
        read_asked(prompts(tmp_path, "prompt\na\nb\nc\n", "edits.csv"), sources)


def test_pictures_are_cut_around_the_middle_and_what_is_cut_is_said(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.new("RGBA", (8, 8), (255, 255, 255, 0)).save(tmp_path / "square.png")
    paths = [tmp_path / "wide.png", tmp_path / "square.png"]
    assert "1 of 2 pictures have other proportions than 8x8, wide.png the first" in check_pictures(
        [*paths, None], (8, 8)
    )
    assert check_pictures(paths[1:], (8, 8)) == "" and check_pictures([None], (8, 8)) == ""
    for read in (read_sources, read_hints):
        assert torch.equal(read(paths, (8, 8)), torch.ones(2, 3, 8, 8))
        assert read([None], (8, 8)) is None
    line = np.zeros((32, 32, 3), np.uint8)
    line[:, 16] = 255
    Image.fromarray(line).save(tmp_path / "line.png")
    hint, source = (read([tmp_path / "line.png"], (64, 64)) for read in (read_hints, read_sources))
    assert set(hint.unique().tolist()) == {0.0, 1.0} and len(source.unique()) > 2
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="broken.png cannot be read as a picture"):
        check_pictures([tmp_path / "broken.png"], (8, 8))


def test_a_photograph_stands_upright(tmp_path):
    picture = Image.fromarray(np.stack([np.full((8, 8), 255), *[np.zeros((8, 8))] * 2], axis=-1).astype(np.uint8))
    picture.paste((0, 0, 0), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture.save(tmp_path / "a.png", exif=exif)
    pixels = read_sources([tmp_path / "a.png"], (8, 8))[0]
    assert pixels[0, 0].min() == 1 and pixels[0, -1].max() == 0


def test_strength_needs_a_source(tmp_path):
    assert strength_of(None, None) is None and strength_of(tmp_path, None) == 0.6 and strength_of(tmp_path, 0.3) == 0.3
    with pytest.raises(ValueError, match="--strength needs --init-image"):
        strength_of(None, 0.5)

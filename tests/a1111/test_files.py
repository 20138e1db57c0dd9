"""A redone picture takes the place of its file, whatever the host saves and shows."""

from types import SimpleNamespace

import pytest
from PIL import Image
from understudy.a1111.files import written

from .server import value_of
from .test_txt2img import asked
from .watching_files import named, new_files

ONE_BY_ONE = {"batch_size": 1, "n_iter": 4, "save_images": True}


def rgb(image) -> bytes:
    return image.convert("RGB").tobytes()


def close(image, pixels: bytes) -> bool:
    """As a lossy format keeps a picture."""
    pairs = list(zip(rgb(image), pixels, strict=True))
    return sum(abs(a - b) for a, b in pairs) / len(pairs) < 12


def text_of(path) -> str:
    """The generation parameters in a file of any of the host's formats."""
    image = Image.open(path)
    if "parameters" in image.info:
        return image.info["parameters"]
    return image.getexif().get_ifd(0x8769)[0x9286][8:].decode("utf-16-be")


@pytest.fixture(scope="module")
def worst(a1111):
    return a1111.make(*asked(), batch_size=1, n_iter=4)


@pytest.fixture(scope="module")
def plain(a1111):
    return a1111.make(batch_size=1, n_iter=4)


def test_the_file_that_was_just_written_is_found_where_the_host_counts_up(stand_in, tmp_path):
    stand_in.shared.opts.save_images_replace_action = "Replace"
    for name in ("7.png", "7-1.png", "7-2.png", "7-9.png"):
        (tmp_path / name).touch()
    assert written(tmp_path / "7.png") == tmp_path / "7.png"
    stand_in.shared.opts = SimpleNamespace(save_images_replace_action="Add number suffix")
    assert written(tmp_path / "7.png") == tmp_path / "7-2.png"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif"])
def test_one_by_one_the_files_are_the_pictures_in_every_format(a1111, plain, worst, suffix):
    options = {"samples_format": suffix[1:], "grid_format": suffix[1:], "save_txt": True, "n_rows": 1}
    with new_files(a1111) as files:
        made = a1111.make(*asked(save_student=True), **ONE_BY_ONE, override_settings=options)
    assert made.pixels == worst.pixels
    pictures, students, (grid,) = (named(files, suffix, *which) for which in ((), (False, True), (True,)))
    assert len(pictures) == 4 and len(students) == 2
    redone = [word == "redone" for word in made.said("decision")]
    for path, pixels, text, changed, old in zip(pictures, made.pixels, made.texts, redone, plain.pixels, strict=True):
        assert close(Image.open(path), pixels) and text_of(path) == text
        assert path.with_suffix(".txt").read_text() == text + "\n"
        beside = path.with_name(path.stem + "-student" + suffix)
        assert (beside in students) == changed
        if changed:
            assert close(Image.open(beside), old)
            assert value_of(text_of(beside), "Understudy decision") == "redone; this is the student's"
            assert beside.with_suffix(".txt").is_file()
    assert Image.open(grid).size == (256, 64)
    assert close(Image.open(grid), row_of(made.pixels))
    assert not any("partial" in path.name or path.suffix == ".tmp" for path in files)


def row_of(pixels: list[bytes]) -> bytes:
    row = Image.new("RGB", (64 * len(pixels), 64))
    for place, each in enumerate(pixels):
        row.paste(Image.frombytes("RGB", (64, 64), each), (64 * place, 0))
    return rgb(row)


@pytest.mark.parametrize("shown", [True, False])
def test_a_grid_that_is_saved_is_made_anew_whether_it_is_shown_or_not(a1111, worst, shown):
    with new_files(a1111) as files:
        made = a1111.make(*asked(), **ONE_BY_ONE, override_settings={"return_grid": shown, "n_rows": 1})
    assert made.info["index_of_first_image"] == int(shown) and made.pixels == worst.pixels
    (grid,) = named(files, ".png", grid=True)
    assert rgb(Image.open(grid)) == row_of(made.pixels)
    assert value_of(text_of(grid), "Understudy decision") is None
    assert value_of(text_of(grid), "Understudy rule") == "worst share of the job"


def test_without_files_the_pictures_alone_change(a1111, worst):
    with new_files(a1111) as files:
        made = a1111.make(*asked(save_student=True), **{**ONE_BY_ONE, "save_images": False})
        other = a1111.make(
            *asked(save_student=True), **ONE_BY_ONE, override_settings={"samples_save": False, "grid_save": False}
        )
    assert made.pixels == other.pixels == worst.pixels and files == []


def test_names_that_repeat_are_counted_up_and_each_picture_finds_its_own(a1111, worst):
    names = {
        "save_images_add_number": False,
        "samples_filename_pattern": "same",
        "save_images_replace_action": "Add number suffix",
        "save_to_dirs": False,
        "grid_save": False,
    }
    for _ in range(2):
        with new_files(a1111) as files:
            made = a1111.make(*asked(), **ONE_BY_ONE, override_settings=names)
        assert made.pixels == worst.pixels and len(files) == 4
        assert sorted(rgb(Image.open(path)) for path in files) == sorted(made.pixels)
    assert a1111.get("/sdapi/v1/options")["save_images_replace_action"] == "Replace"


def test_each_batch_saves_the_students_beside_the_picture(a1111, plain, worst):
    score = sorted(map(float, worst.said("score")))
    rule = {"rule": "below score", "score": (score[1] + score[2]) / 2, "save_student": True}
    with new_files(a1111) as files:
        made = a1111.make(*asked(**rule), **ONE_BY_ONE, send_images=False)
    pictures = named(files, ".png")
    assert [rgb(Image.open(path)) for path in pictures] == worst.pixels and made.images == []
    for path, word, old in zip(pictures, made.said("decision"), plain.pixels, strict=True):
        beside = path.with_name(path.stem + "-student.png")
        assert beside.exists() == (word == "redone")
        if beside.exists():
            assert rgb(Image.open(beside)) == old


def test_prompts_of_one_job_are_each_judged_by_their_own(a1111):
    """The host's own matrix of prompts: four in one job, and a grid that the script makes when we are done."""
    matrix = {"script_name": "prompt matrix", "script_args": [False, False, "positive", "comma", 0]}
    job = {"prompt": "a red star|above a blue circle|on green", "batch_size": 1, "seed": 3}
    made = a1111.make(*asked(), **job, **matrix)
    plain = a1111.make(**job, **matrix)
    prompts = [text.splitlines()[0] for text in made.texts]
    assert len(set(prompts)) == 4 and sorted(made.said("decision")) == ["kept", "kept", "redone", "redone"]
    for place, prompt in enumerate(prompts):
        assert (made.pixels[place] == plain.pixels[place]) == (made.said("decision")[place] == "kept")
        alone = a1111.make(*asked(rule="below score", score=-1e4), prompt=prompt, batch_size=1, seed=3)
        assert float(alone.said("score")[0]) == pytest.approx(float(made.said("score")[place]), abs=2e-3)

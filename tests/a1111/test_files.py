"""A redone picture takes the place of its file, whatever the host saves and shows."""

import pytest
from PIL import Image

from .jobs import rgb, row_of
from .server import value_of
from .test_txt2img import asked
from .watching_files import named, new_files

LOSSY = (".jpg", ".webp", ".avif")  # of which a noisy picture of 64 pixels comes back within 25 levels on average
ONE_BY_ONE = {"batch_size": 1, "n_iter": 2, "save_images": True}


@pytest.fixture(scope="module")
def a1111(webui):
    """The other server has enough to do."""
    return webui


def distance(image, pixels: bytes) -> float:
    """Of a picture in any format."""
    pairs = list(zip(rgb(image), pixels, strict=True))
    return sum(abs(a - b) for a, b in pairs) / len(pairs)


def text_of(path) -> str:
    """The generation parameters in a file of any of the host's formats."""
    image = Image.open(path)
    if "parameters" in image.info:
        return image.info["parameters"]
    return image.getexif().get_ifd(0x8769)[0x9286][8:].decode("utf-16-be")


OPTIONS = (
    *("samples_format", "grid_format", "save_txt", "n_rows", "return_grid", "samples_save", "grid_save"),
    *("save_images_add_number", "samples_filename_pattern", "save_images_replace_action", "save_to_dirs"),
)


@pytest.fixture(scope="module", autouse=True)
def _put_back(a1111):
    """After a job the host puts back only options that somebody has set."""
    there = a1111.get("/sdapi/v1/options")
    a1111.post("/sdapi/v1/options", {name: there[name] for name in OPTIONS})


@pytest.fixture(scope="module")
def worst(a1111):
    return a1111.make(*asked(), batch_size=1, n_iter=2)


@pytest.fixture(scope="module")
def plain(a1111):
    return a1111.make(batch_size=1, n_iter=2)


@pytest.mark.parametrize("suffix", [".png", *LOSSY])
def test_one_by_one_the_files_are_the_pictures_in_every_format(a1111, plain, worst, suffix):
    options = {"samples_format": suffix[1:], "grid_format": suffix[1:], "save_txt": True, "n_rows": 1}
    a1111.able(f"pictures in {suffix}", **ONE_BY_ONE, override_settings=options)
    with new_files(a1111) as files:
        made = a1111.make(*asked(save_student=True), **ONE_BY_ONE, override_settings=options)
    assert made.pixels == worst.pixels
    pictures, students, (grid,) = (named(files, suffix, *which) for which in ((), (False, True), (True,)))
    assert len(pictures) == 2 and len(students) == 1
    redone = [word == "redone" for word in made.said("decision")]
    for path, new, text, changed, old in zip(pictures, made.pixels, made.texts, redone, plain.pixels, strict=True):
        assert text_of(path) == text and path.with_suffix(".txt").read_text() == text + "\n"
        beside = path.with_name(path.stem + "-student" + suffix)
        assert (beside in students) == changed == beside.with_suffix(".txt").exists()
        assert distance(Image.open(path), new) < (25 if suffix in LOSSY else 1e-9)
        if changed:
            assert distance(Image.open(beside), old) < (25 if suffix in LOSSY else 1e-9)
            assert rgb(Image.open(beside)) != rgb(Image.open(path))
            assert value_of(text_of(beside), "Understudy decision") == "redone; this is the student's"
    assert Image.open(grid).size == (128, 64) and rgb(made.grid) == row_of(made.images)
    assert distance(Image.open(grid), row_of(made.images)) < (25 if suffix in LOSSY else 1e-9)
    assert not any("partial" in path.name or path.suffix == ".tmp" for path in files)


def test_a_grid_that_is_saved_and_not_shown_is_made_anew(a1111, worst):
    with new_files(a1111) as files:
        # Forge Neo's own format for grids is JPEG, by which no pixel could be compared.
        options = {"return_grid": False, "n_rows": 1, "grid_format": "png"}
        made = a1111.make(*asked(), **ONE_BY_ONE, override_settings=options)
    assert made.grid is None and made.pixels == worst.pixels
    (grid,) = named(files, ".png", grid=True)
    assert rgb(Image.open(grid)) == row_of(made.images)
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
        assert made.pixels == worst.pixels and len(files) == 2
        assert sorted(rgb(Image.open(path)) for path in files) == sorted(made.pixels)
    assert a1111.get("/sdapi/v1/options")["save_images_replace_action"] in ("Replace", "Override")


def test_each_batch_saves_the_students_beside_the_picture(a1111, plain, worst):
    score = sum(map(float, worst.said("score"))) / 2
    rule = {"rule": "below score", "score": score, "save_student": True}
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
    """The host's own matrix of prompts: two in one job, and a grid that the script makes when we are done."""
    matrix = {"script_name": "prompt matrix", "script_args": [False, False, "positive", "comma", 0]}
    job = {"batch_size": 1, "seed": 3}
    made = a1111.make(*asked(), prompt="a red star|above a blue circle", **job, **matrix)
    prompts = [text.splitlines()[0] for text in made.texts]
    assert prompts == ["a red star", "a red star, above a blue circle"]
    assert sorted(made.said("decision")) == ["kept", "redone"]
    for place, prompt in enumerate(prompts):
        alone = a1111.make(*asked(rule="below score", score=-1e4), prompt=prompt, **job)
        assert float(alone.said("score")[0]) == pytest.approx(float(made.said("score")[place]), abs=2e-3)
        assert (made.pixels[place] == alone.pixels[0]) == (made.said("decision")[place] == "kept")

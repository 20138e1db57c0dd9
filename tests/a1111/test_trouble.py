"""What goes wrong, and what the user stops: the student's pictures stay, and page and pictures say why."""

import shutil
import time

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from . import watching
from .jobs import EVERY, SMALL, rgb, row_of
from .server import Refused, value_of
from .test_txt2img import asked
from .watching_files import named, new_files

PAIR = {"batch_size": 2, **SMALL}  # of which the worst half is one
ONE_BY_ONE = {"batch_size": 1, **SMALL}
FOUR = {"n_iter": 4, **ONE_BY_ONE}
BROKEN = ("nan.safetensors", "mute.safetensors", "corrupt.safetensors", "gone.safetensors", "pickle.ckpt")


@pytest.fixture(scope="module")
def plain(a1111):
    return a1111.make(**PAIR)


@pytest.fixture(scope="module")
def worst(a1111):
    return a1111.make(*asked(), **PAIR)


@pytest.fixture(scope="module")
def four(a1111):
    """(without us, with the worst two redone)"""
    return a1111.make(**FOUR), a1111.make(*asked(), **FOUR)


@pytest.fixture(scope="module")
def broken(a1111):
    """Checkpoints that the host lists and that cannot work.

    One of NaN; one whose text encoder says nothing, so that the mean that the host divides by is 0; one cut in half;
    one that is gone from the disk; one of another kind.
    """
    folder = a1111.base / "models" / "Stable-diffusion"
    for name, part, value in (
        ("nan", "model.diffusion_model.out.", float("nan")),
        ("mute", "cond_stage_model.transformer.text_model.final_layer_norm.", 0.0),
    ):
        weights = load_file(folder / "teacher.safetensors")
        for key, tensor in weights.items():
            if key.startswith(part):
                tensor.fill_(value)
        save_file(weights, folder / f"{name}.safetensors")
        if (folder / "teacher.yaml").exists():
            shutil.copyfile(folder / "teacher.yaml", folder / f"{name}.yaml")
    whole = (folder / "teacher.safetensors").read_bytes()
    (folder / "corrupt.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "gone.safetensors").write_bytes(whole[:1000])
    (folder / "pickle.ckpt").write_bytes(b"no pickle at all")
    a1111.post("/sdapi/v1/refresh-checkpoints", {})
    (folder / "gone.safetensors").unlink()
    yield
    for name in BROKEN:
        (folder / name).unlink(missing_ok=True)
    a1111.post("/sdapi/v1/refresh-checkpoints", {})


def not_redone(made, count=1) -> str:
    """The one reason that so many pictures give for not having been redone."""
    reasons = {word for word in made.said("decision") if word.startswith("not redone: ")}
    assert made.said("decision").count("kept") == len(made.images) - count, made.said("decision")
    assert len(reasons) == 1, reasons
    return reasons.pop().removeprefix("not redone: ")


def shown(images) -> list[bytes]:
    """Their pixels without an alpha, in which Forge writes the text once more."""
    return [image.convert("RGB").tobytes() for image in images]


def at(look: dict) -> tuple[int, int]:
    return look["state"]["job_no"], look["state"]["job_count"]


def test_progress_counts_the_teachers_pass_from_the_start(a1111, worst):
    watching.do(a1111, command_line={"disable_console_progressbars": False})
    try:
        made, looks = watching.during(a1111, lambda look: True, *asked(steps=40), n_iter=2, **ONE_BY_ONE, steps=10)
        total = watching.seen(a1111)["total"]
    finally:
        watching.do(a1111, command_line={"disable_console_progressbars": True})
    assert made.said("decision") == worst.said("decision")
    teachers = [look for look in looks if watching.is_teachers(look)]
    assert teachers and teachers[0]["textinfo"] == "Understudy: the teacher redoes 1 picture"
    assert all(look["progress"] >= 2 / 3 for look in teachers)
    sampling = [look for look in teachers if look["state"]["sampling_step"]]
    # The host itself counts the pass as over before it has put the pictures together.
    assert {at(look) for look in sampling} - {(3, 3)} == {(2, 3)}
    assert sampling and {look["state"]["sampling_steps"] for look in sampling} == {40}
    assert any(look["progress"] < 0.9 and look["eta_relative"] > 0 for look in sampling)
    second = [look for look in looks if look["state"]["job_no"] == 1 and not watching.is_teachers(look)]
    assert {look["state"]["job_count"] for look in second} <= {3}
    assert total == [2 * 10 + 40] * 2
    after = a1111.get("/sdapi/v1/progress")
    assert after["textinfo"] is None and after["state"]["job_count"] == 0


def test_a_batchs_own_pass_is_a_job_more(a1111):
    made, looks = watching.during(a1111, lambda look: True, *asked(**EVERY, steps=20), n_iter=2, **ONE_BY_ONE)
    assert made.said("decision") == ["redone"] * 2
    counts = {at(look) for look in looks if watching.is_teachers(look) and look["state"]["sampling_step"]}
    assert counts - {(2, 3), (4, 4)} == {(1, 3), (3, 4)}


def stop(a1111, how):
    def act(look):
        if watching.is_teachers(look) and look["state"]["sampling_step"] > 2:
            a1111.post(f"/sdapi/v1/{how}", {})
            return True
        return False

    return act


@pytest.mark.parametrize(("how", "word"), [("interrupt", "interrupted"), ("skip", "skipped")])
def test_a_teacher_that_is_stopped_leaves_the_students_pictures_and_says_so(a1111, plain, worst, how, word):
    made, looks = watching.during(a1111, stop(a1111, how), *asked(steps=150), **PAIR)
    assert max(look["state"]["sampling_step"] for look in looks) < 140
    assert made.pixels == plain.pixels
    assert not_redone(made) == word
    assert [decision != "kept" for decision in made.said("decision")] == [
        decision == "redone" for decision in worst.said("decision")
    ]
    assert watching.page(a1111) == [f"Understudy: 1 picture not redone: {word}"]
    again = a1111.make(*asked(), **PAIR)
    assert again.pixels == worst.pixels and again.texts == worst.texts


def test_a_skip_is_of_one_batchs_teacher_alone(a1111):
    plain = a1111.make(**ONE_BY_ONE, n_iter=2)
    made, _ = watching.during(a1111, stop(a1111, "skip"), *asked(**EVERY, steps=60), n_iter=2, **ONE_BY_ONE)
    assert made.said("decision") == ["not redone: skipped", "redone"]
    assert made.pixels[0] == plain.pixels[0] and made.pixels[1] != plain.pixels[1]


def stop_the_student(a1111, how, *batches):
    """Stops each of these batches once it is being sampled."""
    left = list(batches)

    def act(look):
        if left and look["state"]["job_no"] == left[0] and look["state"]["sampling_step"] > 0:
            a1111.post(f"/sdapi/v1/{how}", {})
            left.pop(0)
        return not left

    return act


def test_interrupted_in_the_students_part_nothing_is_redone_and_what_would_have_been_says_so(a1111):
    act = stop_the_student(a1111, "interrupt", 2)
    with new_files(a1111) as files:
        made, looks = watching.during(a1111, act, *asked(), n_iter=4, **ONE_BY_ONE, steps=20, save_images=True)
    assert not any(map(watching.is_teachers, looks))
    first, second, cut = made.said("score")
    assert cut is None
    told = ["not redone: interrupted", "kept"]
    assert made.said("decision") == [*(told if float(first) < float(second) else told[::-1]), "not scored: interrupted"]
    assert watching.page(a1111) == ["Understudy: nothing is redone: interrupted"]
    saved = [Image.open(path).info["parameters"] for path in named(files, ".png")]
    assert saved == made.texts[:2]  # the host saves no picture that was cut short


def test_a_skip_in_the_students_part_is_of_one_batch_alone_be_it_the_last(a1111):
    job = {"n_iter": 4, **ONE_BY_ONE, "steps": 20}
    plain = a1111.make(**job)
    made, _ = watching.during(a1111, stop_the_student(a1111, "skip", 1, 3), *asked(), **job)
    assert made.said("decision")[1::2] == ["not scored: skipped"] * 2
    assert sorted(made.said("decision")[::2]) == ["kept", "redone"]
    for place in (0, 2):
        assert (made.pixels[place] == plain.pixels[place]) == (made.said("decision")[place] == "kept")
    assert watching.page(a1111) == []


def test_an_error_in_the_third_batch_loses_neither_the_first_two_nor_the_next_job(a1111, worst):
    job = {"n_iter": 4, **ONE_BY_ONE}
    plain = a1111.make(*asked(share=0.0), **job)
    with new_files(a1111) as files, pytest.raises(Refused, match="NobodyKnows"):
        a1111.make(*asked(), **job, sampler_name="Broken in the third batch", save_images=True)
    saved = [Image.open(path) for path in named(files, ".png")]
    texts = [image.info["parameters"] for image in saved]
    assert shown(saved) == plain.pixels[:2]
    assert [value_of(text, "Understudy score") for text in texts] == plain.said("score")[:2]
    first, second = map(float, plain.said("score")[:2])
    told = ["not redone: the job ended in an error", "kept"]  # for half of them waited to be redone
    told = told if first < second else told[::-1]
    assert [value_of(text, "Understudy decision") for text in texts] == told
    made = a1111.make(*asked(), **PAIR)
    assert made.pixels == worst.pixels and made.texts == worst.texts and watching.page(a1111) == []


# What breaks is ours: the pass, the second picture's file, the third batch's scores, the receipt, one batch's pass. Of
# the pictures so many are redone then, and so many say that they are not.
@pytest.mark.parametrize(
    ("rule", "broken", "which", "redone", "waiting"),
    [
        ({}, "redoing.redo", 1, 0, 2),
        ({}, "files.Files.write", 2, 1, 1),
        ({}, "batch.Batch.entries", 3, 0, 1),
        ({"receipt": True}, "job.show_receipt", 1, 2, 0),
        (EVERY, "redoing.redo", 1, 0, 1),
    ],
)
def test_an_error_of_ours_leaves_no_picture_that_says_kept_and_was_to_be_redone(
    a1111, four, rule, broken, which, redone, waiting
):
    kept, whole = four
    with new_files(a1111) as files:
        watching.do(a1111, broken=[broken, which])
        try:
            made = a1111.make(*asked(**rule), **FOUR, save_images=True, override_settings={"n_rows": 1})
        finally:
            watching.do(a1111, broken=[None])
    reason = "stopped by an error, see the log: NobodyKnows: this extension has an error"
    saved = [Image.open(path) for path in named(files, ".png")]
    assert len(saved) == 4
    for texts in (made.texts, [image.info["parameters"] for image in saved]):
        told = [value_of(text, "Understudy decision") for text in texts]
        assert told.count(f"not redone: {reason}") == waiting, told
        assert told.count("redone") == redone, told
        assert told.count("kept") == len([word for word in told if word]) - redone - waiting
    assert shown(saved) == made.pixels and rgb(made.grid) == row_of(made.images)
    for place, decision in enumerate(made.said("decision")):
        assert made.pixels[place] == (whole if decision == "redone" else kept).pixels[place]
    counted = [] if not waiting else ["1 picture"] if waiting == 1 else [f"{waiting} pictures"]
    said = [f"Understudy: {count} not redone: {reason}" for count in counted]
    assert watching.page(a1111) == [f"Understudy: {reason}", *said]
    assert a1111.make(*asked(), **FOUR).texts == whole.texts


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("nan.safetensors", "the teacher made no numbers (NaN): try --no-half, "),
        ("mute.safetensors", "the teacher made no numbers (NaN): try --no-half, "),
        ("corrupt.safetensors", "loading corrupt.safetensors failed: "),  # by what error is the host's affair
        ("gone.safetensors", "loading gone.safetensors failed: "),
        ("pickle.ckpt", "loading pickle.ckpt failed: "),
        ("absent.safetensors", "the host has no checkpoint 'absent.safetensors'"),
    ],
)
def test_a_teacher_that_cannot_work(a1111, plain, worst, broken, teacher, words):
    made = a1111.make(*asked(teacher=teacher), **PAIR)
    assert made.pixels == plain.pixels
    assert words in not_redone(made)
    (said,) = watching.page(a1111)
    assert words in said and "1 picture " in said
    host = watching.seen(a1111)
    assert host["loaded"] == "student.safetensors"
    assert host["wrapped"] in ("FrozenCLIPEmbedderWithCustomWords", None)
    assert a1111.make(**PAIR).pixels == plain.pixels
    assert a1111.make(*asked(), **PAIR).pixels == worst.pixels


def test_a_black_picture_is_none_where_the_host_does_not_check(a1111, plain, broken):
    watching.do(a1111, command_line={"disable_nan_check": True})
    try:
        made = a1111.make(*asked(teacher="nan.safetensors"), **PAIR)
    finally:
        watching.do(a1111, command_line={"disable_nan_check": False})
    assert made.pixels == plain.pixels
    assert "the teacher made no numbers (NaN)" in not_redone(made)
    assert len(watching.page(a1111)) == 1
    assert a1111.make(**PAIR).pixels == plain.pixels


@pytest.mark.parametrize(
    ("sampler", "rule", "words"),
    [
        ("Out of GPU memory", {}, "out of memory: choose fewer or smaller pictures"),
        ("Out of memory", EVERY, "out of memory: choose fewer or smaller pictures"),
        ("Broken", {}, "the teacher's pass failed: NobodyKnows: this extension has an error"),
    ],
)
def test_what_the_host_or_another_extension_raises_in_the_teachers_pass(a1111, plain, worst, sampler, rule, words):
    made = a1111.make(*asked(sampler=sampler, **rule), **PAIR)
    assert made.pixels == plain.pixels
    reason = not_redone(made, 2 if rule else 1)
    assert reason.startswith(words) and "\n" not in reason
    (said,) = watching.page(a1111)
    assert words in said
    again = a1111.make(*asked(), **PAIR)
    assert again.pixels == worst.pixels


def test_other_extensions_hooks_may_raise(a1111, worst):
    watching.do(a1111, **{"raise": True})
    try:
        made = a1111.make(*asked(), **PAIR)
    finally:
        watching.do(a1111, **{"raise": False})
    assert made.pixels == worst.pixels and made.texts == worst.texts


def test_an_oracle_that_goes_wrong_between_two_jobs(a1111, plain, worst):
    folder = a1111.base / "models" / "oracles"
    file = folder / "passing.safetensors"
    shutil.copyfile(folder / "demo.safetensors", file)
    values = asked(oracle=file.name)
    assert a1111.make(*values, **PAIR).pixels == worst.pixels
    whole = file.read_bytes()
    time.sleep(0.01)
    file.write_bytes(whole[: len(whole) // 2])
    made = a1111.make(*values, **PAIR)
    assert made.pixels == plain.pixels and made.said("decision") == [None] * 2
    assert all("Understudy: " in text and "passing.safetensors" in text for text in made.texts)
    (said,) = watching.page(a1111)
    assert said.startswith("Understudy: off, since loading the oracle passing.safetensors failed: ")
    file.unlink()
    assert a1111.make(*values, **PAIR).pixels == plain.pixels
    (said,) = watching.page(a1111)
    assert said.startswith("Understudy: off, since models/oracles has no 'passing.safetensors'; there are: demo")
    time.sleep(0.01)
    file.write_bytes(whole)
    assert a1111.make(*values, **PAIR).pixels == worst.pixels
    file.unlink()


@pytest.mark.parametrize(
    ("scoring", "words"),
    [("Out of GPU memory", "out of memory"), ("Broken", "scoring by demo.safetensors failed: NobodyKnows: ")],
)
def test_an_oracle_that_fails_while_it_scores(a1111, plain, worst, scoring, words):
    for which in ("first", "second"):
        watching.do(a1111, scoring=[scoring, which])
        try:
            made = a1111.make(*asked(), **PAIR)
        finally:
            watching.do(a1111, scoring=None)
        assert made.pixels == plain.pixels
        if which == "first":
            assert all(word.startswith(f"not scored: {words}") for word in made.said("decision"))
            assert made.said("score") == [None] * 2
        else:
            assert words in not_redone(made)
            assert made.said("score") == worst.said("score") and made.said("score after") == [None] * 2
        (said,) = watching.page(a1111)
        assert words in said
    assert a1111.make(*asked(), **PAIR).pixels == worst.pixels

"""Jobs of many kinds in a real A1111: batches, seeds, styles, scripts with jobs of their own, a refiner."""

import pytest

from .jobs import asked, close

EVERY = {"rule": "below score", "score": 100.0}
KINDS = {
    "batches": {"batch_size": 2, "n_iter": 2},
    "variation": {"subseed": 7, "subseed_strength": 0.4},
    "resized seed": {"seed_resize_from_h": 96, "seed_resize_from_w": 32},
    "tiles": {"tiling": True, "batch_size": 2, "n_iter": 2},
    "merged tokens": {"override_settings": {"token_merging_ratio": 0.5}, "batch_size": 2, "n_iter": 2},
}


@pytest.mark.parametrize("job", KINDS.values(), ids=KINDS)
def test_kept_pictures_are_those_without_us_and_redone_ones_are_their_own(a1111, job):
    plain = a1111.make(**job)
    every = a1111.make(*asked(**EVERY), **job)
    bound = sorted(map(float, every.said("score")))
    half = a1111.make(*asked(rule="below score", score=(bound[1] + bound[2]) / 2), **job)
    assert every.said("decision") == ["redone"] * 4
    assert sorted(half.said("decision")) == ["kept", "kept", "redone", "redone"]
    for place, decision in enumerate(half.said("decision")):
        if decision == "kept":
            assert half.pixels[place] == plain.pixels[place]
        else:
            assert half.pixels[place] != plain.pixels[place]
            assert close(half.pixels[place], every.pixels[place])


@pytest.mark.parametrize("job", [KINDS["variation"], KINDS["tiles"]], ids=["variation", "tiles"])
def test_the_teacher_has_the_jobs_noise_and_tiles(a1111, job):
    made, plain = (a1111.make(*asked(**EVERY), **kind) for kind in (job, {"batch_size": 2, "n_iter": 2}))
    assert not any(one == other for one, other in zip(made.pixels, plain.pixels, strict=True))


def test_another_checkpoint_back_and_forth_between_batches_leaves_tiles(a1111):
    job = KINDS["tiles"]
    plain = a1111.make(**job)
    every = a1111.make(*asked(**EVERY, teacher="teacher.safetensors"), **job)
    scores = list(map(float, every.said("score")))
    bound = max(scores[:2])  # of the first batch one, so that the second comes after a switch
    half = a1111.make(*asked(rule="below score", score=bound, teacher="teacher.safetensors"), **job)
    assert half.said("decision")[:2].count("redone") == 1
    for place, decision in enumerate(half.said("decision")):
        of = plain if decision == "kept" else every
        assert close(half.pixels[place], of.pixels[place])


def test_alone_as_together_where_the_teacher_encodes_the_picture(a1111):
    other = {"teacher": "teacher.safetensors", **EVERY}
    together = a1111.make(*asked(**other))
    for place in (0, 3):
        alone = a1111.make(*asked(**other), batch_size=1, seed=1 + place)
        assert close(alone.pixels[0], together.pixels[place])


def test_a_style_is_laid_on_once(a1111):
    styled = a1111.make(*asked(**EVERY), prompt="a red star", negative_prompt="old", styles=["blue"], batch_size=1)
    written = a1111.make(*asked(**EVERY), prompt="a red star in blue", negative_prompt="old, red", batch_size=1)
    bare = a1111.make(*asked(**EVERY), prompt="a red star", negative_prompt="old", batch_size=1)
    assert styled.pixels == written.pixels and bare.pixels != written.pixels
    assert styled.said("score") == written.said("score") and bare.said("score") != written.said("score")


def test_a_prompt_matrix_is_one_job(a1111):
    job = {"script_name": "prompt matrix", "script_args": [False, False, "positive", "comma", 0], "batch_size": 1}
    job["prompt"] = "a star|red|blue"
    plain, made = a1111.make(**job), a1111.make(*asked(), **job)
    decisions = made.said("decision")[-4:]
    assert sorted(decisions) == ["kept", "kept", "redone", "redone"]
    for one, other, decision in zip(made.pixels[-4:], plain.pixels[-4:], decisions, strict=True):
        assert (one == other) == (decision == "kept")


def test_each_prompt_of_a_file_is_a_job_of_its_own(a1111):
    job = {"script_name": "prompts from file or textbox", "script_args": [False, False, "start", "a star\na circle"]}
    plain, made = a1111.make(**job, batch_size=2), a1111.make(*asked(), **job, batch_size=2)
    for first in (0, 2):
        assert sorted(made.said("decision")[first : first + 2]) == ["kept", "redone"]
    for one, other, decision in zip(made.pixels, plain.pixels, made.said("decision"), strict=True):
        assert (one == other) == (decision == "kept")


def test_the_teacher_runs_without_the_users_refiner_and_says_so(a1111):
    job = {"alwayson_scripts": {"refiner": {"args": [True, "teacher.safetensors", 0.5]}}, "steps": 4}
    plain, refined = a1111.make(steps=4), a1111.make(**job)
    assert plain.pixels != refined.pixels
    made = a1111.make(*asked(), **job)
    assert sorted(made.said("decision")) == ["kept", "kept", "redone", "redone"]
    for place, decision in enumerate(made.said("decision")):
        assert (made.pixels[place] == refined.pixels[place]) == (decision == "kept")
        assert made.said("without")[place] == ("the refiner" if decision == "redone" else None)
    assert a1111.make(steps=4).pixels == plain.pixels
    assert a1111.make(*asked(), steps=4).said("without") == [None] * 4

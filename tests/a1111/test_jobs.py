"""Jobs of many kinds in a real A1111: batches, seeds, styles, scripts with jobs of their own, a refiner."""

from .jobs import EVERY, asked, close, hold, rising, small, up_to_the_first

OTHER = {"teacher": "teacher.safetensors"}
DETAIL = (255, 0, 255)  # what the stand-in for a detailer paints


def test_variations_and_resized_seeds_are_redone_in_their_own_noise(a1111):
    job = {"subseed": 7, "subseed_strength": 0.4, "seed_resize_from_h": 96, "seed_resize_from_w": 32, "batch_size": 2}
    plain, every = small(a1111, **job), small(a1111, *asked(**EVERY), **job)
    hold(small(a1111, *asked(), **job), plain, every)


def test_after_another_checkpoint_the_next_batch_has_its_tiles(a1111):
    job = rising(a1111, tiling=True)
    plain, every = small(a1111, **job), small(a1111, *asked(**EVERY, **OTHER), **job)
    made = small(a1111, *asked(**up_to_the_first(every), **OTHER), **job)
    assert made.said("decision") == ["redone", "kept"]
    hold(made, plain, every)
    assert small(a1111, **{**job, "tiling": False}).pixels != plain.pixels


def test_alone_as_together_where_the_teacher_encodes_the_picture(a1111):
    together = small(a1111, *asked(**EVERY, **OTHER), batch_size=2)
    alone = small(a1111, *asked(**EVERY, **OTHER), batch_size=1, seed=2)
    assert alone.said("decision") == ["redone"] and close(alone.pixels[0], together.pixels[1])


def test_a_style_is_laid_on_once(a1111):
    styled = small(a1111, *asked(**EVERY), prompt="a red star", negative_prompt="old", styles=["circle"], batch_size=1)
    text = {"prompt": "a red star above a blue circle", "negative_prompt": "old, green"}
    written = small(a1111, *asked(**EVERY), **text, batch_size=1)
    assert styled.said("decision") == ["redone"] and styled.pixels == written.pixels
    assert styled.said("score") == written.said("score")


def test_each_prompt_of_a_file_is_a_job_of_its_own(a1111):
    text = "a red star\na red star above a blue circle"
    job = {"script_name": "prompts from file or textbox", "script_args": [False, False, "start", text]}
    job |= {"prompt": "", "batch_size": 2}
    plain, made = small(a1111, **job), small(a1111, *asked(), **job)
    decisions = made.said("decision")[-4:]  # in Forge behind the first job's grid
    for first in (0, 2):
        assert sorted(decisions[first : first + 2]) == ["kept", "redone"]
    for one, other, decision in zip(made.pixels[-4:], plain.pixels[-4:], decisions, strict=True):
        assert (one == other) == (decision == "kept")


def test_the_teacher_runs_without_the_users_refiner_and_says_so(a1111):
    job = {"batch_size": 2, "steps": 4}
    refined = {**job, "refiner_checkpoint": "teacher.safetensors", "refiner_switch_at": 0.3}
    plain, made = small(a1111, **refined), small(a1111, *asked(), **refined)
    bare = small(a1111, *asked(), **job)
    assert sorted(made.said("decision")) == ["kept", "redone"]
    for place, decision in enumerate(made.said("decision")):
        assert (made.pixels[place] == plain.pixels[place]) == (decision == "kept")
        assert made.said("without")[place] == ("the refiner" if decision == "redone" else None)
        assert made.pixels[place] != bare.pixels[place]  # whose student has not been refined
    assert bare.said("without") == [None] * 2


def test_a_job_is_one_though_another_extension_ends_and_begins_it_between(a1111):
    job = {"batch_size": 1, "n_iter": 2}
    detailed = {**job, "alwayson_scripts": {"detailer": {"args": [True]}}}
    for rule in ({}, EVERY):
        made, plain = small(a1111, *asked(**rule), **detailed), small(a1111, *asked(**rule), **job)
        assert made.said("decision") == plain.said("decision")
        assert sorted(made.said("decision")) == (["redone", "redone"] if rule else ["kept", "redone"])
        assert made.said("score") == plain.said("score") and None not in made.said("score")
        # By a batch's rule a detailer gets the teacher's picture, and its work stays; at the job's end what it made of
        # the student's is gone with that.
        for one, other, decision in zip(made.images, plain.images, made.said("decision"), strict=True):
            if rule or decision == "kept":
                other.putpixel((0, 0), DETAIL)
            assert one.convert("RGB").tobytes() == other.convert("RGB").tobytes()

import pytest
import torch
from understudy.demo_family.language import TOKENS, VOCABULARY_SIZE, PromptError, parse, token_ids
from understudy.demo_family.scenes import SPLITS, Scene, Thing, all_scenes, scenes_of, split_of

RED_STAR, BLUE_CIRCLE = Thing("small", "red", "star"), Thing("large", "blue", "circle")


@pytest.mark.parametrize(
    "text",
    [
        "a small red star left of a large blue circle on a gray background",
        "small red star to the left of big blue disc, grey background",
        "On a gray background: a tiny star, red, on the left side of a huge circle that is blue",
        "big blue ball right of little red star against grey",
        "a large blue circle, right of a small red star",  # gray is the default background
    ],
)
def test_what_a_person_would_type_is_one_scene(text):
    assert parse(text).canonical() == Scene("gray", RED_STAR, "left of", BLUE_CIRCLE)


@pytest.mark.parametrize(
    "text, relation",
    [
        ("a red star on top of a blue circle", "above"),
        ("a red star over a blue circle", "above"),
        ("a red star beneath a blue circle", "below"),
        ("a red star under a blue circle", "below"),
        ("a red star to the right of a blue circle", "right of"),
    ],
)
def test_relations_have_synonyms(text, relation):
    assert parse(text).relation == relation


@pytest.mark.parametrize("text", ["a round red ball", "red disc, a circle", "„a large red circle“ — on ‘gray’!"])
def test_a_shape_said_twice_is_one_thing(text):
    assert parse(text) == Scene("gray", Thing("large", "red", "circle"))
    assert parse(f"{text} left of a small blue square box").second == Thing("small", "blue", "square")


@pytest.mark.parametrize("word", ["龍", "étoile", "🚀", "x2", "звезда"])
def test_unknown_words_of_any_script_are_named(word):
    with pytest.raises(PromptError, match=f"unknown in .*: {word}. Known"):
        parse(f"a red star {word}")


def test_one_thing_with_defaults():
    assert parse("red star") == Scene("gray", Thing("large", "red", "star"))


@pytest.mark.parametrize(
    "text, said",
    [
        ("a small red dragon on a gray background", "dragon"),
        ("a red star", None),
        ("a star left of a blue circle", "no color"),
        ("a red", "0 shapes"),
        ("a red star and a blue circle", "0 relations"),
        ("a red star left of above a blue circle", "2 relations"),
        ("a red star left of", "name what it is left of"),
        ("red star, blue circle, green square", "3 shapes"),
        ("left of a red star a blue circle", "needs a shape on each side"),
        ("a red blue star", "more than one color"),
        ("a small large red star", "more than one size"),
        ("a red star on a blue background", "no blue background"),
        ("a red star on a white and black background", "two backgrounds"),
        ("a large red star left of a large red star", "same thing twice"),
    ],
)
def test_what_cannot_be_shown_is_said(text, said):
    if said is None:
        parse(text)
        return
    with pytest.raises(PromptError, match=said):
        parse(text)


def test_unknown_words_are_named_with_the_known_ones():
    with pytest.raises(PromptError) as caught:
        parse("a shiny red dragon left of a blue circle")
    message = str(caught.value)
    assert "shiny, dragon" in message
    assert all(word in message for word in ("turquoise", "triangle", "beneath", "gray"))


def test_every_scene_reads_back_from_its_own_description():
    for scene in all_scenes()[::97]:
        assert parse(str(scene)) == scene


def test_tokens_tell_all_scenes_apart_and_converse_forms_are_equal():
    scenes = all_scenes()
    tokens = {tuple(token_ids(scene)) for scene in scenes}
    assert len(tokens) == len(scenes)
    assert all(len(t) == TOKENS and max(t) < VOCABULARY_SIZE and min(t) > 0 for t in tokens)
    assert token_ids(None) == [0] * TOKENS
    left = Scene("gray", RED_STAR, "left of", BLUE_CIRCLE)
    right = Scene("gray", BLUE_CIRCLE, "right of", RED_STAR)
    assert token_ids(left) == token_ids(right) and split_of(left) == split_of(right)


def test_splits_do_not_overlap_and_cover_everything():
    parts = [set(scenes_of(name)) for name in SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(all_scenes()) == 13_680
    assert len(scenes_of("test")) >= 2048
    assert len(scenes_of("calibration")) >= 1000


def test_the_tokens_of_a_scene_never_change():
    # Committed weights depend on them.
    assert token_ids(parse("a small red star left of a large blue circle on a gray background")) == [
        2, 4, 6, 15, 17, 21, 25, 30,
    ]  # fmt: skip
    assert torch.tensor(token_ids(parse("a large cyan square on a white background"))).tolist() == [
        1, 5, 11, 13, 16, 19, 22, 29,
    ]  # fmt: skip

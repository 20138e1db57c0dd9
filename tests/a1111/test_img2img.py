"""Image to image in a real A1111: the teacher starts from the student's pictures."""

import pytest

from .jobs import asked, close, primed, source
from .server import encoded


def remake(a1111, *args, **changes):
    primed(a1111)
    body = {"init_images": [encoded(source(1))], "denoising_strength": 0.7, **changes}
    return a1111.make(*args, tab="img2img", **body)


@pytest.fixture(scope="module")
def plain(a1111):
    return remake(a1111)


@pytest.fixture(scope="module")
def every(a1111):
    return remake(a1111, *asked(share=100.0))


def test_off_is_the_same_to_the_bit_as_without_us(a1111, plain):
    off = remake(a1111, *asked(enabled=False))
    assert off.pixels == plain.pixels and off.texts == plain.texts


@pytest.mark.parametrize("rule", ["worst share of the job", "below score"])
def test_rejected_pictures_are_redone_each_by_itself_and_the_others_are_those_without_us(a1111, plain, every, rule):
    scores = sorted(map(float, every.said("score")))
    made = remake(a1111, *asked(rule=rule, score=(scores[1] + scores[2]) / 2))
    assert sorted(made.said("decision")) == ["kept", "kept", "redone", "redone"]
    for place, decision in enumerate(made.said("decision")):
        if decision == "kept":
            assert made.pixels[place] == plain.pixels[place]
        else:
            assert made.pixels[place] != plain.pixels[place]
            assert close(made.pixels[place], every.pixels[place])


def test_a_job_of_more_batches_is_redone_in_batches_of_its_size(a1111, every):
    made = remake(a1111, *asked(share=75.0), batch_size=2, n_iter=2)
    assert sorted(made.said("decision")) == ["kept", "redone", "redone", "redone"]


def test_another_checkpoint_reads_each_picture_by_its_own_seed(a1111, plain):
    other = {"teacher": "teacher.safetensors"}
    every = remake(a1111, *asked(share=100.0, **other))
    half = remake(a1111, *asked(share=50.0, **other))
    for place, decision in enumerate(half.said("decision")):
        of = plain if decision == "kept" else every
        assert close(half.pixels[place], of.pixels[place])


def test_a_source_of_another_size_is_resized_once(a1111):
    sized = {"init_images": [encoded(source(1, (96, 80)))], "resize_mode": 1}
    made = remake(a1111, *asked(share=50.0), **sized)
    assert [image.size for image in made.images] == [(64, 64)] * 4
    assert sorted(made.said("decision")) == ["kept", "kept", "redone", "redone"]


def test_a_latent_upscale_of_the_source_can_be_redone(a1111):
    made = remake(a1111, *asked(share=50.0), init_images=[encoded(source(1, (32, 32)))], resize_mode=3)
    assert sorted(made.said("decision")) == ["kept", "kept", "redone", "redone"]

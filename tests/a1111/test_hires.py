"""Hires fix in a real A1111: what is scored and redone is the final picture, at its size."""

import pytest

from .jobs import asked, close

LATENT = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}
PIXELS = {**LATENT, "hr_upscaler": "Lanczos", "hr_scale": 1.7}  # 108 pixels, of which the host makes 104


@pytest.mark.parametrize(("job", "side"), [(LATENT, 128), (PIXELS, 104)], ids=["latent", "pixels"])
def test_the_final_picture_is_redone_at_its_size(a1111, job, side):
    plain = a1111.make(**job)
    every = a1111.make(*asked(share=100.0), **job)
    half = a1111.make(*asked(), **job)
    assert [image.size for image in (*every.images, *half.images)] == [(side, side)] * 8
    assert sorted(half.said("decision")) == ["kept", "kept", "redone", "redone"]
    for place, decision in enumerate(half.said("decision")):
        if decision == "kept":
            assert half.pixels[place] == plain.pixels[place]
        else:
            assert close(half.pixels[place], every.pixels[place])
            assert half.pixels[place] != plain.pixels[place]


def test_batches_after_a_teachers_pass_are_those_without_it(a1111):
    job = {**PIXELS, "batch_size": 2, "n_iter": 2}
    plain, scored = a1111.make(**job), a1111.make(*asked(rule="below score", score=-100.0), **job)
    assert scored.pixels == plain.pixels
    scores = list(map(float, scored.said("score")))
    bound = (sorted(scores)[1] + sorted(scores)[2]) / 2
    made = a1111.make(*asked(rule="below score", score=bound), **job)
    redone = [score < bound for score in scores]
    assert [decision == "redone" for decision in made.said("decision")] == redone
    assert [one != other for one, other in zip(made.pixels, plain.pixels, strict=True)] == redone


def test_the_hires_button_is_left_alone(a1111):
    job = {**LATENT, "batch_size": 1, "alwayson_scripts": {"hires button": {"args": [True]}}}
    plain, made = a1111.make(**job), a1111.make(*asked(share=100.0), **job)
    assert made.pixels == plain.pixels and made.texts == plain.texts
    unpressed = a1111.make(*asked(share=100.0), **{**job, "alwayson_scripts": {}})
    assert unpressed.said("decision") == ["redone"]

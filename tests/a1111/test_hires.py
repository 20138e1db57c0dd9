"""Hires fix in a real A1111: what is scored and redone is the final picture, at its size."""

import pytest

from .jobs import EVERY, HIRES, SMALL, asked, hold, primed, rising, up_to_the_first

LATENT = {**HIRES, **SMALL, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7, "batch_size": 2}
PIXELS = {**LATENT, "hr_upscaler": HIRES["hr_upscaler"], "hr_scale": 1.7}  # 54 pixels, of which the host makes 48


@pytest.fixture(scope="module")
def large(a1111):
    """By a latent upscaler, without us."""
    return a1111.able("hires fix by a latent upscaler", **LATENT)


def test_after_a_latent_upscaler_the_final_picture_is_redone_at_its_size(a1111, large):
    plain, every = large, a1111.make(*asked(**EVERY), **LATENT)
    made = a1111.make(*asked(), **LATENT)
    assert [image.size for image in (*every.images, *made.images)] == [(64, 64)] * 4
    assert every.said("without") == [None] * 2
    hold(made, plain, every)


def test_after_a_pixel_upscaler_too_and_the_next_batch_is_as_without_us(a1111):
    (size, *_) = [image.size for image in a1111.able("hires fix over the API", **PIXELS).images]
    job = rising(a1111, type(a1111).make, **PIXELS, hr_prompt="a red star")
    plain, every = a1111.make(**job), a1111.make(*asked(**EVERY), **job)
    made = a1111.make(*asked(**up_to_the_first(every)), **job)
    assert size == (48, 48) or a1111.lacks and min(size) > 64  # one that makes multiples of 64 alone
    assert [image.size for image in (*every.images, *made.images)] == [size] * 4
    assert made.said("decision") == ["redone", "kept"]
    assert made.said("without") == ["the hires prompts", None]
    hold(made, plain, every)


def test_the_hires_button_is_left_alone(a1111, large):
    job = {**LATENT, "batch_size": 1, "alwayson_scripts": {"hires button": {"args": [True]}}}
    primed(a1111)
    plain = a1111.make(**job)
    primed(a1111)
    made = a1111.make(*asked(**EVERY), **job)
    assert made.pixels == plain.pixels and made.texts == plain.texts
    unpressed = a1111.make(*asked(**EVERY), **{**job, "alwayson_scripts": {}})
    assert unpressed.said("decision") == ["redone"]

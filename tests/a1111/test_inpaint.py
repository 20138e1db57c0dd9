"""Inpainting in a real A1111: the job's mask, its sources by index, and what the host lays over the teacher's picture."""

import pytest
from PIL import Image, ImageChops, ImageDraw

from .jobs import asked, close, primed, source
from .server import encoded, value_of

RULES = {"at the end": {}, "batch by batch": {"rule": "below score", "score": 100.0}}


def mask_of(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return mask


WHOLE = {
    "init_images": [encoded(source(1))],
    "mask": encoded(mask_of((64, 64), (8, 8, 39, 55))),
    **{"mask_blur": 0, "inpaint_full_res": False, "inpainting_fill": 1, "denoising_strength": 0.8},
}
# A part of a larger picture: worked on at 64 by 64, put back at its own size.
PART = {
    **WHOLE,
    "init_images": [encoded(source(1, (160, 128)))],
    "mask": encoded(mask_of((160, 128), (48, 40, 71, 63))),
    **{"inpaint_full_res": True, "inpaint_full_res_padding": 4},
}


def inpaint(a1111, *args, **changes):
    primed(a1111)
    return a1111.make(*args, tab="img2img", **changes)


def outside(image: Image.Image, of: Image.Image, mask: Image.Image) -> bool:
    """Whether two pictures are the same where the mask is black."""
    return (
        ImageChops.multiply(
            ImageChops.difference(image.convert("RGB"), of), ImageChops.invert(mask).convert("RGB")
        ).getbbox()
        is None
    )


@pytest.mark.parametrize("job", [WHOLE, PART], ids=["whole picture", "only masked"])
def test_the_unmasked_part_stays_and_both_ways_make_the_same_picture(a1111, job):
    size = (160, 128) if job is PART else (64, 64)
    of = source(1, size)
    mask = mask_of(size, (48, 40, 71, 63) if job is PART else (8, 8, 39, 55))
    plain = inpaint(a1111, **job)
    at_the_end, by_batch = (inpaint(a1111, *asked(share=100.0, **rule), **job) for rule in RULES.values())
    for made in (plain, at_the_end, by_batch):
        assert [image.size for image in made.images] == [size] * 4
        assert all(outside(image, of, mask) for image in made.images)
    assert at_the_end.said("decision") == by_batch.said("decision") == ["redone"] * 4
    assert at_the_end.pixels == by_batch.pixels
    assert all(one != other for one, other in zip(at_the_end.pixels, plain.pixels, strict=True))
    assert at_the_end.said("score") == by_batch.said("score")


@pytest.mark.parametrize("job", [WHOLE, PART], ids=["whole picture", "only masked"])
def test_what_is_kept_is_a_run_without_us_and_the_rest_has_its_own_seed(a1111, job):
    plain = inpaint(a1111, **job)
    every = inpaint(a1111, *asked(share=100.0), **job)
    half = inpaint(a1111, *asked(share=50.0), **job)
    decisions = half.said("decision")
    assert sorted(decisions) == ["kept", "kept", "redone", "redone"]
    for place, decision in enumerate(decisions):
        if decision == "kept":
            assert half.pixels[place] == plain.pixels[place]
        else:
            assert close(half.pixels[place], every.pixels[place])


def test_another_checkpoint_starts_from_the_source_around_the_mask(a1111):
    other = {"teacher": "teacher.safetensors"}
    plain = inpaint(a1111, **WHOLE)
    every = inpaint(a1111, *asked(share=100.0, **other), **WHOLE)
    half = inpaint(a1111, *asked(share=50.0, **other), **WHOLE)
    mask = mask_of((64, 64), (8, 8, 39, 55))
    assert all(outside(image, source(1), mask) for image in every.images)
    for place, decision in enumerate(half.said("decision")):
        of = plain if decision == "kept" else every
        assert close(half.pixels[place], of.pixels[place])
    same = inpaint(a1111, *asked(share=100.0), **WHOLE)
    assert all(one != other for one, other in zip(every.pixels, same.pixels, strict=True))


def test_sources_go_by_their_place_in_each_batch(a1111):
    job = {**WHOLE, "init_images": [encoded(source(1)), encoded(source(2))], "batch_size": 2, "n_iter": 2}
    mask = mask_of((64, 64), (8, 8, 39, 55))
    by_batch = inpaint(a1111, *asked(rule="below score", score=100.0), **job)
    for rule in ({"share": 100.0}, {"rule": "below score", "score": 100.0}):
        made = inpaint(a1111, *asked(**rule), **job)
        assert made.said("decision") == ["redone"] * 4
        assert made.pixels == by_batch.pixels
        for place, image in enumerate(made.images):
            assert outside(image, source(1 + place % 2), mask)
            assert not outside(image, source(2 - place % 2), mask)


def test_masks_and_composites_are_no_pictures_and_composites_are_of_the_new_ones(a1111):
    extras = {"override_settings": {"return_mask": True, "return_mask_composite": True}, "save_images": True}
    job = {**WHOLE, **extras, "mask_blur": 4, "batch_size": 2, "n_iter": 2}
    at_the_end = inpaint(a1111, *asked(share=50.0), **job)
    bound = sorted(float(value_of(text, "Understudy score")) for text in at_the_end.texts)
    by_batch = inpaint(a1111, *asked(rule="below score", score=(bound[1] + bound[2]) / 2), **job)
    assert len(at_the_end.images) == 12 and len(at_the_end.texts) == 4
    assert sorted(at_the_end.said("decision")) == ["kept", "kept", "redone", "redone"]
    assert at_the_end.said("decision") == by_batch.said("decision")
    assert [image.tobytes() for image in at_the_end.images] == [image.tobytes() for image in by_batch.images]
    assert at_the_end.grid.tobytes() == by_batch.grid.tobytes()
    for text, image in zip(at_the_end.texts, at_the_end.images[::3], strict=True):
        assert image.info["parameters"] == text


def test_the_hosts_own_colour_correction_is_the_teachers_as_well(a1111):
    job = {**WHOLE, "override_settings": {"img2img_color_correction": True}, "mask_blur": 4}
    at_the_end, by_batch = (inpaint(a1111, *asked(share=100.0, **rule), **job) for rule in RULES.values())
    assert at_the_end.pixels == by_batch.pixels and at_the_end.said("decision") == ["redone"] * 4
    without = inpaint(a1111, *asked(share=100.0), **{**job, "override_settings": {}})
    assert without.pixels != at_the_end.pixels


def test_soft_inpainting_is_left_to_the_student_and_said(a1111):
    job = {**WHOLE, "alwayson_scripts": {"soft inpainting": {"args": [True, 1, 0.5, 4, 0, 0.5, 2]}}, "mask_blur": 4}
    plain, made = inpaint(a1111, **job), inpaint(a1111, *asked(share=50.0), **job)
    assert made.pixels == plain.pixels
    assert sum("soft inpainting" in decision for decision in made.said("decision")) == 2

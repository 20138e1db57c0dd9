"""Inpainting in a real A1111: the job's mask, its sources by index, what the host lays over the teacher's picture."""

import pytest
from PIL import Image, ImageChops, ImageDraw

from . import watching
from .jobs import EVERY, asked, hold, primed, source
from .server import encoded


@pytest.fixture(scope="module")
def a1111(webui):
    """The other server has enough to do."""
    return webui


def mask_of(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return mask


SIZE = (64, 64)  # Forge Neo makes nothing smaller
SIZES = {"whole picture": SIZE, "only masked": (80, 64)}
MASKS = {
    "whole picture": mask_of(SIZE, (8, 8, 39, 55)),
    "only masked": mask_of((80, 64), (24, 20, 35, 31)),  # worked on at 64 by 64, put back at its own size
}
WHOLE = {"mask_blur": 0, "inpaint_full_res": False, "inpainting_fill": 1, "denoising_strength": 0.8}
WHOLE |= {"width": 64, "height": 64, "batch_size": 2}
JOBS = {
    area: {**WHOLE, "init_images": [encoded(source(1, SIZES[area]))], "mask": encoded(MASKS[area])} for area in SIZES
}
JOBS["only masked"] |= {"inpaint_full_res": True, "inpaint_full_res_padding": 2}
WHOLE = JOBS["whole picture"]


def inpaint(a1111, *args, **changes):
    primed(a1111)
    return a1111.make(*args, tab="img2img", **changes)


def untouched(image: Image.Image, of: Image.Image, mask: Image.Image) -> bool:
    """Whether two pictures are the same where the mask is black."""
    difference = ImageChops.difference(image.convert("RGB"), of)
    return ImageChops.multiply(difference, ImageChops.invert(mask).convert("RGB")).getbbox() is None


@pytest.fixture(scope="module", params=SIZES)
def area(request, a1111):
    """(name, a run without us, every picture redone before the host lays its overlay)."""
    job = JOBS[request.param]
    return request.param, inpaint(a1111, **job), inpaint(a1111, *asked(**EVERY), **job)


def test_the_unmasked_part_stays_and_at_the_jobs_end_it_is_the_same_picture(a1111, area):
    name, plain, by_batch = area
    at_the_end = inpaint(a1111, *asked(share=100.0), **JOBS[name])
    for made in (plain, at_the_end, by_batch):
        assert [image.size for image in made.images] == [SIZES[name]] * 2
        assert all(untouched(image, source(1, SIZES[name]), MASKS[name]) for image in made.images)
    assert at_the_end.said("decision") == by_batch.said("decision") == ["redone"] * 2
    assert at_the_end.pixels == by_batch.pixels
    assert at_the_end.said("score after") == by_batch.said("score after")
    assert not any(one == other for one, other in zip(at_the_end.pixels, plain.pixels, strict=True))


def test_what_is_kept_is_a_run_without_us_and_the_rest_has_its_own_seed(a1111, area):
    name, plain, every = area
    hold(inpaint(a1111, *asked(), **JOBS[name]), plain, every)


def test_another_checkpoint_starts_from_the_source_around_the_mask(a1111):
    other = {"teacher": "teacher.safetensors"}
    plain, every = inpaint(a1111, **WHOLE), inpaint(a1111, *asked(**EVERY, **other), **WHOLE)
    assert all(untouched(image, source(1, SIZE), MASKS["whole picture"]) for image in every.images)
    hold(inpaint(a1111, *asked(**other), **WHOLE), plain, every)


def test_sources_go_by_their_place_in_each_batch(a1111):
    job = {**WHOLE, "init_images": [encoded(source(1, SIZE)), encoded(source(2, SIZE))], "n_iter": 2, "steps": 1}
    at_the_end, by_batch = (inpaint(a1111, *asked(**rule), **job) for rule in ({"share": 75.0}, EVERY))
    assert sorted(at_the_end.said("decision")) == ["kept", "redone", "redone", "redone"]
    for made in (at_the_end, by_batch):
        for place, image in enumerate(made.images):
            assert untouched(image, source(1 + place % 2, SIZE), MASKS["whole picture"])
            assert not untouched(image, source(2 - place % 2, SIZE), MASKS["whole picture"])


def test_masks_and_composites_are_no_pictures_and_composites_are_of_the_new_ones(a1111):
    extras = {"override_settings": {"return_mask": True, "return_mask_composite": True}, "save_images": True}
    job = {**WHOLE, **extras, "mask_blur": 4}
    at_the_end = inpaint(a1111, *asked(), **job)
    bound = sum(map(float, at_the_end.said("score"))) / 2
    by_batch = inpaint(a1111, *asked(rule="below score", score=bound), **job)
    assert len(at_the_end.images) == 6 and len(at_the_end.texts) == 2
    assert sorted(at_the_end.said("decision")) == ["kept", "redone"]
    assert at_the_end.said("decision") == by_batch.said("decision")
    assert [image.tobytes() for image in at_the_end.images] == [image.tobytes() for image in by_batch.images]
    assert at_the_end.grid.tobytes() == by_batch.grid.tobytes()
    for text, image in zip(at_the_end.texts, at_the_end.images[::3], strict=True):
        assert image.info["parameters"] == text
    # The host keeps what a request overrides and its file of settings does not hold: off again, for what follows.
    off = dict.fromkeys(extras["override_settings"], False)
    assert len(inpaint(a1111, **{**job, "override_settings": off}).images) == 2


def test_the_hosts_own_colour_correction_is_the_teachers_as_well(a1111):
    job = {**WHOLE, "batch_size": 1}
    corrected = {**job, "override_settings": {"img2img_color_correction": True}}
    at_the_end, by_batch = (inpaint(a1111, *asked(**rule), **corrected) for rule in ({"share": 100.0}, EVERY))
    assert at_the_end.pixels == by_batch.pixels and at_the_end.said("decision") == ["redone"]
    without = {**job, "override_settings": {"img2img_color_correction": False}}
    assert inpaint(a1111, *asked(**EVERY), **without).pixels != at_the_end.pixels


@pytest.mark.parametrize("tries", [1, 3])
def test_soft_inpainting_is_left_to_the_student_and_said(a1111, tries):
    job = {**WHOLE, "alwayson_scripts": {"soft inpainting": {"args": [True, 1, 0.5, 4, 0, 0.5, 2]}}, "mask_blur": 4}
    plain, made = inpaint(a1111, **job), inpaint(a1111, *asked(best_of=tries), **job)
    assert made.pixels == plain.pixels and made.said("tries") == [None] * 2
    assert sum("not redone: soft inpainting" in decision for decision in made.said("decision")) == 1
    said = watching.page(a1111)
    assert [line for line in said if "1 picture not redone: soft inpainting" in line]
    assert len([line for line in said if "no other try is made: soft inpainting" in line]) == (tries > 1)
    if tries > 1:
        hard = {**WHOLE, "mask_blur": 4}
        assert inpaint(a1111, *asked(best_of=tries), **hard).said("tries") == ["3"] * 2

"""Image to image in a real A1111: the teacher starts from the student's pictures."""

import pytest

from . import watching
from .jobs import EVERY, SMALL, asked, close, hold, primed, rising, source, up_to_the_first
from .server import encoded


@pytest.fixture(scope="module")
def a1111(webui):
    """The other server has enough to do."""
    return webui


def remake(a1111, *args, **changes):
    primed(a1111)
    body = {"init_images": [encoded(source(1))], "denoising_strength": 0.7, "batch_size": 2, **SMALL, **changes}
    return a1111.make(*args, tab="img2img", **body)


@pytest.fixture(scope="module")
def plain(a1111):
    return remake(a1111)


@pytest.fixture(scope="module")
def every(a1111):
    return remake(a1111, *asked(**EVERY))


def test_off_is_the_same_to_the_bit_as_without_us(a1111, plain):
    with watching.without_us(a1111):
        absent = remake(a1111, *asked())
    assert absent.said("decision") == [None] * 2, "the job was ours"
    for off in (plain, remake(a1111, *asked(enabled=False))):
        assert off.pixels == absent.pixels and off.texts == absent.texts


def test_the_worst_is_redone_by_itself_and_the_other_is_that_without_us(a1111, plain, every):
    assert every.said("decision") == ["redone"] * 2
    hold(remake(a1111, *asked()), plain, every)
    options = a1111.get("/sdapi/v1/options")
    assert not options["img2img_fix_steps"]  # the pass sets it; the host's default, which no file of settings holds


def test_batch_by_batch_the_next_one_is_as_without_us(a1111):
    job = rising(a1111, remake)
    plain, every = remake(a1111, **job), remake(a1111, *asked(**EVERY), **job)
    made = remake(a1111, *asked(**up_to_the_first(every)), **job)
    assert made.said("decision") == ["redone", "kept"]
    hold(made, plain, every)
    at_the_end = remake(a1111, *asked(share=100.0), **job)
    assert all(close(*pair) for pair in zip(at_the_end.pixels, every.pixels, strict=True))


def test_another_checkpoint_reads_each_picture_by_its_own_seed(a1111, plain, every):
    other = remake(a1111, *asked(**EVERY, teacher="teacher.safetensors"))
    hold(remake(a1111, *asked(teacher="teacher.safetensors")), plain, other)
    assert not any(close(*pair) for pair in zip(other.pixels, every.pixels, strict=True))


def test_the_batch_after_another_checkpoint_is_sampled_by_the_students(a1111):
    """The job has one sampler for all batches, with the network that was there when it began."""
    other, job = {**EVERY, "teacher": "teacher.safetensors"}, rising(a1111, remake)
    plain, every = remake(a1111, **job), remake(a1111, *asked(**other), **job)
    made = remake(a1111, *asked(**{**other, **up_to_the_first(every)}), **job)
    assert made.said("decision") == ["redone", "kept"]
    hold(made, plain, every)


@pytest.mark.parametrize(("size", "mode"), [((48, 40), 1), ((16, 16), 3)], ids=["cropped", "upscaled as a latent"])
def test_a_source_of_another_size_is_resized_as_in_the_job(a1111, size, mode):
    job = {"init_images": [encoded(source(1, size))], "resize_mode": mode, "batch_size": 1}
    plain, made = remake(a1111, **job), remake(a1111, *asked(**EVERY), **job)
    assert made.images[0].size == plain.images[0].size != size and made.said("decision") == ["redone"]

"""What of the teacher's pass needs no host: its prompt, pixels and bytes, which units are on, whose copy a job is."""

from types import SimpleNamespace

import numpy
import pytest
import torch
from PIL import Image
from understudy.a1111.control import script_of
from understudy.a1111.job import goes_on
from understudy.a1111.sources import Frame, picture_of, pixels_of
from understudy.a1111.teacher import teacher_prompt


@pytest.mark.parametrize(
    ("prompt", "remove", "left"),
    [
        ("a cat <lora:sdxl_LCM:0.8>", "<lora:*lcm*>", "a cat "),
        ("<lora:style:1> a cat <lora:lcm:1>", "<lora:*lcm*>", "<lora:style:1> a cat "),
        ("<lora:a:1><lora:lcm:1><lora:b:1>", "<lora:*lcm*>", "<lora:a:1><lora:b:1>"),
        ("a cat (fast:1.2), 8k", "(fast:1.2), , 8k", "a cat , "),
        ("a cat", "", "a cat"),
    ],
)
def test_the_teachers_prompt_leaves_out_what_is_named_and_no_more(prompt, remove, left):
    assert teacher_prompt(prompt, remove) == left


def test_bytes_are_the_same_after_their_way_through_pixels():
    every = numpy.arange(256, dtype=numpy.uint8).reshape(16, 16)
    image = Image.fromarray(numpy.stack([every, every.T, 255 - every], axis=2))
    pixels = pixels_of(image)
    assert pixels.shape == (3, 16, 16) and 0 <= pixels.min() and pixels.max() <= 1
    assert picture_of(pixels).tobytes() == image.tobytes()


def test_the_oracle_sees_a_picture_without_a_frame_as_it_is():
    pixels = torch.rand(3, 4, 4)
    assert Frame().shown(pixels) is pixels


def job_with(*units):
    script = SimpleNamespace(title=lambda: "ControlNet", args_from=1, args_to=1 + len(units))
    other = SimpleNamespace(title=lambda: "Other", args_from=0, args_to=1)
    runner = SimpleNamespace(alwayson_scripts=[other, script])
    return SimpleNamespace(scripts=runner, script_args=({"enabled": True}, *units)), script


@pytest.mark.parametrize(
    ("units", "used"),
    [
        ([], False),
        ([{}], False),
        ([{"enabled": False}, {"enabled": True}], True),
        ([{"model": "canny"}], True),  # an API request's, which is on without saying so
        ([SimpleNamespace(enabled=False)], False),
        ([SimpleNamespace(enabled=True)], True),
        ([None], False),
    ],
)
def test_a_job_has_a_controlnet_where_one_of_its_units_is_on(units, used):
    p, script = job_with(*units)
    assert script_of(p) is (script if used else None)


def test_a_job_without_scripts_has_none():
    assert script_of(SimpleNamespace(scripts=None)) is None


def test_a_copy_of_the_running_job_is_no_new_one_and_anything_else_is():
    shared = {}
    job = SimpleNamespace(p=SimpleNamespace(extra_generation_params=shared, batch_index=0))
    assert goes_on(job, SimpleNamespace(extra_generation_params=shared, batch_index=0))
    assert not goes_on(job, job.p)  # the same once more, as a loop's
    assert not goes_on(job, SimpleNamespace(extra_generation_params=shared))  # the next of a list, not begun
    assert not goes_on(job, SimpleNamespace(extra_generation_params={}, batch_index=0))
    assert not goes_on(None, job.p)

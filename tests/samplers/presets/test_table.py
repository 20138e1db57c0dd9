"""The table of students and teachers, by the numbers and the file names that were published."""

import math
import re
from pathlib import Path

import pytest
import torch
from understudy.samplers import DiscreteDenoiser, scaled_linear
from understudy.samplers.presets import (
    ARCHITECTURES,
    REFUSED,
    SAMPLERS,
    STUDENTS,
    TEACHERS,
    diffusion,
    flow,
    of_file,
    teachers,
    way_back,
)
from understudy.samplers.presets.settings import NATIVE, BySize, Discrete, Grid, Mu, Shift, Sigmas, Timesteps

from .published import FILES, NOT_IN_A_HOST, ONE_NUMBER, PUBLISHED, REFUSED_FILES, SETTINGS

ROWS = STUDENTS | TEACHERS
TIMES = DiscreteDenoiser(None, scaled_linear())
# Teachers, parts of students that are no model, and students of which no settings were read.
NOBODY = """
    z_image_bf16 krea2_raw qwen_image_2.1_int8_convrot qwen_image_2512_fp8_e4m3fn qwen_image_fp8_e4m3fn
    flux-2-klein-base-4b flux-2-klein-base-9b-fp8 flux2_dev_fp8mixed flux1-krea-dev_fp8_scaled flux1-dev
    sd3.5_large_fp8_scaled flux3-image-klein-base-int8-convrot anima-base-v1.0 ernie-image lens_bf16 hidream_i1_full_fp8
    sd_xl_base_1.0 v1-5-pruned-emaonly qwen_3_4b flux2-vae qwen_image_vae ae sdxl-flash qwen_image_distill_full_fp8
    Qwen-Image-2.1-viggle-turbo pytorch_lora_weights flash-sd3 hidream_o1_image_dev_fp8_scaled
""".split()


def test_every_row_has_published_values():
    assert {each.key for each in PUBLISHED} == set(ROWS)
    assert {each.key for each in PUBLISHED if not each.architecture} == NOT_IN_A_HOST
    assert not set(STUDENTS) & set(TEACHERS)


@pytest.mark.parametrize("each", [p for p in PUBLISHED if not isinstance(ROWS[p.key].schedule, str) and p.sigmas],
                         ids=lambda each: f"{each.key}-{each.steps}")  # fmt: skip
def test_schedules_of_our_own_have_the_published_sigmas_without_a_host(each):
    sigmas = ROWS[each.key].schedule.sigmas(TIMES, each.steps, 1.0, (each.side // 16) ** 2)
    torch.testing.assert_close(sigmas, torch.tensor(each.sigmas), rtol=1e-4, atol=each.tolerance)


def test_flux_3_has_no_way_back_that_its_numbers_would_give():
    assert way_back(STUDENTS["flux3-klein"], TEACHERS["flux3-klein-base"]) is None
    assert STUDENTS["flux3-klein"].patch is None


@pytest.mark.parametrize("rows", [diffusion, flow, teachers], ids=lambda rows: rows.__name__.rpartition(".")[2])
def test_every_row_has_its_source_in_a_comment(rows):
    """Above it; those of one source stand together below it."""
    lines = Path(rows.__file__).read_text(encoding="utf-8").splitlines()
    begins = [n for n, line in enumerate(lines) if re.match(r" {4}(Student|Teacher|_flow|_diffusion)\(", line)]
    assert len(begins) == len(TEACHERS if rows is teachers else rows.DIFFUSION if rows is diffusion else rows.FLOW)
    for n in begins:
        while lines[n - 1].startswith("    _diffusion("):
            n -= 1
        assert lines[n - 1].startswith("    # "), lines[n]


def test_every_row_has_the_published_settings():
    found = []
    for key, row in ROWS.items():
        schedule = row.schedule if isinstance(row.schedule, str) else "-"
        negative = "yes" if row.negative else "no"
        back = getattr(row, "rollback", None)
        back = "-" if back is None else f"{back:g}"
        found.append([key, row.sampler, schedule, str(row.steps), f"{row.cfg:g}", negative, back])
    published = [line.split() for line in SETTINGS.split("\n") if line.strip()]
    assert sorted(found) == sorted(published)


def test_qwen_image_2_1_on_its_published_numbers():
    """Comfy-Org/ComfyUI issue 16447: mu .69 at 1024 x 1024 pixels, 1.31 at 2048 x 2048."""
    teacher = TEACHERS["qwen-image-2.1"]
    assert teacher.patch.at(64 * 64) == pytest.approx(0.69, abs=5e-3)
    assert teacher.patch.at(128 * 128) == pytest.approx(1.31, abs=5e-3)


def test_krea_2_raw_at_1024():
    assert TEACHERS["krea2-raw"].patch.at(64 * 64) == pytest.approx(0.906, abs=1e-3)


@pytest.mark.parametrize("key", [key for key, row in STUDENTS.items() if row.files])
def test_published_files_are_of_exactly_one_family(key):
    row = STUDENTS[key]
    for name in FILES[key].split():
        file = f"{name}.safetensors"
        steps = int(re.search(r"(\d+)steps?", file)[1]) if key in ONE_NUMBER else None
        for path in (file, f"models\\loras\\my {file.upper()}", file.replace("-", "_"), file.replace("_", " ")):
            assert [each.key for each in STUDENTS.values() if each.match(path)] == [key], path
            assert of_file(path) is row and not any(each.match(path) for each in REFUSED)
            assert row.steps_of(path) == steps
        assert steps is None or steps in row.allowed


@pytest.mark.parametrize("name", NOBODY)
def test_other_files_are_of_none(name):
    assert of_file(f"{name}.safetensors") is None


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused.name)
def test_what_no_stock_sampler_can_do_is_refused_by_name_with_the_reason(refused):
    for name in REFUSED_FILES[refused.name]:
        with pytest.raises(ValueError) as error:
            of_file(f"{name}.safetensors")
        assert all(part in str(error.value) for part in (name, refused.name, refused.reason))


@pytest.mark.parametrize("key", ROWS)
def test_rows_hold_together(key):
    row = ROWS[key]
    assert row.key == key and set(row.architectures) <= set(ARCHITECTURES)
    assert row.objections(row.steps, row.cfg) == []
    assert not row.negative or row.cfg > 1  # which is all that lets it act
    flow = {isinstance(ARCHITECTURES[name].time, Discrete) for name in row.architectures} == {False}
    assert flow or not isinstance(row.patch, Shift | Mu)  # a shift needs a flow's time
    assert row.architectures or not isinstance(row.patch, Shift | Mu)
    assert not row.knobs or row.sampler in SAMPLERS
    assert not isinstance(row.schedule, Timesteps) or not flow


@pytest.mark.parametrize("key", STUDENTS)
def test_teachers_share_the_latents(key):
    row = STUDENTS[key]
    latents = {ARCHITECTURES[name].latent for name in row.architectures}
    teachers = {ARCHITECTURES[TEACHERS[name].architectures[0]].latent for name in row.teachers}
    assert teachers and (not latents or latents == teachers)


def test_latents_that_look_alike_are_not_the_same():
    latents = {name: ARCHITECTURES[name].latent for name in ARCHITECTURES}
    for one, other in (("SD15", "SDXL"), ("Flux", "SD3"), ("Flux", "QwenImage"), ("Flux2", "MageFlow")):
        assert latents[one] != latents[other]
    assert latents["ZImage"] == latents["Flux"] and latents["Anima"] == latents["Krea2"] == latents["QwenImage"]


# The published fraction of a schedule, the shift that it is of, and the noise's share of the variance by hand.
WAYS_BACK = [
    ("demo", "demo-teacher", 0.75, None, 0.943),
    ("LCM-LoRA", "sdxl", 0.3, None, 0.41),
    ("dmd2", "sdxl", 0.3, None, 0.41),
    ("z-image-turbo", "z-image", 0.33, 3.0, 0.69),
    ("krea2-turbo", "krea2-raw", 0.3, math.exp(0.906), 0.53),
    ("qwen-image-2.1-turbo", "qwen-image-2.1", 0.35, math.exp(0.6935), 0.54),
    ("qwen-image-lightning", "qwen-image", 0.3, 3.1, 0.64),
    ("flux2-klein", "flux2-klein-base", 0.15, math.exp(2.02), 0.64),
    ("flux1-schnell", "flux1-dev", 0.3, math.exp(1.15), 0.65),
    ("mage-flow-turbo", "mage-flow", 0.2, 6.0, 0.69),
    ("hidream-i1-dev", "hidream-i1-full", 0.3, 3.0, 0.62),
]


@pytest.mark.parametrize("student, teacher, fraction, shift, share", WAYS_BACK, ids=lambda value: str(value))
def test_the_way_back_is_converted_to_noise(student, teacher, fraction, shift, share):
    found = way_back(STUDENTS[student], TEACHERS[teacher])
    assert STUDENTS[student].rollback == fraction and found == pytest.approx(share, abs=0.005)
    if shift is not None:
        noise, picture = shift * fraction / (1 + (shift - 1) * fraction), (1 - fraction) / (1 + (shift - 1) * fraction)
        assert found == pytest.approx(noise**2 / (noise**2 + picture**2), abs=2e-3)


def test_no_way_back_is_the_copied_fraction_and_those_by_size_follow_it():
    for row in STUDENTS.values():
        for teacher in row.teachers:
            share = way_back(row, TEACHERS[teacher])
            assert share is None or 0.3 < share < 0.95 and abs(share - row.rollback) > 0.1
    krea = STUDENTS["krea2-turbo"], TEACHERS["krea2-raw"]
    assert way_back(*krea, tokens=1024) < way_back(*krea, tokens=NATIVE) < way_back(*krea, tokens=6400)


def test_objections_say_what_to_set():
    row = STUDENTS["hyper-sd-cfg"]
    assert row.objections(8, 5.0) == []
    assert row.objections(6, 1.0) == [
        "hyper-sd-cfg is made for 8 or 12 steps, not 6: set steps to 8.",
        "hyper-sd-cfg is made for cfg 3.5 to 8, not 1: set cfg to 3.5.",
    ]
    assert STUDENTS["LCM-LoRA"].objections(9, 1.5) == ["LCM-LoRA is made for 1 to 8 steps, not 9: set steps to 5."]
    assert STUDENTS["consistency"].objections(50, 12.0) == []


def test_noise_levels_of_its_own_follow_the_size_where_its_shift_did():
    by_size, places = BySize(0.5, 1.15), (1.0, 0.6, 0.2, 0.0)
    at_1024 = tuple(Mu(by_size).sigma(u, 4096) for u in places)
    learned = Sigmas(at_1024, math.exp(1.15), by_size)
    torch.testing.assert_close(learned.sigmas(TIMES, 3, 1.0, 4096), torch.tensor(at_1024))
    at_256 = torch.tensor([Mu(by_size).sigma(u, 256) for u in places])
    torch.testing.assert_close(learned.sigmas(TIMES, 3, 1.0, 256), at_256)
    torch.testing.assert_close(learned.sigmas(TIMES, 3, 0.7, 256), at_256[1:])
    assert torch.equal(Sigmas(at_1024).sigmas(TIMES, 3, 1.0, 256), torch.tensor(at_1024))


def test_a_grid_of_its_own():
    lcm = STUDENTS["LCM"].on_grid(25, 5.0)
    assert (lcm.patch.grid, lcm.patch.scaling, lcm.schedule) == (25, 5.0, Grid("trailing", 25))
    assert STUDENTS["LCM-LoRA"].on_grid(None, 5.0).schedule == "sgm_uniform"
    assert STUDENTS["codi"].on_grid(10, None).schedule.sigmas(TIMES, 2, 1.0, NATIVE)[1] == TIMES.sigmas[499]
    assert STUDENTS["codi"].on_grid(8, None).schedule.sigmas(TIMES, 3, 1.0, NATIVE)[1] == TIMES.sigmas[749]
    consistency = STUDENTS["consistency"].on_grid(10, 5.0)
    assert consistency.schedule.grid == 10 and consistency.patch is None
    assert (
        STUDENTS["LCM"].on_grid(None, None) == STUDENTS["LCM"] and STUDENTS["dmd2"].on_grid(10, 5.0) == STUDENTS["dmd2"]
    )

"""After a job with a teacher the host is as it was: its checkpoint, its options, and what lies on its network."""

import re

import pytest
from safetensors.torch import load_file, save_file

from . import watching
from .jobs import SMALL, close, rising, small, up_to_the_first
from .test_txt2img import asked

OTHER = {"teacher": "teacher.safetensors"}


@pytest.fixture(scope="module")
def a1111(webui):
    """The other server has enough to do."""
    return webui


@pytest.fixture(scope="module")
def plain(a1111):
    return small(a1111)


@pytest.fixture(scope="module")
def worst(a1111):
    return small(a1111, *asked())


@pytest.fixture(scope="module")
def vae(a1111):
    """The name of a VAE file that is not the student's."""
    models = a1111.base / "models"
    weights = load_file(models / "Stable-diffusion" / "teacher.safetensors")
    of_vae = {
        name.removeprefix("first_stage_model."): tensor for name, tensor in weights.items() if "first_stage" in name
    }
    (models / "VAE").mkdir(exist_ok=True)
    save_file(of_vae, models / "VAE" / "other.safetensors")
    a1111.post("/sdapi/v1/refresh-vae", {})
    return "other.safetensors"


def options(a1111) -> dict:
    return a1111.get("/sdapi/v1/options")


def history(a1111) -> str:
    """The prompt's history, without the one number that the jobs below differ in."""
    return re.sub(r"Understudy share: [\d.]+", "", (a1111.base / "params.txt").read_text())


@pytest.fixture(scope="module", autouse=True)
def saved(a1111):
    """Options with a value of their own, as after the first save: what has none, the host itself never puts back."""
    own = {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic", "token_merging_ratio": 0}
    a1111.post("/sdapi/v1/options", own)


@pytest.mark.parametrize("values", [{}, OTHER, {"teacher": "absent"}, {"sampler": "Broken"}])
def test_the_users_options_and_their_prompt_history_stay(a1111, values):
    """Those that never were saved as well, which the host would leave as the teacher's pass had them."""
    watching.do(a1111, forget=["img2img_fix_steps", "img2img_color_correction", "save_init_img"])
    before = watching.seen(a1111)["options"]
    assert "img2img_fix_steps" not in before
    small(a1111, *asked(**values, share=0.0), batch_size=1)
    unredone = history(a1111)
    made = small(a1111, *asked(**values, share=100.0), batch_size=1)
    assert made.said("decision") != ["kept"]
    assert history(a1111) == unredone
    assert watching.seen(a1111)["options"] == before


def test_settings_of_image_to_image_are_not_the_teachers(a1111, worst):
    before = options(a1111)
    odd = {"img2img_fix_steps": False, "initial_noise_multiplier": 1.3, "img2img_extra_noise": 0.3}
    a1111.post("/sdapi/v1/options", odd)
    try:
        made = small(a1111, *asked())
        assert {name: options(a1111)[name] for name in odd} == odd
    finally:
        a1111.post("/sdapi/v1/options", {name: before[name] for name in odd})
    assert made.pixels == worst.pixels


@pytest.mark.parametrize("teacher", [{}, OTHER])
@pytest.mark.parametrize("settings", [{"sd_vae": "other.safetensors"}, {"CLIP_stop_at_last_layers": 2}])
def test_a_requests_own_settings_hold_for_the_teacher_too_and_end_with_it(a1111, plain, worst, vae, settings, teacher):
    a1111.able("setting as asked", **SMALL, override_settings=settings)
    before = options(a1111)
    other = worst if not teacher else small(a1111, *asked(**teacher))
    made = small(a1111, *asked(**teacher), override_settings=settings)
    assert options(a1111) == before
    a1111.post("/sdapi/v1/options", settings)
    try:
        the_users = small(a1111, *asked(**teacher))
    finally:
        a1111.post("/sdapi/v1/options", {name: before[name] for name in settings})
    assert made.pixels == the_users.pixels and made.said("decision") == the_users.said("decision")
    redone = [place for place, word in enumerate(made.said("decision")) if word == "redone"]
    assert len(redone) == 2 and all(made.pixels[place] != other.pixels[place] for place in redone)
    assert small(a1111).pixels == plain.pixels


def test_a_request_that_leaves_its_settings_behind_leaves_its_own(a1111, worst):
    before = options(a1111)
    settings = {"CLIP_stop_at_last_layers": 2}
    small(a1111, *asked(**OTHER), override_settings=settings, override_settings_restore_afterwards=False)
    after = options(a1111)
    a1111.post("/sdapi/v1/options", {name: before[name] for name in settings})
    assert {name for name in after if after[name] != before[name]} == set(settings)
    assert small(a1111, *asked()).pixels == worst.pixels


def test_a_request_with_a_checkpoint_of_its_own_has_it_as_student(a1111, plain):
    before = options(a1111)
    settings = {"sd_model_checkpoint": "teacher.safetensors"}
    alone = small(a1111, override_settings=settings)
    made = small(a1111, *asked(), override_settings=settings)
    back = small(a1111, *asked(teacher="student.safetensors"), override_settings=settings)
    for one in (made, back):
        same = [a == b for a, b in zip(one.pixels, alone.pixels, strict=True)]
        assert same == [word == "kept" for word in one.said("decision")] and same.count(False) == 2
    assert made.pixels != back.pixels
    assert small(a1111).pixels == plain.pixels
    assert options(a1111) == before


@pytest.mark.parametrize(
    ("lies", "teacher"),
    [({"override_settings": {"token_merging_ratio": 0.6}}, {}), ({"tiling": True}, OTHER)],
    ids=["taken off by any pass", "taken off by a switch"],
)
def test_what_lies_on_the_network_lies_there_in_the_next_batch(a1111, plain, lies, teacher):
    job = rising(a1111, **lies)
    alone, scored = small(a1111, **job), small(a1111, *asked(share=0.0), **job)
    first = job["seed"] - 1
    assert not any(close(*pair) for pair in zip(alone.pixels, plain.pixels[first : first + 2], strict=True))
    made = small(a1111, *asked(**up_to_the_first(scored), **teacher), **job)
    assert made.said("decision") == ["redone", "kept"]
    assert made.said("score") == scored.said("score")
    assert made.pixels[1] == alone.pixels[1]
    assert watching.seen(a1111)["merging"] == 0


def test_two_requests_at_once_do_not_mix(a1111):
    jobs = [
        (asked(**OTHER), {"batch_size": 2, **SMALL}),
        ((), {"batch_size": 2, **SMALL}),
        (asked(oracle="absent.safetensors"), {"batch_size": 1, **SMALL}),
        (asked(cfg=5.0, share=100.0), {"seed": 7, "batch_size": 1, **SMALL}),
    ]
    alone = [a1111.make(*values, **changes) for values, changes in jobs]
    together = watching.at_once(a1111, jobs)
    for one, other in zip(alone, together, strict=True):
        assert one.pixels == other.pixels and one.texts == other.texts
    assert sorted(together[0].said("decision")) == ["kept", "redone"] and together[3].said("decision") == ["redone"]
    assert together[1].said("score") == [None] * 2

"""The teacher's samplers that know whole timesteps alone: they start at the nearest, and run all of their steps."""

import pytest
import torch
from understudy.a1111.sampling import timesteps_from

from . import watching
from .jobs import EVERY, asked, close, hold, small

STEPS = 3
# Of the network's calls in so many steps. The first step of PLMS is of the second order.
CALLS = {"DDIM": STEPS, "DDIM CFG++": STEPS, "PLMS": STEPS + 1, "UniPC": STEPS}
PAIR = {"batch_size": 2, "steps": 1}
ALPHAS = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)  # as of SD 1.x
SIGMAS = ((1 - ALPHAS) / ALPHAS).sqrt()
NOISE = 0.6
NEAREST = int((SIGMAS - (NOISE / (1 - NOISE)) ** 0.5).abs().argmin())


@pytest.fixture(scope="module")
def plain(a1111):
    return small(a1111, **PAIR)


@pytest.fixture(params=CALLS)
def sampler(request, a1111):
    """Of those that go by timesteps in the host: Forge Neo has no DDIM CFG++, and a UniPC that goes by sigmas."""
    there = {sampler["name"]: sampler["options"] for sampler in a1111.get("/sdapi/v1/samplers")}
    if there.get(request.param) != {}:
        pytest.skip(f"this host has no {request.param} that goes by timesteps")
    return request.param


def calls(a1111) -> list[tuple[float, float]]:
    """(sigma, length of the picture with that noise added) of the teacher's calls of its network in the last job.

    A1111 tells the network a timestep, and gives it the picture shrunk with its noise; Forge does neither.
    """
    found = []
    for call in watching.seen(a1111)["asked"][1:]:  # after the student's one
        level, length, timestep = call["level"], call["length"], round(call["level"])
        shrunk = level > SIGMAS[-1]
        found.append((float(SIGMAS[timestep]), length / float(ALPHAS[timestep].sqrt())) if shrunk else (level, length))
    return found


def test_the_teacher_starts_at_the_nearest_timestep_and_an_image_alone_is_as_among_others(a1111, plain, sampler):
    values = {"sampler": sampler, "steps": STEPS, "noise": NOISE}
    made = small(a1111, *asked(**EVERY, **values), **PAIR)
    sigmas = [sigma for sigma, _ in calls(a1111)]
    assert made.said("decision") == ["redone"] * 2
    assert [float(said) for said in made.said("sigma")] == pytest.approx([float(SIGMAS[NEAREST])] * 2, abs=6e-5)
    assert sigmas[0] == pytest.approx(float(SIGMAS[NEAREST]), rel=1e-4) and sigmas[-1] < sigmas[0] / 2
    assert len(sigmas) == CALLS[sampler] and made.said("evaluations") == [str(2 + 2 * CALLS[sampler])] * 2
    hold(small(a1111, *asked(**values), **PAIR), plain, made)
    alone = small(a1111, *asked(**EVERY, **values), **{**PAIR, "batch_size": 1}, seed=2)
    assert close(alone.pixels[0], made.pixels[1])


def length(a1111, sampler: str) -> float:
    """Of what the teacher's network is first given, where the way back is exactly that timestep's."""
    exact = {"steps": STEPS, "noise": float(1 - ALPHAS[NEAREST])}
    small(a1111, *asked(**EVERY, **exact, sampler=sampler), **PAIR)
    return calls(a1111)[0][1]


@pytest.fixture(scope="module")
def exactly(a1111):
    return length(a1111, "Euler")


def test_the_picture_has_the_noise_of_that_timestep(a1111, exactly, sampler):
    """As much as a sampler gives it that starts at any sigma."""
    assert length(a1111, sampler) == pytest.approx(exactly, rel=1e-5)


@pytest.mark.parametrize("sampler", ["LCM", "Euler"])
def test_others_start_exactly_at_the_way_back(a1111, plain, sampler):
    values = {"sampler": sampler, "steps": STEPS, "noise": NOISE}
    made = small(a1111, *asked(**EVERY, **values), **PAIR)
    assert made.said("sigma") == ["1.2247"] * 2
    hold(small(a1111, *asked(**values), **PAIR), plain, made)


def test_noise_that_is_added_on_the_way_is_each_pictures_own(a1111, plain):
    values = {"sampler": "DDIM", "steps": STEPS}
    without = small(a1111, *asked(**EVERY, **values), **PAIR)
    a1111.post("/sdapi/v1/options", {"eta_ddim": 1.0})
    try:
        made = small(a1111, *asked(**EVERY, **values), **PAIR)
        hold(small(a1111, *asked(**values), **PAIR), plain, made)
    finally:
        a1111.post("/sdapi/v1/options", {"eta_ddim": 0.0})
    assert not any(close(*pair) for pair in zip(made.pixels, without.pixels, strict=True))


def test_what_such_a_sampler_cannot_do_is_refused(a1111, plain, sampler):
    refused = {f"{sampler} has its own schedule, and none is 'Karras'": {"scheduler": "Karras"}}
    if sampler == "UniPC":
        refused["steps is 2; with UniPC the teacher needs at least 3, its order"] = {"steps": 2}
    for words, choice in refused.items():
        made = small(a1111, *asked(**EVERY, sampler=sampler, **choice), **PAIR)
        assert made.pixels == plain.pixels and all(f"off: {words}" in text for text in made.texts)


def test_a_flow_model_is_refused_by_its_name(a1111, plain):
    watching.do(a1111, flow=True)
    try:
        made = small(a1111, *asked(**EVERY, sampler="DDIM", steps=STEPS), **PAIR)
    finally:
        watching.do(a1111, flow=False)
    assert made.said("decision") == ["not redone: DDIM cannot sample a flow model: choose another for the teacher"] * 2


@pytest.mark.parametrize("noise", [1e-6, 0.01, 0.3, 0.6, 0.99, 1 - 1e-6])
def test_the_nearest_timestep_is_the_start_and_the_lowest_the_end(noise):
    points, sigma = timesteps_from(ALPHAS.float(), noise, 4)
    start = int(points[-1])
    assert points[0] == 0 and (points.diff() >= 0).all() and len(points) == 4 and start >= 1
    assert sigma == pytest.approx(float(SIGMAS[start]), rel=1e-3)
    distances = (1 - ALPHAS - noise).abs()
    assert start == 1 or distances[start] == distances.min()

"""A ControlNet by plain denoising, on tiny networks."""

import pytest
import torch

from .test_codi import BASES, PREDICTIONS, teacher_of
from .tiny import lowers_its_loss, method


def made(base="frozen", prediction="epsilon", **settings):
    return method(
        "controlnet", None, {"train": "control", "base": base, **BASES[base]}, teacher_of(prediction), **settings
    )


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_step_lowers_the_loss(prediction):
    assert lowers_its_loss(made(prediction=prediction))


@pytest.mark.parametrize("base", BASES)
def test_of_every_base(base):
    assert lowers_its_loss(made(base))


@pytest.mark.parametrize("prediction", [*PREDICTIONS, "sample"])
def test_a_network_that_knows_the_picture_has_no_loss(prediction):
    it = made(prediction=prediction)
    batch = it.source.batch(0, range(4))

    def perfect(network, z, t, given):
        if prediction == "flow":
            s = (t / 1000).view(-1, 1, 1, 1)
            return (z - batch.latents) / s
        a, b = it.process.level(t)
        eps = (z - a * batch.latents) / b
        return {"epsilon": eps, "v_prediction": a * eps - b * batch.latents, "sample": batch.latents}[prediction]

    it.teacher.call = perfect
    assert it.loss(it.network, 0) < 1e-6
    it.teacher.call = lambda *given: perfect(*given) + 0.5
    torch.testing.assert_close(it.loss(it.network, 0), torch.tensor(0.25), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("share", "empty"), [(0.0, [0] * 8), (1.0, [1] * 8), (0.5, [0, 1])])
def test_a_share_of_the_texts_is_dropped_but_no_condition(share, empty):
    it, seen = made(drop_text=share), []
    it.teacher.call = lambda network, z, t, given: seen.append(given) or z
    it.part_loss(it.network, 0, range(8))
    nothing = it.teacher.unconditional(1)["context"]
    dropped = [int(torch.equal(row[None], nothing)) for row in seen[0]["context"]]
    assert dropped == empty or (share == 0.5 and set(dropped) == {0, 1})
    assert torch.equal(seen[0]["condition"], it.source.batch(0, range(8)).extras["condition"])


def test_texts_of_several_lengths_are_dropped_too():
    """As where long prompts are read in windows, and the empty one is repeated to be as long."""
    it, seen = made(drop_text=1.0), []
    teacher, embed = it.teacher, it.teacher.embed
    teacher.embed = lambda prompts: {"context": embed(prompts)["context"].repeat(1, 2 if prompts != [""] else 1, 1)}
    teacher._as_long = lambda parts, dim: [
        {"context": part["context"].repeat(1, 6 // part["context"].shape[dim], 1)} for part in parts
    ]
    teacher.call = lambda network, z, t, given: seen.append(given) or z
    it.part_loss(it.network, 0, range(2))
    assert torch.equal(seen[0]["context"], teacher.unconditional(2)["context"].repeat(1, 2, 1))


def test_it_is_sampled_in_more_steps_than_a_student():
    it = made()
    it.preview.prepare()
    it.preview.show_conditions_of(it.source)
    assert it.headings == ("hint", "student@4", "student@8", "student@20", "teacher")
    said = it.metadata()
    assert (said["steps"], said["guidance"], said["sampler"]) == ("20", "7.5", "dpmpp_2m")

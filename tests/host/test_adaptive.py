"""The adaptive graph on an SD 1.5-layout checkpoint: who is refined, who is left alone, and which nodes run at all."""

import pytest
import torch

from .graphs import STUDENT, Adaptive
from .tensors import tensors

GOOD, BAD = 0.9, 0.1


def changed(before, after):
    """For each image whether any bit of it changed."""
    return [not torch.equal(b, a) for b, a in zip(before, after, strict=True)]


def test_teacher_s_loader_does_not_run_when_all_pass(host):
    host.forget()
    graph = Adaptive([GOOD] * 4, seed=100)
    run = host.run(graph)
    assert graph.student in run.executed
    for node in (graph.loader, graph.positive, graph.negative):
        assert node not in run.executed + run.cached
    before, after = tensors(host, run, graph.before), tensors(host, run, graph.after)
    assert torch.equal(before["images.0"], after["images.0"])
    assert after["booleans"].tolist() == [False] * 4


@pytest.mark.parametrize("strategy", ["refine", "regenerate"])
def test_exactly_the_rejected_change(host, strategy):
    graph = Adaptive([GOOD, BAD, GOOD, BAD], seed=101, strategy=strategy)
    run = host.run(graph)
    assert graph.loader in run.executed + run.cached
    before, after = tensors(host, run, graph.before), tensors(host, run, graph.after)
    assert changed(before["images.0"], after["images.0"]) == [False, True, False, True]
    assert after["booleans"].tolist() == [False, True, False, True]


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m_sde", "lcm"])
def test_an_image_refined_alone_is_what_it_is_in_the_batch(host, sampler):
    graph = Adaptive([BAD, GOOD, GOOD, BAD], seed=102, sampler_name=sampler, steps=3)
    graph.set(graph.teacher, latent=graph.sampled[0])
    one = graph.add("ImageFromBatch", image=graph.images[0], batch_index=3, length=1)
    latent = graph.add("LatentFromBatch", samples=graph.sampled[0], batch_index=3, length=1)
    numbers = graph.add("TestFloats", numbers=f"[{BAD}]")
    scores = graph.add("UnderstudyScoresFromList", scores=numbers[0], images=one[0])
    alone = graph.add("UnderstudyTeacher", **graph.nodes[graph.teacher]["inputs"])
    graph.set(alone, images=one[0], scores=scores[0], latent=latent[0])
    saved = graph.add("TestSaveTensors", images=alone[0])
    run = host.run(graph)
    before = tensors(host, run, graph.before)["images.0"]
    inside, alone = tensors(host, run, graph.after)["images.0"], tensors(host, run, saved)["images.0"]
    assert not torch.equal(inside[3], before[3])
    assert torch.allclose(inside[3], alone[0], atol=2e-3)
    assert not torch.allclose(inside[0], alone[0], atol=2e-2)


def test_regenerating_with_the_student_s_settings_gives_what_ksampler_gives(host):
    own = {key: STUDENT[key] for key in ("steps", "cfg", "sampler_name", "scheduler")}
    graph = Adaptive([BAD] * 3, seed=103, strategy="regenerate", **own)
    graph.set(
        graph.teacher,
        model=graph.student[0],
        positive=graph.text[0],
        negative=graph.empty[0],
        vae=graph.student[2],
    )
    run = host.run(graph)
    before, after = (tensors(host, run, node)["images.0"] for node in (graph.before, graph.after))
    assert torch.allclose(before, after, atol=1e-4)


def test_moving_the_threshold_runs_nothing_again_that_does_not_depend_on_it(host):
    graph = Adaptive(None, count=4, seed=104)
    values = graph.add("TestSaveTensors", floats=graph.scores[1])
    graph.set(graph.threshold, value=-10000.0)
    host.forget()
    run = host.run(graph)
    assert graph.loader not in run.executed + run.cached
    worst, *_, best = sorted(tensors(host, run, values)["floats"].tolist())
    assert worst < best

    graph.set(graph.threshold, value=(worst + best) / 2)
    run = host.run(graph)
    assert graph.loader in run.executed
    before, after = tensors(host, run, graph.before), tensors(host, run, graph.after)
    refined = after["booleans"].tolist()
    assert changed(before["images.0"], after["images.0"]) == refined
    assert 0 < sum(refined) < 4
    expensive = {graph.student, graph.sampled, graph.images, graph.oracle, graph.scores}
    assert not expensive & set(run.executed)

    graph.set(graph.threshold, value=-9000.0)
    run = host.run(graph)
    assert not (expensive | {graph.loader, graph.positive, graph.negative}) & set(run.executed)
    assert not any(tensors(host, run, graph.after)["booleans"].tolist())


def test_cancelling_during_the_teacher_leaves_the_server_usable(host):
    graph = Adaptive([BAD, BAD], seed=105, steps=200)

    def cancel(kind, data):
        if kind == "progress" and data["node"] == graph.teacher and data["value"] == 1:
            host.interrupt()

    run = host.attempt(graph, on_event=cancel)
    assert run.interrupted and run.error_node == graph.teacher
    graph.set(graph.teacher, steps=1)
    run = host.run(graph)
    assert tensors(host, run, graph.after)["booleans"].tolist() == [True, True]


def test_what_was_cancelled_at_any_stage_is_made_the_same_when_queued_again(host):
    """Nothing that was not finished is taken for a result."""
    made = {}
    for stage in ("not at all", "student", "scores", "teacher"):
        graph = Adaptive(None, count=2, seed=111)
        graph.set(graph.threshold, value=10000.0)
        host.forget()

        def cancel(kind, data, stage=stage, graph=graph):
            begun = kind == "executing" if stage == "scores" else kind == "progress" and data["value"] == 1
            node = {"student": graph.sampled, "scores": graph.scores, "teacher": graph.teacher}[stage]
            if begun and data["node"] == node:
                host.interrupt()

        if stage != "not at all":
            assert host.attempt(graph, on_event=cancel).interrupted, stage
        run = host.run(graph)
        made[stage] = tensors(host, run, graph.after)["images.0"]
        assert torch.equal(made[stage], made["not at all"]), stage


@pytest.mark.parametrize("channels, width, height", [(3, 70, 66), (4, 64, 64)])
def test_images_come_back_in_their_own_size_and_channels(host, channels, width, height):
    graph = Adaptive([GOOD, BAD], seed=106)
    images = graph.add("TestNoiseImages", seed=5, first=0, count=2, width=width, height=height, channels=channels)
    for node in (graph.teacher, graph.before):
        graph.set(node, images=images[0])
    run = host.run(graph)
    before, after = (tensors(host, run, node)["images.0"] for node in (graph.before, graph.after))
    assert after.shape == (2, height, width, channels)
    assert changed(before, after) == [False, True]


def test_start_from_latent_saves_the_round_trip(host):
    graph = Adaptive([GOOD, BAD], seed=107, start_from="latent")
    graph.set(graph.teacher, latent=graph.sampled[0])
    run = host.run(graph)
    before, after = (tensors(host, run, node)["images.0"] for node in (graph.before, graph.after))
    assert changed(before, after) == [False, True]


def test_nothing_is_denoised_where_the_noise_mask_is_zero(host):
    graph = Adaptive([BAD, BAD], seed=108)
    mask = graph.add("SolidMask", value=0.0, width=64, height=64)
    masked = graph.add("SetLatentNoiseMask", samples=graph.sampled[0], mask=mask[0])
    graph.set(graph.teacher, latent=masked[0])
    encoded = graph.add("VAEEncode", pixels=graph.images[0], vae=graph.loader[2])
    decoded = graph.add("VAEDecode", samples=encoded[0], vae=graph.loader[2])
    round_trip = graph.add("TestSaveTensors", images=decoded[0])
    run = host.run(graph)
    after, round_trip = (tensors(host, run, node)["images.0"] for node in (graph.after, round_trip))
    assert torch.allclose(after, round_trip, atol=1e-3)

"""Lists: eight prompts as a list make eight batches of one image, and image, score and prompt stay together."""

import json

import torch

from .graphs import SIDE, Adaptive
from .tensors import batches, tensors

PROMPTS = ["a castle", "a boat", "two cats", "a red car", "snow", "a tall tree", "an old clock", "a lamp"]


def with_prompts(graph):
    texts = graph.add("TestStrings", texts=json.dumps(PROMPTS))
    for node in (graph.text, graph.positive):
        graph.set(node, text=texts[0])
    graph.set(graph.latent, batch_size=1)
    return texts


def test_eight_prompts_as_a_list(host):
    graph = Adaptive(None, count=1, seed=300)
    graph.set(graph.scores, prompt=with_prompts(graph)[0])
    graph.set(graph.threshold, mode="worst_fraction", fraction=0.25)
    values = graph.add("TestSaveTensors", floats=graph.scores[1])
    run = host.run(graph)
    before, after = batches(host, run, graph.before), batches(host, run, graph.after)
    assert [batch.shape for batch in after] == [(1, SIDE, SIDE, 3)] * 8
    scores = tensors(host, run, values)["floats"]
    refined = tensors(host, run, graph.after)["booleans"].tolist()
    assert sum(refined) == 2
    assert [not torch.equal(b, a) for b, a in zip(before, after, strict=True)] == refined
    assert set(scores.argsort()[:2].tolist()) == {k for k in range(8) if refined[k]}


def test_an_image_s_score_belongs_to_its_own_prompt(host):
    graph = Adaptive(None, count=1, seed=301)
    texts = with_prompts(graph)
    graph.set(graph.scores, prompt=texts[0])
    in_list = graph.add("TestSaveTensors", floats=graph.scores[1])
    alone = graph.add("UnderstudyScoreImages", oracle=graph.oracle[0], images=graph.images[0], prompt=PROMPTS[5])
    against_one = graph.add("TestSaveTensors", floats=alone[1])
    for node in (graph.after, graph.teacher):
        del graph.nodes[node]
    run = host.run(graph)
    in_list, against_one = (tensors(host, run, node)["floats"] for node in (in_list, against_one))
    assert len(in_list) == len(against_one) == 8
    assert torch.isclose(in_list[5], against_one[5], atol=1e-5)
    assert not torch.allclose(in_list, against_one, atol=1e-4)


BAD, GOOD = 0.1, 0.9
SAMPLED = {"preset": "consistency", "steps": 2, "cfg": 1.0, "denoise": 1.0, "settings_from": "none"}


def test_a_batch_in_pieces_is_redone_in_the_noise_that_the_student_s_latent_brings(host):
    """The student's seed is 302; the Teacher's widget is on another, as a node made by hand is."""
    scores = [BAD, GOOD, BAD, BAD]
    graph = Adaptive(scores, seed=302, sampler_name="euler_ancestral")
    inputs = {name: graph.nodes[graph.sampled]["inputs"][name] for name in ("model", "positive", "negative", "seed")}
    sampled = graph.add("UnderstudyStudentSampler", **inputs, latent_image=graph.latent[0], **SAMPLED)
    graph.set(graph.images, samples=sampled[0])
    graph.set(graph.teacher, seed=99999)
    pieces = graph.add("RebatchImages", images=graph.images[0], batch_size=1)
    judged = graph.add("UnderstudyScoresFromList", scores=graph.nodes[graph.scores]["inputs"]["scores"],
                       images=pieces[0])  # fmt: skip
    first = graph.add("LatentFromBatch", samples=sampled[0], batch_index=0, length=2)
    last = graph.add("LatentFromBatch", samples=sampled[0], batch_index=2, length=2)
    masked = graph.add("SetLatentNoiseMask", samples=sampled[0],
                       mask=graph.add("SolidMask", value=1.0, width=SIDE, height=SIDE)[0])  # fmt: skip
    listed = {"images": pieces[0], "scores": judged[0]}
    second = graph.add("UnderstudyStudentSampler", **{**inputs, "seed": 307}, latent_image=graph.latent[0], **SAMPLED)
    joined = graph.add("LatentBatch", samples1=sampled[0], samples2=second[0])
    numbers = graph.add("TestFloats", numbers=json.dumps([*scores, *scores]))
    eight = {
        "images": graph.add("VAEDecode", samples=joined[0], vae=graph.student[2])[0],
        "scores": graph.add("UnderstudyScoresFromList", scores=numbers[0])[0],
    }

    def teacher(**changes):
        made = graph.add("UnderstudyTeacher", **{**graph.nodes[graph.teacher]["inputs"], **changes})
        return made, graph.add("TestSaveTensors", images=made[0])

    asked = {
        "whole": teacher(latent=sampled[0]),
        "told": teacher(seed_from="widget", seed=302, latent=sampled[0]),
        "split": teacher(latent=sampled[0], **listed),
        "split, masked": teacher(latent=masked[0], **listed),
        "by place": teacher(seed=302, **listed),
        "by the widget": teacher(seed_from="widget", latent=sampled[0], **listed),
        "not the latent": teacher(latent=graph.latent[0], **listed),
        "joined": teacher(latent=joined[0], **eight),
    }
    halves = [graph.add("ImageFromBatch", image=graph.images[0], batch_index=at, length=2) for at in (0, 2)]
    numbers = graph.add("TestFloats", numbers=json.dumps([BAD, BAD]))
    for name, half, latent in zip(("first half", "last half"), halves, (first, last), strict=True):
        own = graph.add("UnderstudyScoresFromList", scores=numbers[0], images=half[0])
        asked[name] = teacher(images=half[0], scores=own[0], latent=latent[0])
    for node in (graph.after, graph.teacher, graph.sampled):
        del graph.nodes[node]
    seen = []
    run = host.run(graph, on_event=lambda kind, data: seen.append(data) if kind == "progress" else None)
    images = {name: torch.cat(batches(host, run, saved)) for name, (_, saved) in asked.items()}
    text = {name: run.outputs[node]["text"][0] for name, (node, _) in asked.items()}
    before = batches(host, run, graph.before)[0]

    assert [torch.equal(a, b) for a, b in zip(before, images["split"], strict=True)] == [s == GOOD for s in scores]
    for name in ("told", "split", "split, masked", "by place"):
        assert torch.allclose(images[name], images["whole"], atol=2e-3), name
    assert torch.allclose(images["last half"], images["whole"][2:], atol=2e-3)
    assert torch.allclose(images["first half"][0], images["whole"][0], atol=2e-3)
    for name in ("by the widget", "not the latent"):
        assert not torch.allclose(images[name], images["whole"], atol=2e-2), name
    for name in ("whole", "split", "split, masked"):
        redone, how, *seeds = text[name].split("\n")
        assert redone == "3 of 4 images redone" and how.startswith("schedule 0.5: starts at sigma")
        assert seeds == ["seed 302 of the student's latent, not the widget's 99999: images 1, 3, 4"]
    assert "images 1, 2" in text["last half"]
    assert "because no latent is connected" in text["by place"] and "connect its latent" in text["by place"]
    assert "seed 99999 of the widget" in text["not the latent"] and "carries no seed" in text["not the latent"]
    student = f"UnderstudyStudentSampler (node {sampled}) has seed 302: what it made"
    assert student in text["by the widget"] and student in text["not the latent"] and student not in text["by place"]
    assert "seed 302 of the student's latent, not the widget's 99999: images 1, 3, 4" in text["joined"]
    assert "seed 99999 of the widget: images 5, 7, 8" in text["joined"] and student not in text["joined"]
    assert f"UnderstudyStudentSampler (node {second}) has seed 307: what it made" in text["joined"]
    # One bar over all sampling runs of a list.
    values = [data["value"] for data in seen if data["node"] == asked["split"][0]]
    assert values == sorted(values) and values[-1] == 3 * 2
    assert {data["max"] for data in seen if data["node"] == asked["split"][0]} == {3 * 2}


def test_a_stock_sampler_s_other_seed_is_told(host):
    graph = Adaptive([BAD, GOOD], seed=303)
    graph.set(graph.teacher, seed=304)
    noise = graph.add("RandomNoise", noise_seed=305)
    guider = graph.add("BasicGuider", model=graph.student[0], conditioning=graph.text[0])
    sampler = graph.add("KSamplerSelect", sampler_name="euler")
    sigmas = graph.add("BasicScheduler", model=graph.student[0], scheduler="normal", steps=2, denoise=1.0)
    parts = {"noise": noise[0], "guider": guider[0], "sampler": sampler[0], "sigmas": sigmas[0]}
    custom = graph.add("SamplerCustomAdvanced", **parts, latent_image=graph.latent[0])
    images = graph.add("VAEDecode", samples=custom[0], vae=graph.student[2])
    number = graph.add("PrimitiveInt", value=303)
    teachers = {"widget": graph.teacher}
    for name, changes in {
        "advanced": {"images": images[0]},
        "same": {"seed": 303},
        "linked": {"seed": number[0]},
        "kept": {"scores": graph.add("UnderstudyScoresFromList", images=graph.images[0],
                                     scores=graph.add("TestFloats", numbers=json.dumps([GOOD, GOOD]))[0])[0]},
    }.items():  # fmt: skip
        teachers[name] = graph.add("UnderstudyTeacher", **{**graph.nodes[graph.teacher]["inputs"], **changes})
        graph.add("TestAsk", anything=teachers[name][0])
    run = host.run(graph)
    text = {name: run.outputs[node]["text"][0] for name, node in teachers.items()}
    assert f"KSampler (node {graph.sampled}) has seed 303: what it made" in text["widget"]
    assert f"SamplerCustomAdvanced (node {custom}) has seed 305: what it made" in text["advanced"]
    for name in ("same", "linked"):
        assert "has seed" not in text[name] and "seed 303 of the widget: image 1" in text[name]
    assert text["kept"] == "0 of 2 images redone"

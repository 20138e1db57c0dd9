"""Likeness: each image with its own source, alone and combined, in batches, lists and what the teacher redid."""

import torch
from understudy.oracles.likeness import ssim

from .checkpoints import CLIP
from .graphs import Adaptive
from .tensors import tensors

WIDGETS = {"measure": "ssim", "encoder": "none"}
TEXT = "a castle on a hill"


def noise(graph, seed, count):
    return graph.add("TestNoiseImages", seed=seed, first=0, count=count, width=64, height=64, channels=3)


def scored(graph, oracle, images):
    return graph.add("UnderstudyScoreImages", oracle=oracle[0], images=images[0], prompt=TEXT)


def test_every_redone_image_is_compared_with_its_own_source(host):
    """Of six images the teacher redoes three; Keep Better asks of those alone, in batches of another size."""
    graph = Adaptive([0.9, 0.1, 0.1, 0.9, 0.9, 0.1], seed=700)
    sources = noise(graph, 71, 6)
    alike = graph.add("UnderstudyLikeness", source=graph.images[0], **WIDGETS)
    other = graph.add("UnderstudyLikeness", source=sources[0], **WIDGETS)
    before, after = scored(graph, other, graph.images), scored(graph, other, graph.teacher)
    same = scored(graph, alike, graph.images)
    pairs = graph.add("RebatchImages", images=graph.images[0], batch_size=2)
    in_pairs = scored(graph, other, pairs)
    better = {}
    for name, oracle, scores in (("own", alike, same), ("other", other, before), ("pairs", other, in_pairs)):
        images = pairs if name == "pairs" else graph.images
        node = graph.add("UnderstudyKeepBetter", images_before=images[0], images_after=graph.teacher[0],
                         scores=scores[0], oracle=oracle[0], prompt=TEXT)  # fmt: skip
        better[name] = graph.add("TestSaveTensors", images=node[0])
    saved = {
        name: graph.add("TestSaveTensors", images=images[0], floats=scores[1])
        for name, images, scores in (
            ("before", graph.images, before), ("after", graph.teacher, after), ("same", graph.images, same),
            ("pairs", graph.images, in_pairs),
        )
    }  # fmt: skip
    saved["sources"] = graph.add("TestSaveTensors", images=sources[0])
    clip = graph.add("UnderstudyLikeness", source=graph.images[0], measure="clip", encoder=CLIP)
    by_clip = scored(graph, clip, graph.teacher)
    saved["clip"] = graph.add("TestSaveTensors", floats=by_clip[1])
    run = host.run(graph)
    found = {name: tensors(host, run, node) for name, node in saved.items()}
    old, new, own = (found[name]["images.0"].movedim(-1, 1) for name in ("before", "after", "sources"))
    for name, images in (("before", old), ("after", new), ("pairs", old)):
        torch.testing.assert_close(found[name]["floats"].float(), ssim(images, own), atol=1e-5, rtol=0)
    assert found["same"]["floats"].tolist() == [1.0] * 6
    redone = [1, 2, 5]
    assert [i for i in range(6) if found["clip"]["floats"][i] < 99.99] == redone
    kept = {name: tensors(host, run, node) for name, node in better.items()}
    assert torch.equal(kept["own"]["images.0"], found["before"]["images.0"])  # nothing is more alike than itself
    expected = torch.where((ssim(new, own) > ssim(old, own))[:, None, None, None], new, old).movedim(1, -1)
    assert torch.equal(kept["other"]["images.0"], expected)
    assert torch.equal(torch.cat([kept["pairs"][f"images.{k}"] for k in range(3)]), expected)


def test_sources_of_other_images_are_refused_by_their_counts(host):
    graph = Adaptive([0.9, 0.1, 0.9], seed=701)
    alike = graph.add("UnderstudyLikeness", source=noise(graph, 72, 2)[0], **WIDGETS)
    graph.add("PreviewAny", source=scored(graph, alike, graph.images)[1])
    assert "2 sources for 3 images" in host.attempt(graph).error
    graph = Adaptive([0.9, 0.1, 0.9], seed=701)
    alike = graph.add("UnderstudyLikeness", source=noise(graph, 72, 2)[0], measure="clip", encoder="none")
    graph.add("PreviewAny", source=scored(graph, alike, graph.images)[1])
    assert "measure clip needs an encoder" in host.attempt(graph).error


def test_it_combines_and_vetoes_with_the_teacher_and_keep_better(host):
    """Calibrated on 24 images by either oracle; the veto alone decides, and only in what it is about."""
    graph = Adaptive([0.9] * 24, seed=702)
    del graph.nodes[graph.teacher], graph.nodes[graph.before], graph.nodes[graph.after]
    sources = graph.images
    edited = graph.add("KSampler", **{**graph.nodes[graph.sampled]["inputs"], "seed": 703, "denoise": 0.5,
                                      "latent_image": graph.sampled[0]})  # fmt: skip
    images = graph.add("VAEDecode", samples=edited[0], vae=graph.student[2])
    clip = graph.add("UnderstudyLoadOracle", oracle_name=CLIP, family="auto")
    alike = graph.add("UnderstudyLikeness", source=sources[0], **WIDGETS)
    names = {"likeness of edits": alike, "clip of edits": clip}
    for name, oracle in names.items():
        scores = scored(graph, oracle, images)
        graph.add("UnderstudyCalibrate", scores=scores[0], name=name)
    host.run(graph)
    both = graph.add("UnderstudyCombineOracles",
                     oracle_a=clip[0], calibration_a="clip of edits", weight_a=1.0, veto_a=0.0,
                     oracle_b=alike[0], calibration_b="likeness of edits", weight_b=0.0, veto_b=20.0)  # fmt: skip
    combined = scored(graph, both, images)
    graph.set(graph.threshold, mode="fixed", value=0.0)
    teacher = graph.add(
        "UnderstudyTeacher", images=images[0], scores=combined[0], threshold=graph.threshold[0],
        model=graph.loader[0], positive=graph.positive[0], negative=graph.negative[0], vae=graph.loader[2],
        seed=703, start_from="images", strategy="refine", settings="my own", rollback_mode="schedule", rollback=0.3,
        strength="fixed", rollback_worst=0.9, steps=1, cfg=1.0,
        sampler_name="euler", scheduler="normal", upscale_by=1.0, images_at_once=0, seed_from="latent",
    )  # fmt: skip
    better = graph.add("UnderstudyKeepBetter", images_before=images[0], images_after=teacher[0],
                       scores=combined[0], oracle=both[0], prompt=TEXT)  # fmt: skip
    saved = {name: graph.add("TestSaveTensors", **inputs) for name, inputs in {
        "old": {"images": images[0], "floats": combined[1]},
        "new": {"images": teacher[0], "floats": scored(graph, alike, teacher)[1]},
        "alike": {"floats": scored(graph, alike, images)[1]},
        "better": {"images": better[0]},
    }.items()}  # fmt: skip
    run = host.run(graph)
    found = {name: tensors(host, run, node) for name, node in saved.items()}
    vetoed = (found["old"]["floats"] < 0).tolist()
    order = found["alike"]["floats"].argsort().tolist()
    assert 3 <= sum(vetoed) <= 6 and {i for i in range(24) if vetoed[i]} == set(order[: sum(vetoed)])
    old, new, kept = (found[name]["images.0"] for name in ("old", "new", "better"))
    assert [not torch.equal(a, b) for a, b in zip(old, new, strict=True)] == vetoed
    cut = min(value for value, bad in zip(found["alike"]["floats"].tolist(), vetoed, strict=True) if not bad)
    for i in range(24):
        if not vetoed[i]:
            assert torch.equal(kept[i], old[i])
        elif found["new"]["floats"][i] >= cut:  # no longer vetoed, so above what was
            assert torch.equal(kept[i], new[i])
        else:
            assert torch.equal(kept[i], new[i]) or torch.equal(kept[i], old[i])

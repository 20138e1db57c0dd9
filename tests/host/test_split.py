"""Split and Merge around graphs of stock nodes, in the host: the same as by hand on those images alone."""

import json

import pytest
import torch

from .checkpoints import CLIP
from .graphs import SIDE, STUDENT, Adaptive
from .tensors import batches, tensors
from .test_bypass import told

GOOD, BAD = 0.9, 0.1
SCORES = [BAD, GOOD, BAD, GOOD]
AGAIN = {**STUDENT, "cfg": 2.0, "seed": 77}
PROMPTS = ["a castle", "a boat", "two cats", "a red car"]


class Routed(Adaptive):
    """Student and scores as Adaptive's, the stock graph of the teacher's checkpoint in place of the Teacher."""

    def __init__(self, scores=SCORES, *, seed, **belongings):
        super().__init__(scores, seed=seed)
        for node in (self.teacher, self.before, self.after):
            del self.nodes[node]
        self.before = self.kept(self.images[0])
        self.judged = {"images": self.images[0], "scores": self.scores[0], "threshold": self.threshold[0]}
        self.split = self.add("UnderstudySplit", **self.judged, **belongings)

    def encoded(self, pixels):
        return self.add("VAEEncode", pixels=pixels, vae=self.loader[2])[0]

    def sampled_again(self, latent, positive=None, negative=None, **widgets):
        """Images that a stock KSampler makes of a latent."""
        texts = {"positive": positive or self.positive[0], "negative": negative or self.negative[0]}
        sampled = self.add("KSampler", model=self.loader[0], **texts, latent_image=latent, **{**AGAIN, **widgets})
        return self.add("VAEDecode", samples=sampled[0], vae=self.loader[2])[0]

    def merged(self, redone, **judged):
        return self.add("UnderstudyMerge", **{**self.judged, **judged}, redone=redone)

    def kept(self, images, **more):
        return self.add("TestSaveTensors", images=images, **more)

    def picked_latents(self, *places):
        """Some of the student's latents by hand, each with its place in the batch."""
        first, *others = (
            self.add("LatentFromBatch", samples=self.sampled[0], batch_index=place, length=1)[0] for place in places
        )
        for other in others:
            first = self.add("LatentBatch", samples1=first, samples2=other)[0]
        return first

    def masks(self, first, count):
        noise = {"seed": 5, "width": SIDE, "height": SIDE, "channels": 3}
        return self.add("TestNoiseImages", first=first, count=count, **noise)[0]

    def as_mask(self, images):
        return self.add("ImageToMask", image=images, channel="red")[0]

    def under(self, conditioning, mask):
        return self.add(
            "ConditioningSetMask", conditioning=conditioning, mask=mask, strength=1.0, set_cond_area="default"
        )[0]


def saved(host, run, node):
    """The images of a list in one batch, and in how many entries they came."""
    found = batches(host, run, node)
    return torch.cat(found), len(found)


def test_a_batch_through_stock_nodes_is_as_by_hand(host):
    """Of neighbours, which Image From Batch takes out as they lie in memory: other strides are other roundings."""
    graph = Routed([GOOD, BAD, BAD, GOOD], seed=600)
    whole = graph.masks(0, 4)
    positive = graph.under(graph.positive[0], graph.as_mask(whole))
    graph.set(graph.split, latent=graph.sampled[0], mask=graph.as_mask(whole))
    graph.set(graph.split, positive=positive, negative=graph.negative[0])
    of_images = graph.sampled_again(graph.encoded(graph.split[0]), denoise=0.5)
    masked = graph.add("SetLatentNoiseMask", samples=graph.split[1], mask=graph.split[2])
    of_latents = graph.sampled_again(masked[0], graph.split[3], graph.split[4])
    merged = {name: graph.merged(redone) for name, redone in (("images", of_images), ("latents", of_latents))}
    results = {name: graph.kept(node[0], booleans=node[1]) for name, node in merged.items()}

    alone = graph.add("ImageFromBatch", image=graph.images[0], batch_index=1, length=2)
    mask = graph.as_mask(graph.masks(1, 2))
    by_hand_masked = graph.add("SetLatentNoiseMask", samples=graph.picked_latents(1, 2), mask=mask)
    own = graph.under(graph.positive[0], mask)
    by_hand = {
        "images": graph.kept(graph.sampled_again(graph.encoded(alone[0]), denoise=0.5)),
        "latents": graph.kept(graph.sampled_again(by_hand_masked[0], own)),
    }
    of_all = graph.add("SetLatentNoiseMask", samples=graph.sampled[0], mask=graph.as_mask(whole))
    all_redone = graph.kept(graph.sampled_again(of_all[0], positive))
    run = host.run(graph)
    before, _ = saved(host, run, graph.before)
    for name, node in results.items():
        after, entries = saved(host, run, node)
        expected, _ = saved(host, run, by_hand[name])
        assert entries == 1 and tensors(host, run, node)["booleans"].tolist() == [False, True, True, False]
        assert torch.equal(after[1:3], expected) and torch.equal(after[::3], before[::3]), name
        assert not torch.allclose(after[1:3], before[1:3], atol=1e-2), name
    # Each in its own noise, under its own masks: as in the whole batch.
    after, expected = (saved(host, run, node)[0] for node in (results["latents"], all_redone))
    assert torch.allclose(after[1:3], expected[1:3], atol=2e-3)
    assert run.outputs[graph.split]["text"] == ["2 of 4 images sent out"]
    assert run.outputs[merged["images"]]["text"] == ["2 of 4 images redone"]


def test_a_list_with_a_prompt_for_each_image_is_as_by_hand(host):
    graph = Routed(seed=601)
    texts = graph.add("TestStrings", texts=json.dumps(PROMPTS))
    encoded = graph.add("CLIPTextEncode", clip=graph.loader[1], text=texts[0])
    belongings = {"latent": graph.sampled[0], "prompts": texts[0], "positive": encoded[0]}
    pieces = graph.add("RebatchImages", images=graph.images[0], batch_size=1)
    numbers = graph.nodes[graph.scores]["inputs"]["scores"]
    listed = {"images": pieces[0]}
    listed["scores"] = graph.add("UnderstudyScoresFromList", scores=numbers, images=pieces[0])[0]
    results = {}
    for name, judged in (("batch", {}), ("list", listed)):
        split = graph.add("UnderstudySplit", **{**graph.judged, **judged}, **belongings)
        words = graph.add("CLIPTextEncode", clip=graph.loader[1], text=split[5])
        for positive in (split[3], words[0]):
            redone = graph.sampled_again(split[1], positive, denoise=0.5)
            results[name, str(positive)] = graph.kept(graph.merged(redone, **judged)[0])
    by_hand = []
    for place in (0, 2):
        words = graph.add("CLIPTextEncode", clip=graph.loader[1], text=PROMPTS[place])
        redone = graph.sampled_again(graph.picked_latents(place), words[0], denoise=0.5)
        by_hand.append(graph.kept(redone))
    run = host.run(graph)
    before, _ = saved(host, run, graph.before)
    expected = torch.cat([saved(host, run, node)[0] for node in by_hand])
    assert not torch.allclose(expected, before[[0, 2]], atol=1e-2)
    assert len(results) == 4
    for (name, _), node in results.items():
        after, entries = saved(host, run, node)
        assert entries == {"batch": 1, "list": 4}[name]
        assert torch.equal(after[[0, 2]], expected) and torch.equal(after[[1, 3]], before[[1, 3]]), name


def test_the_branch_with_a_preview_inside_does_not_run_when_all_pass(host):
    graph = Routed(seed=602)
    graph.set(graph.split, positive=graph.positive[0])
    redone = graph.sampled_again(graph.encoded(graph.split[0]), graph.split[3], denoise=0.5)
    sampler = next(key for key, node in graph.nodes.items() if node["inputs"].get("seed") == AGAIN["seed"])
    preview = graph.add("PreviewImage", images=redone)
    merge = graph.merged(redone)
    after = graph.kept(merge[0], booleans=merge[1])
    straight = graph.kept(graph.merged(graph.split[0])[0])
    sent = graph.add("PreviewImage", images=graph.split[0])
    host.forget()

    def steps(prompt):
        seen = []
        run = host.run(prompt, on_event=lambda kind, data: seen.append(data["node"]) if kind == "progress" else None)
        return run, seen.count(sampler)

    run, sampled = steps(graph)
    assert sampled == STUDENT["steps"] and len(run.outputs[preview]["images"]) == 2
    # The same graph with other scores, while the host remembers all that the branch made.
    numbers = graph.nodes[graph.scores]["inputs"]["scores"][0]
    graph.set(numbers, numbers=json.dumps([GOOD] * 4))
    run, sampled = steps(graph)
    assert sampled == 0 and not {preview, sent} & {*run.outputs} and graph.positive not in run.executed
    assert run.outputs[graph.split]["text"] == ["0 of 4 images sent out"]
    assert run.outputs[merge]["text"] == ["0 of 4 images redone"]
    before, (images, _) = saved(host, run, graph.before)[0], saved(host, run, after)
    assert torch.equal(images, before) and not tensors(host, run, after)["booleans"].any()
    assert torch.equal(saved(host, run, straight)[0], before)
    # Without a node inside that the host has to run, the branch is not even looked at, its loader included.
    del graph.nodes[preview], graph.nodes[sent]
    host.forget()
    run, sampled = steps(graph)
    assert sampled == 0 and not {sampler, graph.loader, graph.split} & {*run.executed, *run.cached}
    assert torch.equal(saved(host, run, after)[0], before)


def test_a_split_within_a_split_sends_what_both_reject(host):
    """Judged again between the two: what the outer one sends and the inner one keeps comes back as it was."""
    inner_scores = {"some": [BAD, GOOD, BAD], "none": [GOOD] * 3}
    outer, results = [BAD, GOOD, BAD, BAD], {}
    graph = Routed(outer, seed=606)
    graph.set(graph.split, latent=graph.sampled[0], positive=graph.positive[0])
    for name, values in inner_scores.items():
        numbers = graph.add("TestFloats", numbers=json.dumps(values))
        scores = graph.add("UnderstudyScoresFromList", scores=numbers[0], images=graph.split[0])
        judged = {"images": graph.split[0], "scores": scores[0]}
        inner = graph.add(
            "UnderstudySplit", **{**graph.judged, **judged}, latent=graph.split[1], positive=graph.split[3]
        )
        redone = graph.sampled_again(inner[1], inner[3], denoise=0.5)
        results[name] = graph.kept(graph.merged(graph.merged(redone, **judged)[0])[0])
    flat = Routed([BAD, GOOD, GOOD, BAD], seed=606)
    flat.set(flat.split, latent=flat.sampled[0], positive=flat.positive[0])
    at_once = flat.kept(flat.merged(flat.sampled_again(flat.split[1], flat.split[3], denoise=0.5))[0])
    expected, _ = saved(host, host.run(flat), at_once)
    run = host.run(graph)
    before, _ = saved(host, run, graph.before)
    some, none = (saved(host, run, results[name])[0] for name in ("some", "none"))
    assert torch.equal(some, expected) and torch.equal(none, before)
    assert [not torch.equal(*pair) for pair in zip(some, before, strict=True)] == [True, False, False, True]


def test_keep_better_and_the_receipt_behind_merge(host):
    graph = Routed(seed=603)
    ways = {
        "straight": graph.split[0],
        "inverted": graph.add("ImageInvert", image=graph.split[0])[0],
        "larger": graph.add(
            "ImageScaleBy", image=graph.add("ImageInvert", image=graph.split[0])[0], upscale_method="area", scale_by=2.0
        )[0],
    }
    oracle = graph.add("UnderstudyLoadOracle", oracle_name=CLIP, family="auto")
    found = {}
    for name, redone in ways.items():
        merge = graph.merged(redone)
        better = graph.add(
            "UnderstudyKeepBetter",
            images_before=graph.images[0],
            images_after=merge[0],
            scores=graph.scores[0],
            oracle=oracle[0],
            prompt="a castle",
        )
        ends = {"images_before": graph.images[0], "threshold": graph.threshold[0], "receipt": merge[2]}
        plain = graph.add("UnderstudyReceipt", images=merge[0], scores=graph.scores[0], **ends)
        judged = graph.add("UnderstudyReceipt", images=better[0], scores=better[1], **ends)
        found[name] = merge, graph.kept(merge[0]), plain, judged
    run = host.run(graph)
    before, _ = saved(host, run, graph.before)
    cost = "teacher: nodes between Split and Merge, for 2 of 4 images; what they cost is not known"
    for name, (merge, after, plain, judged) in found.items():
        images, _ = saved(host, run, after)
        changed = [not torch.equal(*pair) for pair in zip(images, before, strict=True)]
        assert changed == [name != "straight", False] * 2
        scaled = "\nscaled back to their own size: images 1, 3" * (name == "larger")
        assert run.outputs[merge]["text"] == [f"2 of 4 images redone{scaled}"]
        for receipt in (plain, judged):
            graph.receipt = receipt
            lines, facts, _ = told(host, run, graph)
            words = [each["decision"] for each in facts]
            assert words[1::2] == ["kept"] * 2 and [each["evaluations"] for each in facts] == [None, 0] * 2
            assert lines[2] == cost
            if name == "straight":
                assert words[::2] == ["reverted"] * 2
            elif receipt is plain:
                assert words[::2] == ["redone"] * 2
            else:
                assert set(words[::2]) <= {"redone", "reverted"}


def doubled(graph):
    return graph.add("RepeatImageBatch", image=graph.split[0], amount=2)[0]


def reshaped(graph):
    scaled = {"upscale_method": "area", "width": 2 * SIDE, "height": SIDE, "crop": "disabled"}
    return graph.add("ImageScale", image=graph.split[0], **scaled)[0]


@pytest.mark.parametrize(
    "made, says",
    [
        (doubled, "4 images came back at redone, but 2 were sent out"),
        (reshaped, f"image 1 came back with {2 * SIDE} x {SIDE} pixels"),
        (
            lambda graph: graph.sampled_again(graph.split[1]),
            "Split rejected has nothing for latent: connect its input latent",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(host, made, says):
    graph = Routed(seed=604)
    redone = made(graph)
    merge = graph.merged(redone)
    graph.kept(merge[0])
    run = host.attempt(graph)
    assert says in run.error
    assert run.error_node == (merge if "image" in says else redone_by(graph))


def redone_by(graph):
    """The node that takes what Split does not have."""
    return next(key for key, node in graph.nodes.items() if graph.split[1] in node["inputs"].values())


def test_teacher_takes_up_what_split_sends(host):
    """The seed of the student travels through Split, and each image's place with it."""
    graph = Adaptive(SCORES, seed=605)
    inputs = {name: graph.nodes[graph.sampled]["inputs"][name] for name in ("model", "positive", "negative", "seed")}
    widgets = {"preset": "consistency", "steps": 2, "cfg": 1.0, "denoise": 1.0, "settings_from": "none"}
    sampled = graph.add("UnderstudyStudentSampler", **inputs, latent_image=graph.latent[0], **widgets)
    graph.set(graph.images, samples=sampled[0])
    graph.set(graph.teacher, latent=sampled[0], seed=99999)
    judged = {"images": graph.images[0], "scores": graph.scores[0], "threshold": graph.threshold[0]}
    split = graph.add("UnderstudySplit", **judged, latent=sampled[0])
    bad = graph.add("TestFloats", numbers=json.dumps([BAD, BAD]))
    scores = graph.add("UnderstudyScoresFromList", scores=bad[0], images=split[0])
    own = {"images": split[0], "scores": scores[0], "latent": split[1]}
    again = graph.add("UnderstudyTeacher", **{**graph.nodes[graph.teacher]["inputs"], **own})
    merge = graph.add("UnderstudyMerge", **judged, redone=again[0])
    merged = graph.add("TestSaveTensors", images=merge[0])
    run = host.run(graph)
    assert torch.allclose(saved(host, run, merged)[0], saved(host, run, graph.after)[0], atol=2e-3)
    assert "seed 605 of the student's latent, not the widget's 99999: images 1, 2" in run.outputs[again]["text"][0]

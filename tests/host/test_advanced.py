"""Teacher Advanced, and what both Teachers share: inside the host, and in graphs, where inputs are lazy and outputs may
be blocked."""

import torch

from .graphs import REFINE, Adaptive
from .inside import failures
from .tensors import batches, tensors

GOOD, BAD = 0.9, 0.1
SHARED = ("images", "scores", "threshold", "vae")
KEPT = ("start_from", "strategy", "strength", "rollback_worst", "upscale_by", "images_at_once", "seed_from")
WIDGETS = {name: REFINE[name] for name in KEPT}


def test_all_checks_pass(host):
    failed = failures(host, "inside_advanced.py")
    assert not failed, failed


def with_advanced(scores, seed):
    """The adaptive graph with Teacher Advanced in place of Teacher, and what is connected to it."""
    graph = Adaptive(scores, seed=seed)
    texts = {"positive": graph.positive[0], "negative": graph.negative[0]}
    graph.guider = graph.add("CFGGuider", model=graph.loader[0], cfg=2.0, **texts)
    graph.sampler = graph.add("KSamplerSelect", sampler_name="euler")
    graph.sigmas = graph.add("BasicScheduler", model=graph.loader[0], scheduler="normal", steps=4, denoise=1.0)
    given = {name: graph.nodes[graph.teacher]["inputs"][name] for name in SHARED}
    parts = {"guider": graph.guider[0], "sampler": graph.sampler[0], "sigmas": graph.sigmas[0]}
    more = {"rollback_mode": "schedule", "rollback": 0.5, "seed": seed}
    made = {**given, **parts, **WIDGETS, **more}
    graph.nodes[graph.teacher] = {"class_type": "UnderstudyTeacherAdvanced", "inputs": made}
    return graph


def test_only_what_is_rejected_runs_and_is_what_sampler_custom_advanced_makes(host):
    scores = [BAD, GOOD, BAD]
    graph = with_advanced(scores, seed=610)  # noise is not connected
    encoded = graph.add("VAEEncode", pixels=graph.images[0], vae=graph.loader[2])
    halves = graph.add("SplitSigmasDenoise", sigmas=graph.sigmas[0], denoise=0.5)
    made = {}
    for seed in (610, 611):
        noise = graph.add("RandomNoise", noise_seed=seed)
        stock = graph.add("SamplerCustomAdvanced", noise=noise[0], guider=graph.guider[0], sampler=graph.sampler[0],
                          sigmas=halves[1], latent_image=encoded[0])  # fmt: skip
        decoded = graph.add("VAEDecode", samples=stock[0], vae=graph.loader[2])
        made[seed] = graph.add("TestSaveTensors", images=decoded[0])
    noisy = graph.add("UnderstudyTeacherAdvanced", **graph.nodes[graph.teacher]["inputs"], noise=noise[0])
    with_noise = graph.add("TestSaveTensors", images=noisy[0])
    run = host.run(graph)
    (before,), (after,), (other,) = (batches(host, run, node) for node in (graph.before, graph.after, with_noise))
    for output, seed in ((after, 610), (other, 611)):
        (stock,) = batches(host, run, made[seed])
        assert torch.equal(output[1], before[1])
        for place in (0, 2):
            assert (output[place] - stock[place]).abs().max() < 1e-4
            assert not torch.equal(output[place], before[place])
    assert tensors(host, run, graph.after)["booleans"].tolist() == [score == BAD for score in scores]


def test_nothing_runs_behind_or_before_a_teacher_that_redoes_nothing(host):
    host.forget()
    graph = with_advanced([GOOD, GOOD], seed=612)
    noise = graph.add("RandomNoise", noise_seed=613)
    graph.set(graph.teacher, noise=noise[0])
    behind = graph.add("VAEDecode", samples=graph.teacher[3], vae=graph.student[2])
    shown = graph.add("PreviewImage", images=behind[0])
    run = host.run(graph)
    (before,), (after,) = batches(host, run, graph.before), batches(host, run, graph.after)
    assert torch.equal(before, after)
    for node in (graph.loader, graph.guider, graph.sampler, graph.sigmas, noise):
        assert node not in run.executed + run.cached
    assert shown not in run.outputs


def test_the_latent_of_a_list_belongs_to_its_entries(host):
    """Each of the list's batches has its own; where nothing was redone, what is behind does not run."""
    graph = Adaptive([GOOD, BAD, GOOD, BAD], seed=614)
    pieces = graph.add("RebatchImages", images=graph.images[0], batch_size=1)
    numbers = graph.nodes[graph.scores]["inputs"]["scores"]
    scores = graph.add("UnderstudyScoresFromList", scores=numbers, images=pieces[0])
    graph.set(graph.teacher, images=pieces[0], scores=scores[0])
    decoded = graph.add("VAEDecode", samples=graph.teacher[3], vae=graph.loader[2])
    shown = graph.add("PreviewImage", images=decoded[0])
    run = host.run(graph)
    after = torch.cat(batches(host, run, graph.after))
    assert len(after) == 4 and len(run.outputs[shown]["images"]) == 2
    # The whole batch, for its latent.
    graph = Adaptive([GOOD, BAD, GOOD, BAD], seed=614)
    decoded = graph.add("VAEDecode", samples=graph.teacher[3], vae=graph.loader[2])
    kept = graph.add("TestSaveTensors", images=decoded[0], latent=graph.teacher[3])
    run = host.run(graph)
    (images,), (after,) = batches(host, run, kept), batches(host, run, graph.after)
    assert torch.allclose(images, after[[1, 3]], atol=1e-5) and tensors(host, run, kept)["latent.0"].shape[0] == 2

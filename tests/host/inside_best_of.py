"""Runs in the host's own interpreter: Best Of over a tiny network, against the host's own samplers run try by try.

usage and output: as inside_teacher.py, whose tiny networks these checks use.
"""

from contextlib import contextmanager
from types import SimpleNamespace

from inside_teacher import (
    BATCH,
    MODEL,
    SEED,
    BlockVae,
    Loads,
    Recorder,
    blank,
    close,
    far,
    host_nodes,
    main,
    prepare,
    refused,
    student,
    taught,
    text,
)

# isort: split
# The import above has made the host and the pack importable.
import torch
from comfy_execution.graph import DynamicPrompt
from understudy.nodes.best_of import UnderstudyBestOf
from understudy.nodes.demo import UnderstudyLoadDemo
from understudy.nodes.score_images import UnderstudyScoreImages
from understudy.nodes.seeds import KEY, noise_of_image
from understudy.nodes.student import UnderstudyStudentSampler, student_inputs
from understudy.nodes.threshold import UnderstudyThreshold
from understudy.nodes.upstream import settings_of_a_student, settings_of_graph, settings_of_own_images
from understudy.oracles.calibration import Calibration
from understudy.oracles.combine import CombinedOracle, Part
from understudy.oracles.scores import Scores
from understudy.oracles.threshold import Threshold
from understudy.samplers.best_of import seed_of_try
from understudy.samplers.presets import STUDENTS

UnderstudyBestOf.hidden = SimpleNamespace(
    unique_id="1", dynprompt=DynamicPrompt({"1": {"class_type": "UnderstudyBestOf", "inputs": {}}})
)
for node in (
    UnderstudyBestOf,
    UnderstudyStudentSampler,
    UnderstudyScoreImages,
    UnderstudyThreshold,
    UnderstudyLoadDemo,
):
    host_nodes.NODE_CLASS_MAPPINGS[node.__name__] = node
UnderstudyStudentSampler.hidden = UnderstudyBestOf.hidden
PROMPTS = [f"image {i}" for i in range(BATCH)]


class Clipping(BlockVae):
    """As the host's VAE clips what it decodes, which this network's latents need."""

    def decode(self, samples):
        return super().decode(samples).clamp(0, 1)


VAE = Clipping()


class Watched(Recorder):
    def decode(self, samples):
        return super().decode(samples).clamp(0, 1)


class Judge:
    """Scores a picture by how bright its left half is against its right; tells what it was asked."""

    family, unit, fingerprint, against, reads_prompts = "left", "", "left", None, True

    def __init__(self, worked=()):
        self.asked, self.worked = [], worked

    def require_count(self, images):
        """Any number will do."""

    def remarks(self, prompts):
        return []

    def __call__(self, pictures, prompts, places):
        self.asked.append(list(zip(places, prompts, strict=True)))
        if isinstance(self.worked, list):
            self.worked.append("oracle")
        half = pictures.shape[-1] // 2
        return (pictures[..., :half].mean((1, 2, 3)) - pictures[..., half:].mean((1, 2, 3))).float()


def best(latent, n, preset="LCM", judge=None, **options):
    """The node's outputs over one latent, or a list of them. A tuple for an option has one for each entry."""
    inputs = {"model": MODEL, "positive": text(1), "negative": text(2), "seed": SEED, "steps": 3, "cfg": 1.0,
              "denoise": 1.0, "vae": VAE, "oracle": judge or Judge(), "prompt": tuple(PROMPTS), "n": n,
              "preset": preset, "latent_image": latent} | options  # fmt: skip
    return UnderstudyBestOf.execute(
        **{name: list(value) if isinstance(value, (tuple, list)) and name not in ("positive", "negative")
           or isinstance(value, tuple) else [value] for name, value in inputs.items()}
    )  # fmt: skip


def by_hand(tries):
    """Scores [tries, images] of pictures [tries, images, H, W, 3], and of each image which try is the best."""
    scores = torch.stack([Judge()(each.movedim(-1, 1).clamp(0, 1), PROMPTS, range(BATCH)) for each in tries])
    return scores, scores.argmax(0)


def tries_by_stock_nodes(preset, n, latent=None, **settings):
    """Latents [n, images, ...]: try 0 by Student Sampler as a batch, the others by KSampler, each image alone."""
    row = STUDENTS[preset]
    model, name, _, _, cfg = prepare(row, MODEL, settings.get("steps", 3), 1.0, 1.0)
    latent = latent or blank(BATCH)
    tries = [student(preset, latent, **settings)["samples"]]
    for number in range(1, n):
        own = []
        for image in range(BATCH):
            index = latent.get("batch_index", range(BATCH))[image]
            own.append(host_nodes.common_ksampler(
                model, seed_of_try(SEED, index, number), 3, cfg, name, row.schedule, text(1), text(2), blank(1)
            )[0]["samples"])  # fmt: skip
        tries.append(torch.cat(own))
    return torch.stack(tries)


def check_it_is_the_best_of_n_runs_of_the_host_s_sampler():
    for preset in ("LCM", "hyper-sd"):
        for latent in (blank(BATCH), blank(BATCH, [4, 0, 7, 2])):
            tries = tries_by_stock_nodes(preset, 4, latent)
            pictures = torch.stack([VAE.decode(each) for each in tries])
            scores, chosen = by_hand(pictures)
            assert len(set(chosen.tolist())) > 1, "nothing to choose from"
            (images,), (latents,), (judged,), counts, seeds, spent = best(latent, 4, preset).result
            rows = torch.arange(BATCH)
            close(latents["samples"], tries[chosen, rows], 1e-4)
            close(images, pictures[chosen, rows], 1e-4)
            close(torch.tensor(judged.values), scores[chosen, rows], 1e-4)
            assert counts == [4] * BATCH and judged.tries == (4,) * BATCH
            assert spent == [4 * 3] * BATCH and judged.student_evaluations == tuple(spent)
            indices = latent.get("batch_index", list(range(BATCH)))
            assert seeds == [seed_of_try(SEED, i, int(c)) for i, c in zip(indices, chosen, strict=True)]
            assert latents.get("batch_index") == latent.get("batch_index")


def check_one_try_is_student_sampler_bit_for_bit():
    for preset in ("LCM", "consistency", "tcd"):
        (images,), (latents,), _, counts, seeds, _ = best(blank(BATCH), 1, preset).result
        own = student(preset, blank(BATCH))
        assert torch.equal(latents["samples"], own["samples"]) and torch.equal(images, VAE.decode(own["samples"]))
        assert counts == [1] * BATCH and seeds == [SEED] * BATCH
        assert latents[KEY]["preset"] == preset and latents[KEY]["space"] == "SD15"
        assert [noise_of_image(latents, i) for i in range(BATCH)] == [noise_of_image(own, i) for i in range(BATCH)]
        far(best(blank(BATCH), 1, preset, seed=SEED + 1).result[0][0], images)


def stopping(preset="LCM", n=4, **options):
    """Every try's scores, and a threshold that some images pass at once, one later and one never."""
    scores = by_hand(torch.stack([VAE.decode(each) for each in tries_by_stock_nodes(preset, n)]))[0]
    value = float(scores.max(0).values.sort().values[1:3].mean())
    passing = scores >= value
    tries = [int(own.nonzero()[0]) + 1 if own.any() else n for own in passing.T]
    chosen = [
        int(own.nonzero()[0]) if own.any() else int(all_.argmax())
        for own, all_ in zip(passing.T, scores.T, strict=True)
    ]
    return value, tries, chosen, scores


def check_an_image_stops_at_its_first_try_that_passes():
    value, tries, chosen, scores = stopping()
    judge = Judge()
    output = best(blank(BATCH), 4, judge=judge, stop_at=Threshold.fixed(value))
    (images,), (latents,), (judged,), counts, seeds, spent = output.result
    assert counts == tries and len(set(tries)) > 1, (counts, tries)
    assert seeds == [seed_of_try(SEED, i, c) for i, c in enumerate(chosen)]
    assert spent == [3 * each for each in tries] == list(judged.student_evaluations)
    close(torch.tensor(judged.values), scores[chosen, range(BATCH)], 1e-4)
    asked = [[(i, PROMPTS[i]) for i in range(BATCH) if tries[i] > number] for number in range(max(tries))]
    assert judge.asked == asked, "each image is scored for its own prompt, once for each of its tries"
    lines = output.ui.as_dict()["text"][0].splitlines()
    assert lines[0].startswith(f"{BATCH} images, ") and f"{sum(tries)} tries, {3 * sum(tries)} network" in lines[0]
    for i, line in enumerate(lines[1:]):
        assert f"try {chosen[i] + 1} of {tries[i]}, seed {seeds[i]}" in line
        assert (f"place {i} of a batch" in line) == (chosen[i] == 0 < i)
    everything = best(blank(BATCH), 4, stop_at=Threshold.fixed(-1000.0)).result
    assert everything[3] == [1] * BATCH
    far(everything[0][0], images)


def check_an_image_alone_is_what_it_is_in_the_batch():
    hints = torch.randn(BATCH, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    masks = torch.zeros(BATCH, 8, 8)
    for i in range(BATCH):
        masks[i, :, i:] = 1
    per_image = [[text(3, BATCH)[0][0], {}]]
    for preset in ("LCM", "consistency", "tcd"):
        for own, more in ((per_image, {}), (text(1), {"samples": hints, "noise_mask": masks})):
            first = best({**blank(BATCH), **more}, 1, preset, positive=own).result[2][0].values
            value = sum(first) / BATCH
            whole = best({**blank(BATCH), **more}, 3, preset, positive=own, stop_at=Threshold.fixed(value)).result
            assert len(set(whole[3])) > 1, whole[3]
            for i in range(BATCH):
                cut = {name: each[i : i + 1] for name, each in more.items()}
                mine = [[own[0][0][i : i + 1] if len(own[0][0]) > 1 else own[0][0], {}]]
                one = best({**blank(1, [i]), **cut}, 3, preset, positive=mine, prompt=PROMPTS[i],
                           stop_at=Threshold.fixed(value)).result  # fmt: skip
                close(one[0][0], whole[0][0][i : i + 1])
                assert [each[0] for each in one[3:]] == [each[i] for each in whole[3:]]


def check_a_list_goes_round_by_round_and_is_what_its_entries_are():
    recorder = Watched()
    latents = (blank(1), blank(2, [3, 1]), {"samples": torch.zeros(1, 4, 8, 4)})
    options = {"positive": (text(1), text(5), text(6)), "seed": (SEED, 8, SEED), "cfg": 1.0}
    whole = best(latents, 2, model=recorder.model, vae=recorder, judge=Judge(recorder.worked), **options).result
    assert recorder.loads == ["model", "vae", "oracle"] * 2, recorder.loads  # image by image it would be 24
    assert [tuple(each.shape) for each in whole[0]] == [(1, 64, 64, 3), (2, 64, 64, 3), (1, 64, 32, 3)]
    first = 0
    for k, latent in enumerate(latents):
        count = len(latent["samples"])
        prompts = tuple(PROMPTS[first : first + count])
        own = best(latent, 2, positive=options["positive"][k], seed=options["seed"][k], prompt=prompts).result
        close(own[0][0], whole[0][k])
        close(own[1][0]["samples"], whole[1][k]["samples"])
        assert whole[2][k].prompts == prompts and own[2][0].values == whole[2][k].values
        assert [each for each in own[4]] == whole[4][first : first + count]
        first += count
    refused(["2 entries in the list of seed", "3"], best, latents, 2, **{**options, "seed": (1, 2)})
    refused(["3 prompts for 4 images"], best, blank(BATCH), 2, prompt=("a", "b", "c"))


def check_evaluations_are_those_that_reach_the_network():
    value, tries, *_ = stopping()
    for cfg, per_step in ((1.0, 1), (3.0, 2)):
        with forwards() as seen:
            result = best(blank(BATCH), 4, cfg=cfg, stop_at=Threshold.fixed(value)).result
        assert sum(result[5]) == sum(seen) and result[5] == [3 * per_step * each for each in result[3]]
        assert len(seen) == 3 * max(result[3]), "one run of all images that are still open"


def check_the_teacher_redoes_each_image_in_its_own_noise():
    (images,), (latents,), (scores,), *_, seeds, _ = best(blank(BATCH), 4).result
    options = {"steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}
    redone = taught(images, range(BATCH), latent=latents, vae=VAE, strategy="regenerate", seed=999, **options).result[
        0
    ][0]
    whole = host_nodes.common_ksampler(MODEL, SEED, positive=text(1), negative=text(2), latent=blank(BATCH), **options)
    for i, seed in enumerate(seeds):
        alone = host_nodes.common_ksampler(MODEL, seed, positive=text(1), negative=text(2), latent=blank(1), **options)
        expected = whole[0]["samples"][i : i + 1] if seed == SEED else alone[0]["samples"]
        close(redone[i : i + 1], VAE.decode(expected), 1e-4)


def check_the_teacher_redoes_images_of_different_seeds_together():
    (images,), (latents,), *_, seeds, _ = best(blank(BATCH), 12).result
    assert len(set(seeds)) >= 3, seeds
    masks = torch.zeros(BATCH, 64, 64)
    for i in range(BATCH):
        masks[i, :, 8 * i :] = 1
    rejected = [seeds.index(seed) for seed in dict.fromkeys(seeds)][:3]
    batches = {"dpm_adaptive": [1]}
    for name in ("euler", "euler_ancestral", "dpmpp_2m_sde", "lcm", "ddim", "dpm_adaptive"):
        for more in ({}, {"mask": masks}):
            options = {"latent": latents, "vae": VAE, "sampler_name": name, "cfg": 1.0, "seed": 999}
            recorder = Recorder()
            together = taught(images, rejected, model=recorder.model, **options, **more).result[0][0]
            one_by_one = [1] if more and name == "ddim" else batches.get(name, [3])  # it draws in the masked part
            assert sorted(set(recorder.batches)) == one_by_one, (name, [*more], recorder.batches)
            for i in rejected:
                close(together[i], taught(images, [i], **options, **more).result[0][0][i], 1e-3)
    recorder = Recorder()
    taught(images, rejected, model=recorder.model, images_at_once=2, **options | {"sampler_name": "euler"})
    assert sorted(set(recorder.batches)) == [1, 2]
    # The host draws from the one seed that a run has.
    augmented = [[text(1)[0][0], {"noise_augmentation": 0.0}]]
    taught(images, rejected, model=recorder.model, positive=augmented, **options | {"sampler_name": "euler"})
    assert recorder.batches[-9:] == [1] * 9


def check_a_threshold_that_compares_a_batch_is_refused():
    refused(["stop_at", "worst_fraction", "percentile, budget or fixed"], best, blank(BATCH), 2,
            stop_at=Threshold.worst_fraction(0.25))  # fmt: skip


def check_a_seed_that_the_conditioning_draws_from_keeps_images_apart():
    augmented = [[text(1)[0][0], {"noise_augmentation": 0.0}]]
    with forwards() as seen:
        result = best(blank(BATCH), 2, positive=augmented).result
    assert seen == [BATCH] * 3 + [1] * 3 * BATCH
    close(result[0][0], best(blank(BATCH), 2).result[0][0])


def check_patches_are_told_which_images_are_tried_again():
    entries, seen = torch.zeros(BATCH, 4, 8, 8), []

    def patch(apply, a):
        seen.append(a["c"]["transformer_options"].get("ad_params"))
        return apply(a["input"], a["timestep"], **a["c"]) + entries[:1]

    model = MODEL.clone()
    model.set_model_unet_function_wrapper(patch)
    value, tries, *_ = stopping()
    output = best(blank(BATCH), 4, model=model, stop_at=Threshold.fixed(value))
    still_open = [[i for i in range(BATCH) if tries[i] > number] for number in range(max(tries))]
    assert any(1 < len(rows) < BATCH for rows in still_open)
    told = [each and list(each["sub_idxs"]) for each in seen]
    assert told == [None if len(rows) == BATCH else rows for rows in still_open for _ in range(3)], told
    assert all(each["full_length"] == BATCH for each in seen if each)
    assert "ad_params" in output.ui.as_dict()["text"][0], "it holds an entry for each image and may not read that"
    assert "ad_params" not in best(blank(BATCH), 2, model=model).ui.as_dict()["text"][0]


def check_all_tries_load_the_student_once():
    for latents, count in ((blank(BATCH), 1), ((blank(1), blank(1)), 6)):  # two students take turns
        with Loads() as loads:
            best(latents, 3, prompt="a cat")
        assert loads.count == count, loads.count


@contextmanager
def forwards():
    """The batch sizes that reach the network, within."""
    seen = []
    handle = MODEL.model.diffusion_model.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    try:
        yield seen
    finally:
        handle.remove()


def check_what_cannot_be_is_refused_before_anything_is_sampled():
    class Of(Judge):
        """Has something of its own for three images, as Likeness has."""

        def require_count(self, images):
            if images != 3:
                raise ValueError(f"{images} images, but 3 sources")

    with forwards() as seen:
        refused(["4 images, but 3 sources"], best, blank(BATCH), 2, judge=Of())
        refused(["3 prompts for 4 images"], best, blank(BATCH), 2, prompt=("a", "b", "c"))
    assert seen == []


def check_pictures_that_are_none_are_refused_by_number():
    class Wrong(Clipping):
        def decode(self, samples):
            pictures = super().decode(samples)
            pictures[-1] = 255
            return pictures

    refused(["the student's images: image 4 has values from 255 to 255"], best, blank(BATCH), 2, vae=Wrong())


def check_cancelling_acts_between_rounds_and_pictures():
    from comfy.model_management import InterruptProcessingException, interrupt_current_processing

    class Cancelled(Judge):
        def __call__(self, *asked):
            interrupt_current_processing()
            return super().__call__(*asked)

    class Slow(Clipping):
        decoded = 0

        def decode(self, samples):
            self.decoded += 1
            interrupt_current_processing()
            return super().decode(samples)

    vae = Slow()
    with forwards() as seen:
        for latents, options in ((blank(BATCH), {"judge": Cancelled()}), ((blank(1), blank(1)), {"vae": vae})):
            try:
                best(latents, 3, **{"prompt": "a cat", **options})
            except InterruptProcessingException:
                continue
            raise AssertionError("went on")
    assert len(seen) == 3 + 2 * 3, "the first rounds' steps alone"
    assert vae.decoded == 1, "the second picture is not decoded any more"
    best(blank(BATCH), 1)


def check_scores_say_what_was_judged():
    (scores,) = best(blank(BATCH), 2, prompt="(a cat:1.3)").result[2]
    assert isinstance(scores, Scores) and scores.prompts == ("(a cat:1.3)",) * BATCH and not scores.literal
    judge = Judge()
    best(blank(BATCH), 2, prompt="(a cat:1.3)", judge=judge, literal_prompts=True)
    assert judge.asked[0][0] == (0, "(a cat:1.3)")


SAMPLED = {"seed": SEED, "preset": "LCM", "steps": 3, "cfg": 1.0, "denoise": 1.0}


def graph_of(best_of=True, **widgets):
    """A graph whose node 9 is scored: Best Of, or a Student Sampler with a VAE Decode."""
    inputs = {"model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0], **SAMPLED}
    nodes = {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": "a.safetensors"}),
        "2": ("CLIPTextEncode", {"clip": ["1", 1], "text": "a boat"}),
        "3": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
        "4": ("UnderstudyStudentSampler", inputs),
        "6": ("UnderstudyLoadDemo", {"part": "student"}),
        "7": ("UnderstudyThreshold", {"mode": "fixed", "value": 0.5}),
        "9": ("VAEDecode", {"samples": ["4", 0], "vae": ["1", 2]}),
        "scored": ("UnderstudyScoreImages", {"images": ["9", 0]}),
    }
    if best_of:
        own = {"vae": ["1", 2], "oracle": ["6", 3], "prompt": "a boat", "n": 4, "stop_at": ["7", 0]}
        nodes["9"] = "UnderstudyBestOf", {**inputs, **own, **widgets}
    graph = DynamicPrompt({key: {"class_type": name, "inputs": own} for key, (name, own) in nodes.items()})
    return SimpleNamespace(unique_id="9", dynprompt=graph), SimpleNamespace(unique_id="scored", dynprompt=graph)


def check_its_scores_are_calibrated_by_themselves():
    own, behind = graph_of()
    settings = settings_of_own_images(own)
    assert settings == settings_of_graph(behind, ["images"]), "as Score Images behind it says of the same images"
    assert settings["UnderstudyBestOf.n"] == 4 and settings["UnderstudyThreshold.value"] == 0.5
    assert not {"UnderstudyBestOf.seed", "UnderstudyBestOf.prompt"} & settings.keys()
    single = settings_of_graph(graph_of(best_of=False)[1], ["images"])

    def calibration(settings):
        return Calibration("mine", {}, settings, "left", "")

    def scores(settings, seed="x"):
        return Scores((1.0,), (seed,), "left", ("a boat",), settings)

    refused(["UnderstudyBestOf.n was not set, is 4", "stop_at"], calibration(single).add, scores(settings))
    refused(["UnderstudyBestOf.n was 4, is not set", "stop_at"], calibration(settings).add, scores(single))
    for widgets, said in (({"n": 2}, "n was 4, is 2"), ({"stop_at": None}, "stop_at"), ({"steps": 2}, "steps was 3")):
        refused([said], calibration(settings).require, settings_of_own_images(graph_of(**widgets)[0]))
    again = settings_of_own_images(graph_of(seed=77, prompt="a cat", latent_image=["3", 0])[0])
    assert calibration(settings).add(scores(again)) == 1


def check_several_oracles_are_calibrated_on_single_students():
    own, _ = graph_of()
    single = settings_of_graph(graph_of(best_of=False)[1], ["images"])
    assert settings_of_a_student(own, [each.id for each in student_inputs()]) == single

    table = {str(k): k / 20 - 0.5 for k in range(21)}
    before, UnderstudyBestOf.hidden = UnderstudyBestOf.hidden, own
    try:
        judge = CombinedOracle([Part(Judge(), Calibration("mine", table, single, "left", ""))])
        assert best(blank(BATCH), 2, judge=judge).result[3] == [2] * BATCH
        other = CombinedOracle([Part(Judge(), Calibration("mine", table, {**single, "more": 1}, "left", ""))])
        refused(["more was 1, is not set"], best, blank(BATCH), 2, judge=other)
    finally:
        UnderstudyBestOf.hidden = before


def check_stop_at_is_by_the_oracle_s_own_calibration_and_says_of_which_students():
    own, _ = graph_of()
    single = settings_of_graph(graph_of(best_of=False)[1], ["images"])
    table = {str(k): k / 20 - 0.5 for k in range(21)}
    before, UnderstudyBestOf.hidden = UnderstudyBestOf.hidden, own

    def stopped(settings, oracle="left"):
        stop_at = Threshold.percentile(Calibration("mine", table, settings, oracle, ""), 50)
        return best(blank(BATCH), 2, stop_at=stop_at).ui.as_dict()["text"][0]

    try:
        assert "calibration" not in stopped(single)
        said = stopped({**single, "UnderstudyStudentSampler.steps": 4})
        differ = "UnderstudyStudentSampler.steps: calibration has 4, this student has 3"
        assert said.endswith(f"stop_at: calibration 'mine' was made with other settings: {differ}"), said
        refused(["calibration 'mine'", 'oracle was "right", is "left"'], stopped, single, "right")
    finally:
        UnderstudyBestOf.hidden = before


if __name__ == "__main__":
    main()

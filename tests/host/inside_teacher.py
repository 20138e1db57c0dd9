"""Runs in the host's own interpreter: the sampling nodes over a tiny network, with the host's real samplers.

usage: python inside_teacher.py COMFYUI_FOLDER PACK_FOLDER

Prints one JSON object: for each check its name and None, or the traceback of its failure. A server would show the same,
but a network of two layers samples with every one of the host's samplers in the time that a server needs to start.
"""

import importlib.util
import logging
import sys
from types import SimpleNamespace

import torch
from checks import run_checks

COMFYUI, PACK = sys.argv[1:3]
sys.argv[1:] = ["--cpu", "--disable-xformers"]
sys.path.insert(0, COMFYUI)
spec = importlib.util.spec_from_file_location("understudy", f"{PACK}/__init__.py", submodule_search_locations=[PACK])
sys.modules["understudy"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["understudy"])

# E402 from here on: the host's modules are found by the path, and read the arguments, that were set above.
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.controlnet  # noqa: E402
import comfy.model_base  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.supported_models  # noqa: E402
from comfy_execution.graph import DynamicPrompt  # noqa: E402
from understudy.nodes.demo import UnderstudyLoadDemo  # noqa: E402
from understudy.nodes.keep_better import UnderstudyKeepBetter  # noqa: E402
from understudy.nodes.noise import runs_as_batch  # noqa: E402
from understudy.nodes.own_sampling import with_boundary_scaling  # noqa: E402
from understudy.nodes.presets import prepare  # noqa: E402
from understudy.nodes.student import UnderstudyStudentSampler  # noqa: E402
from understudy.nodes.subset import Subset  # noqa: E402
from understudy.nodes.teacher import UnderstudyTeacher  # noqa: E402
from understudy.oracles.scores import Scores  # noqa: E402
from understudy.oracles.threshold import Threshold  # noqa: E402
from understudy.samplers.presets import STUDENTS  # noqa: E402

import nodes as host_nodes  # noqa: E402

# Stands in for the running server, which shows what nodes say.
instance = SimpleNamespace(send_progress_text=lambda text, node_id: None)
sys.modules["server"] = SimpleNamespace(PromptServer=SimpleNamespace(instance=instance))
UnderstudyTeacher.hidden = SimpleNamespace(unique_id="1", dynprompt=DynamicPrompt({"1": {"inputs": {}}}))
UnderstudyStudentSampler.hidden = UnderstudyTeacher.hidden
BATCH, SEED, SIDE = 4, 5, 64
TOLERANCE = 2e-4


class BlockVae:
    """Stands in for a VAE: each 8x8 block of pixels is its mean colour and a fourth channel."""

    latent_dim = 2

    def spacial_compression_encode(self):
        return 8

    def encode(self, pixels):
        colours = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([colours, colours.mean(1, keepdim=True)], dim=1)

    def decode(self, samples):
        return torch.nn.functional.interpolate(samples[:, :3].float(), scale_factor=8).movedim(1, -1)


class TwoLayers(torch.nn.Module):
    """Stands in for a UNet: text, time and control each change the result, and images do not see each other."""

    def __init__(self, in_channels=4, device=None, operations=None, **config):
        super().__init__()
        self.dtype = torch.float32
        self.first, self.last = operations.Conv2d(in_channels, 8, 3, padding=1), operations.Conv2d(8, 4, 3, padding=1)
        self.text, self.time = operations.Linear(16, 8), operations.Linear(1, 8)

    def forward(self, x, timesteps, context=None, control=None, **_):
        hidden = self.first(x) + (self.text(context).mean(1) + self.time(timesteps[:, None] / 1000))[..., None, None]
        if control is not None:
            hidden = hidden + control["middle"].pop()
        return self.last(torch.tanh(hidden))


class Hint(torch.nn.Module):
    """Stands in for a ControlNet's network."""

    dtype = torch.float32

    def forward(self, x, hint, timesteps, context, **_):
        small = torch.nn.functional.adaptive_avg_pool2d(hint, x.shape[-2:]).repeat(1, 3, 1, 1)[:, :8]
        return {"input": [], "middle": [2 * small], "output": []}


def tiny_model(model_type=comfy.model_base.ModelType.EPS, network=TwoLayers, **options):
    config = comfy.supported_models.SD15(options)
    config.set_inference_dtype(torch.float32, None)
    model = comfy.model_base.BaseModel(config, model_type, device="cpu", unet_model=network)
    torch.manual_seed(0)
    for parameter in model.diffusion_model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


MODEL, VAE = tiny_model(), BlockVae()


def text(seed, entries=1):
    return [[torch.randn(entries, 7, 16, generator=torch.Generator().manual_seed(seed)), {}]]


def pictures(batch=BATCH, height=SIDE, width=SIDE, channels=3, seed=9):
    return torch.rand(batch, height, width, channels, generator=torch.Generator().manual_seed(seed))


def scores_of(values):
    count = len(values)
    return Scores(tuple(values), ("",) * count, None, ("",) * count)


WIDGETS = {
    "start_from": "images", "strategy": "refine", "settings": "my own", "rollback_mode": "schedule", "rollback": 0.6,
    "strength": "fixed", "rollback_worst": 0.9, "steps": 3, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal",
    "upscale_by": 1.0, "seed_from": "latent", "seed": SEED,
}  # fmt: skip


def teach(images, rejected, **options):
    """The Teacher node over one batch, or a list of them with ``rejected`` over all."""
    output, refined, receipt, _ = taught(images, rejected, **options).result
    return (output if isinstance(images, list) else output[0]), refined, receipt


def taught(
    images, rejected, *, positive=None, negative=None, model=MODEL, vae=VAE, latent=None, mask=None, threshold=None,
    scores=None, **widgets,
):  # fmt: skip
    """All that the node hands over. A tuple of conditionings, or a list of latents, has one for each entry."""
    batches = images if isinstance(images, list) else [images]
    inputs = {
        "images": batches,
        "scores": [scores_of(scores or [0.0 if i in rejected else 1.0 for i in range(sum(map(len, batches)))])],
        "threshold": [threshold or Threshold.fixed(0.5)],
        "model": model if isinstance(model, list) else [model], "vae": vae if isinstance(vae, list) else [vae],
        "negative": [negative or text(2)],
        "positive": list(positive) if isinstance(positive, tuple) else [positive or text(1)],
        **{name: [value] for name, value in (WIDGETS | widgets).items()},
    }  # fmt: skip
    for name, value in (("latent", latent), ("mask", mask)):
        if value is not None:
            inputs[name] = value if isinstance(value, list) else [value]
    return UnderstudyTeacher.execute(**inputs)


def said(output):
    return output.ui.as_dict()["text"][0]


def alone(images, index, **options):
    latent = {"samples": torch.zeros(1, 4, SIDE // 8, SIDE // 8), "batch_index": [index]}
    return teach(images[index : index + 1], [0], latent=options.pop("latent", latent), **options)[0][0]


def close(a, b, tolerance=TOLERANCE):
    assert torch.isfinite(a).all() and torch.isfinite(b).all()
    scale = max(1.0, float(a.abs().max()))
    assert (a - b).abs().max() <= tolerance * scale, f"differ by {(a - b).abs().max():.2e} at a scale of {scale:.3g}"


def far(a, b):
    assert (a - b).abs().max() > 20 * TOLERANCE, "the same, but expected to differ"


def check_every_sampler_gives_an_image_alone_what_it_gives_in_the_batch():
    images, wrong = pictures(), []
    for name in comfy.samplers.KSampler.SAMPLERS:
        for strategy in ("refine", "regenerate"):
            try:
                inside = teach(images, [1, 3], sampler_name=name, strategy=strategy, steps=4)[0]
                close(inside[3], alone(images, 3, sampler_name=name, strategy=strategy, steps=4), 1e-3)
                assert torch.equal(inside[0], images[0]) and torch.equal(inside[2], images[2])
                far(inside[3], images[3])
            except Exception as error:  # noqa: BLE001 - every sampler is tried, and all that fail are told
                wrong.append(f"{name}, {strategy}: {type(error).__name__} {error}")
    assert not wrong, "\n".join(wrong)


def check_every_sampler_regenerates_what_ksampler_gives():
    wrong = []
    for name in comfy.samplers.KSampler.SAMPLERS:
        options = {"steps": 4, "cfg": 3.0, "sampler_name": name, "scheduler": "normal"}
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        host = host_nodes.common_ksampler(MODEL, SEED, positive=text(1), negative=text(2), latent=latent, **options)[0][
            "samples"
        ]
        try:
            own = teach(pictures(1), [0], strategy="regenerate", **options)[0]
            close(own, VAE.decode(host), 1e-3)
        except AssertionError as error:
            wrong.append(f"{name}: {error}")
    assert not wrong, "\n".join(wrong)


def check_regenerating_a_batch_is_the_batch_of_ksampler():
    for latent in ({"samples": torch.zeros(BATCH, 4, 8, 8)},
                   {"samples": torch.zeros(BATCH, 4, 8, 8), "batch_index": [2, 0, 7, 1]}):  # fmt: skip
        options = {"steps": 4, "cfg": 3.0, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
        host = host_nodes.common_ksampler(MODEL, SEED, positive=text(1), negative=text(2), latent=latent, **options)
        own = teach(pictures(), [1, 2], strategy="regenerate", latent=latent, **options)[0]
        close(own[1:3], VAE.decode(host[0]["samples"])[1:3], 1e-4)


def check_refining_is_ksampler_with_denoise():
    images = pictures()
    options = {"steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}
    host = host_nodes.common_ksampler(
        MODEL, SEED, positive=text(1), negative=text(2), latent={"samples": VAE.encode(images)}, denoise=0.6, **options
    )[0]["samples"]
    close(teach(images, [0, 3], **options)[0][3], VAE.decode(host)[3], 1e-4)


def check_noise_starts_where_algorithm_1_says():
    started = []

    def record(apply_model, x, sigma, *args, **kwargs):
        started.append(float(sigma[0]))
        return apply_model(x, sigma, *args, **kwargs)

    model = MODEL.clone()
    model.add_wrapper_with_key("apply_model", "test", record)
    for variance, sigma in ((0.5, 1.0), (0.2, 0.5), (1.0, float(MODEL.get_model_object("model_sampling").sigma_max))):
        started.clear()
        teach(pictures(), [0], model=model, rollback=variance, rollback_mode="noise")
        assert abs(started[0] - sigma) < 1e-4 * sigma and len(started) == 3, (variance, started)


def check_evaluations_are_counted():
    for cfg, per_step in ((3.0, 2), (1.0, 1)):
        for name, evaluations in (("euler", 3), ("heun", 5), ("dpm_2", 5)):
            counts = teach(pictures(), [1, 3], cfg=cfg, sampler_name=name)[2].evaluations
            assert counts == (0, per_step * evaluations, 0, per_step * evaluations), (name, cfg, counts)
    seen = []
    model = MODEL.clone()
    model.set_model_unet_function_wrapper(lambda apply, a: seen.append(1) or apply(a["input"], a["timestep"], **a["c"]))
    receipt = teach(pictures(), [2], model=model)[2]
    assert receipt.evaluations == (0, 0, 6, 0) and len(seen) == 3
    assert receipt.decisions == ("kept", "kept", "refined", "kept") and receipt.seconds > 0


def check_lists_keep_their_structure():
    batches = [pictures(1), pictures(3), pictures(2)]
    output, refined, receipt = teach(batches, [0, 2, 3])
    assert [len(batch) for batch in output] == [1, 3, 2]
    assert refined == [True, False, True, True, False, False]
    assert output[2] is batches[2] and torch.equal(output[1][0], batches[1][0])
    assert [count > 0 for count in receipt.evaluations] == refined
    close(output[1][2], alone(batches[1], 2, latent=blank(1, [3])))


def blank(count, batch_index=None, **more):
    indices = {} if batch_index is None else {"batch_index": batch_index}
    return {"samples": torch.zeros(count, 4, SIDE // 8, SIDE // 8), **indices, **more}


def check_a_batch_in_pieces_is_redone_as_the_whole():
    images, rejected = pictures(), [0, 1, 3]
    masks = (torch.rand(BATCH, 8, 8, generator=torch.Generator().manual_seed(4)) > 0.3).float()
    hints = torch.rand(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(8))
    own = [[text(3, BATCH)[0][0], {"control": control_net(hints)}]]
    for latent in (None, blank(BATCH), blank(BATCH, [2, 0, 7, 1], noise_mask=masks)):
        for options in ({}, {"strategy": "regenerate", "sampler_name": "euler_ancestral"}):
            whole, _, receipt = teach(images, rejected, latent=latent, positive=own, **options)
            for sizes in ((1, 1, 1, 1), (1, 3), (2, 2)):
                pieces, _, own_receipt = teach(
                    list(images.split(sizes)), rejected, latent=latent, positive=own, **options
                )
                assert [len(piece) for piece in pieces] == list(sizes)
                close(torch.cat(pieces), whole)
                assert own_receipt.evaluations == receipt.evaluations


def check_a_list_of_latents_keeps_each_entry_s_own_places():
    images = pictures()
    latents = [blank(1, [5]), blank(2), blank(1, [3])]  # as several runs of a student made them
    expected = {0: 5, 1: 0, 2: 1, 3: 3}
    for sizes in ((1, 2, 1), (1, 1, 1, 1), (4,)):  # images may since have been cut in other pieces
        pieces = torch.cat(teach(list(images.split(sizes)), [0, 2, 3], latent=latents)[0])
        for place in (0, 2, 3):
            close(pieces[place], alone(images[place:], 0, latent=blank(1, [expected[place]])))
    one_for_each = teach(list(images.split(1)), [1, 2], latent=blank(1))[0]
    for place in (1, 2):  # as the host hands one latent to each entry
        close(one_for_each[place][0], alone(images[place:], 0))
    prompts = tuple(text(seed, 2) for seed in (11, 12))  # conditioning of each entry's own counts from its first image
    pieces = teach(list(images.split(2)), [1, 3], positive=prompts)[0]
    for place in (1, 3):
        latent, mine = blank(1, [place]), [[prompts[place // 2][0][0][1:], {}]]
        close(pieces[place // 2][1], teach(images[place : place + 1], [0], latent=latent, positive=mine)[0][0])


def check_one_conditioning_for_all_is_the_batch_s_beside_one_for_each_entry():
    images, masks = pictures(), torch.zeros(BATCH, 8, 8)
    for image, mask in enumerate(masks):
        mask[:, 2 * image : 2 * image + 2] = 1
    negative, own = [[text(2)[0][0], {"mask": masks}]], [text(seed) for seed in range(11, 11 + BATCH)]
    pieces = teach(list(images.split(1)), [1, 3], positive=tuple(own), negative=negative, latent=blank(BATCH))[0]
    for place in (1, 3):
        whole = teach(images, [place], positive=own[place], negative=negative, latent=blank(BATCH))[0]
        close(pieces[place][0], whole[place])


def check_the_node_says_that_places_of_a_list_are_counted_through():
    images, remark = pictures(), "connect its latent"
    assert remark in said(taught(list(images.split(1)), [2]))
    assert remark not in said(taught(list(images.split(1)), [2], latent=blank(BATCH)))
    assert remark not in said(taught(images, [2])) and remark not in said(taught(list(images.split(1)), []))


class Recorder:
    """A model and a VAE that tell which of them worked when, and how many images the model had at once."""

    latent_dim, spacial_compression_encode = 2, VAE.spacial_compression_encode

    def __init__(self):
        self.worked, self.batches = [], []
        self.model = MODEL.clone()
        self.model.add_wrapper_with_key("apply_model", "test", self.apply_model)

    def apply_model(self, apply_model, x, *args, **kwargs):
        self.worked.append("model")
        self.batches.append(len(x))
        return apply_model(x, *args, **kwargs)

    def encode(self, pixels):
        self.worked.append("vae")
        return VAE.encode(pixels)

    def decode(self, samples):
        self.worked.append("vae")
        return VAE.decode(samples)

    @property
    def loads(self):
        return [name for name, before in zip(self.worked, [None, *self.worked], strict=False) if name != before]


def check_a_list_loads_each_model_once():
    images = list(pictures(8).split(1))
    prompts = tuple(text(20 + place) for place in range(8))
    recorder = Recorder()
    output, _, receipt = teach(images, range(8), model=recorder.model, vae=recorder, positive=prompts, steps=2, cfg=1.0)
    assert recorder.loads == ["vae", "model", "vae"], recorder.loads  # entry by entry it is 17
    assert recorder.batches == [1] * 16 and receipt.evaluations == (2,) * 8
    options = {"positive": prompts[5], "latent": blank(1, [5]), "steps": 2, "cfg": 1.0}
    close(output[5], teach(images[5], [0], **options)[0])
    models, order = (MODEL.clone(), MODEL.clone()), []
    for name, model in zip("ab", models, strict=True):
        model.add_wrapper_with_key(
            "apply_model", "test", lambda run, *args, name=name, **kwargs: order.append(name) or run(*args, **kwargs)
        )
    teach(images[:4], range(4), model=[*models, *models], positive=prompts[:4])
    assert "".join(order) == "".join(sorted(order)), order


def check_entries_that_agree_are_sampled_together():
    images, rejected = pictures(10), [0, 1, 4, 5, 8, 9]
    sizes = [4, 2, 4]
    same, other = text(1), text(7)
    for positive, batches in (
        (same, {4, 2}),  # six images of one conditioning, in batches no larger than the largest that came in
        ((same, other, same), {4, 2}),
        ((same, other, text(8)), {2}),
    ):
        recorder = Recorder()
        pieces, _, receipt = teach(
            list(images.split(sizes)), rejected, model=recorder.model, vae=recorder, positive=positive, cfg=1.0
        )
        assert set(recorder.batches) == batches, recorder.batches
        assert receipt.evaluations == tuple(3 if place in rejected else 0 for place in range(10))
        for place, piece in enumerate(torch.cat(pieces)):
            if place not in rejected:
                assert torch.equal(piece, images[place])
                continue
            entry = next(k for k in range(3) if place < sum(sizes[: k + 1]))
            mine = positive[entry] if isinstance(positive, tuple) else positive
            close(piece, alone(images[place:], 0, latent=blank(1, [place]), positive=mine, cfg=1.0))
    recorder = Recorder()  # the same place twice, from two runs of a student
    masks = torch.ones(2, 8, 8)
    masks[0, :4], masks[1, 4:] = 0, 0
    latents = [blank(2, noise_mask=masks), blank(2)]
    pieces = teach(list(images[:4].split(2)), [1, 3], model=recorder.model, latent=latents)[0]
    assert set(recorder.batches) == {2}  # both branches of one image: a mask and none do not go together
    close(pieces[0][1], alone(images[1:], 0, latent=blank(1, [1], noise_mask=masks[1:])))
    close(pieces[1][1], alone(images[3:], 0, latent=blank(1, [1])))
    latents[1]["noise_mask"] = masks.flip(0)
    pieces = teach(list(images[:4].split(2)), [1, 3], model=recorder.model, latent=latents)[0]
    assert recorder.batches[-1] == 4
    close(pieces[0][1], alone(images[1:], 0, latent=blank(1, [1], noise_mask=masks[1:])))
    close(pieces[1][1], alone(images[3:], 0, latent=blank(1, [1], noise_mask=masks[:1])))


def check_the_student_s_seed_travels_with_its_latent():
    importlib.import_module("comfy_extras.nodes_post_processing")  # it and nodes_latent import each other
    from comfy_extras.nodes_latent import LatentBatch
    from comfy_extras.nodes_rebatch import LatentRebatch

    options = {"sampler_name": "euler_ancestral", "seed": 999}
    first, second = (student("LCM", blank(BATCH), seed=seed) for seed in (SEED, 77))
    plain = {seed: {"samples": latent["samples"]} for seed, latent in ((SEED, first), (77, second))}

    def shown_as(samples):  # as the host's VAE clips them, which this network's latents need
        return VAE.decode(samples).clamp(0, 1)

    def redone(latent, **more):
        return taught(shown_as(latent["samples"]), range(len(latent["samples"])), latent=latent, **options | more)

    def in_own_noise(latent, seeds, places):
        """Each image as it is redone with its seed, in the batch in which its student made it."""
        images = redone(latent).result[0][0]
        for image, seed, place in zip(images, seeds, places, strict=True):
            close(image, teach(shown_as(plain[seed]["samples"]), [place], latent=plain[seed], seed_from="widget",
                               **{**options, "seed": seed})[0][place])  # fmt: skip

    def by_the_widget(latent, reason):
        given = {name: value for name, value in latent.items() if name != "understudy_seed"}
        output = redone(latent)
        close(output.result[0][0], redone(given, seed_from="widget").result[0][0])
        assert "seed 999 of the widget" in said(output) and reason in said(output), said(output)

    every = range(BATCH)
    in_own_noise(first, [SEED] * BATCH, every)
    assert f"seed {SEED} of the student's latent, not the widget's 999: images 1, 2, 3, 4" in said(redone(first))
    # The host's nodes that cut, repeat or mark a latent copy what they do not know.
    in_own_noise(host_nodes.LatentFromBatch().frombatch(first, 2, 2)[0], [SEED] * 2, [2, 3])
    in_own_noise(host_nodes.RepeatLatentBatch().repeat(first, 2)[0], [SEED] * 8, [*every] * 2)
    in_own_noise(host_nodes.SetLatentNoiseMask().set_mask(first, torch.ones(1, 64, 64))[0], [SEED] * BATCH, every)
    both = LatentBatch.execute(first, second).result[0]  # keeps the first one's key
    output = redone(both)
    assert "student's latent, not the widget's 999: images 1, 2, 3, 4" in said(output)
    assert "seed 999 of the widget: images 5, 6, 7, 8\nbecause the latent is no longer what" in said(output)
    in_own_noise(host_nodes.LatentFromBatch().frombatch(both, 0, 4)[0], [SEED] * BATCH, every)
    as_list = taught(
        list(shown_as(torch.cat([first["samples"], second["samples"]])).split(1)), range(8),
        latent=[first, second], **options,
    )  # fmt: skip
    expected = torch.cat([redone(latent).result[0][0] for latent in (first, second)])
    close(torch.cat(as_list.result[0]), expected)
    assert f"seed {SEED}, 77 of the student's latent" in said(as_list)
    # What another node made of it is not the student's any more.
    sampled = host_nodes.common_ksampler(MODEL, 3, 2, 1.0, "euler", "normal", text(1), text(2), first, denoise=0.5)[0]
    by_the_widget(sampled, "no longer what Student sampler or Best of n students made")
    by_the_widget({**first, "samples": first["samples"] * 1.01}, "no longer what")
    by_the_widget(
        LatentRebatch.execute([first], [4]).result[0][0], "straight from Student sampler or Best of n students"
    )
    assert "no latent is connected" in said(taught(pictures(), [1]))
    mine = redone(first, seed_from="widget")
    close(mine.result[0][0], redone(plain[SEED]).result[0][0])
    assert "student's" not in said(mine)


def check_nothing_rejected_needs_no_teacher():
    images = pictures()
    inputs = {"images": [images], "scores": [scores_of([1.0] * BATCH)], "threshold": [Threshold.fixed(0.5)]}
    assert UnderstudyTeacher.check_lazy_status(**inputs, model=(None,)) == []
    lazy = {name: (None,) for name in ("model", "positive", "negative", "vae")}
    output, refined, _, _ = UnderstudyTeacher.execute(**inputs, **lazy, **{k: [v] for k, v in WIDGETS.items()}).result
    assert output[0] is images and refined == [False] * BATCH
    inputs["scores"] = [scores_of([1.0, 0.0, 1.0, 1.0])]
    assert UnderstudyTeacher.check_lazy_status(**inputs) == ["model", "positive", "negative", "vae"]


def check_conditioning_is_cut_with_the_images():
    images = pictures()
    per_image = text(3, BATCH)
    inside = teach(images, [1, 3], positive=per_image)[0]
    own = [[per_image[0][0][3:4], {}]]
    close(inside[3], alone(images, 3, positive=own))
    far(inside[3], alone(images, 3, positive=[[per_image[0][0][0:1], {}]]))
    two = text(4, 2)  # the host repeats these cyclically: image 3 has the second
    close(teach(images, [3], positive=two)[0][3], alone(images, 3, positive=[[two[0][0][1:2], {}]]))
    far(teach(images, [2], positive=two)[0][2], alone(images, 2, positive=[[two[0][0][1:2], {}]]))


def check_the_cut_agrees_with_the_host_s_full_batch():
    """The strongest form: refine all images by KSampler, with everything per image at once, and compare each."""
    images = pictures()
    masks = torch.rand(BATCH, 8, 8, generator=torch.Generator().manual_seed(4))
    latent = {"samples": torch.zeros(BATCH, 4, 8, 8), "noise_mask": (masks > 0.3).float()[:2]}
    for options in ({"mask": masks, "mask_strength": 1.0}, {"mask": masks[:2]},
                    {"mask": (masks > 0.9).float(), "set_area_to_bounds": True}):  # fmt: skip
        positive = [[text(3, BATCH)[0][0], options], [text(6)[0][0], {}]]
        settings = {"steps": 3, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}
        host = host_nodes.common_ksampler(
            MODEL, SEED, positive=positive, negative=text(2), denoise=0.6,
            latent={"samples": VAE.encode(images), "noise_mask": latent["noise_mask"]}, **settings,
        )[0]["samples"]  # fmt: skip
        before = {key: value.clone() if torch.is_tensor(value) else value for key, value in options.items()}
        for rejected in ([3], [0, 2], [1, 2, 3]):
            own = teach(images, rejected, positive=positive, latent=latent, **settings)[0]
            close(own[rejected], VAE.decode(host)[rejected])
        assert all(torch.equal(torch.as_tensor(options[key]), torch.as_tensor(before[key])) for key in before)


def control_net(hints, strength=1.0, previous=None):
    control = comfy.controlnet.ControlNet(Hint(), load_device=torch.device("cpu"))
    control.set_cond_hint(hints, strength)
    return control.set_previous_controlnet(previous)


def check_control_nets_are_cut_along_their_chain():
    images = pictures()
    hints = torch.rand(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(8))
    control = control_net(hints, previous=control_net(hints[:3], 0.7))
    positive, negative = ([[text(seed)[0][0], {"control": control}]] for seed in (1, 2))
    settings = {"steps": 3, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}
    host = host_nodes.common_ksampler(
        MODEL, SEED, positive=positive, negative=negative, latent={"samples": VAE.encode(images)}, denoise=0.6,
        **settings,
    )[0]["samples"]  # fmt: skip
    calls = []
    model = MODEL.clone()
    model.set_model_unet_function_wrapper(
        lambda apply, a: calls.append(a["cond_or_uncond"]) or apply(a["input"], a["timestep"], **a["c"])
    )
    own = teach(images, [1, 3], positive=positive, negative=negative, model=model, **settings)[0]
    close(own[[1, 3]], VAE.decode(host)[[1, 3]])
    far(own[[1, 3]], teach(images, [1, 3], **settings)[0][[1, 3]])
    assert all(len(branches) == 2 for branches in calls), "guidance ran as two batches"
    assert control.cond_hint_original is hints and control.previous_controlnet.cond_hint_original.shape[0] == 3

    subset = Subset([1, 3], BATCH)
    cut = [subset.conditioning(each, (8, 8))[0][1]["control"] for each in (positive, negative)]
    assert cut[0] is cut[1] is not control
    assert torch.equal(cut[0].cond_hint_original, hints[[1, 3]])
    assert torch.equal(cut[0].previous_controlnet.cond_hint_original, hints[[1, 0]])  # 3 hints for 4 images: 0 1 2 0


def check_sizes_and_alpha_come_back():
    for height, width, channels in ((67, 75, 3), (64, 64, 4), (61, 66, 4)):
        images = pictures(2, height, width, channels)
        for strategy in ("refine", "regenerate"):
            output = teach(images, [1], strategy=strategy)[0]
            assert output.shape == images.shape and output.dtype == images.dtype
            assert torch.equal(output[0], images[0]) and torch.equal(output[1, ..., 3:], images[1, ..., 3:])
            far(output[1, ..., :3], images[1, ..., :3])


def check_noise_masks_protect():
    images = pictures()
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, :, SIDE // 2 :] = 1
    latent = {"samples": torch.zeros(BATCH, 4, 8, 8), "noise_mask": mask}
    for strategy in ("refine", "regenerate"):
        for name in ("euler", "ddim", "dpm_adaptive", "dpmpp_2m_sde"):
            output = teach(images, [1, 2], strategy=strategy, latent=latent, sampler_name=name)[0]
            kept = VAE.decode(VAE.encode(images))[1:3, :, : SIDE // 2]
            if name != "dpm_adaptive":  # the host ends it at the lowest noise level, not at 0
                close(output[1:3, :, : SIDE // 2], kept, 1e-4)
            far(output[1:3, :, SIDE // 2 :], images[1:3, :, SIDE // 2 :])
            own = {"samples": torch.zeros(1, 4, 8, 8), "noise_mask": mask, "batch_index": [2]}
            close(output[2], alone(images, 2, latent=own, strategy=strategy, sampler_name=name), 1e-3)


def check_starting_from_the_latent():
    images = pictures()
    latent = {"samples": VAE.encode(images)}
    close(teach(images, [2], latent=latent, start_from="latent")[0], teach(images, [2])[0])

    def refuse(*_, **__):
        raise AssertionError("the pixels were encoded")

    other, encode = {"samples": VAE.encode(pictures(seed=10))}, VAE.encode
    expected = teach(pictures(seed=10), [2])[0]
    VAE.encode = refuse
    try:
        close(teach(images, [2], latent=other, start_from="latent")[0][2], expected[2])
    finally:
        VAE.encode = encode


def refused(error, function, *args, **options):
    try:
        function(*args, **options)
    except ValueError as found:
        assert all(part in str(found) for part in error), str(found)
    else:
        raise AssertionError(f"accepted; expected an error with {error}")


def check_errors_say_what_was_given():
    images = pictures()
    refused(["3 latents", "4 images"], teach, images, [0], latent={"samples": torch.zeros(3, 4, 8, 8)})
    refused(["3 latents", "4 images"], teach, list(images.split(1)), [0], latent={"samples": torch.zeros(3, 4, 8, 8)})
    refused(["5 latents", "4 images"], teach, images, [0], latent=[blank(1), blank(4)])
    wrong = {"samples": torch.zeros(4, 4, 8, 8), "batch_index": [0, 1]}
    refused(["2 entries", "batch_index", "4 latents"], teach, images, [0], latent=wrong)
    refused(["no latent is connected"], teach, images, [0], start_from="latent")
    sixteen, small = ({"samples": torch.zeros(4, *shape)} for shape in ((16, 8, 8), (4, 4, 8)))
    refused(["16 channels", "4 channels"], teach, images, [0], start_from="latent", latent=sixteen)
    refused(["4 x 8", "8 x 8"], teach, images, [0], start_from="latent", latent=small)
    refused(["empty batch"], teach, images[:0], [])
    refused(["[4, 64, 64, 1]"], teach, images[..., :1], [0])
    # By a link, where the host checks no range.
    for name, value, between in (
        ("images_at_once", -1, "0 to 4096"), ("upscale_by", 0.5, "1 to 4"), ("upscale_by", float("nan"), "1 to 4"),
        ("rollback", 0.0, "0.01 to 1"), ("rollback_worst", 1.5, "0.01 to 1"), ("steps", 0, "1 to 10000"),
    ):  # fmt: skip
        refused([f"{name} is {value:g}", f"expected {between}"], teach, images, [0], **{name: value})
    for name, value, between in (("steps", 0, "1 to 50"), ("denoise", 0.0, "0.01 to 1"), ("denoise", 2.0, "0.01 to 1")):
        refused([f"{name} is {value:g}", f"expected {between}"], student, "LCM", blank(1), **{name: value})
    inputs = {"images": [images], "scores": [scores_of([1.0] * 3)], "threshold": [Threshold.fixed(0.5)]}
    refused(["3 scores", "4 images"], UnderstudyTeacher.check_lazy_status, **inputs)


def student(preset, latent, seed=SEED, steps=3, cfg=1.0, denoise=1.0, model=MODEL):
    return UnderstudyStudentSampler.execute(model, text(1), text(2), latent, seed, preset, steps, cfg, denoise).result[
        0
    ]


# The families that a model of SD 1.5's class is sampled by.
SD15 = [key for key, row in STUDENTS.items() if not row.architectures or "SD15" in row.architectures]


def check_students_sample_each_image_by_itself():
    assert {"demo", "LCM", "tcd", "flash", "hyper-sd-cfg"} <= set(SD15)
    for preset in SD15:
        for denoise in (1.0, 0.5):
            settings = {"steps": STUDENTS[preset].steps, "cfg": STUDENTS[preset].cfg, "denoise": denoise}
            samples = VAE.encode(pictures()) if denoise < 1 else torch.zeros(BATCH, 4, 8, 8)
            batch = student(preset, {"samples": samples}, **settings)["samples"]
            one = student(preset, {"samples": samples[2:3], "batch_index": [2]}, **settings)
            close(batch[2:3], one["samples"])
            assert one["batch_index"] == [2]
            far(batch, student(preset, {"samples": samples}, seed=6, **settings)["samples"])


def check_lcm_is_the_host_s():
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    patched = ModelSamplingDiscrete().patch(MODEL, "lcm", False)[0]
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    for denoise in (1.0, 0.6):
        host = host_nodes.common_ksampler(
            patched, SEED, 3, 1.5, "lcm", "sgm_uniform", text(1), text(2), latent, denoise=denoise
        )
        close(student("LCM-LoRA", latent, cfg=1.5, denoise=denoise)["samples"], host[0]["samples"], 1e-5)
    v_model = tiny_model(comfy.model_base.ModelType.V_PREDICTION)
    far(student("LCM", latent, model=v_model)["samples"], student("LCM", latent)["samples"])
    refused(["LCM"], student, "LCM", latent, model=tiny_model(comfy.model_base.ModelType.FLOW))


def check_lcm_keeps_what_model_sampling_discrete_sets():
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    for sampling, zsnr in (("v_prediction", True), ("x0", False), ("eps", False)):
        told = ModelSamplingDiscrete().patch(MODEL, sampling, zsnr)[0]
        own = told.get_model_object("model_sampling")
        for grid in (50, 25):
            made = with_boundary_scaling(told, grid=grid).get_model_object("model_sampling")
            assert made.sigma_max == own.sigma_max and len(made.sigmas) == grid
            # Each of its levels is the one that the network was told at that timestep.
            torch.testing.assert_close(made.sigmas, own.sigma(made.timestep(made.sigmas).float()))
        far_off = torch.full((1, 4, 2, 2), 0.3), torch.full((1, 4, 2, 2), 0.7)
        sigma = made.sigmas[-1:].clone()
        torch.testing.assert_close(
            made.calculate_denoised(sigma, *far_off), own.calculate_denoised(sigma, *far_off), rtol=1e-3, atol=1e-3
        )


def check_students_use_the_timesteps_that_they_were_distilled_on():
    sampling = MODEL.get_model_object("model_sampling")
    expected = {"demo": [999, 679, 339], "consistency": [981, 661, 321]}
    for preset, timesteps in expected.items():
        _, _, _, sigmas, cfg = prepare(STUDENTS[preset], MODEL, 3, 8.0, 1.0)
        assert torch.equal(sigmas[:-1], sampling.sigmas[timesteps]), sampling.timestep(sigmas[:-1])
        assert sigmas[-1] == 0 and cfg == 8.0
    for grid, timesteps in ((50, [999, 19]), (20, [999, 49]), (100, [999, 9])):
        distilled = prepare(STUDENTS["LCM"].on_grid(grid, None), MODEL, 2, 1.0, 1.0)[0].get_model_object(
            "model_sampling"
        )
        assert len(distilled.sigmas) == grid and distilled.sigmas[[-1, 0]].equal(sampling.sigmas[timesteps])
        assert distilled.timestep(distilled.sigmas[[-1, 0]]).tolist() == timesteps


def check_students_respect_noise_masks():
    samples = VAE.encode(pictures())
    mask = torch.zeros(1, 8, 8)
    mask[..., 4:] = 1
    for preset in SD15:
        settings = {"steps": STUDENTS[preset].steps, "cfg": STUDENTS[preset].cfg}
        output = student(preset, {"samples": samples, "noise_mask": mask}, **settings)["samples"]
        close(output[..., :4], samples[..., :4], 1e-5)
        far(output[..., 4:], samples[..., 4:])


class Brightness:
    fingerprint, against = "brightness", None

    def __init__(self):
        self.scored = 0

    def require_count(self, images):
        """Any number will do."""

    def __call__(self, images, prompts, places=None):
        assert len(images) == len(prompts) and images.shape[1] == 3
        self.scored += len(images)
        return images.mean((1, 2, 3))


def check_keep_better_keeps_the_better():
    before = pictures()
    after = before.clone()
    after[1] = after[1].clamp(max=0.1)
    after[2] = after[2] * 0.5 + 0.5
    oracle = Brightness()
    values = oracle(before.movedim(-1, 1), [""] * BATCH).tolist()
    scores = Scores(tuple(values), ("",) * BATCH, "brightness", ("a",) * BATCH)
    oracle.scored = 0
    inputs = {"images_before": [before], "images_after": [after], "scores": [scores]}
    assert UnderstudyKeepBetter.check_lazy_status(**inputs, oracle=(None,)) == ["oracle"]
    (images,), (kept,) = UnderstudyKeepBetter.execute(**inputs, oracle=[oracle], prompt=["a"]).result
    assert oracle.scored == 2
    assert torch.equal(images[:2], before[:2]) and torch.equal(images[2:], after[2:])
    assert kept.decisions == ("kept", "reverted", "redone", "kept")
    assert kept.values == tuple(values) and [value is None for value in kept.scores_after] == [True, False, False, True]

    inputs["images_after"] = [before.clone()]
    assert UnderstudyKeepBetter.check_lazy_status(**inputs, oracle=(None,)) == []
    (images,), (kept,) = UnderstudyKeepBetter.execute(**inputs, oracle=(None,), prompt=["a"]).result
    assert images is before and kept.decisions == ("kept",) * BATCH

    inputs["images_after"], oracle.scored = [after], 0
    UnderstudyKeepBetter.execute(**inputs, oracle=[oracle], prompt=["another prompt"])
    assert oracle.scored == 4  # scores for another prompt do not compare: before and after are scored

    other = {**inputs, "images_after": [after], "scores": [scores_of([9.0] * BATCH)]}  # scores of another kind
    (images,), (kept,) = UnderstudyKeepBetter.execute(**other, oracle=[oracle], prompt=["a"] * BATCH).result
    assert torch.equal(images[2], after[2])
    assert kept.values == (9.0,) * BATCH and kept.scores_after == (None,) * BATCH
    assert kept.decisions == ("kept", "reverted", "redone", "kept")
    refused(["4 images_before", "3 images_after"], UnderstudyKeepBetter.check_lazy_status,
            images_before=[before], images_after=[after[:3]], scores=[scores])  # fmt: skip
    refused(["3 scores", "4 images"], UnderstudyKeepBetter.execute,
            **{**inputs, "scores": [scores_of([1.0] * 3)]}, oracle=[oracle], prompt=["a"])  # fmt: skip


def check_keep_better_needs_a_number_for_each_image():
    before = pictures()
    after = before.flip(0)
    for given, says in (
        (torch.zeros(1), "scores of shape (1,) for 4 images"),
        (torch.full((4,), torch.nan), "image 1"),
    ):
        broken = type("Broken", (Brightness,), {"__call__": lambda self, *asked, given=given: given})
        inputs = [before], [after], [scores_of([0.5] * BATCH)], [broken()], ["a cat"]
        refused([says], UnderstudyKeepBetter.execute, *inputs)


def check_flow_models_refine_too():
    flow = tiny_model(comfy.model_base.ModelType.FLOW)
    images = pictures()
    for mode in ("schedule", "noise"):
        for name in ("euler", "euler_ancestral", "dpmpp_2m_sde"):
            options = {"model": flow, "rollback_mode": mode, "sampler_name": name}
            inside = teach(images, [1, 3], **options)[0]
            close(inside[3], alone(images, 3, **options), 1e-3)


def check_which_samplers_run_image_by_image():
    single = [name for name in comfy.samplers.KSampler.SAMPLERS
              if not runs_as_batch(name, comfy.samplers.sampler_object(name), False)]  # fmt: skip
    assert single == ["dpm_adaptive"], single


def check_models_are_the_host_s_plain_patchers():
    for part in ("student", "teacher"):
        model, clip, vae, oracle, _ = UnderstudyLoadDemo.execute(part).result
        for patcher in (model, clip.patcher, vae.patcher, oracle.patcher):
            assert type(patcher) is comfy.model_patcher.ModelPatcher, type(patcher)


def check_a_student_s_indices_are_counted():
    sampler = {"model": MODEL, "positive": text(1), "negative": text(2), "seed": SEED, "preset": "LCM", "steps": 1}
    latent = {"samples": torch.zeros(3, 4, 8, 8), "batch_index": [0, 1]}
    refused(["2 entries", "3 latents"], UnderstudyStudentSampler.execute,
            **sampler, latent_image=latent, cfg=1.0, denoise=1.0)  # fmt: skip


class Loads(logging.Handler):
    """How often the host loads a model inside of ``with``, none being loaded before; its log tells of each."""

    def __enter__(self):
        comfy.model_management.unload_all_models()
        self.count, self.level_before = 0, logging.root.level
        logging.root.addHandler(self)
        logging.root.setLevel(logging.INFO)
        return self

    def __exit__(self, *error):
        logging.root.removeHandler(self)
        logging.root.setLevel(self.level_before)

    def emit(self, record):
        self.count += record.getMessage().startswith("Requested to load")


def main():
    run_checks(torch.inference_mode)


if __name__ == "__main__":
    main()

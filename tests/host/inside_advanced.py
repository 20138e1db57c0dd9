"""Runs in the host's own interpreter: Teacher Advanced against SamplerCustomAdvanced, and what both Teachers share.

usage and output: as inside_teacher.py, whose tiny networks these checks use.
"""

import copy

import torch
from inside_presets import tiny
from inside_sampling import FramesVae, halves, wan
from inside_teacher import (
    BATCH,
    MODEL,
    SEED,
    SIDE,
    VAE,
    Loads,
    Recorder,
    alone,
    blank,
    close,
    control_net,
    far,
    host_nodes,
    main,
    pictures,
    refused,
    scores_of,
    taught,
    teach,
    text,
    tiny_model,
)

STEPS = 6

# E402 from here on: inside_teacher made the host's modules and the pack importable.
import comfy.model_base  # noqa: E402
import comfy.samplers  # noqa: E402
from comfy_execution.graph_utils import ExecutionBlocker  # noqa: E402
from comfy_extras import nodes_custom_sampler as custom  # noqa: E402
from comfy_extras.nodes_perpneg import PerpNegGuider  # noqa: E402
from understudy.nodes.guiders import of_images, takes_each_by_itself  # noqa: E402
from understudy.nodes.seeds import with_seed  # noqa: E402
from understudy.nodes.student_preset import UnderstudyStudentPreset  # noqa: E402
from understudy.nodes.subset import Subset  # noqa: E402
from understudy.nodes.teacher import UnderstudyTeacher  # noqa: E402
from understudy.nodes.teacher_advanced import UnderstudyTeacherAdvanced  # noqa: E402
from understudy.oracles.calibration import Calibration  # noqa: E402
from understudy.oracles.threshold import Threshold  # noqa: E402

UnderstudyTeacherAdvanced.hidden = UnderstudyStudentPreset.hidden = UnderstudyTeacher.hidden
WIDGETS = {
    "start_from": "images", "strategy": "refine", "rollback_mode": "schedule", "rollback": 0.5, "strength": "fixed",
    "rollback_worst": 0.9, "upscale_by": 1.0, "images_at_once": 0, "seed_from": "latent", "seed": SEED,
}  # fmt: skip


def sigmas_of(model=MODEL, steps=STEPS):
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", steps)


def sampler_of(name="euler", **options):
    return comfy.samplers.ksampler(name, options)


def made(node, *args, **options):
    return node.execute(*args, **options).args[0]


def advanced(
    images, rejected, guider, *, latent=None, mask=None, noise=None, sampler=None, sigmas=None, scores=None,
    threshold=None, **widgets,
):  # fmt: skip
    """All that the node hands over."""
    batches = images if isinstance(images, list) else [images]
    count = sum(map(len, batches))
    inputs = {
        "images": batches, "scores": [scores_of(scores or [0.0 if i in rejected else 1.0 for i in range(count)])],
        "threshold": [threshold or Threshold.fixed(0.5)], "vae": [VAE], "sampler": [sampler or sampler_of()],
        "guider": guider if isinstance(guider, list) else [guider],
        "sigmas": [sigmas_of() if sigmas is None else sigmas],
        **{name: [value] for name, value in (WIDGETS | widgets).items()},
    }  # fmt: skip
    for name, value in (("latent", latent), ("mask", mask), ("noise", noise)):
        if value is not None:
            inputs[name] = value if isinstance(value, list) else [value]
    return UnderstudyTeacherAdvanced.execute(**inputs)


def redone(images, rejected, guider, **options):
    output = advanced(images, rejected, guider, **options).args[0]
    return output if isinstance(images, list) else output[0]


def alone_of(images, index, guider, **options):
    return redone(images[index : index + 1], [0], guider, **{"latent": blank(1, [index]), **options})[0]


def prompt(seed, entries=BATCH, hints=None):
    options = {} if hints is None else {"control": control_net(hints)}
    return [[text(seed, entries)[0][0], options]]


def guiders(entries=BATCH, hints=None, model=MODEL):
    """The host's guiders, their texts of so many entries, with the network evaluations of an image and step."""
    one, two, three = (prompt(seed, entries, hints) for seed in (1, 2, 3))
    return {
        "basic": (made(custom.BasicGuider, model, one), 1),
        "cfg": (made(custom.CFGGuider, model, one, two, 3.0), 2),
        "cfg 1": (made(custom.CFGGuider, model, one, two, 1.0), 1),
        "dual": (made(custom.DualCFGGuider, model, one, two, three, 3.0, 2.0, "regular"), 3),
        "nested": (made(custom.DualCFGGuider, model, one, two, three, 3.0, 2.0, "nested"), 3),
        "perp neg": (made(PerpNegGuider, model, one, two, three, 3.0, 0.7), 3),
        **dual_model(model, one, two),
    }


def dual_model(model, positive, negative):
    """Its negative by another model; ComfyUI 0.8.0 has none."""
    if not hasattr(custom, "DualModelGuider"):
        return {}
    other = tiny_model()
    with torch.no_grad():
        for parameter in other.model.diffusion_model.parameters():
            parameter.mul_(0.9)
    return {"dual model": (made(custom.DualModelGuider, model, positive, 3.0, other, negative), 2)}


def stock(guider, samples, sigmas, noise=None, sampler=None, **latent):
    """What SamplerCustomAdvanced makes of latents."""
    noise = noise or made(custom.RandomNoise, SEED)
    # A copy, since some of the host's samplers write into it.
    given = (noise, guider, sampler or sampler_of(), sigmas.clone(), {"samples": samples, **latent})
    return custom.SamplerCustomAdvanced.execute(*given).args[0]["samples"]


def check_each_guider_gives_what_sampler_custom_advanced_gives():
    images, whole = pictures(), sigmas_of()
    later = custom.SplitSigmasDenoise.execute(whole, 0.5).args[1]
    for name, (guider, cost) in guiders(entries=1).items():
        one = VAE.decode(stock(guider, VAE.encode(images[:1]), later))
        output = advanced(images[:1], [0], guider).args
        close(output[0][0], one, 1e-4)
        far(one, images[:1])
        assert output[2].evaluations == (cost * (len(later) - 1),), (name, output[2].evaluations)
        # Anew from noise, by all of the schedule.
        close(
            redone(images[:1], [0], guider, strategy="regenerate"),
            VAE.decode(stock(guider, torch.zeros(1, 4, 8, 8), whole)), 1e-4,
        )  # fmt: skip


def check_the_conditioning_of_a_guider_is_cut_to_the_rejected():
    images = pictures()
    hints = torch.rand(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(8))
    later = custom.SplitSigmasDenoise.execute(sigmas_of(), 0.5).args[1]
    for name, (guider, cost) in guiders(hints=hints).items():
        before, conds = dict(vars(guider)), {key: list(each) for key, each in guider.original_conds.items()}
        options = dict(guider.model_options["transformer_options"])
        output = advanced(images, [1, 3], guider).args
        assert torch.equal(output[0][0][[0, 2]], images[[0, 2]]) and output[1] == [False, True, False, True]
        assert output[2].evaluations == tuple(cost * (len(later) - 1) * no for no in output[1]), name
        own = {place: guiders(1, hints[place : place + 1])[name][0] for place in (1, 3)}
        for place, guider_of_one in own.items():
            for entries, cut in zip(guider_of_one.original_conds.values(), guider.original_conds.values(), strict=True):
                entries[0]["cross_attn"] = cut[0]["cross_attn"][place : place + 1]
            close(output[0][0][place], alone_of(images, place, guider_of_one))
        far(output[0][0][3], alone_of(images, 3, own[1]))
        # The guider belongs to everybody whom it is connected to.
        assert vars(guider).keys() == before.keys() and all(vars(guider)[key] is before[key] for key in before)
        assert all(a is b for key in conds for a, b in zip(guider.original_conds[key], conds[key], strict=True))
        assert guider.model_options["transformer_options"] == options
        assert all(entry["control"].cond_hint_original is not None and len(entry["control"].cond_hint_original) == BATCH
                   for entries in guider.original_conds.values() for entry in entries)  # fmt: skip
        if name != "perp neg":  # the strongest: everything for each image at once, by the host
            together = VAE.decode(stock(guider, VAE.encode(images), later))
            close(output[0][0][[1, 3]], together[[1, 3]], 1e-4)


def check_perp_neg_is_each_image_s_own():
    """Its projection is over the whole batch, so the host's batch of two is not its two batches of one."""
    images, guider = pictures(), guiders()["perp neg"][0]
    assert not takes_each_by_itself(guider) and all(takes_each_by_itself(each) for name, (each, _) in guiders().items()
                                                    if name != "perp neg")  # fmt: skip
    later = custom.SplitSigmasDenoise.execute(sigmas_of(), 0.5).args[1]
    one = guiders(entries=1)["perp neg"][0]
    inside = redone(images, [1, 3], one)
    for place in (1, 3):
        samples = VAE.encode(images[place : place + 1])
        close(inside[place], VAE.decode(stock(one, samples, later, batch_index=[place]))[0], 1e-4)


class Unlike(comfy.samplers.CFGGuider):
    """Stands in for another pack's guider, which takes the mean of the batch."""

    def predict_noise(self, x, *args, **kwargs):
        return super().predict_noise(x, *args, **kwargs) + x.mean()


def check_a_guider_that_is_not_known_runs_image_by_image_or_is_refused():
    images = pictures()
    guider = Unlike(MODEL)
    guider.set_conds(prompt(1), prompt(2))
    guider.set_cfg(3.0)
    output = advanced(images, [1, 3], guider).args
    for place in (1, 3):
        one = Unlike(MODEL)
        one.set_conds([[prompt(1)[0][0][place : place + 1], {}]], [[prompt(2)[0][0][place : place + 1], {}]])
        one.set_cfg(3.0)
        close(output[0][0][place], alone_of(images, place, one))
    assert output[2].evaluations == (0, 6, 0, 6)
    for unreadable in (object(), copy.copy(guider)):
        unreadable.__dict__.pop("original_conds", None) if hasattr(unreadable, "__dict__") else None
        refused(["guider is a", "cannot be read", "CFG Guider"], redone, images, [1], unreadable)
        assert torch.equal(redone(images, [], unreadable), images)  # nobody asks


class Ramp:
    """Stands in for another pack's NOISE, which knows no batch_index; not hashable, as a dataclass is."""

    __hash__ = None
    seed = 77

    def __init__(self):
        self.asked = []

    def generate_noise(self, latent):
        self.asked.append(tuple(latent["samples"].shape))
        made = torch.randn(latent["samples"].shape, generator=torch.Generator().manual_seed(self.seed))
        return made + torch.arange(len(made)).reshape(-1, 1, 1, 1)


def check_noise_is_made_for_the_student_s_whole_batch():
    images, guider = pictures(), guiders(entries=1)["cfg"][0]
    latent = blank(BATCH)
    for noise in (made(custom.RandomNoise, 33), Ramp(), made(custom.DisableNoise)):
        for name in ("euler", "euler_ancestral"):
            options = {"noise": noise, "sampler": sampler_of(name)}
            inside = redone(images, [1, 3], guider, latent=latent, **options)
            for place in (1, 3):
                close(inside[place], alone_of(images, place, guider, **options))
                pieces = redone(list(images.split(1)), [place], guider, latent=latent, **options)
                close(pieces[place][0], inside[place])
            far(inside[3], alone_of(images, 3, guider, latent=blank(1, [1]), **options)
                if not isinstance(noise, custom.Noise_EmptyNoise) else images[3])  # fmt: skip
    ramp = Ramp()
    redone(images, [1, 3], guider, noise=ramp)
    assert ramp.asked == [(BATCH, 4, 8, 8)]
    given = made(custom.RandomNoise, 33)
    later = custom.SplitSigmasDenoise.execute(sigmas_of(), 0.5).args[1]
    host = VAE.decode(stock(guider, VAE.encode(images), later, given))
    close(redone(images, range(BATCH), guider, noise=given), host, 1e-4)
    far(redone(images, [3], guider, noise=given)[3], redone(images, [3], guider)[3])
    close(redone(images, [3], guider, noise=made(custom.RandomNoise, SEED)), redone(images, [3], guider))
    said = advanced(images, [1], guider, noise=given).ui.as_dict()["text"][0]
    assert "1 of 4 images redone" in said and "noise that is connected, of seed 33: image 2" in said, said

    class Short(Ramp):
        def generate_noise(self, latent):
            return super().generate_noise(latent)[:1]

    refused(["noise made [1, 4, 8, 8]", "[4, 4, 8, 8]"], redone, images, [3], guider, noise=Short())


def check_images_of_different_seeds_are_sampled_together():
    """Seeds of a list of latents, or of a list of NOISE; a sampler that is not known may read the run's own seed."""
    images, seeds = pictures(), (11, 12, 12, 14)
    latents = [with_seed(blank(1), seed) for seed in seeds]
    noises = [made(custom.RandomNoise, seed) for seed in seeds]
    for name in ("euler", "euler_ancestral", "dpmpp_sde"):
        options = {"sampler": sampler_of(name), "images_at_once": BATCH}
        for own in ({"latent": latents}, {"noise": noises, "latent": blank(1)}):
            recorder = Recorder()
            guider = made(custom.BasicGuider, recorder.model, text(1))
            together = redone(list(images.split(1)), [0, 1, 3], guider, **own, **options)
            assert set(recorder.batches) == {3}, (name, recorder.batches)
            for place in (0, 1, 3):
                mine = {key: each[place] if isinstance(each, list) else each for key, each in own.items()}
                close(together[place][0], alone_of(images, place, guider, **mine, **options), 1e-3)
            far(together[3][0], alone_of(images, 3, guider, latent=latents[1], **options))

    def reads_the_seed(model, x, sigmas, extra_args, callback=None, disable=None, noise_sampler=None):
        return comfy.samplers.k_diffusion_sampling.sample_euler(model, x, sigmas, extra_args) + extra_args["seed"] / 50

    given = {"sampler": comfy.samplers.KSAMPLER(reads_the_seed), "images_at_once": BATCH}
    recorder = Recorder()
    guider = made(custom.BasicGuider, recorder.model, text(1))
    apart = redone(list(images.split(1)), [0, 1, 2], guider, latent=latents, **given)
    assert set(recorder.batches) == {1, 2}, recorder.batches
    for place in (0, 1, 2):
        close(apart[place][0], alone_of(images, place, guider, latent=latents[place], **given))


class Drawing:
    """Stands in for another pack's SAMPLER: not the host's class, and its noise is torch's own."""

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar=False):
        x = model_wrap.inner_model.model_sampling.noise_scaling(sigmas[0], noise, latent_image)
        for level in sigmas[:-1]:
            x = model_wrap(x, level.expand(len(x)), **extra_args) + 0.1 * torch.randn_like(x)
        return x


def check_every_kind_of_sampler_gives_an_image_alone_what_it_gives_in_the_batch():
    images, guider = pictures(), guiders(entries=1)["cfg"][0]
    later = custom.SplitSigmasDenoise.execute(sigmas_of(), 0.5).args[1]
    kinds = {
        "euler": sampler_of(), "churn": sampler_of("euler", s_churn=5.0), "fast": sampler_of("dpm_fast"),
        "ancestral": sampler_of("euler_ancestral", eta=0.6), "sde": sampler_of("dpmpp_2m_sde", eta=0.8),
        "unipc": comfy.samplers.sampler_object("uni_pc"), "ddim": comfy.samplers.sampler_object("ddim"),
        "adaptive": sampler_of("dpm_adaptive"), "drawing": Drawing(),
    }  # fmt: skip
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 16:] = 1
    for name, sampler in kinds.items():
        for masked in ({}, {"mask": mask}):
            try:
                inside = redone(images, [0, 3], guider, sampler=sampler, **masked)
                close(inside[3], alone_of(images, 3, guider, sampler=sampler, **masked), 1e-3)
                assert torch.equal(inside[1], images[1])
                if not masked:  # the first of a batch draws what the host draws for a batch of one
                    host = stock(guider, VAE.encode(images[:1]), later, sampler=sampler)
                    close(inside[:1], VAE.decode(host), 1e-3)
            except AssertionError as error:
                raise AssertionError(f"{name}, {[*masked]}: {error}") from error


def check_the_sampler_of_student_preset_takes_the_noise_of_the_images_it_redoes():
    """Student preset makes it for its own batch; here it is asked for some of that, each in the noise of its seed."""
    images, guider = pictures(), guiders(entries=1)["cfg"][0]
    for preset, name in (("LCM", "lcm"), ("sdxl-turbo", "euler_ancestral")):
        given = UnderstudyStudentPreset.execute(MODEL if preset == "LCM" else tiny(), blank(BATCH), preset, 1, 1.0, 1.0)
        inside = redone(images, [1, 3], guider, sampler=given.result[1])
        close(inside, redone(images, [1, 3], guider, sampler=sampler_of(name)))


def check_rollback_cuts_the_sigmas():
    started = []

    def record(apply_model, x, sigma, *args, **kwargs):
        started.append(float(sigma[0]))
        return apply_model(x, sigma, *args, **kwargs)

    for kind, expected in (
        (comfy.model_base.ModelType.EPS, (0.4 / 0.6) ** 0.5),
        (comfy.model_base.ModelType.FLOW, 0.449490),
    ):
        model = tiny_model(kind)
        model.add_wrapper_with_key("apply_model", "test", record)
        guider, whole, images = guiders(1, model=model)["basic"][0], sigmas_of(model, 10), pictures(1)

        def levels(images=images, guider=guider, whole=whole, **options):
            started.clear()
            redone(images, [0], guider, sigmas=whole, **options)
            return started[:]

        noise = levels(rollback_mode="noise", rollback=0.4)
        torch.testing.assert_close(torch.tensor(noise), torch.tensor([expected, *whole[whole < expected][:-1]]))
        for options, count in (
            ({"rollback_mode": "schedule", "rollback": 0.3}, 3),
            ({"rollback_mode": "schedule", "rollback": 0.01}, 1),
            ({"rollback_mode": "as given", "rollback": 0.3}, 10),
            ({"rollback_mode": "noise", "rollback": 1.0}, 10),
            ({"strategy": "regenerate", "rollback_mode": "noise", "rollback": 0.2}, 10),
        ):
            torch.testing.assert_close(torch.tensor(levels(**options)), whole[-count - 1 : -1])
    up = torch.tensor([0.0, 1.0])
    refused(["sigmas [0.0, 1.0] do not fall", "as given"], redone, pictures(), [1], guider, sigmas=up)
    refused(["sigmas have shape [0]"], redone, pictures(), [1], guider, sigmas=torch.zeros(0))
    refused(["sigmas end at 5", "no step"], redone, pictures(), [1], guiders(1)["basic"][0], rollback_mode="noise",
            sigmas=torch.tensor([14.0, 5.0]))  # fmt: skip


def check_by_score_is_each_image_alone_at_its_own_rollback():
    calibration = Calibration("mine", {str(i): i / 100 for i in range(101)}, {}, "", "p")
    images, guider = pictures(), guiders(1)["cfg"][0]
    score = {"strength": "by score", "rollback_mode": "noise", "rollback": 0.4, "rollback_worst": 0.9}
    threshold = Threshold.percentile(calibration, 60)
    made = redone(images, [], guider, threshold=threshold, scores=[0.9, 0.3, 0.0, 0.9], **score)
    assert torch.equal(made[0], images[0])
    for image, rollback in ((1, 0.65), (2, 0.9)):
        fixed = {"rollback_mode": "noise", "rollback": rollback}
        close(made[image], alone_of(images, image, guider, **fixed))
        far(made[image], alone_of(images, image, guider, **{**fixed, "rollback": 0.4}))
    refused(["'by score'", "mode percentile"], redone, images, [1], guider, **score)


def check_what_is_not_needed_is_not_asked_for():
    inputs = {"images": [pictures()], "scores": [scores_of([1.0] * BATCH)], "threshold": [Threshold.fixed(0.5)]}
    assert UnderstudyTeacherAdvanced.check_lazy_status(**inputs, guider=(None,), noise=(None,)) == []
    inputs["scores"] = [scores_of([1.0, 0.0, 1.0, 1.0])]
    required = ["guider", "sampler", "sigmas", "vae"]
    assert UnderstudyTeacherAdvanced.check_lazy_status(**inputs, guider=(None,)) == required
    assert UnderstudyTeacherAdvanced.check_lazy_status(**inputs, noise=(None,)) == [*required, "noise"]
    by_score = {"strategy": ["refine"], "strength": ["by score"]}
    refused(["'by score'", "mode percentile"], UnderstudyTeacherAdvanced.check_lazy_status, **inputs, **by_score)
    by_score["strategy"] = ["regenerate"]  # which goes no way back
    assert UnderstudyTeacherAdvanced.check_lazy_status(**inputs, **by_score) == required


def check_guiders_of_a_list_are_each_entry_s_own():
    images = pictures()
    each = [made(custom.CFGGuider, MODEL, text(seed), text(2), 3.0) for seed in range(11, 11 + BATCH)]
    pieces = redone(list(images.split(1)), [1, 3], each)
    for place in (1, 3):
        close(pieces[place][0], alone_of(images, place, each[place]))
    far(pieces[3][0], alone_of(images, 3, each[1]))


def check_a_model_is_loaded_once_for_a_list():
    """As the host's own samplers do it, whatever a list is sampled in."""
    pieces, other = list(pictures().split(1)), tiny_model()
    for name, (guider, _) in guiders(entries=1).items():
        with Loads() as stocks:
            for piece in pieces:
                stock(guider, VAE.encode(piece), sigmas_of())
        with Loads() as ours:
            redone(pieces, range(BATCH), guider)
        assert ours.count == stocks.count == 1 + (name == "dual model"), (name, ours.count, stocks.count)
    for models, count in (([MODEL], 1), ([MODEL, other, MODEL, other], 2)):
        with Loads() as ours:
            taught(pieces, range(BATCH), model=models)
        assert ours.count == count, (len(models), ours.count)


def check_patches_are_told_which_images_are_sampled():
    told = []

    def patch(apply_model, given):
        told.append(given["c"]["transformer_options"].get("ad_params"))
        return apply_model(given["input"], given["timestep"], **given["c"])

    model = MODEL.clone()
    model.set_model_unet_function_wrapper(patch)
    for name, rows in (("cfg", [[1, 3]]), ("perp neg", [[1], [3]])):
        told.clear()
        redone(pictures(), [1, 3], guiders(model=model)[name][0])
        assert [params["sub_idxs"] for params in told[:: len(told) // len(rows)]] == rows
        assert all(params["full_length"] == BATCH for params in told)
    told.clear()
    redone(pictures(), range(BATCH), guiders(model=model)["cfg"][0])
    assert told and not any(told)
    told.clear()  # a whole batch after a part of one
    guider = guiders(entries=1, model=model)["cfg"][0]
    redone([pictures(), pictures(2)], [1, 3, 4, 5], [guider, guider])
    assert [params and params["sub_idxs"] for params in told] == [[1, 3]] * (len(told) // 2) + [None] * (len(told) // 2)


def check_how_many_at_once_changes_no_picture():
    images, rejected = pictures(), [0, 1, 3]
    for options in ({}, {"sampler_name": "euler_ancestral"}, {"strategy": "regenerate"}):
        batches, whole = {}, teach(images, rejected, cfg=1.0, **options)[0]
        for most in (0, 1, 2, 9):
            recorder = Recorder()
            close(teach(images, rejected, model=recorder.model, cfg=1.0, images_at_once=most, **options)[0], whole)
            batches[most] = sorted(set(recorder.batches))
        assert batches == {0: [3], 1: [1], 2: [1, 2], 9: [3]}, batches
    recorder = Recorder()  # more than the largest batch that came in
    teach(list(images.split(1)), range(BATCH), model=recorder.model, cfg=1.0, images_at_once=3)
    assert sorted(set(recorder.batches)) == [1, 3]


def check_a_mask_keeps_pixels_bit_for_bit():
    images = pictures(BATCH, 67, 75)
    masks = torch.zeros(BATCH, 67, 75)
    for place in range(BATCH):
        masks[place, :, 10 * place : 30 + 10 * place] = 1
    masks[1, :, 40:] = 0.5
    for strategy in ("refine", "regenerate"):
        places = {"samples": torch.zeros(BATCH, 4, 9, 10), "batch_index": list(range(BATCH))}
        output = teach(images, [1, 3], latent=places, mask=masks, strategy=strategy)[0]
        for place in (1, 3):
            shown = masks[place] > 0
            assert torch.equal(output[place][~shown], images[place][~shown])
            far(output[place][shown], images[place][shown])
            own = {"samples": torch.zeros(1, 4, 9, 10), "batch_index": [place]}
            close(output[place], alone(images, place, latent=own, mask=masks[place], strategy=strategy))
        assert torch.equal(output[[0, 2]], images[[0, 2]])
    full = teach(images, [1, 3])[0]
    close(teach(images, [1, 3], mask=torch.ones(1, 67, 75))[0], full)
    close(teach(images, [1, 3], mask=torch.ones(8, 8))[0], full)  # any size
    one = teach(images, [1, 3], mask=masks[:1])[0]
    assert torch.equal(one[3][masks[0] == 0], images[3][masks[0] == 0])
    pieces = taught(
        list(images.split(2)),
        [1, 3],
        mask=[masks[2:3], masks[3:]],
    ).result[0]
    assert torch.equal(pieces[0][1][masks[2] == 0], images[1][masks[2] == 0])
    assert torch.equal(pieces[1][1][masks[3] == 0], images[3][masks[3] == 0])
    # Together with the latent's own noise mask: what both let change.
    latent = {"samples": torch.zeros(BATCH, 4, 9, 10), "noise_mask": torch.zeros(1, 1, 67, 75)}
    latent["noise_mask"][..., :20] = 1
    both = teach(images, [0], mask=torch.ones(1, 67, 75), latent=latent)[0]
    close(both, teach(images, [0], latent=latent)[0])
    far(both, teach(images, [0], mask=masks[:1], latent=latent)[0])
    refused(["3 masks", "4 images"], teach, images, [0], mask=torch.ones(3, 67, 75))
    refused(["mask is [1, 1, 2, 2]", "MASK"], teach, images, [0], mask=torch.ones(1, 1, 2, 2))


def check_a_mask_for_each_image_of_a_model_with_frames():
    images, masks, blank = pictures(), halves(), {"samples": torch.zeros(BATCH, 16, 1, 8, 8)}
    options = {"model": wan(), "vae": FramesVae()}
    by_latent = teach(images, [1, 3], latent={**blank, "noise_mask": masks}, **options)[0]
    output = taught(images, [1, 3], latent=blank, mask=masks, **options).result
    for place in (1, 3):
        shown = masks[place] > 0
        close(output[0][0][place][shown], by_latent[place][shown])
        assert torch.equal(output[0][0][place][~shown], images[place][~shown])
    assert output[3][0]["noise_mask"].shape == (2, 1, 1, SIDE, SIDE) and output[3][0]["samples"].ndim == 5


def check_larger_and_back_is_what_stock_nodes_give():
    from comfy.utils import common_upscale

    images = pictures()
    options = {"steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}
    scaled = host_nodes.ImageScaleBy().upscale(images, "bicubic", 1.5)[0]
    latent = {"samples": VAE.encode(scaled)}
    large = host_nodes.common_ksampler(MODEL, SEED, positive=text(1), negative=text(2), latent=latent, denoise=0.6,
                                       **options)[0]["samples"]  # fmt: skip
    back = common_upscale(VAE.decode(large).movedim(-1, 1), SIDE, SIDE, "area", "disabled").movedim(1, -1)
    output = taught(images, [1, 3], upscale_by=1.5, **options).result
    close(output[0][0][[1, 3]], back[[1, 3]], 1e-4)
    assert torch.equal(output[0][0][[0, 2]], images[[0, 2]])
    close(output[3][0]["samples"], large[[1, 3]], 1e-4)
    far(output[0][0][1], teach(images, [1], **options)[0][1])
    # An area counts in latents, so it grows with the picture.
    with_area = [[[*text(7)[0][:1], {"area": (4 * by, 2 * by, 0, 2 * by)}], *text(1)] for by in (1, 2)]
    areas = [{"samples": VAE.encode(host_nodes.ImageScaleBy().upscale(images, "bicubic", 2.0)[0])}]
    large = host_nodes.common_ksampler(MODEL, SEED, positive=with_area[1], negative=text(2), latent=areas[0],
                                       denoise=0.6, **options)[0]["samples"]  # fmt: skip
    close(taught(images, [1, 3], positive=with_area[0], upscale_by=2.0, **options).result[3][0]["samples"],
          large[[1, 3]], 1e-4)  # fmt: skip
    boxes = [[["a cat", {"gligen": ("position", "its model", [("cat", 4, 2, 1, 3), ("dog", 5, 5, 0, 0)])}]]]
    guider = made(custom.BasicGuider, MODEL, *boxes)
    large = of_images(guider, {"positive": Subset([0], 1)}, (16, 16), 2.0).original_conds["positive"]
    assert large[0]["gligen"] == ("position", "its model", [("cat", 8, 4, 2, 6), ("dog", 10, 10, 0, 0)])
    assert guider.original_conds["positive"][0]["gligen"][2][0] == ("cat", 4, 2, 1, 3)
    for height, width, channels in ((67, 75, 4), (61, 66, 3)):
        odd = pictures(2, height, width, channels)
        mask = torch.zeros(1, height, width)
        mask[:, :, 40:] = 1
        result = teach(odd, [1], upscale_by=1.3, mask=mask)[0]
        assert result.shape == odd.shape and torch.equal(result[0], odd[0])
        assert torch.equal(result[1, :, :40], odd[1, :, :40])
        assert torch.equal(result[1, ..., 3:], odd[1, ..., 3:])
        far(result[1, :, 48:, :3], odd[1, :, 48:, :3])
    refused(["start_from is 'latent'", "upscale_by is 1.5"], teach, images, [1], upscale_by=1.5, start_from="latent",
            latent={"samples": VAE.encode(images)})  # fmt: skip


def check_the_redone_images_latent_is_given():
    images = pictures()
    options = {"steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}
    host = host_nodes.common_ksampler(MODEL, SEED, positive=text(1), negative=text(2), denoise=0.6,
                                      latent={"samples": VAE.encode(images)}, **options)[0]["samples"]  # fmt: skip
    output = taught(images, [1, 3], **options).result
    (latent,) = output[3]
    assert latent.keys() == {"samples", "batch_index"} and latent["batch_index"] == [1, 3]
    close(latent["samples"], host[[1, 3]], 1e-4)
    places = blank(BATCH, [2, 0, 7, 5], noise_mask=torch.ones(BATCH, 1, 8, 8))
    places["noise_mask"][3, :, :4] = 0
    (latent,) = taught(images, [1, 3], latent=places).result[3]
    assert latent["batch_index"] == [0, 5] and torch.equal(latent["noise_mask"], places["noise_mask"][[1, 3]])
    batches = taught(list(images.split([1, 2, 1])), [0, 3]).result
    assert [latent["batch_index"] for latent in (batches[3][0], batches[3][2])] == [[0], [3]]
    assert isinstance(batches[3][1], ExecutionBlocker) and batches[3][1].message is None
    (nothing,) = taught(images, []).result[3]
    assert isinstance(nothing, ExecutionBlocker) and nothing.message is None
    masked = taught(images, [1, 3], mask=torch.ones(1, SIDE, SIDE)).result[3][0]
    assert masked["noise_mask"].shape == (2, 1, SIDE, SIDE)


if __name__ == "__main__":
    main()

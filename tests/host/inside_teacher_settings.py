"""Runs in the host's own interpreter: the Teacher by the table beside stock nodes, and how far back it goes.

usage: python inside_teacher_settings.py COMFYUI_FOLDER PACK_FOLDER

Prints one JSON object as ``inside_teacher.py`` does, whose graph it takes over.
"""

import functools
import re
from types import SimpleNamespace

import torch
from inside_presets import HERE, NEWEST, NO_NETWORK, tiny
from inside_teacher import (
    BATCH,
    MODEL,
    SEED,
    Loads,
    alone,
    close,
    far,
    main,
    pictures,
    refused,
    said,
    scores_of,
    taught,
    teach,
    text,
)  # fmt: skip

CPU = torch.device("cpu")

# E402 from here on: inside_teacher made the host's modules and the pack importable.
import comfy.conds  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.supported_models  # noqa: E402
from comfy_extras import nodes_cfg, nodes_custom_sampler, nodes_flux  # noqa: E402
from comfy_extras import nodes_model_advanced as patches  # noqa: E402
from understudy.nodes.demo_networks import load_model  # noqa: E402
from understudy.nodes.latent_space import space_of  # noqa: E402
from understudy.nodes.seeds import KEY, with_seed  # noqa: E402
from understudy.nodes.student import UnderstudyStudentSampler  # noqa: E402
from understudy.nodes.teacher import UnderstudyTeacher  # noqa: E402
from understudy.nodes.teacher_settings import row_of  # noqa: E402
from understudy.nodes.way_back import sigmas_from, words  # noqa: E402
from understudy.oracles.calibration import Calibration  # noqa: E402
from understudy.oracles.threshold import Threshold  # noqa: E402
from understudy.samplers.presets import ARCHITECTURES, STUDENTS, TEACHERS  # noqa: E402
from understudy.samplers.rollback import sigma_to_variance, variance_to_sigma  # noqa: E402

import nodes as host_nodes  # noqa: E402


class AnyNetwork(torch.nn.Module):
    """Stands in for every architecture's network: text and time change the result, in any channels and frames."""

    dtype = torch.float32

    def __init__(self, channels):
        super().__init__()
        torch.manual_seed(0)
        self.mix = torch.nn.Parameter(torch.randn(channels, channels) * 0.5 / channels**0.5)

    def forward(self, x, timesteps, context=None, **_):
        shift = torch.tanh(context.mean((1, 2)) + timesteps / (1 + timesteps.abs()))
        mixed = torch.tanh(torch.einsum("bc...,dc->bd...", x, self.mix))
        return mixed + 0.3 * shift.reshape(-1, *[1] * (x.ndim - 1))


@functools.cache
def small(architecture):
    """A MODEL of the class with everything of the host's own but its network and what that is told besides text."""
    if HERE[architecture] is None:
        made = load_model("teacher")[0].model
    else:
        config = HERE[architecture](NO_NETWORK)
        config.set_inference_dtype(torch.float32, None)
        made = config.get_model({}, device=CPU)
    made.diffusion_model = AnyNetwork(ARCHITECTURES[architecture].latent.channels)
    made.extra_conds = lambda **given: {"c_crossattn": comfy.conds.CONDRegular(given["cross_attn"])}
    return comfy.model_patcher.ModelPatcher(made, CPU, CPU)


class AnyVae:
    """Stands in for a VAE: blocks of pixels are their mean colours, over and over."""

    def __init__(self, latent):
        self.latent, self.latent_dim = latent, 3 if latent.frames else 2

    def spacial_compression_encode(self):
        return self.latent.pixels

    def encode(self, pixels):
        colours = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), self.latent.pixels)
        samples = colours.repeat(1, self.latent.channels // 3 + 1, 1, 1)[:, : self.latent.channels]
        return samples[:, :, None] if self.latent.frames else samples

    def decode(self, samples):
        flat = samples[:, :, 0] if self.latent.frames else samples
        return torch.nn.functional.interpolate(flat[:, :3].float(), scale_factor=self.latent.pixels).movedim(1, -1)


TOKENS = (64 // 16) ** 2
# What a user patches a teacher with by the host's own nodes; of the others nothing is patched.
STOCK = {
    "z-image": lambda model: patches.ModelSamplingAuraFlow().patch_aura(model, 3.0)[0],
    "qwen-image": lambda model: patches.ModelSamplingAuraFlow().patch_aura(model, 3.1)[0],
    "hidream-i1-full": lambda model: patches.ModelSamplingSD3().patch(model, 3.0)[0],
    # .5 at 256 x 256 pixels, 1.15 at 1280 x 1280; the node's own line goes through 1024 x 1024.
    "krea2-raw": lambda model: patches.ModelSamplingFlux().patch(model, 0.5 + 0.65 * 3840 / 6144, 0.5, 64, 64)[0],
    "lens": lambda model: nodes_cfg.CFGNorm.execute(
        patches.ModelSamplingFlux().patch(model, 1.15, 0.5, 64, 64)[0], 1.0
    ).result[0],
}
TABLE = {"settings": "by the table", "steps": 1, "cfg": 99.0, "sampler_name": "lms", "scheduler": "exponential"}


def stock(row, sigmas, samples, model):
    """SamplerCustomAdvanced, as people wire it."""
    node = nodes_custom_sampler
    guider = node.CFGGuider.execute(STOCK.get(row.key, lambda same: same)(model), *conditioning(), row.cfg).result[0]
    sampler = node.KSamplerSelect.execute(row.sampler).result[0]
    noise = node.RandomNoise.execute(SEED).result[0]
    return node.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, {"samples": samples}).result[0]["samples"]


def conditioning():
    return text(1), text(2)


def basic(row, model, denoise):
    """BasicScheduler's sigmas, or Flux2Scheduler's cut by Split Sigmas Denoise's rule."""
    model = STOCK.get(row.key, lambda same: same)(model)
    if isinstance(row.schedule, str):
        # UniPC's own scheduler leaves one level out, which only KSampler does.
        return comfy.samplers.KSampler(model, row.steps, CPU, row.sampler, row.schedule, denoise, {}).sigmas
    steps = row.steps if denoise == 1 else int(row.steps / denoise)
    return nodes_flux.Flux2Scheduler.execute(steps, 64, 64).result[0][-(row.steps + 1) :]


def rows():
    """Each teacher whose class this host has, with that class; where several share one, with a student of its own."""
    for row in TEACHERS.values():
        (architecture,) = row.architectures
        if architecture in HERE:
            yield row, architecture


def latent_of(row, architecture, preset=None, space=None, image=None):
    """A latent that this teacher's student made of one image."""
    latent = ARCHITECTURES[architecture].latent
    samples = AnyVae(latent).encode(pictures(1) if image is None else image)
    return with_seed({"samples": samples}, SEED, preset, space)


def student_of(row):
    return next(student for student in STUDENTS.values() if row.key in student.teachers)


def check_every_teacher_by_the_table_is_the_same_work_by_stock_nodes():
    wrong, asked = [], set()
    images = pictures(1)
    for row, architecture in rows():
        model, vae = small(architecture), AnyVae(ARCHITECTURES[architecture].latent)
        model.model.memory_required = lambda *args, **more: 0
        positive, negative = conditioning()
        # FLUX.2's two are told by the student; its way back is not taken in mode schedule.
        latent = latent_of(row, architecture, student_of(row).key)
        given = {"model": model, "vae": vae, "latent": latent, "positive": positive, "negative": negative, **TABLE}
        for options, denoise in (
            ({"rollback_mode": "schedule", "rollback": 0.4}, 0.4), ({"strategy": "regenerate"}, 1.0)
        ):  # fmt: skip
            done = teach(images, [0], **given, **options)[0]
            samples = vae.encode(images)
            start = torch.zeros_like(samples) if denoise == 1 else samples
            expected = vae.decode(stock(row, basic(row, model, denoise), start, model))
            try:
                close(done, expected, 1e-4)
                far(done, images)
            except AssertionError as error:
                wrong.append(f"{row.key}, {options}: {error}")
        asked.add(row.key)
    assert not wrong, "\n".join(wrong)
    assert {"sd15", "sdxl", "sd35-large", "flux1-dev", "z-image", "demo-teacher"} <= asked
    assert not NEWEST or asked == set(TEACHERS) - {"qwen-image-2.1", "flux3-klein-base"}


def check_ksampler_advanced_s_last_steps_are_a_schedule_s_end():
    """Half of a schedule, which KSamplerAdvanced samples as the last of twice as many steps."""
    images, row, vae = pictures(1), TEACHERS["sdxl"], AnyVae(ARCHITECTURES["SDXL"].latent)
    host = host_nodes.KSamplerAdvanced().sample(
        small("SDXL"), "enable", SEED, 2 * row.steps, row.cfg, row.sampler, row.schedule, *conditioning(),
        {"samples": vae.encode(images)}, row.steps, 10000, "disable",
    )[0]["samples"]  # fmt: skip
    done = teach(images, [0], model=small("SDXL"), vae=vae, rollback_mode="schedule", rollback=0.5, **TABLE)[0]
    close(done, vae.decode(host), 1e-4)


def check_the_same_noise_share_on_all_families():
    """What noise and what picture are at the start, by the model's own way of putting noise on: their ratio squared is
    the ratio of their variances that was asked for."""
    asked = []
    sampled = [(name, small(name)) for name in HERE] + [("v", tiny_v())]
    for name, model in sampled:
        sampling = model.get_model_object("model_sampling")
        for scheduler in ("simple", "sgm_uniform", "karras", "normal", "beta"):
            host = comfy.samplers.KSampler(model, 12, CPU, "euler", scheduler, 1.0, {})
            for share in (0.1, 0.41, 0.69, 0.94):
                sigmas = sigmas_from(host.calculate_sigmas, sampling, 12, share, "noise")
                noise, picture = (
                    sampling.noise_scaling(sigmas[:1], *pair).item()
                    for pair in ((torch.ones(1), torch.zeros(1)), (torch.zeros(1), torch.ones(1)))
                )
                assert abs(noise**2 / (noise**2 + picture**2) - share) < 1e-5, (name, scheduler, share)
                assert len(sigmas) == 13 and sigmas[-1] == 0 and (sigmas.diff() < 0).all(), (name, scheduler, share)
                spoken = words(sampling, share, "noise", float(sigmas[0]))
                assert f"{round(100 - 100 * share)} % of the variance is the picture's" in spoken, spoken
        # At both ends of the model's range it starts there.
        for share, end in ((1e-9, sampling.sigma_min), (1 - 1e-12, sampling.sigma_max)):
            sigmas = sigmas_from(host.calculate_sigmas, sampling, 12, share, "noise")
            assert abs(float(sigmas[0]) / float(end) - 1) < 1e-4, (name, share)
            clipped = "as far as" in words(sampling, share, "noise", float(sigmas[0]))
            assert clipped == (share < 0.5 or end > 1)  # a flow's range ends at all noise
        # The same fraction of a schedule is not the same share.
        asked.append(
            sigma_to_variance(float(host_sigma(model, 0.3)), ARCHITECTURES[name].time.flow) if name in HERE else 0
        )
    assert max(asked) - min(each for each in asked if each) > 0.3
    assert {"SD15", "SDXL", "SD3", "Flux", "ZImage"} <= set(HERE)


def host_sigma(model, denoise):
    return comfy.samplers.KSampler(model, 12, CPU, "euler", "simple", denoise, {}).sigmas[0]


def tiny_v():
    return patches.ModelSamplingDiscrete().patch(MODEL, "v_prediction", False)[0]


def check_the_node_says_what_a_rollback_does():
    eps, flow, v = (model.get_model_object("model_sampling") for model in (MODEL, small("ZImage"), tiny_v()))
    said = "; 60 % of the variance is the picture's"
    assert words(eps, 0.4, "noise", variance_to_sigma(0.4)) == f"noise 0.4: starts at sigma 0.816 (eps){said}"
    assert words(v, 0.4, "noise", variance_to_sigma(0.4)) == f"noise 0.4: starts at sigma 0.816 (v){said}"
    assert words(flow, 0.4, "noise", variance_to_sigma(0.4, True)) == f"noise 0.4: starts at sigma 0.449 (flow){said}"
    text = told(rollback_mode="noise", rollback=0.4)
    assert f"noise 0.4: starts at sigma 0.816 (eps){said}" in text, text
    assert "schedule 0.6: starts at sigma" in told(rollback_mode="schedule", rollback=0.6)
    assert "noise 1: starts at sigma 14.6 (eps); 0.5 % of" in told(rollback_mode="noise", rollback=1.0)
    assert "starts" not in told(strategy="regenerate")


def told(rejected=(0,), images=None, **options):
    return said(taught(pictures() if images is None else images, list(rejected), **options))


def started(**options):
    """The sigma at which the network is first asked."""
    seen = []

    def record(apply_model, x, sigma, *args, **kwargs):
        seen.append(float(sigma[0]))
        return apply_model(x, sigma, *args, **kwargs)

    model = options.pop("model", MODEL).clone()
    model.add_wrapper_with_key("apply_model", "test", record)
    output = taught(pictures(1), [0], model=model, **options)
    return seen[0], said(output)


def check_the_way_back_by_the_table_is_the_student_s():
    sd15 = {"settings": "by the table", "rollback_mode": "noise", "rollback": 0.9}
    of_student = latent_of(TEACHERS["sd15"], "SD15", "dmd2")
    of_its_own = latent_of(TEACHERS["sd15"], "SD15", "hyper-sd")
    changed = {**of_its_own, "samples": of_its_own["samples"] + 1}
    for latent, options, noise, why in (
        (of_its_own, {}, 0.41, "noise 0.41 (the table's for hyper-sd): starts"),
        (None, {}, 0.41, "noise 0.41 (the table's for the students of sd15): starts"),  # alike for all of them
        (changed, {}, 0.41, "the students of sd15"),
        (of_student, {}, 0.9, "noise 0.9 (the widget's: the table has none for dmd2): starts"),  # dmd2 is of SDXL
        (of_its_own, {"settings": "my own"}, 0.9, "noise 0.9: starts"),
    ):
        sigma, text = started(latent=latent, **{**sd15, **options})
        assert abs(sigma / variance_to_sigma(noise) - 1) < 1e-3 and why in text, (noise, sigma, text)
    sigma, text = started(latent=of_its_own, **{**sd15, "rollback_mode": "schedule", "rollback": 0.5})
    assert "schedule 0.5: starts" in text  # the widget's own fraction
    for preset, architecture, noise in (("z-image-turbo", "ZImage", 0.69), ("demo", "UnderstudyDemo", 0.94)):
        if architecture in HERE:
            row = TEACHERS[STUDENTS[preset].teachers[0]]
            latent, vae = latent_of(row, architecture, preset), AnyVae(ARCHITECTURES[architecture].latent)
            given = {"model": small(architecture), "vae": vae, "latent": latent}
            sigma, text = started(**given, **sd15)
            flow = ARCHITECTURES[architecture].time.flow
            assert abs(sigma / variance_to_sigma(noise, flow) - 1) < 1e-3, (preset, sigma, text)


def check_the_node_says_what_the_table_said():
    line = "by the table, as sd15, whatever the widgets say: 25 steps, cfg 7, dpmpp_2m, karras"
    output = taught(pictures(), [1, 2], **TABLE)
    assert line in said(output) and output.result[2].evaluations == (0, 50, 50, 0)
    assert "by the table" not in told() and taught(pictures(), [1]).result[2].evaluations[1] == 2 * 3
    assert "by the table" not in told(rejected=(), **TABLE)
    if "QwenImage" in HERE:
        latent = ARCHITECTURES["QwenImage"].latent
        spoken = told(model=small("QwenImage"), vae=AnyVae(latent), **TABLE)
        assert "50 steps, cfg 4, euler, simple, shift 3.1" in spoken


def check_a_list_is_sampled_by_one_patched_model():
    if "QwenImage" in HERE:
        seen, latent, model = [], ARCHITECTURES["QwenImage"].latent, small("QwenImage").clone()

        def record(apply, a):
            seen.append(apply.__self__.model_sampling)
            return apply(a["input"], a["timestep"], **a["c"])

        model.set_model_unet_function_wrapper(record)
        before = model.model.model_sampling
        with Loads() as loads:
            teach(list(pictures().split(1)), [0, 1, 3], model=model, vae=AnyVae(latent), positive=prompts(), **TABLE)
        assert loads.count == 1
        assert len(seen) == 3 * 50 and all(each is seen[0] for each in seen)
        assert seen[0] is not before
    if "Krea2" in HERE:  # shifted by size: one for each of two sizes, which take turns in the list
        sizes = [pictures(1, side, side) for side in (64, 128, 64, 128)]
        with Loads() as loads:
            teach(sizes, range(4), model=small("Krea2"), vae=AnyVae(ARCHITECTURES["Krea2"].latent),
                  positive=prompts(), **TABLE)  # fmt: skip
        assert loads.count == 2


def prompts():
    """One conditioning for each entry, so that each is a run of its own."""
    return tuple(text(seed) for seed in range(BATCH))


def check_sampling_that_the_user_patched():
    shift = patches.ModelSamplingAuraFlow().patch_aura
    for architecture, patch, kept in (("ZImage", 3.0, True), ("ZImage", 6.0, False)):
        vae, own = AnyVae(ARCHITECTURES[architecture].latent), small(architecture)
        given = {"vae": vae, "rollback_mode": "noise", **TABLE}
        bare, by_user = (taught(pictures(1), [0], model=model, **given) for model in (own, shift(own, patch)[0]))
        assert ("in the place of" in said(by_user)) == (not kept), said(by_user)
        close(by_user.result[0][0], bare.result[0][0], 1e-5)
        mine = {
            **given,
            "settings": "my own",
            "steps": 5,
            "cfg": 3.0,
            "sampler_name": "euler",
            "scheduler": "simple",
            "rollback_mode": "schedule",
        }
        own_way = [teach(pictures(1), [0], model=model, **mine)[0] for model in (own, shift(own, patch)[0])]
        (close if kept else far)(*own_way)
    v = tiny_v()
    kept = taught(pictures(1), [0], model=v, **TABLE)
    assert "patched into the model is kept: sd15 has none of its own" in said(kept)
    far(kept.result[0][0], teach(pictures(1), [0], **TABLE)[0])
    if "Lens" in HERE:
        given = {"vae": AnyVae(ARCHITECTURES["Lens"].latent), **TABLE}
        normed = nodes_cfg.CFGNorm.execute(small("Lens"), 0.5).result[0]
        assert "the model's own CFGNorm is kept" in told(model=normed, **given)
        assert "own CFGNorm" not in told(model=small("Lens"), **given)


def check_guidance_that_the_conditioning_has():
    given = {"model": small("Flux"), "vae": AnyVae(ARCHITECTURES["Flux"].latent), **TABLE}
    for guidance, found in ((None, "guidance none"), (2.0, "guidance 2"), (3.5, ""), ("unsaid", "")):
        positive = text(1) if guidance == "unsaid" else nodes_flux.FluxGuidance.execute(text(1), guidance).result[0]
        spoken = told(positive=positive, **given)
        assert (f"has {found}, but flux1-dev is made for 3.5" in spoken) if found else ("guidance" not in spoken), (
            spoken
        )


def check_models_without_one_row_are_refused():
    images = pictures(1)
    flux2 = {"model": small("Flux2"), "vae": AnyVae(ARCHITECTURES["Flux2"].latent), **TABLE}
    refused(["Flux2", "flux2-klein-base and flux2-dev", "'my own'", "preset"], teach, images, [0], **flux2)
    for preset, told_as in (("flux2-klein", "flux2-klein-base"), ("flux2-dev-turbo", "flux2-dev")):
        assert f"as {told_as}," in told(images=images, latent=latent_of(None, "Flux2", preset), **flux2)
    other = latent_of(None, "Flux2", "mage-flow-turbo")
    refused(["flux2-klein-base and flux2-dev"], teach, images, [0], latent=other, **flux2)
    config = comfy.supported_models.WAN21_T2V(NO_NETWORK | {"dim": 128})
    wan = SimpleNamespace(model=SimpleNamespace(model_config=config))
    refused(["WAN21_T2V", "no teacher", "z-image", "'my own'"], row_of, wan)
    assert row_of(MODEL).key == "sd15" and row_of(small("SDXL")).key == "sdxl"


def check_by_score_is_each_image_alone_at_its_own_rollback():
    calibration = Calibration("mine", {str(i): i / 100 for i in range(101)}, {}, "", "p")
    threshold, images = Threshold.percentile(calibration, 60), pictures()
    values = [0.6, 0.45, 0.15, -1.0]  # a quarter, three quarters and all of the way down; the first passes
    worse = {1: 0.4 + 0.25 * 0.5, 2: 0.4 + 0.75 * 0.5, 3: 0.9}
    score = {"strength": "by score", "rollback": 0.4, "rollback_worst": 0.9, "rollback_mode": "noise"}
    output = taught(images, None, threshold=threshold, scores=values, **score)
    (together,), refined, receipt, _ = output.result
    assert refined == [False, True, True, True] and torch.equal(together[0], images[0])
    spoken = said(output)
    for image, rollback in worse.items():
        fixed = {"rollback": round(rollback, 2), "rollback_mode": "noise"}
        close(together[image], alone(images, image, **fixed), 1e-5)
        far(together[image], alone(images, image, rollback=round(rollback, 2) - 0.1, rollback_mode="noise"))
        line = (
            f"noise {round(rollback, 2):g} by score, from 0.4 at the threshold to 0.9 at the calibration's worst score"
        )
        assert re.search(re.escape(line) + rf": starts .*: image {image + 1}$", spoken, re.MULTILINE), spoken
    assert receipt.evaluations == (0, 6, 6, 6)
    # An image's way back depends on no other's score.
    fewer = taught(images, None, threshold=threshold, scores=[0.0, 0.45, 0.9, 0.9], **score).result[0][0]
    close(fewer[1], together[1], 1e-5)
    lower = taught(images, None, threshold=threshold, scores=values, **{**score, "rollback_worst": 0.3})
    assert "to 0.3 at the calibration's worst score, which is less far: starts" in said(lower)
    assert "less far" not in spoken
    fixed = taught(images, None, threshold=threshold, scores=values, **{**score, "strength": "fixed"}).result[0][0]
    far(fixed[3], together[3])
    # The schedule's fraction as well, and regenerating knows no way back.
    schedule = taught(images, None, threshold=threshold, scores=values, **{**score, "rollback_mode": "schedule"})
    close(schedule.result[0][0][3], alone(images, 3, rollback=0.9, rollback_mode="schedule"), 1e-5)
    taught(images, [1], **{**score, "strategy": "regenerate"})


def check_by_score_without_a_calibration_is_refused_before_a_teacher_is_loaded():
    for threshold in (Threshold.fixed(0.5), Threshold.worst_fraction(0.25)):
        given = {"images": [pictures()], "scores": [scores_of([0.0] * BATCH)], "threshold": [threshold]}
        for strategy, strength in (("refine", "fixed"), ("regenerate", "by score")):
            assert UnderstudyTeacher.check_lazy_status(**given, strategy=[strategy], strength=[strength])
        refused(["'by score'", "percentiles", "mode percentile", "'fixed'"], UnderstudyTeacher.check_lazy_status,
                **given, strategy=["refine"], strength=["by score"])  # fmt: skip


def check_latents_of_another_space_are_refused_by_name():
    images = pictures(1)
    alike = (
        ("SDXL", "SD15"),
        ("SD3", "Flux"),
        ("Flux", "SD3"),
        ("Flux", "QwenImage"),
        ("QwenImage", "Flux"),
        ("Flux2", "MageFlow"),
    )
    for maker, architecture in alike:
        if {maker, architecture} <= set(HERE):
            own, other = (ARCHITECTURES[name].latent for name in (architecture, maker))
            assert space_of(small(maker)) == other.name and space_of(small(architecture)) == own.name != other.name
            given = {"model": small(architecture), "vae": AnyVae(own), "start_from": "latent"}
            latent = latent_of(None, architecture, space=other.name)
            refused(
                [f"space {other.name} ", f"of {own.name},", "start from images"],
                teach,
                images,
                [0],
                latent=latent,
                **given,
            )
            for fine in (
                latent_of(None, architecture, space=own.name), latent_of(None, architecture),
                {"samples": latent["samples"]}, {**latent, "samples": latent["samples"] * 0.9},  # no key that fits
            ):  # fmt: skip
                assert torch.isfinite(teach(images, [0], latent=fine, **given)[0]).all()
            teach(images, [0], latent=latent, **{**given, "start_from": "images"})
    # Architectures that share a space understand each other.
    assert space_of(small("ZImage")) == space_of(small("Flux")) == "Flux" or "ZImage" not in HERE
    assert space_of(MODEL) == "SD15"


def check_the_student_s_latent_says_its_preset_and_its_space():
    latent = UnderstudyStudentSampler.execute(
        tiny(), *conditioning(), {"samples": torch.zeros(2, 4, 8, 8)}, SEED, "dmd2", 4, 1.0, 1.0
    ).result[0]
    assert (latent[KEY]["preset"], latent[KEY]["space"]) == ("dmd2", "SDXL")
    image = pictures(2)
    given = {"model": small("SDXL"), "vae": AnyVae(ARCHITECTURES["SDXL"].latent), "start_from": "latent"}
    assert "noise 0.41 (the table's for dmd2)" in told(
        images=image, latent=latent, rollback_mode="noise", **given, **TABLE
    )
    given["model"] = MODEL
    refused(["space SDXL ", "of SD15,"], teach, image, [0], latent=latent, **given)


if __name__ == "__main__":
    main()

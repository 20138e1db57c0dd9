"""Runs in the host's own interpreter: the table of presets against the host's classes, without weights.

usage: python inside_presets.py COMFYUI_FOLDER PACK_FOLDER

Prints one JSON object as ``inside_teacher.py`` does, whose graph it takes over.
"""

import functools
import math
import sys
import types

import torch
from inside_teacher import PACK, SEED, TwoLayers, close, far, main, refused, text

sys.path.insert(0, f"{PACK}/tests/samplers/presets")

# E402 from here on: inside_teacher made the host's modules and the pack importable.
import comfy.model_base  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.supported_models  # noqa: E402
import comfyui_version  # noqa: E402
from comfy_execution.graph import DynamicPrompt  # noqa: E402
from comfy_extras import nodes_custom_sampler, nodes_flux, nodes_model_advanced  # noqa: E402
from published import NOT_IN_A_HOST, PUBLISHED  # noqa: E402
from understudy.nodes.demo_networks import load_model  # noqa: E402
from understudy.nodes.presets import offered, prepare  # noqa: E402
from understudy.nodes.student import UnderstudyStudentSampler  # noqa: E402
from understudy.samplers.presets import ARCHITECTURES, SAMPLERS, STUDENTS, TEACHERS, way_back  # noqa: E402

import nodes as host_nodes  # noqa: E402

NEWEST = comfyui_version.__version__ == "0.33.0"
HERE = {name: getattr(comfy.supported_models, name) for name in ARCHITECTURES if hasattr(comfy.supported_models, name)}
HERE["UnderstudyDemo"] = None  # this pack's
ROWS = STUDENTS | TEACHERS
CPU = torch.device("cpu")
# What the classes ask of a network's configuration, though none is made.
NO_NETWORK = {"disable_unet_model_creation": True, "in_channels": 4, "hidden_size": 3072}
TOLD = []
instance = types.SimpleNamespace(send_progress_text=lambda text, node_id: TOLD.append(text))
sys.modules["server"] = types.SimpleNamespace(PromptServer=types.SimpleNamespace(instance=instance))
UnderstudyStudentSampler.hidden = types.SimpleNamespace(unique_id="1", dynprompt=DynamicPrompt({"1": {"inputs": {}}}))


@functools.cache
def model_of(architecture):
    """A MODEL of the class, with its own sampling and latents but no network; the demo family's has its own."""
    if HERE[architecture] is None:
        return load_model("teacher")[0]
    config = HERE[architecture](NO_NETWORK)
    config.set_inference_dtype(torch.float32, None)
    return comfy.model_patcher.ModelPatcher(config.get_model({}, device=CPU), CPU, CPU)


@functools.cache
def tiny(architecture="SDXL"):
    """A MODEL of the class around a network of two layers."""
    config = HERE[architecture]({})
    config.set_inference_dtype(torch.float32, None)
    model = comfy.model_base.BaseModel(config, device="cpu", unet_model=TwoLayers)
    torch.manual_seed(0)
    for parameter in model.diffusion_model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU)


def sigmas_of(row, architecture, steps, denoise=1.0, side=1024):
    cells = (side // ARCHITECTURES[architecture].latent.pixels,) * 2
    return prepare(row, model_of(architecture), steps, row.cfg, denoise, cells).sigmas


def check_the_architectures_are_the_host_s():
    assert not NEWEST or set(ARCHITECTURES) - set(HERE) == {"QwenImage21", "Flux3"}, set(ARCHITECTURES) - set(HERE)
    for name in HERE:
        model, row = model_of(name), ARCHITECTURES[name]
        sampling = model.get_model_object("model_sampling")
        format = model.get_model_object("latent_format")
        assert type(format).__name__ == (row.latent.format or row.latent.name), name
        assert format.latent_channels == row.latent.channels and (format.latent_dimensions == 3) == row.latent.frames
        # 0.8.0 does not say how many pixels a cell has; FLUX.2's are 16 there, too.
        assert getattr(format, "spacial_downscale_ratio", row.latent.pixels) == row.latent.pixels, name
        assert isinstance(sampling, comfy.model_sampling.CONST) == row.time.flow, name
        if row.time.flow:
            told = float(sampling.timestep(torch.tensor(0.5)) / 0.5)
            assert told == row.multiplier, (name, told)
        for u in (0.001, 0.3, 0.5, 1.0):
            own = sampling.sigmas[round(u * len(sampling.sigmas)) - 1]
            assert math.isclose(own, row.time.sigma(u), rel_tol=1e-4), (name, u, own, row.time.sigma(u))


def check_every_row_has_the_published_sigmas():
    wrong, asked = [], set()
    for each in PUBLISHED:
        if each.architecture in HERE:
            found = sigmas_of(ROWS[each.key], each.architecture, each.steps, side=each.side).tolist()
            asked.add(each.key)
            # Relative, for a sigma may be 14.6; absolute below 1.
            if len(found) != len(each.sigmas) or any(
                abs(a - b) > each.tolerance * max(1, b) for a, b in zip(found, each.sigmas, strict=True)
            ):
                wrong.append(f"{each.key}, {each.steps} steps: {found}, published {each.sigmas}")
    assert not wrong, "\n".join(wrong)
    assert asked and (not NEWEST or asked == set(ROWS) - NOT_IN_A_HOST), set(ROWS) - asked


def check_the_families_whose_class_the_host_has_are_offered():
    assert offered() == [key for key, row in STUDENTS.items()
                         if not row.architectures or set(row.architectures) & set(HERE)]  # fmt: skip
    assert not NEWEST or set(STUDENTS) - set(offered()) == set(STUDENTS) & NOT_IN_A_HOST
    for key in offered():  # each of them has its sampler and its scheduler, too
        for architecture in set(STUDENTS[key].architectures or ["SD15"]) & set(HERE):
            assert sigmas_of(STUDENTS[key], architecture, STUDENTS[key].steps)[-1] == 0


def check_models_of_other_architectures_are_refused():
    refused(["z-image-turbo", "Z-Image-Turbo", "ZImage", "SDXL"],
            prepare, STUDENTS["z-image-turbo"], model_of("SDXL"), 8, 1.0, 1.0)  # fmt: skip
    refused(["tcd", "SD15 or SDXL", "Flux2"], prepare, STUDENTS["tcd"], model_of("Flux2"), 8, 1.0, 1.0)
    segmind = comfy.supported_models.SSD1B(NO_NETWORK).get_model({}, device=CPU)
    distilled = comfy.model_patcher.ModelPatcher(segmind, CPU, CPU)  # a kind of SDXL
    assert len(prepare(STUDENTS["LCM-LoRA"], distilled, 4, 1.0, 1.0).sigmas) == 5


def check_schedules_are_those_of_the_host_s_nodes():
    for steps, denoise in ((1, 1.0), (4, 1.0), (4, 0.65), (2, 0.3)):
        own = nodes_custom_sampler.SDTurboScheduler.execute(model_of("SDXL"), steps, denoise).result[0]
        torch.testing.assert_close(sigmas_of(STUDENTS["sdxl-turbo"], "SDXL", steps, denoise), own)
    refused(["4 steps", "0.3", "only 3"], sigmas_of, STUDENTS["sdxl-turbo"], "SDXL", 4, 0.3)
    refused(["1 steps", "only 0"], sigmas_of, STUDENTS["dmd2-1step"], "SDXL", 1, 0.5)
    for key in ("flux2-klein", "flux2-dev"):
        for steps in (4, 8, 50):
            for side in (512, 1024, 1536):
                own = nodes_flux.Flux2Scheduler.execute(steps, side, side).result[0]
                torch.testing.assert_close(sigmas_of(ROWS[key], "Flux2", steps, side=side), own, rtol=0, atol=1e-5)


def check_patches_are_those_of_the_host_s_nodes():
    nodes = nodes_model_advanced
    for key, architecture, patched in (
        ("z-image-turbo", "ZImage", lambda model: nodes.ModelSamplingAuraFlow().patch_aura(model, 3.0)),
        ("qwen-image-lightning", "QwenImage", lambda model: nodes.ModelSamplingAuraFlow().patch_aura(model, 3.0)),
        ("hidream-i1-dev", "HiDream", lambda model: nodes.ModelSamplingSD3().patch(model, 6.0)),
        ("sd35-turbox", "SD3", lambda model: nodes.ModelSamplingSD3().patch(model, 5.0)),
        ("lens-turbo", "Lens", lambda model: nodes.ModelSamplingFlux().patch(model, 1.15, 0.5, 1440, 1440)),
    ):
        if architecture in HERE:
            row, model = STUDENTS[key], model_of(architecture)
            pixels = ARCHITECTURES[architecture].latent.pixels
            own = prepare(row, model, 4, 1.0, 1.0, (1440 // pixels,) * 2).model.get_model_object("model_sampling")
            host = patched(model)[0].get_model_object("model_sampling")
            torch.testing.assert_close(own.sigmas, host.sigmas)
            assert own.timestep(torch.tensor(0.5)) == host.timestep(torch.tensor(0.5)), key
            assert model.get_model_object("model_sampling").sigmas is model.model.model_sampling.sigmas


def check_the_way_back_is_where_the_host_s_denoise_starts():
    asked = []
    for student in STUDENTS.values():
        for teacher in (TEACHERS[key] for key in student.teachers):
            share, (architecture,) = way_back(student, teacher), teacher.architectures
            if share is not None and architecture in HERE:
                # The published fractions are of schedules that are even in time.
                model = prepare(teacher, model_of(architecture), 20, 1.0, 1.0).model
                sampling = model.get_model_object("model_sampling")
                host = comfy.samplers.KSampler(model, 60, CPU, "euler", "simple", student.rollback, {})
                noise, picture = (
                    sampling.noise_scaling(host.sigmas[:1], each, other).item()
                    for each, other in ((torch.ones(1), torch.zeros(1)), (torch.zeros(1), torch.ones(1)))
                )
                assert abs(noise**2 / (noise**2 + picture**2) - share) < 0.01, (student.key, teacher.key, share)
                asked.append(teacher.key)
    assert {"sd15", "sdxl", "flux1-dev"} <= set(asked)
    assert not NEWEST or set(asked) == set(TEACHERS) - NOT_IN_A_HOST


EMPTY = {"samples": torch.zeros(1, 4, 8, 8)}


def student(key, latent=EMPTY, model=None, **changes):
    row = STUDENTS[key]
    settings = {"steps": row.steps, "cfg": row.cfg, "denoise": 1.0} | changes
    return UnderstudyStudentSampler.execute(
        model or tiny(), text(1), text(2), latent, SEED, key, *settings.values()
    ).result[0]["samples"]  # fmt: skip


def check_families_with_the_host_s_samplers_are_its_ksampler():
    asked = []
    for key, row in STUDENTS.items():
        if "SDXL" in row.architectures and isinstance(row.schedule, str) and row.sampler not in SAMPLERS:
            model, negative = tiny(), text(2)
            if row.patch is not None:
                model = nodes_model_advanced.ModelSamplingDiscrete().patch(model, "x0", False)[0]
            for denoise in (1.0, 0.6):
                host = host_nodes.common_ksampler(
                    model, SEED, row.steps, row.cfg, row.sampler, row.schedule, text(1), negative, EMPTY,
                    denoise=denoise,
                )  # fmt: skip
                close(student(key, denoise=denoise), host[0]["samples"], 1e-5)
            asked.append(key)
    assert {"dmd2", "sdxl-lightning", "sdxl-lightning-1step", "hyper-sd-cfg"} <= set(asked)
    far(student("sdxl-lightning-1step"), student("sdxl-lightning", steps=1))


def seen(key, **changes):
    """What the network is given at the first step, and the timestep that it is told."""
    calls = []
    model = tiny().clone()

    def wrapper(apply, a):
        network = model.model.diffusion_model
        handle = network.register_forward_pre_hook(lambda module, args: calls.append((args[0].clone(), args[1])))
        try:
            return apply(a["input"], a["timestep"], **a["c"])
        finally:
            handle.remove()

    model.set_model_unet_function_wrapper(wrapper)
    result = student(key, model=model, **changes)
    return result, *calls[0]


def check_one_step_students_see_noise_of_full_size():
    latent = {"samples": torch.zeros(1, 4, 64, 64)}
    _, x, timestep = seen("dmd2-1step", latent=latent)
    assert timestep.item() == 399 and abs(x.std() - 1) < 0.01, (timestep, x.std())
    _, x, timestep = seen("hyper-sdxl-1step-unet", latent=latent)
    assert timestep.item() == 800 and 0.9 < x.std() < 0.995, (timestep, x.std())  # its authors' node scales by sigma
    image = {"samples": torch.ones(1, 4, 8, 8)}
    refused(["dmd2-1step", "noise alone", "empty latent"], student, "dmd2-1step", latent=image)
    student("sdxl-lightning-1step", latent=image, denoise=0.5)


def check_tcd_by_hand():
    sampling = tiny().get_model_object("model_sampling")
    from understudy.nodes.noise import starting_noise
    from understudy.samplers.noise import PerImageNoise

    noise = PerImageNoise(SEED, [0], (4, 8, 8))
    sigmas = [sampling.sigmas[t] for t in (999, 499)]
    levels = []

    def denoise(x, sigma):
        levels.append(float(sigma))
        return sampling.calculate_denoised(
            sigma.reshape(1),
            tiny().model.diffusion_model(
                sampling.calculate_input(sigma.reshape(1), x), sampling.timestep(sigma).float().reshape(1),
                context=text(1)[0][0],
            ),
            x,
        )  # fmt: skip

    x = starting_noise((1, 4, 8, 8), torch.float32, SEED, None) * (1 + sigmas[0] ** 2).sqrt()
    x0 = denoise(x, sigmas[0])
    below = sampling.sigmas[math.floor(0.7 * 499)]
    x = x0 + (x - x0) / sigmas[0] * below + noise() * (sigmas[1] ** 2 - below**2).sqrt()
    close(student("tcd", steps=2), tiny().model.process_latent_out(denoise(x, sigmas[1])), 1e-5)
    assert levels == [float(sigma) for sigma in sigmas]


def check_settings_that_a_family_is_not_made_for_are_said():
    for changes, said in (
        ({}, []),
        ({"steps": 5}, ["2, 4 or 8 steps, not 5", "set steps to 4"]),
        ({"cfg": 7.0}, ["cfg 1, not 7", "set cfg to 1"]),
        ({"steps": 3, "cfg": 2.0}, ["not 3", "not 2"]),
    ):
        TOLD.clear()
        student("sdxl-lightning", **changes)
        assert len(TOLD) == bool(said) and all(part in TOLD[0] for part in said), TOLD
    far(student("sdxl-lightning", cfg=7.0), student("sdxl-lightning"))  # done as asked, all the same


def check_a_denoise_that_rounds_to_the_whole_schedule_is_said():
    image = {"samples": torch.ones(1, 4, 8, 8)}
    for preset, steps, denoise, is_said in (
        ("LCM", 1, 0.6, True),
        ("LCM", 1, 1.0, False),
        ("LCM", 2, 0.6, False),
        ("LCM", 4, 0.9, True),
        ("sdxl-lightning", 2, 0.8, True),
        ("sdxl-lightning", 2, 0.5, False),
    ):
        TOLD.clear()
        student(preset, steps=steps, denoise=denoise, latent=image)
        assert any(f"a denoise of {denoise:g} in {steps} step" in said for said in TOLD) == is_said, (preset, TOLD)


if __name__ == "__main__":
    main()

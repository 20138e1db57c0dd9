"""Runs in the host's own interpreter: preset ``auto``, patches that a model comes with, and Student Preset.

usage: python inside_auto.py COMFYUI_FOLDER PACK_FOLDER

Prints one JSON object as ``inside_teacher.py`` does, whose graph it takes over.
"""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
from inside_presets import CPU, EMPTY, HERE, STUDENTS, TOLD, model_of, tiny
from inside_teacher import SEED, TwoLayers, close, far, main, refused, text

MODELS = Path(tempfile.mkdtemp())

# E402 from here on: inside_teacher made the host's modules and the pack importable.
import comfy.model_base  # noqa: E402
import comfy.model_patcher  # noqa: E402
import folder_paths  # noqa: E402
from comfy_execution.graph import DynamicPrompt  # noqa: E402
from comfy_extras import nodes_custom_sampler, nodes_flux, nodes_model_advanced  # noqa: E402
from published import FILES, REFUSED_FILES  # noqa: E402
from understudy.files import save_tensors  # noqa: E402
from understudy.files.student_file import StudentFile  # noqa: E402
from understudy.nodes.folders import student_files  # noqa: E402
from understudy.nodes.presets import offered  # noqa: E402
from understudy.nodes.seeds import with_seed  # noqa: E402
from understudy.nodes.student import UnderstudyStudentSampler  # noqa: E402
from understudy.nodes.student_choice import by_files  # noqa: E402
from understudy.nodes.student_preset import UnderstudyStudentPreset  # noqa: E402
from understudy.nodes.upstream_files import ModelFile, Upstream  # noqa: E402
from understudy.samplers.presets import SAMPLERS  # noqa: E402

import nodes as host_nodes  # noqa: E402

for folder in ("loras", "checkpoints", "diffusion_models", "controlnet"):
    (MODELS / folder).mkdir()
    folder_paths.folder_names_and_paths[folder] = ([str(MODELS / folder)], folder_paths.supported_pt_extensions)
folder_paths.set_user_directory(str(MODELS))
LATENTS = {"samples": torch.zeros(3, 4, 8, 8)}
EXPORT = StudentFile("lcm", "sdxl", "a", "0", "epsilon", "lora", 3, 1.0, "lcm", "sgm_uniform", "LCM-LoRA", 50)
PLAIN = StudentFile("pd", "sdxl", "a", "0", "epsilon", "full", 2, 1.0, "euler", "sgm_uniform")


class Sixteen(TwoLayers):
    """The same of 16 channels."""

    def __init__(self, in_channels=16, device=None, operations=None, **config):
        super().__init__(16, device, operations, **config)
        self.last = operations.Conv2d(8, 16, 3, padding=1)


def flow():
    """A MODEL of Z-Image's class around a network of two layers."""
    config = HERE["ZImage"]({})
    config.set_inference_dtype(torch.float32, None)
    model = comfy.model_base.BaseModel(config, comfy.model_base.ModelType.FLOW, device="cpu", unet_model=Sixteen)
    torch.manual_seed(0)
    for parameter in model.diffusion_model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU)


def put(name, student=None):
    """A file among the models; its folder comes first in the name."""
    path = MODELS / name
    save_tensors({"weight": torch.zeros(1)}, path, None if student is None else student.metadata())
    return path.name


def graph(checkpoint, *loras, strength=1.0):
    """Hidden inputs of a node "1" whose model comes from these files, the first LoRA the nearest to it."""
    prompt = {"1": {"class_type": "X", "inputs": {"model": ["2", 0]}}}
    for number, name in enumerate(loras, 2):
        inputs = {"model": [str(number + 1), 0], "lora_name": name, "strength_model": strength}
        prompt[str(number)] = {"class_type": "LoraLoaderModelOnly", "inputs": inputs}
    loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}}
    prompt[str(len(loras) + 2)] = loader
    return SimpleNamespace(unique_id="1", dynprompt=DynamicPrompt(prompt))


def sampled(preset, hidden=None, model=None, latent=LATENTS, steps=None, cfg=None, denoise=1.0, node=None):
    """What the sampler makes, and what it says on the node."""
    row = STUDENTS.get(preset, STUDENTS["sdxl-lightning"])
    node = node or UnderstudyStudentSampler
    node.hidden = hidden or graph(BASE)
    TOLD.clear()
    arguments = (preset, steps or row.steps, row.cfg if cfg is None else cfg, denoise)
    if node is UnderstudyStudentPreset:
        return node.execute(model or tiny(), latent, *arguments).result, " ".join(TOLD)
    result = node.execute(model or tiny(), text(1), text(2), latent, SEED, *arguments).result[0]
    return result["samples"], " ".join(TOLD)


BASE = put("checkpoints/base.safetensors")
LIGHTNING = put("loras/SDXL_Lightning-4Step lora.safetensors")  # renamed a little
LCM = put("loras/lcm-lora-sdxl.safetensors")
TURBO = put("checkpoints/sd_xl_turbo_1.0_fp16.safetensors")
STYLE = put("loras/my style for sdxl_turbo.safetensors")
OWN = put("loras/mine.safetensors", EXPORT)
OWN_WHOLE = put("checkpoints/mine2.safetensors", PLAIN)


def seen(*names, lora=False):
    return Upstream([ModelFile(name, f"Loader (node {i})", None, lora) for i, name in enumerate(names)], [])


def check_published_names_choose_their_rows():
    for key, names in FILES.items():
        row = STUDENTS[key]
        for name in names.split():
            for architecture in row.architectures or ("SD15",):
                found, file = by_files(seen("base.safetensors", f"{name}.safetensors"), [architecture, "BASE"])
                assert found is row and file.name == f"{name}.safetensors", (key, name)
            if row.lora:
                assert by_files(seen(f"{name}.safetensors", lora=True), [architecture])[0] is row
            else:  # a style's name may tell what it is for
                refused(["base", "Choose"], by_files, seen(f"{name}.safetensors", "base", lora=True), [architecture])


def check_students_that_cannot_be_sampled_are_refused_by_name():
    for name, files in REFUSED_FILES.items():
        for file in files:
            for lora in (False, True):
                refused(
                    [file, name],
                    by_files,
                    seen("lcm-lora-sdxl.safetensors", f"{file}.safetensors", lora=lora),
                    ["SDXL"],
                )


def check_a_preset_that_is_chosen_for_such_a_student_is_said_not_to_fit():
    file = put("loras/gmflux_k8_piid_4step.safetensors")
    _, said = sampled("LCM-LoRA", graph(BASE, file), steps=4)
    assert f"LCM-LoRA is as you chose, but {file} is of pi-Flow, which cannot be sampled here" in said, said
    assert "cannot" not in sampled("LCM-LoRA", graph(BASE, LCM), steps=4)[1]


def check_what_no_name_tells_is_an_error_with_the_candidates():
    expected = [key for key in offered() if not STUDENTS[key].architectures or "SDXL" in STUDENTS[key].architectures]
    for files in ((BASE,), (BASE, STYLE)):
        refused([*files, "CheckpointLoaderSimple (node", *expected], sampled, "auto", graph(*files))
    refused(["no file at all"], sampled, "auto", SimpleNamespace(
        unique_id="1", dynprompt=DynamicPrompt({"1": {"class_type": "X", "inputs": {"model": None}}})))  # fmt: skip
    if "ZImage" in HERE:  # the architecture alone does not choose
        refused(["z_image_bf16", "z-image-turbo"], by_files, seen("z_image_bf16.safetensors"), ["ZImage"])
        assert by_files(seen("z_image_turbo_bf16.safetensors"), ["ZImage"])[0].key == "z-image-turbo"


def check_several_families_and_other_architectures_are_errors():
    refused(["several", "LCM-LoRA", LCM, "sdxl-turbo", TURBO], sampled, "auto", graph(TURBO, LCM))
    refused(["several", "LCM-LoRA", "sdxl-lightning"], sampled, "auto", graph(BASE, LCM, LIGHTNING))
    refused([LIGHTNING, "sdxl-lightning", "SDXL", "SD15"], by_files, seen(LIGHTNING), ["SD15", "BASE"])
    by_files(seen(LIGHTNING), ["SSD1B", "SDXL", "BASE"])  # a kind of SDXL


def check_auto_is_the_preset_that_it_names_with_the_file():
    for files, key in (((BASE, LIGHTNING), "sdxl-lightning"), ((TURBO,), "sdxl-turbo"), ((BASE, LCM), "LCM-LoRA")):
        row = STUDENTS[key]
        made, said = sampled("auto", graph(*files), steps=row.steps, cfg=row.cfg)
        assert torch.equal(made, sampled(key)[0])
        usual = f"usually {4 if key == 'sdxl-lightning' else row.steps} steps at cfg {row.cfg:g}."
        assert said.startswith(f"auto: {key}, by {files[-1]} of ") and said.endswith(usual), said
    far(sampled("auto", graph(BASE, LIGHTNING), steps=4)[0], sampled("auto", graph(BASE, LCM), steps=4)[0])
    refused(["Seen"], sampled, "auto", graph(BASE, LIGHTNING, strength=0))


def check_a_file_s_own_number_of_steps_is_compared():
    _, said = sampled("auto", graph(BASE, LIGHTNING), steps=8)
    assert "sdxl-lightning is made for 4 steps, not 8: set steps to 4." in said
    assert "not 8" in sampled("sdxl-lightning", graph(BASE, LIGHTNING), steps=8)[1]
    assert sampled("sdxl-lightning", graph(BASE), steps=8)[1] == ""
    assert "cfg 1, not 3" in sampled("auto", graph(BASE, LIGHTNING), steps=4, cfg=3.0)[1]


def check_a_student_s_own_file_says_it_all():
    assert f"loras/{OWN}" in student_files()
    UnderstudyStudentSampler.hidden = graph(BASE)
    arguments = tiny(), text(1), text(2), LATENTS, SEED
    for files, steps in (((BASE, OWN), 3), ((OWN_WHOLE,), 2)):
        name = f"{'loras' if len(files) > 1 else 'checkpoints'}/{files[-1]}"
        TOLD.clear()
        named = UnderstudyStudentSampler.execute(*arguments, "demo", 9, 5.0, 1.0, settings_from=name).result[0]
        told = " ".join(TOLD)
        made, said = sampled("auto", graph(*files), steps=9, cfg=5.0)
        assert torch.equal(made, named["samples"]), files
        for words in (said, told):
            parts = files[-1], f"says, {steps} steps at cfg 1.", "The 9 steps at cfg 5"
            assert all(part in words for part in parts), words
        assert "not used" not in sampled("auto", graph(*files), steps=steps, cfg=1.0)[1]
        UnderstudyStudentSampler.hidden = graph(BASE)
    refused(["several", LCM, OWN_WHOLE], sampled, "auto", graph(OWN_WHOLE, LCM))


def check_a_student_s_own_file_is_for_the_model_that_it_was_distilled_from():
    other = put("loras/of sd 1.safetensors", StudentFile(**{**vars(EXPORT), "base": "sd1", "intervals": None}))
    newer = put("loras/of a newer class.safetensors", StudentFile(**{**vars(PLAIN), "base": "Newer"}))
    UnderstudyStudentSampler.hidden = graph(BASE)
    arguments = tiny(), text(1), text(2), LATENTS, SEED, "demo", 9, 5.0, 1.0
    for name, base in ((other, "SD15"), (newer, "Newer")):
        says = [name, f"that ComfyUI loads as {base}", "but this model is SDXL", "distilled from"]
        refused(says, sampled, "auto", graph(BASE, name))
        refused(says, UnderstudyStudentSampler.execute, *arguments, settings_from=f"loras/{name}")
    made, _ = sampled("auto", graph(BASE, other), tiny("SD15"))
    close(made, sampled("LCM-LoRA", model=tiny("SD15"), steps=3, cfg=1.0)[0], 1e-5)


def check_several_students_of_one_family_are_said():
    eight = put("loras/sdxl_lightning_8step_lora.safetensors")
    own = put("loras/mine too.safetensors", StudentFile(**{**vars(EXPORT), "steps": 7}))
    for files, beside in (((eight, LIGHTNING), LIGHTNING), ((OWN, own), own), ((OWN, LCM), LCM), ((LCM, OWN), OWN)):
        _, said = sampled("auto", graph(BASE, *files), steps=4)
        assert f"by {files[0]} of" in said or f"as {files[0]} of" in said, said
        assert f"{beside} of LoraLoaderModelOnly (node 3) is of" in said and "take off the others" in said, said
    assert "too" not in sampled("auto", graph(BASE, LIGHTNING, LIGHTNING), steps=4)[1]
    assert "too" not in sampled("auto", graph(BASE, STYLE, LCM), steps=4)[1]


def check_latents_that_are_not_the_model_s_are_refused():
    made = {"samples": torch.randn(2, 4, 8, 8)}
    for node in (UnderstudyStudentSampler, UnderstudyStudentPreset):
        for shape in ((2, 16, 8, 8), (2, 4, 1, 8, 8), (4, 8, 8)):
            refused(
                [f"latent_image has shape {list(shape)}", "(SDXL) have 4 channels and 4 dimensions", "empty latent"],
                sampled, "LCM", latent={"samples": torch.ones(shape)}, node=node,
            )  # fmt: skip
        of_sd15 = with_seed(made, SEED, "LCM", "SD15")
        refused(["latent_image is of the space SD15", "of SDXL", "encode"], sampled, "LCM", latent=of_sd15, node=node)
        for own in (with_seed(made, SEED, "LCM", "SDXL"), {**of_sd15, "samples": made["samples"] + 1}, made):
            sampled("LCM", latent=own, node=node)
    empty = sampled("LCM", latent={"samples": torch.zeros(2, 16, 8, 8)})[0]  # takes the model's channels, as KSampler's
    assert empty.shape == (2, 4, 8, 8)


def check_codi_is_sampled_on_the_grid_of_its_file():
    file = StudentFile("pe-codi", "sdxl", "a", "0", "epsilon", "control", 3, 1.0, "euler", "sgm_uniform", "codi", 8)
    name = f"controlnet/{put('controlnet/outlines.safetensors', file)}"
    UnderstudyStudentSampler.hidden = graph(BASE)
    arguments = tiny(), text(1), text(2), EMPTY, SEED, "demo", 9, 5.0, 1.0
    made = UnderstudyStudentSampler.execute(*arguments, settings_from=name).result[0]["samples"]
    levels = tiny().get_model_object("model_sampling").sigmas[[999, 749, 374]]
    sampler = nodes_custom_sampler.KSamplerSelect.execute("euler").result[0]
    close(made, advanced(tiny(), sampler, torch.cat([levels, torch.zeros(1)]), 1.0, EMPTY), 1e-5)
    far(made, sampled("codi", latent=EMPTY, steps=3)[0])


def check_a_flow_student_is_sampled_at_the_noise_levels_of_its_file():
    if "ZImage" not in HERE:
        return
    levels, latent = (1.0, 0.6, 0.25, 0.0), {"samples": torch.zeros(2, 16, 8, 8)}
    file = StudentFile("pd", "ZImage", "a", "0", "flow", "lora", 3, 1.0, "euler", "simple", shift=2.0, sigmas=levels)
    name, patch = put("loras/flow.safetensors", file), nodes_model_advanced.ModelSamplingAuraFlow().patch_aura
    sampler = nodes_custom_sampler.KSamplerSelect.execute("euler").result[0]
    expected = advanced(flow(), sampler, torch.tensor(levels), 1.0, latent)
    # Whatever shift the graph patches: the levels have their own.
    for model in (flow(), patch(flow(), 6.0)[0]):
        made, said = sampled("auto", graph(BASE, name), model, latent)
        close(made, expected, 1e-5)
        assert said.startswith(f"auto: as {name} of ") and "kept" not in said, said
    stock = host_nodes.common_ksampler(flow(), SEED, 3, 1.0, "euler", "simple", text(1), text(2), latent)[0]["samples"]
    far(made, stock)
    assert "denoise" not in said
    said = sampled("auto", graph(BASE, name), flow(), latent, denoise=0.6)[1]
    assert "a denoise of 0.6 in 3 steps of a fixed schedule runs the last 2" in said, said
    said = sampled("auto", graph(BASE, name), flow(), latent, denoise=0.9)[1]
    assert "a denoise of 0.9 in 3 steps starts from all the noise" in said, said
    refused(["leaves none"], sampled, "auto", graph(BASE, name), flow(), latent, denoise=0.1)


def check_the_demo_s_student_is_known():
    for part in ("student", "teacher"):
        prompt = {
            "1": {"class_type": "X", "inputs": {"model": ["2", 0]}},
            "2": {"class_type": "UnderstudyLoadDemo", "inputs": {"part": part}},
        }
        hidden = SimpleNamespace(unique_id="1", dynprompt=DynamicPrompt(prompt))
        if part == "student":
            made, said = sampled("auto", hidden, steps=4, cfg=1.0)
            assert torch.equal(made, sampled("demo")[0]) and "auto: demo, by the student" in said
        else:
            refused(["the teacher of UnderstudyLoadDemo (node 2)", "codi"], sampled, "auto", hidden)


def check_guidance_is_as_asked_and_said():
    made, said = sampled("demo", cfg=3.0)
    far(made, sampled("demo")[0])
    assert "demo is made for cfg 1, not 3" in said and sampled("demo")[1] == ""


def check_a_model_s_own_patch_is_kept_and_said_where_it_differs():
    if "ZImage" not in HERE:
        return
    model, nodes = flow(), nodes_model_advanced
    latent = {"samples": torch.zeros(1, 16, 8, 8)}
    plain = sampled("z-image-turbo", model=model, latent=latent)
    assert plain[1] == ""
    aura = nodes.ModelSamplingAuraFlow()
    for shift in (3.0, 6.0):
        patched = aura.patch_aura(model, shift)[0]
        host = host_nodes.common_ksampler(
            patched, SEED, 8, 1.0, "res_multistep", "simple", text(1), text(2), latent
        )[0]["samples"]  # fmt: skip
        made, said = sampled("z-image-turbo", model=patched, latent=latent)
        close(made, host, 1e-5)
        if shift == 3.0:
            close(made, plain[0], 1e-5)
            assert said == "", said
        else:
            far(made, plain[0])
            assert all(part in said for part in ("shift 6", "kept", "shift 3", "z-image-turbo")), said
        out = sampled("z-image-turbo", model=patched, latent=latent, node=UnderstudyStudentPreset)[0][0]
        assert out.get_model_object("model_sampling") is patched.get_model_object("model_sampling")
    wrong = nodes.ModelSamplingSD3().patch(model, 3.0)[0]  # its network is told another time
    assert "kept" in sampled("z-image-turbo", model=wrong, latent=latent)[1]
    if "Lens" in HERE:  # a shift by size: the same at the size that the user said, another at any other
        lens = nodes.ModelSamplingFlux().patch(model_of("Lens"), 1.15, 0.5, 1440, 1440)[0]
        for side, words in ((90, ""), (64, "mu 1.15")):
            latent = {"samples": torch.zeros(1, 128, side, side)}
            said = sampled("lens-turbo", model=lens, latent=latent, node=UnderstudyStudentPreset)[1]
            assert said == words if side == 90 else words in said, said
    if "FluxSchnell" in HERE:  # a row without a patch
        schnell = nodes.ModelSamplingFlux().patch(model_of("FluxSchnell"), 1.15, 0.5, 1024, 1024)[0]
        latent = {"samples": torch.zeros(1, 16, 128, 128)}
        said = sampled("flux1-schnell", model=schnell, latent=latent, node=UnderstudyStudentPreset)[1]
        assert "mu 1.15" in said and "shift 1" in said, said


def check_patches_of_stable_diffusion():
    patch = nodes_model_advanced.ModelSamplingDiscrete().patch
    lcm = patch(tiny(), "lcm", False)[0]
    made, said = sampled("LCM", model=lcm)
    close(made, sampled("LCM")[0], 1e-5)
    assert said == ""
    out = sampled("LCM", model=lcm, node=UnderstudyStudentPreset)[0][0]
    assert out.get_model_object("model_sampling") is lcm.get_model_object("model_sampling")
    x0, v = (patch(tiny(), kind, False)[0] for kind in ("x0", "v_prediction"))
    made, said = sampled("sdxl-lightning-1step", model=x0)
    close(made, sampled("sdxl-lightning-1step")[0], 1e-5)
    assert said == ""
    made, said = sampled("sdxl-lightning-1step", model=v)
    far(made, sampled("sdxl-lightning-1step")[0])
    assert "V_PREDICTION" in said and "X0" in said, said
    assert sampled("sdxl-lightning", model=v)[1] == ""  # what a network predicts is its own


def by_parts(preset, latent=LATENTS, model=None, hidden=None, seed=SEED, **changes):
    """Student Preset before the host's own nodes."""
    (model, sampler, sigmas, cfg), _ = sampled(preset, hidden, model, latent, node=UnderstudyStudentPreset, **changes)
    return advanced(model, sampler, sigmas, cfg, latent, seed)


def advanced(model, sampler, sigmas, cfg, latent=LATENTS, seed=SEED):
    custom = nodes_custom_sampler
    guider = custom.CFGGuider.execute(model, text(1), text(2), cfg).result[0]
    noise = custom.RandomNoise.execute(seed).result[0]
    return custom.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).result[0]["samples"]


def check_the_parts_are_the_sampler_s():
    asked = []
    for key, row in STUDENTS.items():
        if not row.architectures or "SDXL" in row.architectures:
            for denoise in (1.0, 0.6) if isinstance(row.schedule, str) else (1.0,):
                close(by_parts(key, denoise=denoise), sampled(key, denoise=denoise)[0], 1e-5)
            asked.append(row.sampler)
    assert {"euler", "lcm", "tcd", "one_step", "consistency", "euler_ancestral"} == set(asked)
    close(by_parts("auto", hidden=graph(BASE, LIGHTNING), steps=4), sampled("sdxl-lightning")[0], 1e-5)
    if "ZImage" in HERE:
        latent = {"samples": torch.zeros(2, 16, 8, 8)}
        close(by_parts("z-image-turbo", latent, flow()), sampled("z-image-turbo", None, flow(), latent)[0], 1e-5)


def check_the_parts_are_the_host_s_own():
    one, custom = EMPTY, nodes_custom_sampler
    for key, row in STUDENTS.items():
        if "SDXL" in row.architectures and row.sampler not in SAMPLERS and row.patch is None:
            scheduler = custom.BasicScheduler if isinstance(row.schedule, str) else custom.SDTurboScheduler
            if key == "hyper-sdxl-1step-unet":  # of timesteps that no node of the host has
                continue
            named = (row.schedule,) if isinstance(row.schedule, str) else ()
            sigmas = scheduler.execute(tiny(), *named, row.steps, 1.0).result[0]
            sampler = custom.KSamplerSelect.execute(row.sampler).result[0]
            close(by_parts(key, one), advanced(tiny(), sampler, sigmas, row.cfg, one), 1e-5)
    if "Flux2" in HERE:
        latent = {"samples": torch.zeros(1, 128, 48, 64)}
        sigmas = sampled("flux2-klein", None, model_of("Flux2"), latent, node=UnderstudyStudentPreset)[0][2]
        own = nodes_flux.Flux2Scheduler.execute(4, 1024, 768).result[0]
        torch.testing.assert_close(sigmas, own, rtol=0, atol=1e-5)


def check_an_image_alone_is_the_same_as_in_its_batch():
    for key in ("LCM", "dmd2", "tcd", "sdxl-turbo", "demo", "sdxl-lightning"):
        row = STUDENTS[key]
        steps = max(2, row.steps)
        together = by_parts(key, steps=steps)
        alone = {"samples": torch.zeros(1, 4, 8, 8), "batch_index": [2]}
        close(by_parts(key, alone, steps=steps), together[2:], 1e-5)
        far(by_parts(key, alone | {"batch_index": [1]}, steps=steps), together[2:])
    (model, sampler, sigmas, cfg), _ = sampled("LCM", node=UnderstudyStudentPreset)
    refused(["3 images", "1 latents"], advanced, model, sampler, sigmas, cfg, EMPTY)


if __name__ == "__main__":
    main()

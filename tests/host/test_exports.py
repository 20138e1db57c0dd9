"""Exported students in ComfyUI's stock loaders: every key finds its place, and the image is the one diffusers makes."""

import ctypes
import gc
from dataclasses import replace

import pytest
import torch
from understudy.distill_train.exports.export import export
from understudy.files import save_tensors, sha256
from understudy.files.student_file import StudentFile
from understudy.pipelines.single_file import load_single_file
from understudy.pipelines.stable_diffusion import StableDiffusion, guidance_embedding

from ..distill_train.students import make_run, with_lora
from .checkpoints import CHECKPOINT
from .environment import cache_dir, locked
from .graphs import Graph
from .sdxl import SDXL, sdxl_checkpoint
from .tensors import tensors

SIDE, SEED, CFG, GUIDANCE = 64, 9, 2.0, 6.0
TEXTS = "a castle on a hill", "blurry"
TIMESTEPS = [999, 666, 333]  # of the scheduler sgm_uniform in three steps
# In whatever case: the host has "lora key not loaded", "NOT LOADED", "unet unexpected", "Missing VAE keys", "left over
# keys in diffusion model" and more. Of what is left over of a whole checkpoint it only speaks at the level DEBUG, where
# it also misses what no SD 1.x file has. That nothing is left over is what an export checks against its base.
COMPLAINTS = ("not loaded", "left over", "leftover", "missing", "unexpected", "not a checkpoint", "no clip")


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def architecture(request, host):
    """(kind, the teacher's file, its name for Load Checkpoint)"""
    if request.param == "sd1":
        return "sd1", host.models / "checkpoints" / CHECKPOINT, CHECKPOINT
    folder = host.base / "models" / "checkpoints"
    folder.mkdir(exist_ok=True)
    if not (folder / SDXL).exists():
        (folder / SDXL).symlink_to(sdxl_checkpoint())
    return "sdxl", folder / SDXL, SDXL


@pytest.fixture(scope="module")
def images(architecture, host, tmp_path_factory):
    """For each kind of export: (the image by ComfyUI, by diffusers), and what the server logged meanwhile."""
    with locked(cache_dir() / "exports.lock"):  # SDXL takes about 10 GB here, and there are two processes of tests
        return made(*architecture, host, tmp_path_factory.mktemp(architecture[0]))


def made(kind, teacher, name, host, folder):
    parts = load_single_file(teacher, torch.float32)
    model = StableDiffusion(parts, torch.device("cpu"))
    states = [model.conditioning([text], 1, (SIDE, SIDE))["cond"] for text in TEXTS]
    # SDXL's text encoders take more memory than all the rest.
    parts = model.components = replace(parts, texts=())
    fingerprint, expected = sha256(teacher), {}
    told = {"guidance": "embedded", "w_min": 2.0, "w_max": 14.0}

    student = with_guidance_input(parts.unet)
    run = make_run(folder / "full", teacher, kind, "full", student.state_dict(), fingerprint, **told)
    for to, place in (("unet", "diffusion_models"), ("checkpoint", "checkpoints")):
        export(run, to, GUIDANCE, exported(host, place, kind, to))
    expected["unet"] = expected["checkpoint"] = by_diffusers(model, student, states)
    del student

    weights = with_lora(parts.unet)
    run = make_run(folder / "lora", teacher, kind, "lora", weights, fingerprint, rank=3, alpha=6.0)
    export(run, "lora", out=exported(host, "loras", kind, "lora"))
    expected["lora"] = by_diffusers(model, parts.unet, states)
    del parts, model

    # glibc keeps what was freed in small pieces, and the server needs the room.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)

    before = len(host.log_text())
    base = Graph()
    loaded = base.add("CheckpointLoaderSimple", ckpt_name=name)
    lora = base.add("LoraLoaderModelOnly", model=loaded[0], lora_name=f"{kind}-lora.safetensors", strength_model=1.0)
    unet = base.add("UNETLoader", unet_name=f"{kind}-unet.safetensors", weight_dtype="default")
    alone = Graph()
    whole = alone.add("CheckpointLoaderSimple", ckpt_name=f"{kind}-checkpoint.safetensors")
    saved = {
        "lora": (base, sampled(base, lora[0], loaded[1], loaded[2])),
        "unet": (base, sampled(base, unet[0], loaded[1], loaded[2])),
        "checkpoint": (alone, sampled(alone, whole[0], whole[1], whole[2])),
    }
    found = {}
    for graph in (base, alone):
        ran = host.run(graph)
        found |= {to: tensors(host, ran, node)["images.0"] for to, (of, node) in saved.items() if of is graph}
        host.forget()  # so that the text encoders are not there twice
    (host.base / "models" / "checkpoints" / f"{kind}-checkpoint.safetensors").unlink()
    return {to: (found[to], expected[to]) for to in expected}, host.log_text()[before:]


def exported(host, place, kind, to):
    return host.base / "models" / place / f"{kind}-{to}.safetensors"


def with_guidance_input(unet):
    """A student of the UNet: other weights, and the input for a guidance scale."""
    student = type(unet).from_config(unet.config, time_cond_proj_dim=32)
    student.load_state_dict(unet.state_dict(), strict=False)
    generator = torch.Generator().manual_seed(21)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * parameter.std(unbiased=False) * torch.randn(parameter.shape, generator=generator))
    return student.eval()


@torch.no_grad()
def by_diffusers(model, unet, states):
    """The image [1, H, W, 3] of a UNet by diffusers' Euler scheduler; states: of both texts."""
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.set_timesteps(timesteps=TIMESTEPS)
    told = {}
    if unet.config.time_cond_proj_dim:
        told["timestep_cond"] = guidance_embedding(torch.tensor([GUIDANCE - 1]), unet.config.time_cond_proj_dim)
    noise = torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(SEED))
    x = noise * (1 + scheduler.sigmas[0] ** 2) ** 0.5
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        positive, negative = (
            unet(
                scaled,
                t,
                encoder_hidden_states=state["context"],
                added_cond_kwargs={"text_embeds": state["pooled"], "time_ids": state["time_ids"]}
                if "pooled" in state
                else None,
                **told,
            ).sample
            for state in states
        )
        x = scheduler.step(negative + CFG * (positive - negative), t, x).prev_sample
    return model.decode(x).movedim(1, -1)


def sampled(graph, model, clip, vae):
    """The node that saves an image."""
    positive, negative = (graph.add("CLIPTextEncode", clip=clip, text=text) for text in TEXTS)
    latent = graph.add("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=1)
    widgets = {"seed": SEED, "steps": len(TIMESTEPS), "cfg": CFG, "sampler_name": "euler", "scheduler": "sgm_uniform"}
    samples = graph.add(
        "KSampler",
        model=model,
        positive=positive[0],
        negative=negative[0],
        latent_image=latent[0],
        denoise=1.0,
        **widgets,
    )
    return graph.add("TestSaveTensors", images=graph.add("VAEDecode", samples=samples[0], vae=vae)[0])


@pytest.mark.parametrize("to", ["lora", "unet", "checkpoint"])
def test_comfyui_makes_the_image_that_diffusers_makes(images, to):
    by_comfyui, expected = images[0][to]
    assert expected.std() > 0.02
    torch.testing.assert_close(by_comfyui, expected, rtol=0, atol=1e-3)


def test_no_key_is_without_a_place(images):
    lines = images[1].casefold().splitlines()
    assert any("model weight dtype" in line for line in lines)  # that the log is the one of the loading
    assert [line for line in lines if any(words in line for words in COMPLAINTS)] == []


def test_the_students_differ_from_each_other(images):
    assert (images[0]["lora"][1] - images[0]["unet"][1]).abs().mean() > 1e-2


class Sampling(Graph):
    """The SD 1.5-layout checkpoint in the student sampler, and in KSampler with other settings."""

    def __init__(self, **student):
        super().__init__()
        loader = self.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
        texts = [self.add("CLIPTextEncode", clip=loader[1], text=text)[0] for text in TEXTS]
        latent = self.add("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=1)
        shared = {"model": loader[0], "positive": texts[0], "negative": texts[1], "latent_image": latent[0]}
        shared |= {"seed": SEED, "denoise": 1.0}
        self.student = self.add("UnderstudyStudentSampler", **shared, **student)
        self.saved = self.add("TestSaveTensors", latent=self.student[0])
        plain = {"steps": 3, "cfg": CFG, "sampler_name": "euler", "scheduler": "sgm_uniform"}
        self.plain = self.add("TestSaveTensors", latent=self.add("KSampler", **shared, **plain)[0])


WIDGETS = {"preset": "LCM", "steps": 1, "cfg": 7.0}
STUDENT = StudentFile("pd", "sd1", "a", "0", "epsilon", "full", 3, CFG, "euler", "sgm_uniform")


def put(host, student, name):
    """A file that says what ``student`` says, in models/loras."""
    path = host.base / "models" / "loras" / name
    path.parent.mkdir(exist_ok=True)
    save_tensors({"nothing": torch.zeros(1)}, path, student.metadata() if student else None)
    return f"loras/{name}"


def latents(host, graph):
    run = host.run(graph)
    return tensors(host, run, graph.saved)["latent.0"], tensors(host, run, graph.plain)["latent.0"]


def test_a_student_s_file_says_how_it_is_sampled(host):
    pd = put(host, STUDENT, "pd.safetensors")
    student, plain = latents(host, Sampling(**WIDGETS, settings_from=pd))
    torch.testing.assert_close(student, plain, rtol=0, atol=1e-5)
    lcm = put(host, replace(STUDENT, steps=2, guidance=1.5, sampler="lcm", preset="LCM-LoRA"), "lcm.safetensors")
    by_file, _ = latents(host, Sampling(**WIDGETS, settings_from=lcm))
    by_hand, _ = latents(host, Sampling(preset="LCM-LoRA", steps=2, cfg=1.5))
    assert torch.equal(by_file, by_hand)
    # Exported again under its name: the host must not hand out the old result, even where the name comes by a link.
    linked = Sampling(**WIDGETS)
    linked.set(linked.student, settings_from=linked.add("TestAnything", text=pd)[0])
    assert torch.equal(latents(host, linked)[0], student)
    assert linked.student not in host.run(linked).executed
    put(host, replace(STUDENT, steps=4), "pd.safetensors")
    again = latents(host, linked)[0]
    assert not torch.equal(again, student)
    assert torch.equal(latents(host, Sampling(**WIDGETS, settings_from=pd))[0], again)


def test_the_grid_of_a_consistency_student_is_its_file_s(host):
    said = replace(STUDENT, guidance=1.0, sampler="consistency", scheduler="leading", preset="consistency")
    coarse = put(host, replace(said, intervals=10), "coarse.safetensors")
    usual = put(host, replace(said, intervals=50), "usual.safetensors")
    by_hand, _ = latents(host, Sampling(preset="consistency", steps=3, cfg=1.0))
    assert torch.equal(latents(host, Sampling(**WIDGETS, settings_from=usual))[0], by_hand)
    assert not torch.equal(latents(host, Sampling(**WIDGETS, settings_from=coarse))[0], by_hand)


@pytest.mark.parametrize(
    "student, said",
    [
        (replace(STUDENT, guidance="embedded"), "--guidance"),
        (replace(STUDENT, preset="new"), "LCM-LoRA"),
        (replace(STUDENT, sampler="nobody knows it"), "nobody knows it"),
    ],
)
def test_files_that_cannot_be_followed_are_errors(host, student, said):
    graph = Sampling(**WIDGETS, settings_from=put(host, student, f"wrong-{said[:3]}.safetensors"))
    run = host.attempt(graph)
    assert run.error_node == graph.student and said in run.error


def test_only_students_are_offered(host):
    put(host, None, "no student.safetensors")
    put(host, STUDENT, "a student.safetensors")
    offered = host.object_info()["UnderstudyStudentSampler"]["input"]["optional"]["settings_from"][1]["options"]
    assert "loras/a student.safetensors" in offered and "loras/no student.safetensors" not in offered
    graph = Sampling(**WIDGETS, settings_from="loras/no student.safetensors")
    run = host.attempt(graph)
    assert (
        run.error_node == graph.student
        and "Value not in list: settings_from" in run.error
        and graph.student not in run.executed
    )

"""A gradient predictor in ComfyUI gives what it gives in the trainer's own sampling, from the same noise."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from understudy.demo_family import family, sampling
from understudy.distill_train.config import Recipe
from understudy.distill_train.data.batch import Batch
from understudy.distill_train.methods import make_method
from understudy.distill_train.teachers import WaitingTeacher, load_teacher
from understudy.files import read_header
from understudy.predictor import Predicted
from understudy.samplers.denoisers import Guided
from understudy.samplers.noise import initial_noise
from understudy.samplers.schedules import normal_sigmas
from understudy.samplers.solvers import sample_dpmpp_2m

from .checkpoints import CHECKPOINT, LORA
from .graphs import Graph
from .server import PromptFailed
from .tensors import tensors

TEXTS = {"demo": "a small red star left of a large blue circle on a black background", "sd1": "a castle on a hill"}
COUNT, SEED, STEPS = 2, 11, 4
CPU = torch.device("cpu")


class Noise:
    """Data: noise for pictures, all of one text."""

    def __init__(self, teacher, text):
        self.teacher, self.text = teacher, text

    def batch(self, step, indices):
        latents = initial_noise(1, indices, (self.teacher.latent_channels, 8, 8))
        return Batch(latents, self.teacher.embed([self.text] * len(indices)), height=64, width=64)


def livelier(network):
    """The trained values of nobody, but of a size that shows."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)


def complete(kind, host, folder):
    """The trainer's sferd-prior with random weights; its files in the host's folder: whole, alone, and still."""
    path = "demo" if kind == "demo" else host.models / "checkpoints" / CHECKPOINT
    teacher, student = load_teacher(path), family.FOLDER / "student.safetensors"
    if kind == "sd1":
        student = host.models / "loras" / LORA

    def method(name, files, **settings):
        files = {"file": student, "dtype": "fp32", "train": name.removeprefix("sferd-"), **files}
        loop, shown = {"steps": 1, "batch_size": 8, "lr": 1e-3}, {"seed": SEED, "prompts": (TEXTS[kind],) * COUNT}
        told = {"method": name, "seed": 1, "export": "x.safetensors", "loop": loop, "student": files}
        recipe = Recipe(**told, samples=shown, settings=settings)
        made = make_method(recipe, CPU, teacher=teacher, source=Noise(teacher, TEXTS[kind]))
        if isinstance(teacher, WaitingTeacher):
            made.make_student()  # as `prepare` does
        return made

    first = method("sferd-predictor", {}, cfg=1.0, rule="consistency", intervals=50)
    livelier(first.network)
    first.export(first.network, folder / f"{kind}-alone.safetensors")
    prior = method("sferd-prior", {"predictor": folder / f"{kind}-alone.safetensors"}, statistics=16)
    prior.take_statistics()
    livelier(prior.network)
    prior.export(prior.network, folder / f"{kind}.safetensors")
    still = load_file(folder / f"{kind}.safetensors")
    still = {key: torch.zeros_like(value) if key.startswith("branch.out.") else value for key, value in still.items()}
    save_file(still, folder / f"{kind}-still.safetensors", read_header(folder / f"{kind}.safetensors").metadata)
    return prior


class Student(Graph):
    """A student under predictors, sampled; ``tensors`` of each by the name that it was added under."""

    def __init__(self, kind):
        super().__init__()
        self.saved = {}
        if kind == "demo":
            loader = self.add("UnderstudyLoadDemo", part="student")
            self.model, clip, self.vae = (loader[i] for i in range(3))
        else:
            loader = self.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
            lora = {"lora_name": LORA, "strength_model": 1.0, "strength_clip": 0.0}
            self.model = self.add("LoraLoader", model=loader[0], clip=loader[1], **lora)[0]
            clip, self.vae = loader[1], loader[2]
        self.positive = self.add("CLIPTextEncode", clip=clip, text=TEXTS[kind])[0]
        self.negative = self.add("CLIPTextEncode", clip=clip, text="")[0]
        self.latent = self.add("EmptyLatentImage", width=64, height=64, batch_size=COUNT)[0]

    def under(self, name, model=None, **more):
        widgets = {"strength": 1.0, "until": 0.7, **more}
        return self.add("UnderstudyApplyGradientPredictor", model=model or self.model, predictor_name=name, **widgets)[
            0
        ]

    def draw(self, name, model, latent=None):
        widgets = {"seed": SEED, "preset": "demo", "steps": STEPS, "cfg": 1.0, "denoise": 1.0, "settings_from": "none"}
        self.keep(name, self.add("UnderstudyStudentSampler", **self.inputs(model, latent), **widgets)[0])

    def solve(self, name, model, cfg):
        widgets = {"seed": SEED, "steps": STEPS, "cfg": cfg, "sampler_name": "dpmpp_2m", "scheduler": "normal"}
        self.keep(name, self.add("KSampler", **self.inputs(model), **widgets, denoise=1.0)[0])

    def inputs(self, model, latent=None):
        text = {"positive": self.positive, "negative": self.negative}
        return {"model": model, "latent_image": latent or self.latent, **text}

    def keep(self, name, latent):
        self.saved[name] = self.add("TestSaveTensors", latent=latent)


@pytest.fixture(scope="module", params=["demo", "sd1"])
def sampled(request, host, tmp_path_factory):
    """(kind, the trainer's method, what the host made, by name, picture for z)"""
    kind, folder = request.param, host.base / "models" / "understudy_predictors"
    assert folder.is_dir() or folder.mkdir() is None
    prior, graph = complete(kind, host, folder), Student(kind)
    model, moved = graph.model, graph.under(f"{kind}.safetensors")
    graph.draw("plain", model)
    graph.draw("moved", moved)
    graph.draw("still", graph.under(f"{kind}-still.safetensors"))
    graph.draw("none", graph.under(f"{kind}.safetensors", strength=0.0))
    graph.draw("whole", graph.under(f"{kind}.safetensors", until=1.0))
    graph.draw("alone", moved, graph.add("LatentFromBatch", samples=graph.latent, batch_index=1, length=1)[0])
    graph.solve("guided", moved, 3.0)
    freed = graph.add("FreeU", model=moved, b1=1.0, b2=1.0, s1=1.0, s2=1.0)[0]
    graph.draw("with another patch", freed)
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x3060C0)[0]
    picture = {"image": image, "vae": graph.vae}
    graph.draw("picture", graph.under(f"{kind}-alone.safetensors", **picture))
    graph.keep("encoded", graph.add("VAEEncode", pixels=image, vae=graph.vae)[0])
    run = host.run(graph)
    return kind, prior, {name: tensors(host, run, node)["latent.0"] for name, node in graph.saved.items()}


def noise_of(prior):
    return initial_noise(SEED, range(COUNT), (prior.teacher.latent_channels, 8, 8))


def given_to(prior, kind):
    return {**prior.teacher.embed([TEXTS[kind]] * COUNT), **prior.teacher.sizes(64, 64, COUNT)}


def scaled(prior, latents):
    """The host's latents as the UNet sees them."""
    return latents * getattr(getattr(prior.teacher.vae, "config", None), "scaling_factor", 1.0)


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-3 * max(1.0, float(b.abs().max())), rtol=0)


@torch.no_grad()
def test_it_is_the_trainer_s_own_sampling(sampled):
    kind, prior, made = sampled
    close(scaled(prior, made["moved"]), prior.sample(prior.network, noise_of(prior), given_to(prior, kind), STEPS))
    assert (made["moved"] - made["plain"]).abs().max() > 0.05


@torch.no_grad()
def test_under_guidance_both_branches_are_moved(sampled):
    kind, prior, made = sampled
    noise, given = noise_of(prior), given_to(prior, kind)
    model = prior.preview.denoiser(prior.base, noise)
    sigmas = normal_sigmas(model, STEPS)
    under = Predicted(model, prior.student.predictor, prior.base, prior.meanings(noise, given), sigmas)
    arguments = {"cond": given, "uncond": {**given, **prior.teacher.embed([""] * COUNT)}}
    expected = sample_dpmpp_2m(Guided(under, 3.0), sampling.start(model, noise, sigmas), sigmas, arguments)
    close(scaled(prior, made["guided"]), expected)


@torch.no_grad()
def test_the_meaning_may_be_a_picture_s(sampled):
    kind, prior, made = sampled
    prior.meanings = lambda noise, given: prior.student.predictor.meaning(scaled(prior, made["encoded"]))
    expected = prior.sample(prior.network, noise_of(prior), given_to(prior, kind), STEPS)
    del prior.meanings
    close(scaled(prior, made["picture"]), expected)
    assert (made["picture"] - made["moved"]).abs().max() > 1e-3


def test_what_moves_nothing_changes_nothing_to_the_last_bit(sampled):
    _, _, made = sampled
    assert torch.equal(made["still"], made["plain"]) and torch.equal(made["none"], made["plain"])
    assert not torch.equal(made["whole"], made["moved"])


def test_an_image_is_the_same_alone_and_beside_other_patches(sampled):
    _, _, made = sampled
    close(made["alone"][0], made["moved"][1])
    close(made["with another patch"], made["moved"])


def test_what_does_not_fit_is_refused_by_name(sampled, host):
    kind, _, _ = sampled
    other = {"demo": "sd1", "sd1": "demo"}[kind]
    for graph, said in (
        (Student(other), f"{kind}.safetensors is for a network of"),
        (Student(kind), f"{kind}-alone.safetensors has no prior to draw a meaning from: connect image and vae"),
    ):
        name = said.split(" ")[0]
        graph.draw("refused", graph.under(name))
        with pytest.raises(PromptFailed, match=said.replace(".", r"\.")):
            host.run(graph)
    graph = Student(kind)
    graph.draw("gone", graph.under("gone.safetensors"))
    with pytest.raises(PromptFailed, match="is not in models/understudy_predictors; there are: "):
        host.run(graph)

"""The demo family's ControlNets in the host's stock nodes: the trainer's own pictures, each image by its own hint."""

import pytest
import torch
from understudy.demo_family import family
from understudy.distill_train.config import load_recipe
from understudy.distill_train.methods import make_method
from understudy.distill_train.run.command import RECIPES
from understudy.distill_train.teachers import load_teacher
from understudy.samplers.schedules import trailing_sigmas

from .checkpoints import CHECKPOINT
from .graphs import REFINE, THRESHOLD, Graph
from .tensors import tensors

TEXT = "a small red star left of a large blue circle on a black background"
COUNT, SEED, HINTS = 4, 11, 9
GOOD, BAD = 0.9, 0.1
# Recipe, shipped file, steps.
PARTS = {
    "teacher": ("demo-control", "control.safetensors", 4),
    "student": ("demo-control-student", "control_student.safetensors", 4),
}


class Outlined(Graph):
    """Pictures of the teacher's network under a part's ControlNet, one hint an image."""

    def __init__(self, part, first=0):
        super().__init__()
        teacher = self.add("UnderstudyLoadDemo", part="teacher")
        self.model, self.clip, self.vae = (teacher[output] for output in range(3))
        self.net = self.add("UnderstudyLoadDemo", part=part)[4]
        self.positive = self.add("CLIPTextEncode", clip=self.clip, text=TEXT)
        self.negative = self.add("CLIPTextEncode", clip=self.clip, text="")
        self.guided = self.under(first, COUNT)
        self.empty = self.add("EmptyLatentImage", width=64, height=64, batch_size=COUNT)

    def under(self, first, count):
        hints = self.add("TestNoiseImages", seed=HINTS, first=first, count=count, width=64, height=64, channels=3)
        return self.add(
            "ControlNetApplyAdvanced",
            positive=self.positive[0],
            negative=self.negative[0],
            control_net=self.net,
            image=hints[0],
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
        )

    def sample(self, sigmas, sampler, cfg):
        chosen = self.add("KSamplerSelect", sampler_name=sampler)
        levels = self.add("ManualSigmas", sigmas=", ".join(f"{sigma:.9f}" for sigma in sigmas.tolist()))
        sampled = self.add(
            "SamplerCustom",
            model=self.model,
            add_noise=True,
            noise_seed=SEED,
            cfg=cfg,
            positive=self.guided[0],
            negative=self.guided[1],
            sampler=chosen[0],
            sigmas=levels[0],
            latent_image=self.empty[0],
        )
        return self.kept(sampled)

    def draw(self, preset, steps, cfg):
        inputs = {"positive": self.guided[0], "negative": self.guided[1], "latent_image": self.empty[0]}
        widgets = {"seed": SEED, "preset": preset, "steps": steps, "cfg": cfg, "denoise": 1.0}
        return self.kept(self.add("UnderstudyStudentSampler", model=self.model, **inputs, **widgets))

    def kept(self, sampled):
        decoded = self.add("VAEDecode", samples=sampled[0], vae=self.vae)
        return decoded, self.add("TestSaveTensors", latent=sampled[0], images=decoded[0])


def trainers_own(part):
    """Latents and pictures of the method that trained the part, from the host's noise and hints; and its levels."""
    name, file, steps = PARTS[part]
    recipe = load_recipe(RECIPES / f"{name}.toml", (f"student.control={family.FOLDER / file}",))
    method = make_method(recipe, torch.device("cpu"), teacher=load_teacher("demo"))
    method.make_student()
    noise = torch.randn(COUNT, family.LATENT_CHANNELS, 8, 8, generator=torch.Generator().manual_seed(SEED))
    hints = [torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(HINTS * 1000 + i)) for i in range(COUNT)]
    given = {"tokens": family.tokens_of([TEXT] * COUNT), "condition": torch.stack(hints).movedim(-1, 1)}
    with torch.no_grad():
        latents = method.sample(method.network.eval(), noise, given, steps)
        return latents, family.decode(method.teacher.vae, latents), method


@pytest.mark.parametrize("part", PARTS)
def test_pictures_are_those_of_the_trainer_s_own_sampling(host, part):
    latents, images, method = trainers_own(part)
    steps, usage = PARTS[part][2], method.usage()
    sigmas = trailing_sigmas(method.preview.denoiser(method.network, latents), steps)
    found = []
    for first in (0, 1):
        graph = Outlined(part, first)
        if "preset" in usage:  # on the grid of its training
            _, saved = graph.draw(usage["preset"], steps, float(usage["guidance"]))
        else:
            _, saved = graph.sample(sigmas, usage["sampler"], float(usage["guidance"]))
        found.append(tensors(host, host.run(graph), saved))
    torch.testing.assert_close(found[0]["latent.0"], latents, atol=1e-3, rtol=0)
    torch.testing.assert_close(found[0]["images.0"].movedim(-1, 1), images, atol=1e-3, rtol=0)
    assert (found[1]["latent.0"] - latents).abs().amax((1, 2, 3)).min() > 0.05  # under the next image's hint


def test_each_rejected_image_is_redone_by_its_own_hint(host):
    graph = Outlined("teacher")
    sampler = {"sampler_name": "dpmpp_2m", "scheduler": "sgm_uniform", "seed": SEED, "steps": 2, "cfg": 3.0}
    under = {"model": graph.model, "positive": graph.guided[0], "negative": graph.guided[1]}
    sampled = graph.add("KSampler", latent_image=graph.empty[0], denoise=1.0, **under, **sampler)
    images = graph.add("VAEDecode", samples=sampled[0], vae=graph.vae)
    threshold = graph.add("UnderstudyThreshold", **THRESHOLD)

    def teach(images, latent, scores, guided):
        numbers = graph.add("TestFloats", numbers=str(scores))
        scored = graph.add("UnderstudyScoresFromList", scores=numbers[0], images=images)
        inputs = {**REFINE, **under, **sampler, "positive": guided[0], "negative": guided[1], "steps": 3}
        teacher = graph.add(
            "UnderstudyTeacher",
            images=images,
            scores=scored[0],
            threshold=threshold[0],
            vae=graph.vae,
            latent=latent,
            **inputs,
        )
        return graph.add("TestSaveTensors", images=teacher[0])

    before = graph.add("TestSaveTensors", images=images[0])
    some = teach(images[0], sampled[0], [GOOD, BAD, GOOD, BAD], graph.guided)
    one = graph.add("ImageFromBatch", image=images[0], batch_index=3, length=1)
    latent = graph.add("LatentFromBatch", samples=sampled[0], batch_index=3, length=1)
    own, other = (teach(one[0], latent[0], [BAD], graph.under(hint, 1)) for hint in (3, 1))
    run = host.run(graph)
    before, some, own, other = (tensors(host, run, node)["images.0"] for node in (before, some, own, other))
    assert torch.equal(some[[0, 2]], before[[0, 2]])
    assert (some[1] - before[1]).abs().max() > 0.01
    distance = (some[3] - own[0]).abs().max()
    assert distance < 1e-3
    assert (some[3] - other[0]).abs().max() > max(10 * distance, 0.01)


def test_another_model_is_refused_in_words(host):
    graph = Outlined("student")
    loader = graph.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    graph.model, graph.vae = loader[0], loader[2]
    for node in (graph.positive, graph.negative):
        graph.set(node, clip=loader[1])
    graph.sample(torch.tensor([5.0, 0.0]), "euler", 1.0)
    assert "the demo's ControlNet is for the demo's own models" in host.attempt(graph).error

"""A teacher on 8x8 latents, random but deterministic data, and recipes for them."""

import torch
from torch import nn
from understudy.distill_train.config import Recipe
from understudy.distill_train.data.batch import Batch
from understudy.distill_train.data.randomness import generator
from understudy.distill_train.methods import make_method
from understudy.distill_train.process import Discrete
from understudy.distill_train.teachers import Teacher
from understudy.samplers.denoisers import scaled_linear

CPU = torch.device("cpu")


class TinyTeacher(Teacher):
    """One level of eight channels; its pixels are its first three latents."""

    latent_channels, default_size, factor, file, fingerprint = 4, 8, 1, "tiny.safetensors", "0" * 64
    device = CPU

    def __init__(self, prediction="epsilon", kind="sd1", seed=0, process=None):
        from diffusers import UNet2DConditionModel

        torch.manual_seed(seed)
        self.kind = kind
        self.unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=[8],
            down_block_types=["CrossAttnDownBlock2D"],
            up_block_types=["CrossAttnUpBlock2D"],
            layers_per_block=1,
            cross_attention_dim=8,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        self.unet.eval().requires_grad_(False)
        self.process = process or Discrete(scaled_linear(), prediction)
        self.seen = []

    def encode(self, pixels, generator=None):
        return torch.cat([pixels, pixels[:, :1]], dim=1) * 2 - 1

    def decode(self, latents, clamp=True):
        pixels = latents[:, :3] / 2 + 0.5
        return pixels.clamp(0, 1) if clamp else pixels

    def embed(self, prompts):
        return {"context": torch.stack([torch.randn(3, 8, generator=generator(prompt)) for prompt in prompts])}

    def unconditional(self, count):
        return {"context": self.embed([""])["context"].expand(count, -1, -1)}

    def sizes(self, height, width, count):
        return {}

    def call(self, unet, noisy, t, embeddings):
        embedded = None
        if "guidance" in embeddings:
            from understudy.pipelines.stable_diffusion import guidance_embedding

            embedded = guidance_embedding(embeddings["guidance"], 16)
        told = dict(embeddings)
        run = self.under_condition(unet, told)
        return run(noisy, t, encoder_hidden_states=told["context"], timestep_cond=embedded).sample

    def with_guidance_input(self, width):
        from diffusers import UNet2DConditionModel

        config = {key: value for key, value in self.unet.config.items() if not key.startswith("_")}
        network = UNet2DConditionModel(**config | {"time_cond_proj_dim": width})
        network.load_state_dict(self.unet.state_dict(), strict=False)
        nn.init.zeros_(network.time_embedding.cond_proj.weight)
        return network


class TinySource:
    """Latents, prompts, names and a condition picture that follow from a sample's index."""

    def __init__(self, teacher):
        self.teacher = teacher

    def batch(self, step, indices):
        latents = torch.stack([torch.randn(4, 8, 8, generator=generator("latents", i)) for i in indices])
        names = [f"picture-{i}.png" for i in indices]
        conditions = torch.stack([torch.rand(3, 8, 8, generator=generator("condition", i)) for i in indices])
        return Batch(latents, self.teacher.embed(names), names, 8, 8, {"condition": conditions})


def recipe(method, loop=None, student=None, **settings):
    loop = {"steps": 4, "batch_size": 4, "lr": 1e-3, "warmup": 0, "log_every": 1, "tracker": "none"} | (loop or {})
    student = {"train": "full", "dtype": "fp32"} | (student or {})
    return Recipe(method=method, seed=1, export="student.safetensors", loop=loop, student=student, settings=settings)


def method(name, loop=None, student=None, teacher=None, **settings):
    teacher = teacher or TinyTeacher()
    given = {"teacher": teacher, "source": TinySource(teacher)}
    if name == "cfd":
        given["classifier"] = settings.pop("eyes")
        settings = {"classifier": "given"} | settings
    return make_method(recipe(name, loop, student, **settings), CPU, **given)


def lowers_its_loss(made, rate=1e-3):
    """Whether one SGD step lowers the loss on the same draws."""
    before = made.loss(made.network, 0)
    before.backward()
    with torch.no_grad():
        for parameter in made.student.parameters:
            parameter -= rate * parameter.grad
    return made.loss(made.network, 0) < before


def timesteps_seen(made, steps):
    """What the student is told in the losses of some steps: the timesteps, as a set."""
    seen, call = set(), made.teacher.call

    def watching(unet, noisy, t, embeddings):
        if torch.is_grad_enabled():
            seen.update(t.tolist())
        return torch.zeros_like(noisy, requires_grad=True)

    made.teacher.call = watching
    for step in range(steps):
        made.loss(made.network, step)
    made.teacher.call = call
    return seen


def changed(network, seed=5, by=0.05):
    """The network with some noise on the weights that train."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += by * torch.randn(parameter.shape, generator=g)
    return network

"""The demo family in ComfyUI's own classes gives what diffusers' classes give outside it."""

import pytest
import torch
from understudy.demo_family import family, sampling
from understudy.oracles import load_oracle
from understudy.samplers.schedules import normal_sigmas

from .graphs import Graph
from .tensors import tensors

TEXT = "a small red star left of a large blue circle on a black background"
COUNT, SEED, STEPS, CFG = 3, 11, 4, 3.0


class Demo(Graph):
    """The demo's teacher in the host's stock nodes, scored by its oracle."""

    def __init__(self, negative=""):
        super().__init__()
        self.loader = self.add("UnderstudyLoadDemo", part="teacher")
        model, clip, vae, oracle = (self.loader[output] for output in range(4))
        self.positive = self.add("CLIPTextEncode", clip=clip, text=TEXT)
        self.negative = self.add("CLIPTextEncode", clip=clip, text=negative)
        self.empty = self.add("EmptyLatentImage", width=64, height=64, batch_size=COUNT)
        self.sampler = self.add(
            "KSampler",
            model=model,
            positive=self.positive[0],
            negative=self.negative[0],
            latent_image=self.empty[0],
            seed=SEED,
            steps=STEPS,
            cfg=CFG,
            sampler_name="dpmpp_2m",
            scheduler="normal",
            denoise=1.0,
        )
        self.decoded = self.add("VAEDecode", samples=self.sampler[0], vae=vae)
        self.encoded = self.add("VAEEncode", pixels=self.decoded[0], vae=vae)
        self.scores = self.add("UnderstudyScoreImages", oracle=oracle, images=self.decoded[0], prompt=TEXT)
        self.sampled = self.add(
            "TestSaveTensors", latent=self.sampler[0], images=self.decoded[0], floats=self.scores[1]
        )
        self.again = self.add("TestSaveTensors", latent=self.encoded[0])


@pytest.fixture(scope="module")
def in_host(host):
    graph = Demo()
    run = host.run(graph)
    return {**tensors(host, run, graph.sampled), "encoded": tensors(host, run, graph.again)["latent.0"]}


@pytest.fixture(scope="module")
def teacher():
    return family.load("teacher")


@torch.no_grad()
def test_sampling_is_that_of_the_diffusers_network(in_host, teacher):
    model = sampling.denoiser(teacher.network)
    sigmas = normal_sigmas(model, STEPS)
    noise = torch.randn(COUNT, family.LATENT_CHANNELS, 8, 8, generator=torch.Generator().manual_seed(SEED))
    tokens = family.tokens_of([TEXT] * COUNT)
    expected = sampling.sample_teacher(model, sampling.start(model, noise, sigmas), tokens, sigmas, CFG)
    torch.testing.assert_close(in_host["latent.0"], expected, atol=2e-4, rtol=1e-4)


@torch.no_grad()
def test_the_autoencoder_is_diffusers_own(in_host, teacher):
    images = family.decode(teacher.vae, in_host["latent.0"])
    torch.testing.assert_close(in_host["images.0"].movedim(-1, 1), images, atol=1e-4, rtol=0)
    torch.testing.assert_close(in_host["encoded"], family.encode(teacher.vae, images), atol=1e-4, rtol=1e-4)


def test_scores_are_the_oracle_s(in_host):
    oracle = load_oracle(family.FOLDER / "oracle.safetensors")
    expected = oracle(in_host["images.0"].movedim(-1, 1).clamp(0, 1), [TEXT] * COUNT)
    torch.testing.assert_close(in_host["floats"].float(), expected, atol=1e-4, rtol=1e-4)


def test_unknown_words_in_a_negative_prompt_are_a_warning(host, in_host):
    graph = Demo(negative="a blurry quokka")
    run = host.run(graph)
    assert torch.equal(tensors(host, run, graph.sampled)["latent.0"], in_host["latent.0"])
    said = [line for line in host.log_text().splitlines() if "quokka" in line]
    assert said and all("negative prompt ignored" in line for line in said)


def test_one_prompt_per_batch_of_a_list_gives_scores_in_its_structure(host):
    texts = ["a red star", "a blue circle", "a green square on a white background"]
    graph = Graph()
    loader = graph.add("UnderstudyLoadDemo", part="student")
    strings = graph.add("TestStrings", texts=str(texts).replace("'", '"'))
    positive = graph.add("CLIPTextEncode", clip=loader[1], text=strings[0])
    empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)
    sampler = graph.add(
        "UnderstudyStudentSampler",
        model=loader[0],
        positive=positive[0],
        negative=positive[0],
        latent_image=empty[0],
        seed=1,
        preset="demo",
        steps=1,
        cfg=1.0,
        denoise=1.0,
    )
    decoded = graph.add("VAEDecode", samples=sampler[0], vae=loader[2])
    scores = graph.add("UnderstudyScoreImages", oracle=loader[3], images=decoded[0], prompt=strings[0])
    saved = graph.add("TestSaveTensors", images=decoded[0], floats=scores[1])
    found = tensors(host, host.run(graph), saved)
    oracle = load_oracle(family.FOLDER / "oracle.safetensors")
    expected = [oracle(found[f"images.{k}"].movedim(-1, 1).clamp(0, 1), [text]).item() for k, text in enumerate(texts)]
    torch.testing.assert_close(found["floats"], torch.tensor(expected, dtype=torch.float64), atol=1e-4, rtol=1e-4)

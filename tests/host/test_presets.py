"""The table of presets against the host's own classes: times, latents, sigmas, patches, samplers, ways back."""

import torch

from .checkpoints import CHECKPOINT, LORA
from .graphs import Graph
from .inside import failures
from .tensors import tensors

SEED, COUNT = 7, 3
STEPS = {"steps": 2, "cfg": 1.5, "denoise": 1.0}


def test_all_checks_pass(host):
    failed = failures(host, "inside_presets.py")
    assert not failed, failed


def test_auto_own_patches_and_student_preset(host):
    failed = failures(host, "inside_auto.py")
    assert not failed, failed


class Both(Graph):
    """A checkpoint with an LCM LoRA: in Student Sampler, and by Student Preset in the host's SamplerCustomAdvanced."""

    def __init__(self, strength=1.0, preset="auto", indices=range(COUNT)):
        super().__init__()
        loader = self.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
        lora = self.add("LoraLoaderModelOnly", model=loader[0], lora_name=LORA, strength_model=strength)
        texts = [self.add("CLIPTextEncode", clip=loader[1], text=text)[0] for text in ("a castle", "blurry")]
        latent = self.add("EmptyLatentImage", width=64, height=64, batch_size=COUNT)
        if len(indices) < COUNT:
            latent = self.add("LatentFromBatch", samples=latent[0], batch_index=indices[0], length=len(indices))
        given = {"model": lora[0], "latent_image": latent[0], "preset": preset, **STEPS}
        named = {"positive": texts[0], "negative": texts[1]}
        self.student = self.add("UnderstudyStudentSampler", **given, **named, seed=SEED)
        self.preset = self.add("UnderstudyStudentPreset", **given)
        guider = self.add("CFGGuider", model=self.preset[0], cfg=self.preset[3], **named)
        noise = self.add("RandomNoise", noise_seed=SEED)
        parts = {"sampler": self.preset[1], "sigmas": self.preset[2], "latent_image": latent[0]}
        advanced = self.add("SamplerCustomAdvanced", noise=noise[0], guider=guider[0], **parts)
        self.saved = [self.add("TestSaveTensors", latent=each[0]) for each in (self.student, advanced)]


def made(host, graph):
    run = host.run(graph)
    student, advanced = (tensors(host, run, node)["latent.0"] for node in graph.saved)
    torch.testing.assert_close(advanced, student, rtol=0, atol=1e-4)
    return student, run


def test_auto_in_a_graph_and_the_same_by_parts(host):
    graph = Both()
    together, run = made(host, graph)
    for node in (graph.student, graph.preset):
        (said,) = run.outputs[node]["text"]
        assert said == f"auto: LCM-LoRA, by {LORA} of LoraLoaderModelOnly (node 2); usually 5 steps at cfg 1.8."
    named, run = made(host, Both(preset="LCM-LoRA"))
    assert torch.equal(named, together) and not run.outputs.get(graph.student)
    alone, _ = made(host, Both(indices=[2]))
    torch.testing.assert_close(alone[0], together[2], rtol=1e-4, atol=1e-4)
    assert (alone[0] - together[1]).abs().max() > 0.01
    error = host.attempt(Both(strength=0.0)).error
    assert CHECKPOINT in error and LORA not in error and "LCM-LoRA" in error

"""The generated files are what ComfyUI takes them for, and its own nodes run on them."""

import torch

from .checkpoints import CHECKPOINT, CONTROLNET, LORA
from .graphs import Graph
from .tensors import tensors


def test_checkpoint_controlnet_and_lora_work_in_stock_nodes(host):
    graph = Graph()
    loader = graph.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    student = graph.add(
        "LoraLoader", model=loader[0], clip=loader[1], lora_name=LORA, strength_model=1.0, strength_clip=1.0
    )
    positive = graph.add("CLIPTextEncode", clip=loader[1], text="a castle on a hill")
    negative = graph.add("CLIPTextEncode", clip=loader[1], text="")
    net = graph.add("ControlNetLoader", control_net_name=CONTROLNET)
    hints = graph.add("TestNoiseImages", seed=1, first=0, count=2, width=64, height=64, channels=3)
    guided = graph.guided(net, hints, positive, negative)
    latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=2)

    def image(model, positive, negative):
        sampled = graph.add(
            "KSampler",
            model=model,
            positive=positive,
            negative=negative,
            latent_image=latent[0],
            seed=7,
            steps=2,
            cfg=3.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        )
        decoded = graph.add("VAEDecode", samples=sampled[0], vae=loader[2])
        return graph.add("TestSaveTensors", images=decoded[0])

    plain = image(loader[0], positive[0], negative[0])
    with_lora = image(student[0], positive[0], negative[0])
    with_hints = image(loader[0], guided[0], guided[1])
    run = host.run(graph)
    plain, with_lora, with_hints = (tensors(host, run, node)["images.0"] for node in (plain, with_lora, with_hints))
    for images in (plain, with_lora, with_hints):
        assert images.shape == (2, 64, 64, 3)
        assert torch.isfinite(images).all()
        assert images.flatten(1).std(dim=1).min() > 0.02
    assert (plain - with_lora).abs().mean() > 1e-3
    assert (plain - with_hints).abs().mean() > 1e-3
    assert "lora key not loaded" not in host.log_text()
    assert "missing controlnet keys" not in host.log_text()

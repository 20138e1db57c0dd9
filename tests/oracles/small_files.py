"""Small random checkpoints in the layouts of the published oracle files, and the networks that they came from."""

from importlib import import_module

import torch
from safetensors.torch import save_file
from understudy.oracles.families import FAMILIES, MODULES


def awake(network, factor=4.0):
    """Fresh networks are nearly blind to their input; larger weights make scores that differ."""
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim > 1 and "embedding" not in name:
                value.mul_(factor)
    return network.eval()


def open_clip_network(quick_gelu=False, **sizes):
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    torch.manual_seed(0)
    vision = {"layers": 2, "width": 128, "head_width": 64, "patch_size": 8, "image_size": 32} | sizes.get("vision", {})
    text = {"layers": 2, "width": 64, "heads": 1} | sizes.get("text", {})
    network = CLIP(sizes.get("embed_dim", 48), CLIPVisionCfg(**vision), CLIPTextCfg(**text), quick_gelu=quick_gelu)
    return awake(network)


def transformers_clip():
    """transformers' own CLIP, small, with OpenAI's QuickGELU."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    shared = {"intermediate_size": 96, "num_hidden_layers": 2, "hidden_act": "quick_gelu", "projection_dim": 48}
    text = {"hidden_size": 64, "num_attention_heads": 1, "bos_token_id": 49406, "eos_token_id": 49407}
    vision = {"hidden_size": 128, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    return awake(CLIPModel(CLIPConfig(text_config=shared | text, vision_config=shared | vision, projection_dim=48)))


def siglip_network(**sizes):
    """transformers' whole SigLIP model, small unless ``sizes`` say otherwise."""
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(0)
    small = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 1}
    vision = small | {"image_size": 32, "patch_size": 8} | sizes
    return awake(SiglipModel(SiglipConfig(vision_config=vision, text_config=small)), 2.0)


def head_tensors(prefix, inputs, widths=(32, 16, 8, 4, 1), numbers=(0, 2, 4, 6, 7)):
    """A head as the published ones are: linear layers with dropout between all but the last two."""
    g = torch.Generator().manual_seed(0)
    tensors = {}
    for number, outputs in zip(numbers, widths, strict=True):
        tensors[f"{prefix}{number}.weight"] = torch.randn(outputs, inputs, generator=g) * 2 / inputs**0.5
        tensors[f"{prefix}{number}.bias"] = torch.randn(outputs, generator=g)
        inputs = outputs
    return tensors


def image_reward_tensors(
    vision=128, patch=8, image=32, text=64, inner=96, vision_layers=2, text_layers=2, vocabulary=30524
):
    """A state dict under ImageReward.pt's names, the unused projections included."""
    g = torch.Generator().manual_seed(0)
    tensors = {}

    def linear(name, outputs, inputs, gain=2.0):
        tensors[f"{name}.weight"] = torch.randn(outputs, inputs, generator=g) * gain / inputs**0.5
        tensors[f"{name}.bias"] = torch.randn(outputs, generator=g) * 0.1

    def norm(name, width):
        tensors[f"{name}.weight"] = 1 + 0.1 * torch.randn(width, generator=g)
        tensors[f"{name}.bias"] = 0.1 * torch.randn(width, generator=g)

    at = "blip.visual_encoder."
    tensors[f"{at}cls_token"] = torch.randn(1, 1, vision, generator=g)
    tensors[f"{at}pos_embed"] = torch.randn(1, (image // patch) ** 2 + 1, vision, generator=g) * 0.5
    tensors[f"{at}patch_embed.proj.weight"] = torch.randn(vision, 3, patch, patch, generator=g) / patch
    tensors[f"{at}patch_embed.proj.bias"] = torch.randn(vision, generator=g) * 0.1
    for i in range(vision_layers):
        block = f"{at}blocks.{i}."
        norm(f"{block}norm1", vision)
        linear(f"{block}attn.qkv", 3 * vision, vision)
        linear(f"{block}attn.proj", vision, vision)
        norm(f"{block}norm2", vision)
        linear(f"{block}mlp.fc1", 2 * vision, vision)
        linear(f"{block}mlp.fc2", vision, 2 * vision)
    norm(f"{at}norm", vision)

    at = "blip.text_encoder."
    tensors[f"{at}embeddings.word_embeddings.weight"] = torch.randn(vocabulary, text, generator=g)
    tensors[f"{at}embeddings.position_embeddings.weight"] = torch.randn(512, text, generator=g) * 0.5
    tensors[f"{at}embeddings.position_ids"] = torch.arange(512)[None]
    norm(f"{at}embeddings.LayerNorm", text)
    for i in range(text_layers):
        layer = f"{at}encoder.layer.{i}."
        for kind, width in (("attention", text), ("crossattention", vision)):
            linear(f"{layer}{kind}.self.query", text, text)
            linear(f"{layer}{kind}.self.key", text, width)
            linear(f"{layer}{kind}.self.value", text, width)
            linear(f"{layer}{kind}.output.dense", text, text)
            norm(f"{layer}{kind}.output.LayerNorm", text)
        linear(f"{layer}intermediate.dense", inner, text)
        linear(f"{layer}output.dense", text, inner)
        norm(f"{layer}output.LayerNorm", text)
    linear("blip.vision_proj", 16, vision)
    linear("blip.text_proj", 16, text)
    return tensors | head_tensors("mlp.layers.", text)


def write(tensors, path, metadata=None):
    save_file({key: value.detach().clone().contiguous() for key, value in tensors.items()}, path, metadata)
    return path


def write_family(module, folder):
    """(file, encoder or None) of a family, by the name of its module: what its own test makes."""
    (folder / module).mkdir()
    return import_module(f".families.test_{module}", __package__).small(folder / module)


def write_families(folder):
    """{family: (file, encoder or None)} of all."""
    return {family: write_family(module, folder) for module, family in zip(MODULES, FAMILIES, strict=True)}

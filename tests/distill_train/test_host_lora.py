"""A LoRA on a network of the host's kind: which layers have one, and what its file says."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from understudy.distill_train.config import RecipeError, StudentSettings
from understudy.distill_train.process import Flow
from understudy.distill_train.students.host_lora import HostLora, usual_targets


class Block(nn.Module):
    """Attention and feed-forward of a picture's tokens and of a text's, in the field's names."""

    def __init__(self):
        super().__init__()
        self.attn = nn.ModuleDict({"qkv": nn.Linear(4, 4), "norm_q": nn.Linear(4, 4)})
        self.img_mlp, self.txt_mlp = (nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 4)) for _ in range(2))
        self.img_mod, self.adaLN_modulation = nn.Linear(4, 4), nn.Sequential(nn.SiLU(), nn.Linear(4, 4))

    def forward(self, image, text):
        image = image + self.attn["qkv"](self.img_mod(image)) + text
        return image + self.img_mlp(image), text + self.txt_mlp(text)


class Network(nn.Module):
    """Nothing is read of the text after the last block."""

    def __init__(self):
        super().__init__()
        self.diffusion_model = nn.Module()
        self.diffusion_model.txt_in, self.diffusion_model.mlp_head = nn.Linear(4, 4), nn.Linear(4, 4)
        self.diffusion_model.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, image, text):
        for block in self.diffusion_model.blocks:
            image, text = block(image, text)
        return self.diffusion_model.mlp_head(image)


def teacher(shift=1.0):
    torch.manual_seed(0)
    made = SimpleNamespace(unet=Network(), file="model.safetensors", device=torch.device("cpu"), factor=8)
    made.process, made.latent_shape = Flow(shift), lambda height, width: (4,)
    made.unconditional = lambda count: {"text": torch.ones(count, 4)}
    made.call = lambda unet, noisy, t, given: unet(noisy, given["text"])
    made.metadata = lambda network: {"shift": "3"}
    return made


def lora(**settings):
    return HostLora(teacher(), StudentSettings(rank=2, **settings), torch.float32)


IDLE = {"diffusion_model.blocks.1.txt_mlp.0", "diffusion_model.blocks.1.txt_mlp.2"}


def test_attention_and_feed_forward_of_the_blocks_have_one_but_for_what_nothing_reads():
    layers = {
        f"{block}.{at}" for block in (0, 1) for at in ("attn.qkv", "img_mlp.0", "img_mlp.2", "txt_mlp.0", "txt_mlp.2")
    }
    usual = {f"diffusion_model.blocks.{layer}" for layer in layers}
    assert set(usual_targets(Network())) == usual
    student = lora()
    keys, shapes = student.exported()
    assert {key.removesuffix(".alpha") for key in keys if key.endswith(".alpha")} == usual - IDLE
    assert shapes["diffusion_model.blocks.0.img_mlp.0.lora_A.weight"] == (2, 4)
    assert shapes["diffusion_model.blocks.0.img_mlp.0.lora_B.weight"] == (8, 2)
    hooked = {at for at, module in student.network.base.named_modules() if module._forward_hooks}
    assert hooked == usual - IDLE


def test_what_nothing_reads_is_found_by_a_shift_that_goes_by_size_too():
    sized = HostLora(teacher(lambda height, width: 1 + height * width), StudentSettings(rank=2), torch.float32)
    assert sized.exported()[0].keys() == lora().exported()[0].keys()


def test_what_is_named_has_one_wherever_it_is():
    student = lora(targets=["txt_mlp.0", "mlp_head"], alpha=4.0)
    layers = {key.removesuffix(".alpha") for key in student.exported()[0] if key.endswith(".alpha")}
    blocks = {f"diffusion_model.blocks.{block}.txt_mlp.0" for block in (0, 1)}
    assert layers == {"diffusion_model.mlp_head", *blocks}
    assert all(value == 4 for key, value in student.exported()[0].items() if key.endswith(".alpha"))
    assert student.metadata() == {"trained": "lora", "keys": "comfyui", "rank": "2", "alpha": "4", "shift": "3"}
    with pytest.raises(RecipeError, match="student.targets: to_q names no layer of model.safetensors"):
        lora(targets=["to_q"])


def test_its_file_is_what_the_network_adds():
    """``alpha / rank * B A`` on the weight of each layer, as the host's loader merges it."""
    student = lora(alpha=3.0)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in student.parameters:
            parameter.normal_(generator=draw)
    image, text = torch.randn(2, 4, generator=draw), torch.randn(2, 4, generator=draw)
    trained = student.network(image, text)
    tensors, _ = student.exported()
    with student.teaching() as merged, torch.no_grad():
        assert not torch.allclose(merged(image, text), trained)
        for key in [key for key in tensors if key.endswith(".alpha")]:
            layer = key.removesuffix(".alpha")
            down, up = (tensors[f"{layer}.lora_{half}.weight"] for half in "AB")
            merged.get_submodule(layer).weight += tensors[key] / len(down) * up @ down
        torch.testing.assert_close(merged(image, text), trained)


def test_a_network_whose_names_say_nothing_asks_for_targets():
    made = teacher()
    made.unet.diffusion_model.blocks = nn.ModuleList([nn.Sequential(nn.Linear(2, 2))])
    with pytest.raises(RecipeError, match="no layers of model.safetensors are named .* say in student.targets"):
        HostLora(made, StudentSettings(), torch.float32)

"""What one training pass of a full-size UNet moves: kernels, and the bytes that they read and write.

Counted on fake tensors, which have shapes and no numbers, so that neither memory nor time nor the machine matters. Each
operation that is no view counts as one kernel that reads its inputs and writes its outputs, as if nothing were fused or
kept near. One picture of the base's size; what does not train is bfloat16, with CUDA's autocast to it, and rank and
layers are those of the recipe `lcm-lora`, whose fp16 has the same sizes; activations are kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

SD15 = {"cross_attention_dim": 768}
SDXL = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
BASES = {"SD 1.5": (SD15, 64), "SDXL": (SDXL, 128)}  # the side of its latents
HALF = torch.bfloat16
NO_KERNEL = ("empty", "empty_like", "new_empty", "_unsafe_view", "lift_fresh")


class Moves(TorchDispatchMode):
    """Counts while it is active."""

    def __init__(self):
        super().__init__()
        self.kernels = self.bytes = 0

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        result = operation(*arguments, **(named or {}))
        _, _, name = operation.name().partition("::")
        computes = operation.namespace == "aten" and name.partition(".")[0] not in NO_KERNEL  # prim's only ask
        if computes and not operation.is_view:
            tensors = [x for x in tree_iter((arguments, named, result)) if isinstance(x, torch.Tensor)]
            self.kernels += 1
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


@contextmanager
def norms_as_on_cuda() -> Iterator[None]:
    """Within, autocast has norms compute in float32, as on CUDA and not on a CPU; a UNet has no other of those."""

    def in_float32(norm):
        def called(x, shape, *weights):
            if torch.is_autocast_enabled("cpu"):
                x, *weights = (part.float() if isinstance(part, torch.Tensor) else part for part in (x, *weights))
            return norm(x, shape, *weights)

        return called

    functions = {name: getattr(nn.functional, name) for name in ("group_norm", "layer_norm")}
    try:
        for name, norm in functions.items():
            setattr(nn.functional, name, in_float32(norm))
        yield
    finally:
        for name, norm in functions.items():
            setattr(nn.functional, name, norm)


def plain(unet: nn.Module) -> nn.Module:
    return unet


def with_peft(unet: nn.Module) -> nn.Module:
    from peft import LoraConfig, inject_adapter_in_model
    from understudy.distill_train.config import StudentSettings
    from understudy.distill_train.students.lora import USUAL

    rank = StudentSettings().rank
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(USUAL))
    inject_adapter_in_model(config, unet, "default", low_cpu_mem_usage=True)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return unet


def with_our_lora(unet: nn.Module) -> nn.Module:
    from understudy.distill_train.config import StudentSettings
    from understudy.distill_train.students.adapters import Adapters
    from understudy.distill_train.students.lora import USUAL
    from understudy.distill_train.teachers.precision import with_own_norms

    adapted = Adapters(with_own_norms(unet))  # as the trainer reads it
    adapted.add("student", USUAL, StudentSettings().rank)
    return adapted


NETWORKS = {"plain": plain, "peft": with_peft, "understudy": with_our_lora}


def moves(base: str) -> list[dict]:
    """A row for each pass and network: kernels, GiB, and how many times peft's bytes ours are."""
    rows = []
    for what in ("forward", "forward and backward"):
        row = {"base": base, "pass": what}
        for name, adapted in NETWORKS.items():
            if name == "plain" and what != "forward":
                continue  # nothing in it trains
            counted = count(base, adapted, what != "forward")
            row |= {f"{name}_kernels": counted.kernels, f"{name}_gib": round(counted.bytes / 2**30, 2)}
        row["bytes_ratio"] = round(row["understudy_gib"] / row["peft_gib"], 3)
        rows.append(row)
    return rows


def with_fake_weights(*networks: nn.Module) -> None:
    """Within FakeTensorMode: fake weights in the place of meta ones, half precision and, where they train, float32."""
    for module in {part: None for network in networks for part in network.modules()}:
        for name, weight in module.named_parameters(recurse=False):
            dtype = torch.float32 if weight.requires_grad else HALF
            setattr(module, name, nn.Parameter(torch.empty(weight.shape, dtype=dtype), weight.requires_grad))


def count(base: str, adapted, backward: bool) -> Moves:
    from diffusers import UNet2DConditionModel

    config, side = BASES[base]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config).requires_grad_(False)
        network = adapted(unet)
    with FakeTensorMode(), norms_as_on_cuda():
        with_fake_weights(network, unet)
        text = torch.randn(1, 77, config["cross_attention_dim"])
        added = {"text_embeds": torch.randn(1, 1280), "time_ids": torch.randn(1, 6)}
        given = {"added_cond_kwargs": added} if "addition_embed_type" in config else {}
        arguments = torch.randn(1, 4, side, side), torch.tensor([500]), text
        with Moves() as counted:
            with torch.set_grad_enabled(backward), torch.autocast("cpu", HALF):
                output = network(*arguments, **given).sample
            if backward:
                output.float().square().mean().backward()
    return counted

"""The precision that a recipe asks for, of frozen weights and of the passes under autocast, and how a GPU keeps it."""

import torch
from torch import Tensor, nn

from ..config import RecipeError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device | str, precision: str) -> torch.autocast:
    """Within, passes on ``device`` run in ``precision``, a key of ``DTYPES``; with "fp32" nothing changes."""
    half = DTYPES[precision] if precision != "fp32" else None
    return torch.autocast(torch.device(device).type, half, enabled=half is not None)


def whole_precision(device: torch.device | str) -> torch.autocast:
    """Within, passes on ``device`` run in the precision of their weights, whatever a recipe asks for."""
    return torch.autocast(torch.device(device).type, enabled=False)


def require_precision(device: torch.device, precision: str) -> None:
    """Raises RecipeError for bfloat16 on a CUDA device that merely imitates it, as those before Ampere do."""
    if device.type == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise RecipeError(
            f"loop.precision is bf16, which {torch.cuda.get_device_name(device)} does not compute in; take fp16"
        )


def prefer_speed(device: torch.device) -> None:
    """Have a CUDA device multiply float32 in TF32, which keeps as many digits as fp16, and search for convolutions.

    It is for the whole process, so it waits until all is encoded in float32.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True


def laid_out(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with the weights of convolutions as a CUDA device's kernels take them in half precision."""
    return network.to(memory_format=torch.channels_last) if device.type == "cuda" else network


class OwnPrecision(nn.Module):
    """A norm that under autocast, too, computes in its weights' precision where its input has that."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is None or self.weight.dtype != x.dtype:
            return super().forward(x)
        with whole_precision(x.device):
            return super().forward(x)


class OwnGroupNorm(OwnPrecision, nn.GroupNorm):
    pass


class OwnLayerNorm(OwnPrecision, nn.LayerNorm):
    pass


def with_own_norms(network: nn.Module) -> nn.Module:
    """The network with such norms, of the same weights and names.

    CUDA's autocast would bring the input of each to float32 and, after the activation behind it, back: three times the
    bytes of both; kernels sum in float32 in any case.
    """
    kinds = {nn.GroupNorm: OwnGroupNorm, nn.LayerNorm: OwnLayerNorm}
    for module in network.modules():
        module.__class__ = kinds.get(type(module), type(module))
    return network

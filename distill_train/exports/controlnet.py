"""A ControlNet (Zhang et al. 2023) beside a base: which tensors it has, and the original layout's names of them."""

from collections.abc import Sequence

from ...files import CheckpointError, preview
from ..students.kohya import Shapes
from .base import Base
from .kind import Contents, Trained

# What is copied of the UNet, by diffusers' names.
ENCODER = ("conv_in.", "time_embedding.", "add_embedding.", "down_blocks.", "mid_block.")
# Channels of the network that makes a hint as large as the latent: every reader has these, whatever the file says.
HINT = (3, 16, 16, 32, 32, 96, 96, 256)
HINT_NAMES = ("conv_in", *(f"blocks.{place}" for place in range(len(HINT) - 2)), "conv_out")


def by_diffusers(trained: Trained) -> Contents:
    """The student's weights as they are. Raises CheckpointError for tensors that no ControlNet of its base has."""
    expected = controlnet_shapes(trained.base)
    if unknown := trained.weights.keys() - expected.keys():
        raise CheckpointError(
            f"a ControlNet of {trained.base.path} has no tensors {preview(unknown)} that the student has"
        )
    return Contents(trained.weights, expected)


def controlnet_shapes(base: Base) -> Shapes:
    """What a ControlNet of the base has, by diffusers' names."""
    shapes = {key: shape for key, shape in base.shapes.items() if key.startswith(ENCODER)}
    widths = _skips(shapes)
    for name, narrow, wide in zip(HINT_NAMES, HINT, (*HINT[1:], widths[0]), strict=True):
        shapes |= _convolution(f"controlnet_cond_embedding.{name}", narrow, wide, 3)
    for place, width in enumerate(widths):
        shapes |= _convolution(f"controlnet_down_blocks.{place}", width, width, 1)
    return shapes | _convolution("controlnet_mid_block", widths[-1], widths[-1], 1)


def original_controlnet_names(base: Base) -> dict[str, str]:
    """The original layout's name, without ``control_model``, of each of them."""
    names = {key: name for key, name in base.names.items() if key.startswith(ENCODER)}
    joins = len(_skips(base.shapes))
    layers = {f"controlnet_down_blocks.{place}": f"zero_convs.{place}.0" for place in range(joins)}
    # An activation stands between two of the hint's layers, and counts there.
    layers |= {f"controlnet_cond_embedding.{name}": f"input_hint_block.{2 * i}" for i, name in enumerate(HINT_NAMES)}
    layers["controlnet_mid_block"] = "middle_block_out.0"
    return names | {f"{a}.{end}": f"{b}.{end}" for a, b in layers.items() for end in ("weight", "bias")}


def _skips(shapes: Shapes) -> Sequence[int]:
    """Channels of what the encoder hands to the decoder, in order: each is joined to by a convolution of its own."""
    widths, block = [shapes["conv_in.weight"][0]], 0
    while f"down_blocks.{block}.resnets.0.conv2.weight" in shapes:
        layer = 0
        while (key := f"down_blocks.{block}.resnets.{layer}.conv2.weight") in shapes:
            widths.append(shapes[key][0])
            layer += 1
        if (key := f"down_blocks.{block}.downsamplers.0.conv.weight") in shapes:
            widths.append(shapes[key][0])
        block += 1
    return widths


def _convolution(name: str, narrow: int, wide: int, side: int) -> Shapes:
    return {f"{name}.weight": (wide, narrow, side, side), f"{name}.bias": (wide,)}

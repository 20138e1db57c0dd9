"""The base's checkpoint file with another UNet."""

from __future__ import annotations

from ..kind import Contents, ExportError, Kind, Trained


def contents(trained: Trained) -> Contents:
    from ....pipelines.layout import UNET
    from ..unet import unet

    base = trained.base
    if not base.others:
        raise ExportError(
            f"--to checkpoint: {base.path} is a folder; name a checkpoint file of the same model with --base"
        )
    own = unet(trained, UNET)
    return Contents(own.tensors, {**base.others, **own.expected}, {**base.other_weights(), **own.kept})


KIND = Kind(
    name="checkpoint",
    folder="checkpoints",
    node="Load Checkpoint",
    architectures=("sd1", "sdxl"),
    trained=("full", "lora"),
    contents=contents,
)

"""Weights into a network, and into a file that is whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from .headers import CheckpointError, preview, read_header


def outline(path: str | Path) -> dict:
    """A file's tensors in float32 on torch's meta device, which has no weights: to see whether they fit.

    Raises as :func:`read_header`.
    """
    import torch

    return {key: torch.empty(shape, device="meta") for key, shape in read_header(path).shapes.items()}


def fill(
    path: str | Path, network, weights: Mapping, dtype, exact: tuple[str, ...] = (), adopt: bool = False, name: str = ""
):
    """A network built on torch's meta device, with ``weights`` in ``dtype`` in their places, ready for inference.

    Those whose names begin with one of ``exact`` are float32 whatever ``dtype`` is. ``adopt``: weights of the right
    dtype become the network's own; else all are copied, so that they may be views of a file. ``name``: what errors call
    the network; its class without.
    Raises CheckpointError, naming ``path``, for tensors missing, left over or of another shape.
    """
    import torch

    name = name or type(network).__name__
    # Older files also hold the positions 0, 1, 2 ... themselves, and transformers before 4.31 expects them.
    expected = {key: value for key, value in network.state_dict().items() if not key.endswith("position_ids")}
    given = {key for key in weights if not key.endswith("position_ids")}
    for what, keys in (("lacks", expected.keys() - given), ("also has", given - expected.keys())):
        if keys:
            raise CheckpointError(f"{path} is not complete: its {name} {what} {preview(keys)}")

    def placed(key: str, shape) -> torch.Tensor:
        kept = torch.float32 if key.startswith(exact) else dtype
        tensor = weights[key]
        if tensor.shape != shape:
            raise CheckpointError(f"{path}: {key} of its {name} is {list(tensor.shape)}, expected {list(shape)}")
        if adopt and tensor.dtype == kept:
            return tensor.contiguous()
        return torch.empty(shape, dtype=kept).copy_(tensor)

    # Not strict, which every name was checked for above: the positions come below.
    placed_all = {key: placed(key, value.shape) for key, value in expected.items()}
    network.load_state_dict(placed_all, strict=False, assign=True)
    for module in network.modules():
        for key, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                # The only buffers that are not in a file are positions.
                setattr(module, key, torch.arange(buffer.shape[-1]).expand(1, -1))
    return network.eval().requires_grad_(False)


def save_tensors(
    tensors: dict,
    path: str | Path,
    metadata: dict[str, str] | None = None,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Write a safetensors file, whole or not at all.

    check: reads the written file, before it takes its name, and raises if it is not what it should be.
    Raises OSError if it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        try:
            save_file(tensors, partial, metadata=metadata)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        if check:
            check(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)

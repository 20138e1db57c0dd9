"""A model that ComfyUI loads as what an export is checked against, by ComfyUI's own LoRA loader."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...files import CheckpointError, preview
from ..host import Host, kind_of, open_host
from ..students.written import Shapes


class Named(NamedTuple):
    """kind: as `Teacher.kind`, ComfyUI's own name of the architecture; it has no other."""

    kind: str
    name: str


@dataclass(frozen=True)
class HostedBase:
    """What `base.Base` is for SD 1.x and SDXL, of any model; nothing of its file goes into an export.

    model: ComfyUI's ``BaseModel`` on torch's meta device, as only the file's header was read.
    """

    host: Host
    path: Path
    model: nn.Module
    zero_snr: bool = False
    others: Shapes = field(default_factory=dict)

    @property
    def architecture(self) -> Named:
        return Named(kind_of(self.model), kind_of(self.model))

    @property
    def in_8_bits(self) -> bool:
        """Whether weights of it are quantised, so that a change that is added to them is rounded."""
        return self.host.in_8_bits(self.path)

    def require_places(self, lora: Mapping[str, Tensor]) -> None:
        """Raises CheckpointError for a LoRA of which the loader would leave something out, which it only logs."""
        if lost := self.host.unmatched(self.model, lora):
            raise CheckpointError(f"ComfyUI's Load LoRA finds no place in {self.path} for {preview(lost)}")


def open_hosted(path: Path, comfyui: Path | None) -> HostedBase:
    """comfyui: its folder, as `host.host_folder` takes it. Raises what that and `Host.outline` do."""
    host = open_host(comfyui, torch.device("cpu"))
    return HostedBase(host, path, host.outline(path))

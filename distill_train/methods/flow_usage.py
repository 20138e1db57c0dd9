"""How a student of a flow is sampled, for its file: at its own noise levels, by samplers that every host has."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...files.student_file import levels_text
from ..process import Process

DISCRETE = ("preset", "intervals", "timestep_scaling")  # entries that are of whole timesteps


def flow_usage(usage: Mapping[str, str], process: Process, levels: Tensor, size: Sequence[int]) -> dict[str, str]:
    """A method's usage, as it is for discrete time, for a flow.

    levels: [steps + 1], the noise levels that the student learned. size: height and width of the latents, on which a
    shift may depend.

    Multistep consistency sampling is the host's ``lcm`` there, as no boundary scaling is needed, and ``simple`` is
    uniform in the flow's own time, which its shift bends: s = shift u / (1 + (shift - 1) u), so s / (1 - s) at u = 1/2.
    """
    said = {key: text for key, text in usage.items() if key not in DISCRETE} | {"scheduler": "simple"}
    if said["sampler"] == "consistency":
        said["sampler"] = "lcm"
    half = process.sigmas(process.times(torch.tensor(0.5, device=process.device), size)).item()
    said["shift"] = f"{half / (1 - half):.6g}"
    return said | {"sigmas": levels_text(levels.tolist())}

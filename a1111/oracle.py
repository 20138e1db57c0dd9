"""The oracle of a job: on the device only while it scores, since these hosts know nothing of our networks."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from ..oracles import load_oracle
from ..oracles.prompt_syntax import prompts_to_read
from .choices import RefusedChoice
from .host import models_folder

log = logging.getLogger(__name__)
FOLDER = "oracles"
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
DEVICE_SETTING, CPU = "understudy_oracle_device", "cpu"


def oracle_files() -> list[str]:
    """The files in models/oracles, by their path below it."""
    folder = models_folder(FOLDER)
    found = (path for path in folder.rglob("*") if path.suffix in SUFFIXES and not path.name.startswith("."))
    return sorted(path.relative_to(folder).as_posix() for path in found)


class HostedOracle:
    """Called as the oracle itself is, with the host's prompts."""

    def __init__(self, name: str):
        if name not in oracle_files():
            there = ", ".join(oracle_files()) or "none yet"
            raise RefusedChoice(f"models/oracles has no {name!r}; there are: {there}")
        path = models_folder(FOLDER) / name
        self.name, self.oracle = name, _loaded(str(path), path.stat().st_mtime_ns)

    def __call__(self, images, prompts: Sequence[str]) -> list[float]:
        """Scores of images [B, 3, H, W] in [0, 1] for prompts in the host's own syntax."""
        import torch
        from modules import devices

        network, texts = self.oracle.network, prompts_to_read(prompts, False).texts
        try:
            network.to(_device())
            return self.oracle(images, texts).tolist()
        except torch.cuda.OutOfMemoryError:
            log.warning("Understudy: the oracle does not fit beside the host's networks, and scores on the CPU")
            network.to(CPU)
            return self.oracle(images, texts).tolist()
        finally:
            network.to(CPU)
            devices.torch_gc()

    def each(self, images: Sequence, prompts: Sequence[str]) -> list[tuple[float, str]]:
        """(score, "") of each picture [3, H, W]; (NaN, why) of those that have none, without which the others have."""
        import torch

        if not images:
            return []
        try:
            return [(score, "") for score in self(torch.stack(list(images)), prompts)]
        except ValueError as error:  # an OracleError, or what a family says of a prompt
            if len(images) == 1:
                return [(math.nan, str(error))]
        return [self.each([image], [prompt])[0] for image, prompt in zip(images, prompts, strict=True)]


def _device():
    """The host's, or the CPU where its settings say so."""
    from modules import devices, shared

    chosen = str(getattr(shared.opts, DEVICE_SETTING, "") or "")
    return CPU if chosen.lower() == CPU else devices.device


_held: dict[tuple[str, int], object] = {}  # at most one


def _loaded(path: str, changed: int):
    """The oracle in a file, which stays in memory until another is asked for."""
    if (path, changed) not in _held:
        _held.clear()  # first: never two of them
        _held[path, changed] = load_oracle(path)
    return _held[path, changed]

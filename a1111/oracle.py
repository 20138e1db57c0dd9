"""The oracle of a job: on the device only while it scores, since these hosts know nothing of our networks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ..oracles import load_oracle
from ..oracles.prompt_syntax import prompts_to_read
from .choices import RefusedChoice
from .host import models_folder

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
        from modules import devices

        network = self.oracle.network
        try:
            network.to(devices.device)
            return self.oracle(images, prompts_to_read(prompts, False).texts).tolist()
        finally:
            network.to("cpu")
            devices.torch_gc()


@lru_cache(maxsize=1)
def _loaded(path: str, changed: int):
    return load_oracle(path)

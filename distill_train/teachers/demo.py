"""The demo family as a teacher."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ...demo_family import family
from ...demo_family.language import TOKENS
from ...files import CheckpointError, read_header, sha256
from ...samplers.denoisers import scaled_linear
from ..config import RecipeError
from ..process import Discrete, Flow, Process
from .base import FromPath, Teacher
from .precision import whole_precision

SHIPPED = "demo"  # stands for the path of the one in the pack
SCENES = (
    "a small red star left of a large blue circle on a gray background",
    "a large green square above a small yellow triangle on a black background",
    "a large blue circle on a white background",
    "a small yellow star above a large purple circle on a black background",
)


class DemoTeacher(Teacher, FromPath):
    """A scene network and its autoencoder, in timesteps or, as its file says, in flow time.

    Its embeddings are the token ids, ``tokens`` [B, 8].
    """

    kind, attention_block = "demo", f"unet.{Teacher.attention_block}"
    shared, examples = ("text",), SCENES  # one text table for both, as students share the text encoder
    latent_channels, default_size = family.LATENT_CHANNELS, family.LATENT_SIDE * 8

    def __init__(self, path: Path, device: torch.device, dtype: torch.dtype, vae: Path | None = None):
        self.device, self.file, self.fingerprint = device, path.name, sha256(path)
        self.unet = family.load_network(path).eval().requires_grad_(False).to(device, dtype)
        self.vae_file = vae or family.FOLDER / "vae.safetensors"
        self.vae = family.load_autoencoder(self.vae_file).eval().requires_grad_(False).to(device)
        self.process = process_of(path)

    @classmethod
    def knows(cls, path: Path) -> bool:
        if str(path) == SHIPPED:
            return True
        return path.is_file() and read_header(path).metadata.get("understudy", "").startswith("demo-")

    @classmethod
    def load(cls, path, device, dtype, vae, prediction, zero_snr, empty):
        path = family.FOLDER / "teacher.safetensors" if str(path) == SHIPPED else path
        require_network(path)
        if prediction not in ("auto", process_of(path).prediction) or zero_snr or empty != "auto":
            raise RecipeError(
                "files of the demo family say what they predict and where their schedule ends, and it has an empty "
                "text of its own; leave out teacher.prediction, teacher.zero_snr and teacher.empty"
            )
        return cls(path, device, dtype, vae)

    @property
    def maker(self) -> str:
        return hashlib.sha256(f"{self.fingerprint} {sha256(self.vae_file)}".encode()).hexdigest()

    @torch.no_grad()
    def encode(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return family.encode(self.vae, pixels.to(self.device))

    def decode(self, latents: Tensor, clamp: bool = True) -> Tensor:
        parts = latents.to(self.device).float().split(family.CHUNK)
        with whole_precision(self.device):
            pixels = torch.cat([self.vae.decode(part).sample for part in parts]) / 2 + 0.5
        return pixels.clamp(0, 1) if clamp else pixels

    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        return {"tokens": family.tokens_of(prompts).to(self.device)}

    def unconditional(self, count: int) -> dict[str, Tensor]:
        return {"tokens": torch.zeros(count, TOKENS, dtype=torch.long, device=self.device)}

    def sizes(self, height: int, width: int, count: int) -> dict[str, Tensor]:
        return {}

    def call(self, unet: nn.Module, noisy: Tensor, t: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
        told = dict(embeddings)
        return self.under_condition(unet, told)(noisy, t, told["tokens"])

    def metadata(self, network: nn.Module) -> dict[str, str]:
        shift = {"shift": f"{self.process.shift:g}"} if isinstance(self.process, Flow) else {}
        return {"understudy": "demo-student", "config": json.dumps(network.config), **shift}

    def control_metadata(self) -> dict[str, str]:
        return {"understudy": "demo-control", "config": json.dumps(self.unet.config)}


def process_of(path: Path) -> Process:
    """The process of a network's file: the family's timesteps, but for one that says flow and its shift."""
    said = read_header(path).metadata
    if said.get("prediction") == "flow":
        return Flow(float(said["shift"]))
    return Discrete(scaled_linear(), "v_prediction")


def require_network(path: Path) -> None:
    """Raises CheckpointError for a file that is no teacher or student of the family."""
    said = read_header(path).metadata.get("understudy", "nothing of it")
    if said not in ("demo-teacher", "demo-student"):
        raise CheckpointError(
            f"{path} is no teacher or student of the demo family; its metadata say {said}, expected demo-teacher or "
            "demo-student"
        )

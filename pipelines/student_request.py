"""What `generate` and `calibrate` both ask for: a student, an oracle and prompts."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..files import CheckpointError, sha256
from ..oracles.base import Oracle
from ..predictor import Predictor, read_predictor
from ..predictor.denoiser import feature_channels
from .checkpoint import Checkpoint, Components, open_checkpoint
from .lora import merge_lora, read_lora
from .model import StudentPlan
from .oracle_files import load_oracles

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class StudentRequest:
    """What the user asked for, as typed; nothing is checked before :meth:`checked`."""

    student: Path
    oracle: Path
    prompts: Path
    student_plan: StudentPlan
    student_lora: Path | None = None
    predictor: Path | None = None
    vae: Path | None = None
    oracle_family: str = "auto"
    encoder: Path | None = None
    size: str = ""
    negative: str = ""
    literal_prompts: bool = False
    seed: int = 0
    batch_size: int = 8
    device: str = "auto"
    dtype: str = "auto"

    def checked(self, images: int) -> tuple[Checkpoint, tuple[int, int]]:
        """The student's checkpoint and (height, width), before any network is loaded.

        Raises FileNotFoundError or ValueError for what is wrong with the request for this many images.
        """
        if self.batch_size < 1:
            raise ValueError(f"--batch-size is {self.batch_size}; expected at least 1")
        check_seed(self.seed, images)
        student = open_checkpoint(self.student, self.vae)
        if self.student_lora is not None:
            read_lora(self.student_lora)
        if self.predictor is not None and read_predictor(self.predictor).prior is None:
            raise CheckpointError(
                f"--predictor {self.predictor} has no prior, and there is no picture to take its place: train one with "
                "'understudy train sferd-prior'"
            )
        return student, read_size(self.size, student)

    def load(self, student: Checkpoint, dtype: torch.dtype) -> Components:
        """The student's networks, with the LoRA merged."""
        components = student.load(dtype)
        if self.student_lora is not None:
            merge_lora(components.unet, self.student_lora)
        return components

    def load_predictor(self, components: Components) -> Predictor | None:
        """The gradient predictor, if one is asked for. Raises CheckpointError where it is for another network."""
        if self.predictor is None:
            return None
        predictor, unet = read_predictor(self.predictor), components.unet
        predictor.layout.require(unet.config.in_channels, *feature_channels(unet), f"--predictor {self.predictor}")
        return predictor

    def load_oracle(self, device: torch.device) -> Oracle:
        """The oracle, with the image encoder if that is a file of its own. Raises as :func:`load_oracles`."""
        encoders = [] if self.encoder is None else [self.encoder]
        return load_oracles([self.oracle], [self.oracle_family], encoders, device)[0]

    def settings(self, size: tuple[int, int]) -> dict:
        """What decides the student's score distribution, for calibration; the oracle's own file is known beside it."""
        plan = {key: value for key, value in asdict(self.student_plan).items() if value is not None}
        return {
            "student": self.student.name,
            "student_lora": self.student_lora.name if self.student_lora else None,
            **({"predictor": sha256(self.predictor)[:12]} if self.predictor else {}),
            **({"vae": self.vae.name} if self.vae else {}),
            **plan,
            "size": f"{size[1]}x{size[0]}",
            "negative": self.negative,
            **({"literal_prompts": True} if self.literal_prompts else {}),
            **({"encoder": sha256(self.encoder)[:12]} if self.encoder else {}),
        }


def read_size(text: str, student: Checkpoint) -> tuple[int, int]:
    """(height, width) from "512" or "768x512" (width first); empty is the size of the student's architecture."""
    if not text:
        return student.architecture.default_size, student.architecture.default_size
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if not match or not all(0 < int(side) <= 16384 for side in match.groups() if side):
        raise ValueError(f"--size is {text!r}; expected one number, or width and height as in 768x512")
    width = int(match[1])
    return int(match[2] or width), width


def check_seed(seed: int, images: int) -> None:
    if not 0 <= seed <= 2**64 - images:
        raise ValueError(f"--seed is {seed}; expected 0 to 2**64 - {images}, as each image adds one")


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """What --dtype names; "auto" is float16 on CUDA, else float32."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise ValueError(f"--dtype is {name!r}; expected auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def quiet_libraries() -> None:
    """Their advice and loading bars would tear our progress bars apart; errors still come as exceptions."""
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

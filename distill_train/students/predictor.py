"""SFERD's gradient predictor beside a frozen student that is a file, and the prior of a predictor that is one."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from ...files import CheckpointError, fill, known_sha256, outline, preview, read_header
from ...files.student_file import METHOD
from ...pipelines.layout import GUIDANCE_INPUT, original_unet_names
from ...pipelines.lora import merge_lora
from ...predictor import Layout, Predictor, read_predictor
from ...predictor.denoiser import feature_channels, pooled_text
from ...predictor.file import described
from ...predictor.networks import WEAK_SIGNAL
from ..config import RecipeError, StudentSettings
from ..process import Process
from ..teachers import Teacher
from ..teachers.demo import process_of, require_network
from .base import Student
from .written import Shapes

# What a student's own file says and a predictor's repeats, since it is sampled as the student is.
REPEATED = ("steps", "guidance", "sampler", "scheduler", "preset")


class BesideStudent(Student):
    """``frozen`` is the student, a network of the teacher's kind; ``told`` what its file says. Neither trains.

    ``network`` is not called as the teacher's is: the methods say how.
    """

    predictor: Predictor

    def __init__(self, teacher, settings, frozen, guidance_width=None):
        super().__init__(teacher, settings, frozen)
        self.frozen = load_student(_student_file(settings), teacher, teacher.unet)
        self.told, self.sha256 = read_header(settings.file).metadata, known_sha256(settings.file)

    @classmethod
    def require(cls, teacher, unet, settings):
        with torch.device("meta"):
            load_student(_student_file(settings), teacher, unet)

    @contextmanager
    def teaching(self) -> Iterator[nn.Module]:
        yield self.teacher.unet

    def save_memory(self) -> None:
        """Nothing is recomputed: through the large network no gradient flows."""

    def exported(self) -> tuple[dict[str, torch.Tensor], Shapes]:
        weights = self.predictor.state_dict()
        return weights, {key: tuple(value.shape) for key, value in weights.items()}

    def metadata(self) -> dict[str, str]:
        said = {"student_file": self.settings.file.name, "student_sha256": self.sha256}
        if METHOD in self.told:
            said["student_method"] = self.told[METHOD]
        repeated = {key: self.told[key] for key in REPEATED if key in self.told}
        return said | repeated | described(self.predictor.layout)


class GradientPredictor(BesideStudent):
    """What trains is the encoder and the branch (``predictor``); z is a quarter of the UNet's widest block."""

    def __init__(self, teacher, settings, frozen, guidance_width=None):
        super().__init__(teacher, settings, frozen, guidance_width)
        middle, skips = _channels(self.frozen)
        side = teacher.default_size // teacher.factor
        layout = Layout.of(teacher.latent_channels, middle, skips, side, mode_of(teacher.process))
        self.network = self.predictor = Predictor(layout).to(teacher.device).train()

    @classmethod
    def require(cls, teacher, unet, settings):
        super().require(teacher, unet, settings)
        _channels(unet)


class LatentPrior(BesideStudent):
    """What trains is the prior; the predictor that it is for stays, and is exported with it."""

    def __init__(self, teacher, settings, frozen, guidance_width=None):
        super().__init__(teacher, settings, frozen, guidance_width)
        self.predictor = _predictor(settings, self.sha256).to(teacher.device)
        self.network = self.give_prior(pooled_text(self.frozen, teacher.unconditional(1)).shape[-1])

    @classmethod
    def require(cls, teacher, unet, settings):
        super().require(teacher, unet, settings)
        _predictor(settings, known_sha256(settings.file))

    def give_prior(self, text: int) -> nn.Module:
        """A new prior, told a pooled text of this width; 0 for none."""
        self.network = self.predictor.add_prior(text).to(self.teacher.device).train()
        return self.network


def _student_file(settings: StudentSettings) -> Path:
    if settings.file is None:
        raise RecipeError(
            f"student.train = {settings.train} is for a student that is there already: name its file, e.g. "
            "--set student.file=FILE"
        )
    return settings.file


def _channels(network: nn.Module) -> tuple[int, list[int]]:
    try:
        return feature_channels(network)
    except ValueError as error:
        raise RecipeError(f"student.train = predictor: {error}") from error


def _predictor(settings: StudentSettings, student: str) -> Predictor:
    """The recipe's, for the student of this fingerprint."""
    if settings.predictor is None:
        raise RecipeError("student.train = prior needs the predictor, e.g. --set student.predictor=FILE")
    predictor = read_predictor(settings.predictor)
    if predictor.about.get("student_sha256") != student:
        raise RecipeError(
            f"student.predictor {settings.predictor} is for the student {predictor.about.get('student_file')}, of "
            f"which student.file {settings.file} is another or another version"
        )
    return predictor


def mode_of(process: Process) -> str:
    """ "shift" where alpha comes below 0.05 at the end at which one-step students start, else "gradient"."""
    if process.zero_snr:
        return "shift"
    weakest = process.level(process.times(torch.ones(1, device=process.device))).alpha
    return "shift" if float(weakest) < WEAK_SIGNAL else "gradient"


def load_student(path: Path, teacher: Teacher, unet: nn.Module) -> nn.Module:
    """The student of a file, frozen, in the precision and on the device of ``unet``, the teacher's network.

    path: a LoRA, or a UNet in diffusers' or the original layout, as 'understudy train' and 'understudy export' write
    them; of the demo family a student's file. Raises FileNotFoundError, CheckpointError for a file that does not fit,
    or RecipeError for a student that is told its guidance.
    """
    from safetensors.torch import load_file

    header, like = read_header(path), next(unet.parameters())
    read = outline if like.is_meta else load_file
    if teacher.kind == "demo":
        from ...demo_family import family

        require_network(path)
        if process_of(path).plan != teacher.process.plan:
            raise RecipeError(
                f"student.file {path} is not in the time of the teacher {teacher.file}, flow or timesteps"
            )
        return family.load_network(path).eval().requires_grad_(False).to(like.device, like.dtype)
    network = copy.deepcopy(unet)
    if any(".lora_" in key or "lora_A" in key for key in header.shapes):
        merge_lora(network, path)
        return network.eval().requires_grad_(False)
    if GUIDANCE_INPUT in header.shapes:
        raise RecipeError(f"student.file {path} is told its guidance; fix that with 'understudy export --guidance'")
    own = network.state_dict()
    if missing := [key for key in own if key not in header.shapes]:
        names = original_unet_names(own, network.config.layers_per_block)
        weights = read(path)
        if not set(names.values()) <= weights.keys():
            raise CheckpointError(f"{path} is no LoRA and no UNet of {teacher.file}: it lacks {preview(missing)}")
        weights = {key: weights[name] for key, name in names.items()}
    else:
        weights = read(path)
    return fill(path, network, weights, like.dtype).to(like.device)

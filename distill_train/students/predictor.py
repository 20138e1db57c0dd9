"""SFERD's gradient predictor beside a frozen student that is a file, and the prior of a predictor that is one."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from ...files import CheckpointError, fill, preview, read_header, sha256
from ...files.student_file import METHOD
from ...pipelines.layout import GUIDANCE_INPUT, original_unet_names
from ...pipelines.lora import merge_lora
from ...predictor import Layout, Predictor, read_predictor
from ...predictor.denoiser import feature_channels, pooled_text
from ...predictor.file import described
from ...predictor.networks import WEAK_SIGNAL
from ..config import RecipeError
from ..process import Process
from ..teachers import Teacher
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
        if settings.file is None:
            raise RecipeError(
                f"student.train = {settings.train} is for a student that is there already: name its file, e.g. "
                "--set student.file=FILE"
            )
        self.frozen, self.told = load_student(settings.file, teacher), read_header(settings.file).metadata
        self.sha256 = sha256(settings.file)

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
        try:
            middle, skips = feature_channels(self.frozen)
        except ValueError as error:
            raise RecipeError(f"student.train = predictor: {error}") from error
        side = teacher.default_size // teacher.factor
        layout = Layout.of(teacher.latent_channels, middle, skips, side, mode_of(teacher.process))
        self.network = self.predictor = Predictor(layout).to(teacher.device).train()


class LatentPrior(BesideStudent):
    """What trains is the prior; the predictor that it is for stays, and is exported with it."""

    def __init__(self, teacher, settings, frozen, guidance_width=None):
        super().__init__(teacher, settings, frozen, guidance_width)
        if settings.predictor is None:
            raise RecipeError("student.train = prior needs the predictor, e.g. --set student.predictor=FILE")
        self.predictor = read_predictor(settings.predictor).to(teacher.device)
        about = self.predictor.about
        if about.get("student_sha256") != self.sha256:
            raise RecipeError(
                f"student.predictor {settings.predictor} is for the student {about.get('student_file')}, of which "
                f"student.file {settings.file} is another or another version"
            )
        self.network = self.give_prior(pooled_text(self.frozen, teacher.unconditional(1)).shape[-1])

    def give_prior(self, text: int) -> nn.Module:
        """A new prior, told a pooled text of this width; 0 for none."""
        self.network = self.predictor.add_prior(text).to(self.teacher.device).train()
        return self.network


def mode_of(process: Process) -> str:
    """ "shift" where alpha comes below 0.05 at the end at which one-step students start, else "gradient"."""
    if process.zero_snr:
        return "shift"
    weakest = process.level(process.times(torch.ones(1, device=process.device))).alpha
    return "shift" if float(weakest) < WEAK_SIGNAL else "gradient"


def load_student(path: Path, teacher: Teacher) -> nn.Module:
    """The student of a file, frozen, in the precision and on the device of the teacher's network.

    path: a LoRA, or a UNet in diffusers' or the original layout, as 'understudy train' and 'understudy export' write
    them; of the demo family a student's file. Raises FileNotFoundError, CheckpointError for a file that does not fit,
    or RecipeError for a student that is told its guidance.
    """
    from safetensors.torch import load_file

    header = read_header(path)
    if teacher.kind == "demo":
        from ...demo_family import family

        if not header.metadata.get("understudy", "").startswith("demo-"):
            raise CheckpointError(f"{path} is no student of the demo family, as the teacher is")
        return family.load_network(path).eval().requires_grad_(False).to(teacher.device, next(_weights(teacher)).dtype)
    network = copy.deepcopy(teacher.unet)
    if any(".lora_" in key or "lora_A" in key for key in header.shapes):
        merge_lora(network, path)
        return network.eval().requires_grad_(False)
    if GUIDANCE_INPUT in header.shapes:
        raise RecipeError(f"student.file {path} is told its guidance; fix that with 'understudy export --guidance'")
    own = network.state_dict()
    if missing := [key for key in own if key not in header.shapes]:
        names = original_unet_names(own, network.config.layers_per_block)
        weights = load_file(path)
        if not set(names.values()) <= weights.keys():
            raise CheckpointError(f"{path} is no LoRA and no UNet of {teacher.file}: it lacks {preview(missing)}")
        weights = {key: weights[name] for key, name in names.items()}
    else:
        weights = load_file(path)
    return fill(path, network, weights, next(_weights(teacher)).dtype).to(teacher.device)


def _weights(teacher: Teacher) -> Iterator[nn.Parameter]:
    return teacher.unet.parameters()

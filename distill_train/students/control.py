"""A student under a condition picture: a copied encoder with zero-initialised joins (ControlNet, Zhang et al. 2023)."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ...demo_family.control import SceneControl, load_control
from ...files import known_sha256, outline, preview
from ...files.student_file import BASE_PART
from ...pipelines.control import control_weights
from ...pipelines.folder_files import weight_files
from ..config import RecipeError
from ..teachers import Teacher
from .base import Student, recompute_activations
from .full import Full
from .lora import Lora
from .written import Shapes

HINT_CHANNELS = (16, 32, 96, 256)  # of the condition's own layers, as files have them; each but the first halves it
CHANNELS = 3  # of a condition picture
PARTS: dict[str, type[Student]] = {"full": Full, "lora": Lora}


class Controlled(nn.Module):
    """A UNet under a ControlNet; called as the UNet is, with a ``condition`` [B, 3, height, width] besides.

    Only the ControlNet is a part of this module, and the base where it ``trains``.
    """

    def __init__(self, base: nn.Module, control: nn.Module, trains: bool = False):
        super().__init__()
        self.control, self.trained_base = control, base if trains else None
        self._base = (base,)  # in a tuple, as a module would be registered

    @property
    def base(self) -> nn.Module:
        return self._base[0]

    def forward(self, x: Tensor, t: Tensor, *, condition: Tensor, **told):
        skips, middle = self.control(x, t, controlnet_cond=condition, return_dict=False, **told)
        added = {"down_block_additional_residuals": skips, "mid_block_additional_residual": middle}
        return self.base(x, t, **told, **added)

    def train(self, mode: bool = True):
        self.base.train(mode)  # diffusers recomputes activations in training alone
        return super().train(mode)


class ControlledScene(Controlled):
    """The same of the demo family's networks, whose text table both read."""

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor, *, condition: Tensor) -> Tensor:
        return self.base(x, t, tokens, self.control(x, t, self.base.text(tokens), condition))


class Control(Student):
    """A ControlNet on the teacher's network, fresh or from a file, and what of the base trains with it.

    student.base: "frozen", the teacher's own network; "lora", the same with an adapter; "full", a copy. The first two
    keep one network in memory. The teacher is the network alone, or under the ControlNet that was given, as it was.

    The export has diffusers' ``ControlNetModel`` names, or the demo family's, and of a base that trains its LoRA as
    ``lora_unet_*`` or its weights as ``base.*``; ``base_trained`` in the metadata says which.
    """

    def __init__(self, teacher, settings, frozen, guidance_width=None):
        super().__init__(teacher, settings, frozen)
        control, base = _made(teacher, teacher.unet, settings.control).requires_grad_(True), teacher.unet
        self.given = copy.deepcopy(control).requires_grad_(False) if settings.control else None
        self.part: Student | None = None
        if settings.base != "frozen":
            self.part = PARTS[settings.base](teacher, settings, frozen)
            base = self.part.network
        for network in (teacher.unet, self.given):
            if network is not None and frozen != torch.float32:
                network.to(frozen)
        self.kind = ControlledScene if teacher.kind == "demo" else Controlled
        self.network = self.kind(base, control, trains=self.part is not None).to(teacher.device).train()

    @classmethod
    def require(cls, teacher, unet, settings):
        with torch.device("meta"):
            _made(teacher, unet, settings.control)
        if settings.base != "frozen":
            PARTS[settings.base].require(teacher, unet, settings)

    @staticmethod
    def starts_in(frozen: torch.dtype) -> torch.dtype:
        return torch.float32  # what trains begins in the file's own precision

    @contextmanager
    def teaching(self) -> Iterator[nn.Module]:
        if self.part is None:
            yield self._taught(self.teacher.unet)
        else:
            with self.part.teaching() as network:
                yield self._taught(network)

    def _taught(self, network: nn.Module) -> nn.Module:
        if self.given is None:
            return network
        return self.kind(network, self.given.to(self.teacher.device))

    def rest_teacher(self) -> None:
        if self.part is not None:
            self.part.rest_teacher()

    def exported(self) -> tuple[dict[str, Tensor], Shapes]:
        weights = dict(self.network.control.state_dict())
        shapes = {key: tuple(value.shape) for key, value in weights.items()}
        if self.part is None:
            return weights, shapes
        more, expected = self.part.exported()
        before = BASE_PART["full"] if self.settings.base == "full" else ""  # a LoRA's names begin with theirs already
        weights |= {before + key: value for key, value in more.items()}
        return weights, shapes | {before + key: shape for key, shape in expected.items()}

    def metadata(self) -> dict[str, str]:
        said = {"trained": "control", "keys": "diffusers", "base_trained": self.settings.base}
        if self.settings.base == "lora":
            said |= {key: self.part.metadata()[key] for key in ("rank", "alpha")}
        return said | self.teacher.control_metadata()

    def learns_from(self) -> dict[str, str]:
        return {"ControlNet": known_sha256(_file(self.settings.control))} if self.settings.control else {}

    def save_memory(self) -> None:
        recompute_activations(self.network)
        if self.settings.base != "full":
            recompute_activations(self.teacher.unet)


def _made(teacher: Teacher, unet: nn.Module, start: Path | None) -> nn.Module:
    """A float32 ControlNet of the teacher's ``unet``: what ``start`` holds, or one that as yet changes nothing."""
    if teacher.kind == "demo":
        control = SceneControl.of(unet)
        return control if start is None else _filled(control, load_control(start).state_dict(), start)
    from diffusers import ControlNetModel
    from safetensors.torch import load_file

    halvings = teacher.factor.bit_length()  # all but one of these layers, for the 8 pixels to a latent of real models
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=HINT_CHANNELS[:halvings])
    control = control.float()
    if start is None:
        return control
    file = _file(start)
    tensors = outline(file)  # which says what it is instead of one of safetensors
    if control.device.type != "meta":
        tensors = load_file(file)
    return _filled(control, control_weights(tensors, control.config), start)


def _file(path: Path) -> Path:
    return weight_files(path)[0] if path.is_dir() else path


def _filled(control: nn.Module, weights: dict[str, Tensor], file: Path) -> nn.Module:
    expected = control.state_dict()
    wrong = [key for key in expected | weights if getattr(weights.get(key), "shape", None) != _shape(expected, key)]
    if wrong:
        raise RecipeError(
            f"student.control: {file} is no ControlNet of the teacher's network: {preview(wrong)} of {len(wrong)} are "
            "missing, of another shape or not a ControlNet's; name one of the teacher's architecture, in diffusers' or "
            "the original layout"
        )
    control.load_state_dict(weights)
    return control


def _shape(tensors: dict[str, Tensor], key: str):
    return tensors[key].shape if key in tensors else None

"""What can train, by its name in recipes."""

from ..config import Recipe
from .base import Student
from .control import Control
from .full import Full
from .host_lora import HostLora
from .lora import Lora
from .predictor import GradientPredictor, LatentPrior

STUDENTS: dict[str, type[Student]] = {
    "full": Full,
    "lora": Lora,
    "control": Control,
    "predictor": GradientPredictor,
    "prior": LatentPrior,
}


def student_kind(recipe: Recipe) -> type[Student]:
    """The class of the recipe's student."""
    hosted = recipe.teacher is not None and recipe.teacher.comfy is not None
    return HostLora if hosted and recipe.student.train == "lora" else STUDENTS[recipe.student.train]

"""What can train, by its name in recipes."""

from .base import Student
from .full import Full
from .lora import Lora
from .predictor import GradientPredictor, LatentPrior

STUDENTS: dict[str, type[Student]] = {
    "full": Full,
    "lora": Lora,
    "predictor": GradientPredictor,
    "prior": LatentPrior,
}

"""What can train, by its name in recipes."""

from .base import Student
from .control import Control
from .full import Full
from .lora import Lora
from .predictor import GradientPredictor, LatentPrior

STUDENTS: dict[str, type[Student]] = {
    "full": Full,
    "lora": Lora,
    "control": Control,
    "predictor": GradientPredictor,
    "prior": LatentPrior,
}

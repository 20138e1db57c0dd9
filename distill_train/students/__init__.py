"""What can train, by its name in recipes."""

from .base import Student
from .control import Control
from .full import Full
from .lora import Lora

STUDENTS: dict[str, type[Student]] = {"full": Full, "lora": Lora, "control": Control}

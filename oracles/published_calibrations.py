"""The percentiles that the adaptive sampler's authors published, for ImageReward on two students' images.

Source: data/IR_percentiles_lcm.json and IR_percentiles_turbo.json of yandex-research/adaptive-diffusion. They are known
at every tenth percentile, and for the settings that are named here; the prompts of the first are not stated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .calibration import Calibration, CalibrationMismatch
from .settings import Difference, flat

DECILES = tuple(float(k) for k in range(10, 100, 10))


@dataclass
class PublishedCalibration(Calibration):
    """A table that knows the oracle's family and the student's steps, and not their files."""

    family: str = "imagereward"

    def require(self, settings: dict, oracle: str | None = None, family: str | None = None) -> None:
        """Raise CalibrationMismatch for another family of oracle, or if no "steps" of the graph is the known one."""
        differences = []
        if family is not None and family != self.family:
            differences.append(Difference("oracle", self.family, family))
        settings = flat(settings)
        named = [key for key in settings if key.rsplit(".", 1)[-1] in ("steps", "student_steps")]
        steps = {_followed(settings, settings[key]) for key in named}
        if steps and self.settings["steps"] not in steps:
            given = ", ".join(sorted(map(str, steps)))
            differences.append(Difference("steps", str(self.settings["steps"]), given))
        if differences:
            raise CalibrationMismatch(
                f"calibration {self.name!r} is known for other settings: {'; '.join(map(str, differences))}. "
                "Use those, or make a calibration of your own with Calibrate",
                differences,
            )


def _followed(settings: dict, value):
    """A widget's value; of one that is linked, as "PrimitiveInt[0]", the value of the node that it comes from."""
    link = re.fullmatch(r"(.+)\[\d+\]", value) if isinstance(value, str) else None
    return _followed(settings, settings[f"{link[1]}.value"]) if link and f"{link[1]}.value" in settings else value


def _table(name: str, student: str, steps: int, prompts: str, count: int | None, values: tuple[float, ...]):
    settings = {"student": student, "steps": steps}
    return PublishedCalibration(name, {}, settings, "", prompts, table=values, count=count, levels=DECILES)


PUBLISHED_CALIBRATIONS = {
    table.name: table
    for table in (
        _table(
            "ImageReward, LCM-SDXL at 4 steps (published)",
            "LCM-SDXL",
            4,
            "not stated",
            5000,
            (-0.6084, -0.1657, 0.1546, 0.3832, 0.6154, 0.8390, 1.0873, 1.3283, 1.6417),
        ),
        _table(
            "ImageReward, SDXL-Turbo at 2 steps (published)",
            "SDXL-Turbo",
            2,
            "DiffusionDB",
            None,
            (-0.3076, 0.1240, 0.4178, 0.6708, 0.9034, 1.1335, 1.3630, 1.5732, 1.7677),
        ),
    )
}

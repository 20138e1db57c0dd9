"""The table of few-step students and their teachers: how each is patched and sampled, and by which files one knows it.

A new family is a row in `diffusion.py` or `flow.py`; data, torch alone, no host.
"""

from __future__ import annotations

from ..consistency import sample_consistency
from ..one_step import sample_one_step
from ..rollback import sigma_to_variance
from ..tcd import sample_tcd
from .architectures import ARCHITECTURES
from .diffusion import DIFFUSION
from .flow import FLOW
from .refused import REFUSED
from .settings import NATIVE, Mu, Shift, Student, Teacher
from .teachers import TEACHERS

STUDENTS: dict[str, Student] = {student.key: student for student in (*DIFFUSION, *FLOW)}
# The rows' samplers that the host does not have, with k-diffusion's signature.
SAMPLERS = {"consistency": sample_consistency, "one_step": sample_one_step, "tcd": sample_tcd}

__all__ = [
    "ARCHITECTURES",
    "REFUSED",
    "SAMPLERS",
    "STUDENTS",
    "TEACHERS",
    "Student",
    "Teacher",
    "of_file",
    "refusal",
    "way_back",
]


def refusal(path: str) -> str | None:
    """Why a file cannot be sampled here, by its path; None for one of which no such thing is known."""
    refused = next((each for each in REFUSED if each.match(path)), None)
    return refused and f"{path} is of {refused.name}, which cannot be sampled here: {refused.reason}"


def of_file(path: str) -> Student | None:
    """The family that a file's path speaks of, None where it speaks of none. Raises ValueError for students that no
    stock sampler can sample, with the reason."""
    if why := refusal(path):
        raise ValueError(why)
    return next((student for student in STUDENTS.values() if student.match(path)), None)


def way_back(student: Student, teacher: Teacher, tokens: int = NATIVE) -> float | None:
    """How far back a teacher takes a student's images, as the noise's share of the variance in (0, 1): where the
    teacher's schedule, run evenly in its time, has the student's `rollback` left. None where the table gives none.

    tokens: the image's squares of 16 x 16 pixels.
    """
    if student.rollback is None:
        return None
    time = teacher.patch if isinstance(teacher.patch, Shift | Mu) else ARCHITECTURES[teacher.architectures[0]].time
    return sigma_to_variance(time.sigma(student.rollback, tokens), time.flow)

"""Which kind of export a student becomes."""

from pathlib import Path

from ...files.student_file import TRAINED, StudentFile
from ..teachers.architectures import ARCHITECTURES
from .halves import parts
from .kind import ExportError, Kind
from .kinds import KINDS, names


def choose(file: Path, student: StudentFile, architecture: str, to: str | None) -> Kind:
    """The kind of that name that this student can become; without a name, the usual one for it. Raises ExportError.

    architecture: the student's, a key of `ARCHITECTURES`, or what else it says.
    """
    known = tuple(dict.fromkeys(each for kind in KINDS for each in kind.architectures))
    if architecture not in known:
        *others, last = (ARCHITECTURES[each].title for each in known)
        only = f"{', '.join(others)} and {last}"
        raise ExportError(f"{file} is a student of the {architecture} architecture; exported are those of {only}")
    own = parts(student)
    fitting = [kind for kind in KINDS if architecture in kind.architectures and {*own} & {*kind.trained}]
    fitting.sort(key=lambda kind: [part not in kind.usual_for for part in own])
    if not fitting:
        can = dict.fromkeys(trained for kind in KINDS for trained in kind.trained)
        raise ExportError(f"{file} holds what student.train = {student.trained} makes; exported is {', '.join(can)}")
    if to is None:
        return fitting[0]
    if to not in names():
        raise ExportError(f"--to {to}: expected {', '.join(names())}")
    for kind in fitting:
        if kind.name == to:
            return kind
    can = any(kind.name == to and student.trained in kind.trained for kind in KINDS)
    why = (
        f"the student is of {ARCHITECTURES[architecture].title}"
        if can
        else f"the run trained {TRAINED[student.trained]}"
    )
    raise ExportError(f"--to {to}: {why}; export {' or '.join(f'a {kind.name}' for kind in fitting)}")

"""The folder of a report, which appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..files import preview

STUDENT_FOLDER, FINAL_FOLDER, GRID_FILE, REPORT_FILE = "student", "final", "grid.png", "report.json"
SOURCE_FOLDER, HINT_FOLDER = MADE_FROM = ("source", "hint")  # of runs that were given such pictures
REPORT_PARTS = (STUDENT_FOLDER, FINAL_FOLDER, *MADE_FROM, GRID_FILE, REPORT_FILE)


def check_output(out: str | Path) -> None:
    """Refuse an output folder that holds anything but an earlier report, which may be replaced."""
    out = Path(out)
    if not out.exists():
        return
    if not out.is_dir():
        raise FileExistsError(f"--out {out} is a file; expected a folder to create")
    held = {path.name for path in out.iterdir()}
    others = held if REPORT_FILE not in held else held - set(REPORT_PARTS)
    if others:
        raise FileExistsError(
            f"--out {out} holds other files ({preview(others)}), which would be lost; name a new folder, or one with "
            "nothing but an earlier report"
        )


@contextmanager
def whole_directory(out: str | Path) -> Iterator[Path]:
    """A temporary sibling of ``out`` to fill; it takes the place of ``out`` if the block ends well, else it goes.

    Raises FileExistsError if ``out`` holds anything but an earlier report (see :func:`check_output`).
    """
    out = Path(out).absolute()
    check_output(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
        if out.exists():
            earlier = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
            os.replace(out, earlier / out.name)
            os.replace(temporary, out)
            shutil.rmtree(earlier)
        else:
            os.replace(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise

"""What a job saves."""

from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_files(webui):
    """The files, with all their names, that the server's outputs have more at the end."""
    before, found = set(_outputs(webui)), []
    yield found
    found += sorted(path for path in set(_outputs(webui)) - before if path.is_file())


def _outputs(webui):
    return webui.base.glob("output*/**/*")  # Forge Neo has no s there


def named(files: list[Path], suffix: str, grid: bool = False, student: bool = False) -> list[Path]:
    """Those of pictures, or of grids, or of the student's pictures that were redone."""
    return [
        path
        for path in files
        if path.suffix == suffix
        and path.name.startswith(("grid", "receipt")) == grid
        and path.stem.endswith("-student") == student
    ]

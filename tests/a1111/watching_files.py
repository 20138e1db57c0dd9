"""What a job saves."""

from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_files(webui):
    """The files, with all their names, that the server's outputs have more at the end."""
    folder = webui.base / "outputs"
    before, found = set(folder.rglob("*")), []
    yield found
    found += sorted(path for path in set(folder.rglob("*")) - before if path.is_file())


def named(files: list[Path], suffix: str, grid: bool = False, student: bool = False) -> list[Path]:
    """Those of pictures, or of grids, or of the student's pictures that were redone."""
    return [
        path
        for path in files
        if path.suffix == suffix
        and path.name.startswith(("grid", "receipt")) == grid
        and path.stem.endswith("-student") == student
    ]

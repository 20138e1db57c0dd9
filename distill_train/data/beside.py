"""Pictures in a second folder that belong to those of the first, by their names."""

import time
from pathlib import Path, PurePath

from ...files.hashes import stamp
from ...pipelines.images import find_images
from ..config import RecipeError


class Beside:
    """The pictures below a folder by their path there without its ending. Raises FileNotFoundError or RecipeError."""

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise FileNotFoundError(f"data.condition.path {folder}: no such folder")
        self.folder, self.files = folder, {}
        for path in find_images([folder]).images:
            name = _stem(path.relative_to(folder))
            if other := self.files.get(name):
                raise RecipeError(f"{other} and {path} are both the condition of {name}; keep one of them")
            self.files[name] = path

    @property
    def stamps(self) -> list:
        """What changes when a file does, or comes or goes."""
        return [(name, path.name, stamp(path) or time.time_ns()) for name, path in self.files.items()]

    def of(self, name: PurePath | str) -> Path | None:
        """What belongs to a picture of that path in its own folder; None for nothing."""
        return self.files.get(_stem(PurePath(name)))


def _stem(path: PurePath) -> str:
    return path.with_suffix("").as_posix()

"""The files of a job's pictures, as the host saved them, and what takes their place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from . import infotext
from .entry import Entry

STUDENTS = "redone; this is the student's"
SUFFIX = "-student"
REPLACE = "save_images_replace_action"


class Saved(NamedTuple):
    """path: None where that cannot be told."""

    path: Path
    text: str | None


class Files:
    """What the host has saved of one job. last: the latest of it."""

    def __init__(self, p, save_student: bool):
        self.p, self.save_student = p, save_student
        self.last: Saved | None = None
        self.awaited: Entry | None = None
        self._writing = False

    def expect(self, entry: Entry | None) -> None:
        """The next file that the host saves is this picture's, if it saves its pictures."""
        saves = getattr(self.p, "save_samples", None)
        self.awaited = entry if saves is None or saves() else None

    def saved(self, params) -> None:
        """on_image_saved."""
        if self._writing:  # by ourselves
            return
        entry, self.awaited = self.awaited, None
        self.last = Saved(written(Path(params.filename)), params.pnginfo.get("parameters"))
        if entry is None:
            return
        entry.file, entry.saved_text = self.last.path, self.last.text or ""
        if entry.teacher is not None and self.save_student:
            self._write_student(entry, entry.picture.frame.finished(entry.picture.pixels), self.last.text)

    def say(self, entry: Entry) -> None:
        """The picture's decision in the text of its file, unless that is of an image that another extension made."""
        if entry.file is not None and known_file(entry.image) is not None:
            self.write(entry.image, entry.file, infotext.with_values(entry.saved_text, entry.keys()))

    def replace(self, entry: Entry, image, text: str) -> None:
        """The picture's file with another image, or another text; nothing where the host saved none."""
        path = entry.file or known_file(entry.image)
        if path is None:
            return
        if self.save_student and image is not entry.image:
            self._write_student(entry, entry.image, text)
        self.write(image, path, text)

    def write(self, image, path: Path, text: str | None) -> None:
        """Over a file in one go, as the host saves: its format, its text beside it, its word to other extensions."""
        from modules import images

        with self.own():
            name, _ = images.save_image(
                image,
                str(path.parent),
                "",
                info=text,
                extension=path.suffix[1:],
                forced_filename=path.stem,
                save_to_dirs=False,
                p=self.p,
            )
        if Path(name) != path:  # another extension gave it another name, a second time
            os.replace(name, path)
        image.already_saved_as = str(path)

    @contextmanager
    def own(self) -> Iterator[None]:
        """What is saved now is none of the job's pictures, and replaces what has its name."""
        from modules.shared import opts

        before = opts.data.get(REPLACE)
        opts.data[REPLACE], self._writing = replacing(), True
        try:
            yield
        finally:
            self._writing = False
            if before is None:
                del opts.data[REPLACE]
            else:
                opts.data[REPLACE] = before

    def _write_student(self, entry: Entry, image, text: str | None) -> None:
        path = entry.file or known_file(entry.image)
        said = infotext.with_values(text or "", {infotext.DECISION: STUDENTS})
        before = getattr(image, "already_saved_as", None)
        self.write(image, path.with_name(path.stem + SUFFIX + path.suffix), said)
        if before is not None:
            image.already_saved_as = before


def replacing() -> str:
    """The host's word for a file that takes the place of another, by which it does so unless it is told otherwise."""
    from modules.shared import opts

    return opts.get_default(REPLACE)


def written(path: Path) -> Path:
    """The file that the host has just saved under this name: it counts names up on wish, and does not say so."""
    from modules.shared import opts

    if getattr(opts, REPLACE, None) == replacing():
        return path
    last, number = path, 1
    while (numbered := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        last, number = numbered, number + 1
    return last


def known_file(image) -> Path | None:
    """Where the host says that it saved an image."""
    name = getattr(image, "already_saved_as", None)
    return Path(name) if name and Path(name).is_file() else None

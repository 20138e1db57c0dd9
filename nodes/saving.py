"""Pictures into the host's folders, with their facts in their metadata, and none a second time."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from comfy_api.latest import io, ui
from PIL import Image
from PIL.PngImagePlugin import PngInfo


class Saver:
    """Saves for one run of a node.

    prefix: as in the host's Save Image. hidden: the node's, with the prompt and the workflow. temporary: into the
    folder that the host empties, for pictures that are only shown.
    """

    def __init__(self, prefix: str, hidden, temporary: bool = False):
        if not os.path.basename(prefix.strip()):
            raise ValueError(
                f"filename_prefix is {prefix!r}; expected a name for the files, with folders before it if you like: "
                "understudy/image"
            )
        self.prefix, self.hidden, self.temporary = prefix.strip(), hidden, temporary

    def save(self, picture: Image.Image, facts: Mapping, ending: str = "") -> Path:
        """Write a PNG under the next number. ``facts`` go into its metadata beside prompt and workflow."""
        folder, name, number = self._place(picture, ending)
        return self._write(picture, folder / f"{name}_{number:05}_.png", facts)

    def save_once(self, picture: Image.Image, facts: Mapping, own: Mapping) -> tuple[Path, bool]:
        """Write a PNG unless a file of this prefix has these pixels and ``own`` facts; its path, and whether it is new.

        The name ends in a hash of both. A file counts only if its pixels are read and found to be the same, so that one
        that was cut off or painted over is not taken for the image.
        """
        from comfy.cli_args import args

        folder, name, number = self._place(picture)
        about = json.dumps([own, picture.size, args.disable_metadata], sort_keys=True).encode()
        digest = hashlib.sha256(picture.tobytes() + about).hexdigest()[:12]
        for path in sorted(folder.glob(f"{glob.escape(name)}_*_{digest}.png")):
            if _has(path, picture):
                return path, False
        return self._write(picture, folder / f"{name}_{number:05}_{digest}.png", facts), True

    def _place(self, picture: Image.Image, ending: str = "") -> tuple[Path, str, int]:
        import folder_paths

        root = folder_paths.get_temp_directory() if self.temporary else folder_paths.get_output_directory()
        folder, name, number, _, _ = folder_paths.get_save_image_path(self.prefix + ending, root, *picture.size)
        return Path(folder), name, number

    def _write(self, picture: Image.Image, path: Path, facts: Mapping) -> Path:
        from comfy.cli_args import args

        metadata = None
        if not args.disable_metadata:
            metadata = PngInfo()
            about = {"prompt": self.hidden.prompt, **(self.hidden.extra_pnginfo or {}), "understudy": facts}
            for key, value in about.items():
                metadata.add_text(key, json.dumps(value))
        picture.save(path, pnginfo=metadata, compress_level=4)
        return path

    def shown(self, path: Path) -> ui.SavedResult:
        """A file as the front end asks for it."""
        import folder_paths

        root = folder_paths.get_temp_directory() if self.temporary else folder_paths.get_output_directory()
        subfolder = os.path.relpath(path.parent, root)
        kind = io.FolderType.temp if self.temporary else io.FolderType.output
        return ui.SavedResult(path.name, "" if subfolder == "." else subfolder, kind)


def _has(path: Path, picture: Image.Image) -> bool:
    """Whether a file can be read and has these pixels."""
    try:
        with Image.open(path) as saved:
            return (saved.mode, saved.size) == (picture.mode, picture.size) and saved.tobytes() == picture.tobytes()
    except (OSError, SyntaxError):  # Pillow's words for a broken file
        return False

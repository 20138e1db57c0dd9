"""Pictures that images are made from: sources to start from, hints for a ControlNet; which belongs to which prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from ..files.tables import NAME_COLUMNS, TEXT_COLUMNS, read_list, read_prompts
from ..oracles.preprocess import covering
from .image_texts import named_rows, prompts_for
from .images import find_images, read_image

STRENGTH = 0.6  # the paper's editing
SOURCE, HINT = "--init-image", "--control"


def strength_of(source: Path | None, given: float | None) -> float | None:
    """What --strength says, or its default; None without a source, where it raises ValueError if it is given."""
    if source is None and given is not None:
        raise ValueError(f"--strength needs {SOURCE}: a picture to start from")
    return None if source is None else STRENGTH if given is None else given


@dataclass(frozen=True)
class Asked:
    """A prompt, and the picture files that its image starts from and follows, if any."""

    prompt: str
    source: Path | None = None
    hint: Path | None = None


def read_asked(file: Path, source: Path | None = None, hint: Path | None = None) -> list[Asked]:
    """The prompts of ``file``, each with its pictures out of ``source`` and ``hint``, files or folders.

    A single picture is that of all prompts. Several belong to the lines of a text file, in order, or to the rows of a
    table that names them; a table may name a picture in several rows. Raises FileNotFoundError, and ValueError that
    names the counts, or the row.
    """
    given = {option: path for option, path in ((SOURCE, source), (HINT, hint)) if path is not None}
    found = {option: find_images([path]).images for option, path in given.items()}
    several = {option: images for option, images in found.items() if len(images) > 1}
    if not several:
        prompts, own = read_prompts(file), {}
    elif read_list(file) is not None:
        own = several
        for option, images in several.items():
            prompts = prompts_for(images, None, file, [given[option]])
    else:
        prompts, own = _by_names(file, given, several)
    pictures = {option: own.get(option, [images[0]] * len(prompts)) for option, images in found.items()}
    nothing = [None] * len(prompts)
    return [Asked(*each) for each in zip(prompts, *(pictures.get(o, nothing) for o in (SOURCE, HINT)), strict=True)]


def _by_names(file: Path, given: Mapping[str, Path], several: Mapping[str, Sequence[Path]]):
    own: dict[str, list[Path]] = {}
    for option, images in several.items():
        own[option], prompts = [], []
        for row, image in named_rows(images, file, [given[option]]):
            name, prompt = row.texts
            if image is None or not prompt:
                lacking = f"no {TEXT_COLUMNS[0]}" if image else f"no picture of {option}: its name is {name!r}"
                raise ValueError(
                    f"{file} {row.place} has {lacking}; expected a prompt, and in the column {NAME_COLUMNS[0]} the "
                    f"name of one of the {len(images)} pictures in {given[option]}"
                )
            own[option].append(image)
            prompts.append(prompt)
    if not prompts:
        raise ValueError(f"{file} is empty; expected a row for each picture that is asked for")
    return prompts, own


def check_pictures(paths: Iterable[Path | None], size: tuple[int, int]) -> str:
    """Read each picture once, and say which are cut, in words. Raises ValueError for one that cannot be read."""
    paths = [path for path in dict.fromkeys(paths) if path is not None]
    height, width = size
    shapes = {path: _read(path).shape[-2:] for path in paths}
    cut = [path for path, (h, w) in shapes.items() if abs(h * width / (w * height) - 1) > 0.005]
    if not cut:
        return ""
    return (
        f"{len(cut)} of {len(paths)} pictures have other proportions than {width}x{height}, {cut[0].name} the first: "
        "of those the middle is taken; --size says another size"
    )


def read_sources(paths: Sequence[Path | None], size: tuple[int, int]) -> torch.Tensor | None:
    """Sources ``[B, 3, H, W]`` in [0, 1] of ``size`` (height, width), cut around the middle, resized with
    antialiasing; None without. A turn in the EXIF data is followed, and alpha does not count, as in ComfyUI's loader.
    """
    if paths[0] is None:
        return None
    return torch.cat([covering(_read(path)[None], *size) for path in paths])


def read_hints(paths: Sequence[Path | None], size: tuple[int, int]) -> torch.Tensor | None:
    """The same of hints, resized to the nearest pixels as ComfyUI does, so that thin lines stay what they are."""
    if paths[0] is None:
        return None
    return torch.cat([_nearest(_read(path)[None], *size) for path in paths])


def _nearest(picture: torch.Tensor, height: int, width: int) -> torch.Tensor:
    h, w = picture.shape[-2:]
    if h * width > w * height:
        kept = round(w * height / width)
        picture = picture[..., (h - kept) // 2 : (h - kept) // 2 + kept, :]
    else:
        kept = round(h * width / height)
        picture = picture[..., (w - kept) // 2 : (w - kept) // 2 + kept]
    return F.interpolate(picture, (height, width), mode="nearest-exact")


def _read(path: Path) -> torch.Tensor:
    try:
        return read_image(path, upright=True)[:3]
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error

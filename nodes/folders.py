"""Where the pack's files lie among the host's: model folders and the user's own data."""

from __future__ import annotations

import re
from pathlib import Path

ORACLES = "oracles"
CLIP_VISION = "clip_vision"
STUDENTS = ("loras", "diffusion_models", "checkpoints")
NONE = "none"  # a combo's entry for no file

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}[A-Za-z0-9_-]|[A-Za-z0-9]")
# File names that Windows keeps for itself.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def add_model_folders() -> None:
    """Make ``models/oracles`` known to the host, beside what ``extra_model_paths.yaml`` may have named."""
    import folder_paths

    folder_paths.add_model_folder_path(ORACLES, str(Path(folder_paths.models_dir, ORACLES)))
    paths, extensions = folder_paths.folder_names_and_paths[ORACLES]
    folder_paths.folder_names_and_paths[ORACLES] = (paths, {*extensions, ".safetensors", ".pt", ".pth", ".bin"})


def oracle_files() -> list[str]:
    """Names for the combo: what lies in ``models/oracles``, then the whole CLIPs in ``models/clip_vision``."""
    import folder_paths

    shared = [name for name in folder_paths.get_filename_list(CLIP_VISION) if _is_whole_clip(name)]
    return folder_paths.get_filename_list(ORACLES) + [f"{CLIP_VISION}/{name}" for name in shared]


def encoder_files() -> list[str]:
    """Names for the combo of image encoders: ``models/clip_vision``, then ``models/oracles``."""
    import folder_paths

    return [f"{CLIP_VISION}/{name}" for name in folder_paths.get_filename_list(CLIP_VISION)] + (
        folder_paths.get_filename_list(ORACLES)
    )


def oracle_path(name: str) -> str:
    """The file of a name from one of the combos. Raises FileNotFoundError."""
    import folder_paths

    folder, _, rest = name.partition("/")
    if folder == CLIP_VISION and rest in folder_paths.get_filename_list(CLIP_VISION):
        return folder_paths.get_full_path_or_raise(CLIP_VISION, rest)
    return folder_paths.get_full_path_or_raise(ORACLES, name)


def student_files() -> list[str]:
    """Names for the combo: every safetensors file that may be a student's, with its folder, e.g. loras/x.safetensors.

    Which of them are is not looked at: people have thousands of LoRAs.
    """
    import folder_paths

    names = [f"{folder}/{name}" for folder in STUDENTS for name in folder_paths.get_filename_list(folder)]
    return [name for name in names if name.endswith(".safetensors")]


def student_path(name: str) -> str:
    """The file of a name from :func:`student_files`. Raises FileNotFoundError."""
    import folder_paths

    folder, _, rest = name.partition("/")
    return folder_paths.get_full_path_or_raise(folder, rest)


def _is_whole_clip(name: str) -> bool:
    """Whether a file holds the text half as well, which most files for the host's Load CLIP Vision do not."""
    import folder_paths

    from ..files import CheckpointError, read_header
    from ..oracles.clip import is_clip

    if not name.endswith(".safetensors"):
        return False
    try:
        return is_clip(read_header(folder_paths.get_full_path_or_raise(CLIP_VISION, name)).shapes)
    except (CheckpointError, OSError):
        return False  # the host's own nodes will say what is wrong with it


def calibrations_folder() -> Path:
    """Where calibrations are kept: with the user's workflows and settings, not with the pack."""
    import folder_paths

    return Path(folder_paths.get_user_directory(), "understudy", "calibrations")


def calibration_path(name: str) -> Path:
    """The file of the user's calibration ``name``; ValueError for a name that could not be one plain file anywhere."""
    if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name) or name.lower() == NONE:
        raise ValueError(
            f"calibration name {name!r}: expected 1 to 64 letters, digits, spaces, dots, '-' or '_', "
            f"beginning with a letter or digit, and neither {NONE!r} nor a name that Windows reserves"
        )
    return calibrations_folder() / f"{name}.json"

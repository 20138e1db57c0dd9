"""Where the pack's files lie among the host's: model folders and the user's own data."""

from __future__ import annotations

from pathlib import Path

from ..files import preview
from ..files.student_file import is_student
from ..oracles.calibration_names import calibration_file
from .remembered import Remembered

ORACLES = "oracles"
PREDICTORS = "understudy_predictors"
CLIP_VISION = "clip_vision"
STUDENTS = ("loras", "diffusion_models", "checkpoints", "controlnet")
MODELS = ("checkpoints", "diffusion_models", "unet_gguf", "loras")  # the third is a pack's

# The combos' entries where there is none: what to put where.
NO_PREDICTOR = "put a student's predictor into models/understudy_predictors, then press R"
NO_ORACLE = "put ImageReward.pt or another oracle into models/oracles, then press R"


def add_model_folders() -> None:
    """Make the pack's model folders known to the host, beside what ``extra_model_paths.yaml`` may have named."""
    import folder_paths

    for folder, read in ((ORACLES, (".safetensors", ".pt", ".pth", ".bin")), (PREDICTORS, (".safetensors",))):
        folder_paths.add_model_folder_path(folder, str(Path(folder_paths.models_dir, folder)))
        paths, extensions = folder_paths.folder_names_and_paths[folder]
        folder_paths.folder_names_and_paths[folder] = (paths, {*extensions, *read})


def oracle_files() -> list[str]:
    """Names of oracles: what lies in ``models/oracles``, then the whole CLIPs in ``models/clip_vision``."""
    import folder_paths

    def path_of(name: str) -> str | None:
        return folder_paths.get_full_path(CLIP_VISION, name)

    whole = _WHOLE_CLIPS.among(folder_paths.get_filename_list(CLIP_VISION), path_of)
    return folder_paths.get_filename_list(ORACLES) + [f"{CLIP_VISION}/{name}" for name in whole]


def not_there(name: str, known: list[str], folder: str, what: str, fetch: str) -> str:
    """What to say where a combo's file is not there: which ones are, what belongs where, and how to get it.

    folder: a kind of the host's model folders, whose place is told.
    """
    import folder_paths

    place = folder_paths.get_folder_paths(folder)[0]
    lacks = "" if name in (NO_ORACLE, NO_PREDICTOR) else f"{name!r} is not in models/{folder}; "
    there = f"there are: {preview(known, 20)}" if known else f"models/{folder} is empty"
    return f"{lacks}{there}. Put {what} into {place} and press R; {fetch}"


def predictor_files() -> list[str]:
    """Names of what lies in ``models/understudy_predictors``."""
    import folder_paths

    return folder_paths.get_filename_list(PREDICTORS)


def predictor_path(name: str) -> str:
    """The file of a name from the combo. Raises FileNotFoundError."""
    import folder_paths

    return folder_paths.get_full_path_or_raise(PREDICTORS, name)


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
    """Names for the combo: the files that say how to sample them, with their folder, e.g. loras/x.safetensors."""
    import folder_paths

    def path_of(name: str) -> str | None:
        return folder_paths.get_full_path(*name.split("/", 1))

    names = [f"{folder}/{name}" for folder in STUDENTS for name in folder_paths.get_filename_list(folder)]
    return _STUDENTS.among(names, path_of)


def student_path(name: str) -> str:
    """The file of a name from :func:`student_files`. Raises FileNotFoundError."""
    import folder_paths

    folder, _, rest = name.partition("/")
    return folder_paths.get_full_path_or_raise(folder, rest)


def model_file(name: str, lora: bool) -> tuple[str, str] | None:
    """Folder and path of a model's file by its name in a widget, None if no folder of models has it. lora: look among
    the LoRAs first, else last."""
    import folder_paths

    if Path(name).suffix.lower() not in {*folder_paths.supported_pt_extensions, ".gguf"}:
        return None
    for folder in sorted(MODELS, key=lambda folder: (folder == "loras") != lora):
        path = folder_paths.get_full_path(folder, name)
        if path is not None:
            return folder, path
    return None


def _is_whole_clip(path: str) -> bool:
    """Whether a file holds the text half as well, which most files for the host's Load CLIP Vision do not."""
    from ..files import CheckpointError, read_header
    from ..oracles.clip import is_clip

    if not path.endswith(".safetensors"):
        return False
    try:
        return is_clip(read_header(path).shapes)
    except CheckpointError:
        return False  # the host's own nodes will say what is wrong with it


_STUDENTS = Remembered(is_student, lambda: user_folder() / "students.json")
_WHOLE_CLIPS = Remembered(_is_whole_clip, lambda: user_folder() / "clips.json")


def user_folder() -> Path:
    """The pack's part of the user's folder, beside workflows and settings."""
    import folder_paths

    return Path(folder_paths.get_user_directory(), "understudy")


def calibrations_folder() -> Path:
    """Where calibrations are kept: with the user's workflows and settings, not with the pack."""
    return user_folder() / "calibrations"


def calibration_path(name: str) -> Path:
    """The file of the user's calibration ``name``; ValueError for a name that could not be one plain file anywhere."""
    return calibration_file(calibrations_folder(), name)

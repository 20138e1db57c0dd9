"""Where the pack's files lie among the host's: model folders and the user's own data."""

from __future__ import annotations

from pathlib import Path

ORACLES = "oracles"


def add_model_folders() -> None:
    """Make ``models/oracles`` known to the host, beside what ``extra_model_paths.yaml`` may have named."""
    import folder_paths

    folder_paths.add_model_folder_path(ORACLES, str(Path(folder_paths.models_dir, ORACLES)))
    paths, extensions = folder_paths.folder_names_and_paths[ORACLES]
    folder_paths.folder_names_and_paths[ORACLES] = (paths, {*extensions, ".safetensors"})


def calibrations_folder() -> Path:
    """Where calibrations are kept: with the user's workflows and settings, not with the pack."""
    import folder_paths

    return Path(folder_paths.get_user_directory(), "understudy", "calibrations")

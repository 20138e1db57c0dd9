"""Rename, export, import and reset calibrations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from comfy_api.latest import io

from ..files import preview
from ..oracles.calibration import Calibration, CalibrationError
from ..oracles.calibration_names import composed
from .calibrations import own_calibrations
from .display import shown
from .folders import NONE, calibration_path
from .schema import schema


class UnderstudyManageCalibration(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyManageCalibration",
            display_name="Manage calibration",
            description="Renames, exports, imports or resets a calibration, and never deletes one. Run it alone.",
            search_aliases=["rename calibration", "export", "import", "reset", "backup"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "action",
                    options=list(ACTIONS),
                    default="export",
                    tooltip="rename: gives it another name. export: copies its file to output/understudy. import: "
                    "takes a file from input, or from output/understudy. reset: puts its file aside, as NAME.json.bak, "
                    "so that Calibrate begins anew.",
                ),
                io.Combo.Input(
                    "calibration",
                    options=[NONE, *own_calibrations()],
                    default=NONE,
                    tooltip="Which of your own; import takes none. R shows new ones.",
                ),
                io.String.Input(
                    "name",
                    default="",
                    tooltip="rename: the new name. export: the file's, where it is not to be the calibration's. "
                    "import: the file's. reset: the calibration's name, typed to confirm; it is taken once.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, calibration=None):
        """No check against the combo's list, which is of when the page was loaded; the action says what is there."""
        return True

    @classmethod
    def execute(cls, action: str, calibration: str, name: str) -> io.NodeOutput:
        said = ACTIONS[action](calibration, name.strip())
        return io.NodeOutput(ui=shown(said, cls.hidden.unique_id))


def rename(calibration: str, name: str) -> str:
    path, target = _own(calibration), _free(name)
    replace(Calibration.load(path), name=target.stem).save(target)
    path.unlink()  # what it held is whole in the other by now
    return f"{path.stem} is now {target.stem}; choose it anew where it is used"


def export(calibration: str, name: str) -> str:
    path = _own(calibration)
    target = _exports() / f"{calibration_path(name.removesuffix('.json') or path.stem).stem}.json"
    if target.exists():
        raise ValueError(f"{target} is there already: give the export another name, or move that file away")
    target.parent.mkdir(parents=True, exist_ok=True)
    Calibration.load(path).save(target)
    return f"{path.stem} is in {target}"


def import_(calibration: str, name: str) -> str:
    import folder_paths

    folders = [Path(folder_paths.get_input_directory()), _exports()]
    files = {path.name: path for folder in reversed(folders) for path in folder.glob("*.json")}
    path = files.get(name, files.get(f"{name}.json"))
    if path is None:
        there = f"there are: {preview(files, 20)}" if files else "no .json file is there"
        raise ValueError(
            f"no file {name!r} to import in {' or '.join(map(str, folders))}; {there}. Put an exported calibration "
            "into the first of these folders and give its file's name"
        )
    read = Calibration.load(path)
    target = _free(read.name)
    read.save(target)
    return f"{target.stem}: {read.n} scores, from {path}; press R to choose it"


def reset(calibration: str, name: str) -> str:
    path = _own(calibration)
    if composed(name) != calibration:
        raise ValueError(f"reset puts calibration {path.stem!r} aside: type exactly that name to confirm; got {name!r}")
    aside = path.with_name(f"{path.name}.bak")
    if aside.exists():  # a graph that still says reset must not take the next one, too
        raise ValueError(
            f"calibration {path.stem!r} was reset before, and what it was is in {aside}. To reset the present one, "
            "move that file away"
        )
    path.rename(aside)
    return f"{path.stem} begins anew; what it was is in {aside}"


ACTIONS = {"rename": rename, "export": export, "import": import_, "reset": reset}


def _own(name: str) -> Path:
    """The file of one of the user's calibrations. Raises CalibrationError with those that there are."""
    known = own_calibrations()
    if name not in known:
        there = f"there are: {preview(known, 20)}" if known else "there is none yet; Calibrate scores makes them"
        raise CalibrationError(f"choose one of your own calibrations, not {name!r}; {there}")
    return calibration_path(name)


def _free(name: str) -> Path:
    """The file of a new calibration. Raises ValueError for what is no name, or another's."""
    path = calibration_path(name)
    if path.exists():
        raise ValueError(f"a calibration {path.stem!r} is there already: rename or reset that one first")
    return path


def _exports() -> Path:
    import folder_paths

    return Path(folder_paths.get_output_directory(), "understudy")

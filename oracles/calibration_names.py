"""Names of calibrations are names of files, on whatever system they may come to lie."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

NONE = "none"  # an entry of lists, for no file

# Beside letters, their marks and digits of any script; the last two join or part letters in some of them.
_BETWEEN = " ._-\u200c\u200d"
LONGEST_NAME, LONGEST_BYTES = 64, 200  # a file's name has 255 bytes, and a temporary one is longer
# File names that Windows keeps for itself.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³])(\..*)?", re.IGNORECASE)


def calibration_file(folder: Path, name: str) -> Path:
    """The file of the calibration ``name`` in a folder; ValueError for a name that is no plain file everywhere.

    The same letters may be written in two ways (é, or e and a mark): both are one name.
    """
    name = composed(name)
    if not _is_a_name(name):
        raise ValueError(
            f"calibration name {name!r}: expected 1 to {LONGEST_NAME} letters or digits of any script, spaces, dots, "
            f"'-' or '_', beginning with a letter or digit, not ending with a space or dot, at most {LONGEST_BYTES} "
            f"bytes, and neither {NONE!r} nor a name that Windows reserves"
        )
    # A file that came from another system may have the other way of writing.
    return next((path for path in folder.glob("*.json") if composed(path.stem) == name), folder / f"{name}.json")


def names_in(folder: Path) -> list[str]:
    """The calibrations that lie in a folder."""
    return sorted(composed(path.stem) for path in folder.glob("*.json"))


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _is_a_name(name: str) -> bool:
    def letter(sign: str, kinds: str = "LN") -> bool:
        return unicodedata.category(sign)[0] in kinds

    return (
        1 <= len(name) <= LONGEST_NAME
        and len(name.encode("utf-8", "surrogatepass")) <= LONGEST_BYTES
        and letter(name[0])
        and all(letter(sign, "LNM") or sign in _BETWEEN for sign in name)
        and not name.endswith((" ", "."))
        and not _RESERVED.fullmatch(name)
        and name.lower() != NONE
    )

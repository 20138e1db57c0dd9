"""The fonts that there are, and the letters that each of them has."""

from __future__ import annotations

import fnmatch
import os
import struct
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

OWN_FONT = Path(__file__).parent / "dejavu" / "DejaVuSansCondensed.ttf"

# The system's fonts, by file, in the order in which they are asked for a letter; a star stands for any name.
SYSTEM_FONTS = (
    # Chinese, Japanese, Korean
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "SourceHanSans-Regular.ttc", "NotoSansSC-Regular.*"),
    *(
        "NotoSansJP-Regular.*",
        "NotoSansKR-Regular.*",
        "wqy-microhei.ttc",
        "wqy-zenhei.ttc",
        "DroidSansFallbackFull.ttf",
    ),
    *("msyh.ttc", "YuGothM.ttc", "malgun.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc"),
    # scripts of India, South-East Asia and others
    *("Nirmala.ttc", "Nirmala.ttf", "LeelawUI.ttf", "ebrima.ttf", "segoeui.ttf", "Kohinoor.ttc", "Thonburi.ttc"),
    *("Arial Unicode.ttf", "NotoSans-Regular.*", "NotoSans*-Regular.*"),
    # pictures and symbols
    *("NotoColorEmoji.ttf", "seguiemj.ttf", "Apple Color Emoji.ttc", "seguisym.ttf", "NotoEmoji-Regular.*"),
    *("Symbola*.ttf", "unifont.*"),
)


@cache
def fonts() -> tuple[Path, ...]:
    """The pack's own font and those of SYSTEM_FONTS that are here, in their order."""
    files = {}
    for folder in font_folders():
        for parent, _, names in os.walk(folder):
            for name in names:
                files.setdefault(name, Path(parent, name))
    found = [OWN_FONT]
    for pattern in SYSTEM_FONTS:
        found += [files[name] for name in sorted(fnmatch.filter(files, pattern))]
    return tuple(dict.fromkeys(found))


def font_folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")
        return [Path(os.environ.get("WINDIR", r"C:\Windows"), "Fonts"), Path(local, "Microsoft", "Windows", "Fonts")]
    if sys.platform == "darwin":
        return [home / "Library" / "Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    shared = os.environ.get("XDG_DATA_DIRS", "/usr/local/share:/usr/share").split(":")
    own = os.environ.get("XDG_DATA_HOME", home / ".local" / "share")
    return [Path(own, "fonts"), home / ".fonts", *(Path(folder, "fonts") for folder in shared if folder)]


@cache
def characters(path: Path) -> frozenset[int]:
    """The code points that a font has glyphs for, from its ``cmap`` table; none of a font that cannot be read."""
    try:
        with open(path, "rb") as file:
            return frozenset(mapped(file))
    except (OSError, struct.error):
        return frozenset()


def mapped(file) -> Iterator[int]:
    """The code points of the first font in a file (OpenType specification, "cmap", formats 4 and 12)."""

    def read(at: int, layout: str) -> tuple:
        file.seek(at)
        return struct.unpack(">" + layout, file.read(struct.calcsize(">" + layout)))

    start = read(12, "L")[0] if read(0, "4s") == (b"ttcf",) else 0
    tables = (read(start + 12 + 16 * i, "4sLLL") for i in range(*read(start + 4, "H")))
    cmap = next((offset for tag, _, offset, _ in tables if tag == b"cmap"), None)
    if cmap is None:
        return
    for i in range(*read(cmap + 2, "H")):
        platform, encoding, offset = read(cmap + 4 + 8 * i, "HHL")
        if platform not in (0, 3) or (platform == 3 and encoding not in (1, 10)):
            continue  # no Unicode
        at = cmap + offset
        (kind,) = read(at, "H")
        if kind == 12:
            (count,) = read(at + 12, "L")
            numbers = read(at + 16, f"{3 * count}L")
            for first, last, glyph in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
                yield from range(first if glyph else first + 1, last + 1)
        elif kind == 4:
            size, _, doubled = read(at + 2, "HHH")
            count = doubled // 2
            words = read(at, f"{size // 2}H")
            ends, starts = words[7 : 7 + count], words[8 + count : 8 + 2 * count]
            deltas, offsets = words[8 + 2 * count : 8 + 3 * count], words[8 + 3 * count : 8 + 4 * count]
            for segment, (first, last, delta, shift) in enumerate(zip(starts, ends, deltas, offsets, strict=True)):
                for code in range(first, min(last, 0xFFFE) + 1):
                    glyph = code
                    if shift:
                        place = 8 + 3 * count + segment + shift // 2 + code - first
                        glyph = words[place] if place < size // 2 else 0
                    if (glyph or not shift) and (glyph + delta) & 0xFFFF:  # glyph 0 stands for what is missing
                        yield code

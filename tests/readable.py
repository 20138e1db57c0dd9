"""How large letters are where a template opens, and in which templates all of them can be read at once."""

from pathlib import Path

TEMPLATES = {path.stem: path for path in sorted((Path(__file__).parents[1] / "example_workflows").glob("*.json"))}
DEMO = next(name for name in TEMPLATES if name.startswith("Understudy 1 - "))
APP = next(name for name in TEMPLATES if name.startswith("Understudy 2 - "))
NO_DOWNLOAD = [name for name in TEMPLATES if name.endswith("(no download)")]
READABLE = 11  # pixels of the screen
# The host's own sizes of letters: of sockets and widgets in both renderers, and of notes and prompts, which users can
# set.
SOCKETS, TEXTS = 12, 10


def least(name):
    """The size of the smallest letters of a template that can be read as it opens in a window of 1366 x 768: notes and
    prompts in the demos, but for the one of editing, where likenesses need the room; elsewhere there would be none for
    the loaders, and it takes 1600 x 900 to read all."""
    return TEXTS if name in NO_DOWNLOAD and "Editing" not in name else SOCKETS

"""What a node's help page says: its sockets, by the tables under "Inputs" and "Outputs"."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "web" / "docs"


def text(node):
    """A node's help page; FileNotFoundError if it has none."""
    return (FOLDER / f"{node}.md").read_text(encoding="utf-8")


def named(node, heading):
    """The names in the first column of the table under a heading, in their order."""
    table = re.search(rf"^## {heading}\n\n((?:\|.*\n)+)", text(node), flags=re.MULTILINE)
    rows = table[1].splitlines()[2:] if table else []
    return [name.strip() for row in rows for name in row.split("|")[1].split(",")]

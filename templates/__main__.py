"""Write all templates and blueprints, and remove the files of those that are no more."""

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from PIL import Image

from . import blocks, families
from .cards import card
from .graph import Graph
from .saved import blueprint, workflow

PACK = Path(__file__).parents[1]


def _families() -> Iterator[ModuleType]:
    """In the order of the files' names."""
    for path in sorted(Path(families.__file__).parent.glob("[!_]*.py")):
        yield import_module(f"{families.__name__}.{path.stem}")


def templates() -> Iterator[Callable[[], Graph]]:
    """Of every family."""
    for family in _families():
        yield from family.TEMPLATES


def cards() -> dict[str, Image.Image]:
    """The drawn thumbnails by their places in the pack; other templates have pictures of a run."""
    drawn = [each for family in _families() for each in getattr(family, "CARDS", {}).items()]
    return {f"example_workflows/{name}.jpg": card(name.partition(" - ")[2], *content) for name, content in drawn}


def texts() -> dict[str, str]:
    """All files' texts by their places in the pack."""
    graphs = [make() for make in templates()]
    saved = {f"example_workflows/{graph.name}.json": workflow(graph) for graph in graphs}
    saved |= {f"subgraphs/{block.name}.json": blueprint(block) for block in (make() for make in blocks.BLUEPRINTS)}
    return {place: json.dumps(each, indent=1, ensure_ascii=False) + "\n" for place, each in saved.items()}


def main() -> None:
    found = texts()
    for folder in ("example_workflows", "subgraphs"):
        (PACK / folder).mkdir(exist_ok=True)
        for path in (PACK / folder).glob("*.json"):
            if f"{folder}/{path.name}" not in found:
                path.unlink()
    for place, text in found.items():
        (PACK / place).write_text(text, encoding="utf-8", newline="\n")
    for place, picture in cards().items():
        picture.save(PACK / place, quality=90)


if __name__ == "__main__":
    main()

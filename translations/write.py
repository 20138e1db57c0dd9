"""Writes ``locales/``, which ComfyUI reads, from the nodes' schemas and the tables beside this file.

Usage: ``python -m understudy.translations.write``, from a clone that pip installed with ``-e ".[test]"``.

A table, ``<language>.json``, has each English text of a schema once, with its translation. A text that is made of parts
which change, such as the list of all oracles, stands there as a template: ``{families}`` is whatever the schema has in
its place, and is taken over as it is. What a table lacks is left out, and ComfyUI then shows the schema's English.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
LOCALES = FOLDER.parent / "locales"
LANGUAGES = ("zh", "ja", "ko", "fr", "ru")  # beside English, by the names that the front end gives them
PLACEHOLDER = re.compile(r"\{\w+\}")


def table(language: str) -> dict[str, str]:
    """{English text: translation}"""
    return json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))


def row_of(text: str, rows: Iterable[str]) -> tuple[str, dict[str, str]] | None:
    """The text of a table that says ``text``, and what its placeholders stand for; None if there is none."""
    if text in rows:
        return text, {}
    for row in rows:
        if PLACEHOLDER.search(row):
            parts = re.split(r"\{(\w+)\}", row)
            pattern = "".join(f"(?P<{part}>.+)" if at % 2 else re.escape(part) for at, part in enumerate(parts))
            if found := re.fullmatch(pattern, text):
                return row, found.groupdict()
    return None


def translator(rows: dict[str, str]) -> Callable[[str], str | None]:
    """What gives the translation of a schema's text by a table; None where the table has none."""

    def translated(text: str) -> str | None:
        found = row_of(text, rows)
        return found and PLACEHOLDER.sub(lambda part: found[1][part[0][1:-1]], rows[found[0]])

    return translated


def texts(schema) -> Iterator[str]:
    """Every text of a node's schema, in its order."""
    yield from (schema.display_name, schema.description)
    for socket in (*schema.inputs, *schema.outputs):
        yield from (socket.display_name or socket.id, socket.tooltip)


def node_defs(schemas: Iterable, translated: Callable[[str], str | None]) -> dict:
    """What ComfyUI calls ``nodeDefs.json``: the texts of nodes under the names by which its front end asks for them."""

    def told(**words: str) -> dict[str, str]:
        pairs = ((name, translated(text)) for name, text in words.items())
        return {name: text for name, text in pairs if text is not None}

    def socket(each) -> dict[str, str]:
        return told(name=each.display_name or each.id, tooltip=each.tooltip)

    return {
        # The front end writes dots of a name as underlines, since a dot leads into the next level.
        schema.node_id.replace(".", "_"): {
            **told(display_name=schema.display_name, description=schema.description),
            "inputs": {each.id.replace(".", "_"): socket(each) for each in schema.inputs},
            "outputs": {str(place): socket(each) for place, each in enumerate(schema.outputs)},
        }
        for schema in schemas
    }


def written(schemas: Iterable) -> dict[Path, str]:
    """What every file below ``locales/`` has to hold: English by the schemas alone, the others by their tables."""
    schemas = list(schemas)
    by_language = {"en": lambda text: text} | {language: translator(table(language)) for language in LANGUAGES}
    return {
        LOCALES / language / "nodeDefs.json": json.dumps(node_defs(schemas, say), ensure_ascii=False, indent=2) + "\n"
        for language, say in by_language.items()
    }


def main() -> None:
    """Write all files. The nodes' modules are imported with stand-ins for ComfyUI, as the tests do it."""
    import pytest

    from ..tests.nodes.stand_ins import NODES, stand_in, stand_in_for_schemas

    with pytest.MonkeyPatch.context() as monkeypatch:
        stand_in(monkeypatch)
        schemas = map(stand_in_for_schemas(monkeypatch, FOLDER), NODES)
        for path, text in written(schemas).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

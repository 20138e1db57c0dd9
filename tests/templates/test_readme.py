"""The README's table of the templates of real models."""

import json
import re
from pathlib import PurePath

from understudy.templates.__main__ import PACK
from understudy.templates.model_files import FILES, in_words
from understudy.templates.prompts import least_host


def row(path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    urls = dict.fromkeys(each["url"] for node in workflow["nodes"] for each in node["properties"].get("models", ()))
    files = [next(each for each in FILES if each.url == url) for url in urls]
    names = ", ".join(f"`{PurePath(each.name).stem}`" for each in files)
    size = in_words(sum(each.bytes for each in files))
    return f"| {path.stem.removeprefix('Understudy ')} | {names} ({size}) | {least_host(workflow)} |"


def test_every_template_of_real_models_has_its_row():
    """Its name, what is to be downloaded for it, and the oldest host."""
    paths = sorted((PACK / "example_workflows").glob("Understudy [1-9][0-9] - *.json"))
    text = (PACK / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^\| template \| files to download \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.M)[1].splitlines()
    assert table == [row(path) for path in paths], "the table should be\n" + "\n".join(map(row, paths))

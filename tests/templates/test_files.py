"""The files that the command writes are those of the pack."""

import json
import re

from PIL import Image, ImageChops
from understudy.lettering import shortened
from understudy.templates import __main__ as command
from understudy.templates import cards

FOLDER = command.PACK / "example_workflows"
LETTERS = 43  # of a template's name, at most


def test_every_file_is_as_the_command_writes_it():
    """``python -m understudy.templates`` writes them anew."""
    for place, text in command.texts().items():
        assert (command.PACK / place).read_text(encoding="utf-8") == text, place


def test_the_command_writes_all_and_removes_what_is_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "PACK", tmp_path)
    (tmp_path / "subgraphs").mkdir()
    for name in ("old.json", "old.jpg"):
        (tmp_path / "subgraphs" / name).write_text("")
    command.main()
    found = {str(path.relative_to(tmp_path).as_posix()) for path in tmp_path.rglob("*.*")}
    assert found == {*command.texts(), *command.cards(), "subgraphs/old.jpg"}


def test_every_card_is_as_the_command_draws_it(tmp_path, monkeypatch):
    """But for what another JPEG library rounds otherwise: a letter would differ by far more."""
    monkeypatch.setattr(command, "PACK", tmp_path)
    command.main()
    drawn = sorted((tmp_path / "example_workflows").glob("*.jpg"))
    assert len(drawn) >= 15
    for path in drawn:
        here, committed = (Image.open(each).convert("RGB") for each in (path, FOLDER / path.name))
        assert here.size == committed.size, path.name
        assert max(high for _, high in ImageChops.difference(here, committed).getextrema()) < 40, path.name


def test_every_line_of_a_card_is_whole(monkeypatch):
    cut = []
    monkeypatch.setattr(cards, "shortened", lambda text, *given: cut.append(text != shortened(text, *given)) or text)
    command.cards()
    assert len(cut) > 40 and not any(cut)


def test_every_template_has_a_picture_and_each_picture_a_template():
    kinds = {suffix: {path.stem for path in FOLDER.glob(f"*.{suffix}")} for suffix in ("json", "jpg")}
    assert kinds["json"] == kinds["jpg"]


def test_every_picture_is_square():
    sizes = {path.name: Image.open(path).size for path in FOLDER.glob("*.jpg")}
    assert sizes and {name: size for name, size in sizes.items() if size[0] != size[1]} == {}


def test_every_template_has_a_name_of_its_own_with_its_number():
    names = [make().name for make in command.templates()]
    assert len(names) == len(set(names))
    for name in names:
        assert re.match(r"Understudy \d+ - [A-Z]", name) and len(name) <= LETTERS, name


def test_two_templates_are_apps_of_a_prompt_a_share_a_seed_and_the_receipt():
    apps = {}
    for path in FOLDER.glob("*.json"):
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["extra"].get("linearMode"):
            shown = saved["extra"]["linearData"]
            titles = {str(node["id"]): node.get("title") for node in saved["nodes"]}
            inputs = [name for _, name in shown["inputs"]]
            apps[path.stem.split()[1]] = inputs, [titles[node] for node in shown["outputs"]]
    assert apps == {
        "2": (["text", "share", "seed"], ["Receipt"]),
        "18": (["prompt", "share", "seed"], ["Receipt"]),
    }

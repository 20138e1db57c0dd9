"""The nodes' words in other languages: tables that say what the schemas do, and ComfyUI's files made of them."""

import json
import re
from collections import Counter

import pytest
from understudy.nodes import CLASSES
from understudy.translations.write import (
    FOLDER,
    LANGUAGES,
    LOCALES,
    PLACEHOLDER,
    node_defs,
    row_of,
    table,
    texts,
    translator,
    written,
)

NODES = [name for names in CLASSES.values() for name in names]
REQUIRED = ("zh",)  # the others are complete as well as their translators left them
WRITE = "run: python -m understudy.translations.write"
# Words that are the same in a language: names, and what it spells like English.
KEPT = json.loads((FOLDER / "kept.json").read_text(encoding="utf-8"))
LETTERS = {
    "zh": r"[\u4e00-\u9fff]",
    "ja": r"[\u3040-\u30ff\u4e00-\u9fff]",
    "ko": r"[\uac00-\ud7a3]",
    "fr": r"[a-zA-Z]",
    "ru": r"[\u0400-\u04ff]",
}
# What stands in a text as it is, in whatever language: paths, names with capitals inside, numbers.
FIXED = re.compile(r"[\w.-]*/[\w./-]*\w|\w*[A-Z]\w*[A-Z]|\b[a-z]+-[\w-]*\d[\w.-]*\w|\d+(?:\.\d+)?", re.ASCII)
WIDGET = re.compile(r"(?<![\w/])[a-z]+(?:_[a-z]+)+(?![\w/])")


@pytest.fixture
def schemas(schema_of):
    return [schema_of(node) for node in NODES]


@pytest.mark.parametrize("language", REQUIRED)
def test_every_text_of_a_node_has_its_row(schemas, language):
    rows = table(language)
    missing = dict.fromkeys(text for schema in schemas for text in texts(schema) if row_of(text, rows) is None)
    lines = json.dumps(missing, ensure_ascii=False, indent=4)
    assert not missing, f"translations/{language}.json lacks these texts:\n{lines}\nadd them, then {WRITE}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_row_is_a_text_of_a_node(schemas, language):
    rows = table(language)
    used = {row_of(text, rows)[0] for schema in schemas for text in texts(schema) if row_of(text, rows)}
    assert not rows.keys() - used, f"nothing says these texts of translations/{language}.json any more"


def test_the_files_for_comfyui_are_those_that_the_tables_make(schemas):
    files = written(schemas)
    assert {path for path in LOCALES.rglob("*") if path.is_file()} == set(files), WRITE
    stale = [path.parent.name for path, text in files.items() if path.read_text(encoding="utf-8") != text]
    assert not stale, f"locales of {stale} are not up to date; {WRITE}"


def test_english_and_the_promised_languages_are_there():
    assert {path.name for path in LOCALES.iterdir()} == {"en", "zh", "ja", "ko", "fr", "ru"}
    assert {path.stem for path in FOLDER.glob("*.json")} == {*LANGUAGES, "kept"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_is_in_its_language_and_not_the_english_text(language):
    kept = {*KEPT["all"], *KEPT.get(language, ())}
    same = {text for text, said in table(language).items() if said.casefold() == text.casefold().replace("_", " ")}
    same |= {text for text, said in table(language).items() if not re.search(LETTERS[language], said)}
    assert not same - kept, f"in {language} these are the English text; translate them or add them to kept.json"
    assert all(said.strip() == said != "" for said in table(language).values())


def test_what_may_be_kept_is_kept():
    tables = {language: table(language) for language in LANGUAGES}

    def kept(text, language):
        said = tables[language].get(text, "")
        return said.casefold() == text.casefold().replace("_", " ") or not re.search(LETTERS[language], said)

    for language, words in KEPT.items():
        asked = LANGUAGES if language == "all" else [language]
        assert not [word for word in words if not all(kept(word, each) for each in asked)], language


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_fixed_in_a_text_stays(language):
    """Placeholders, paths, names and numbers as they are; a widget is called what the language calls it."""
    rows = table(language)
    for text, said in rows.items():
        assert sorted(PLACEHOLDER.findall(text)) == sorted(PLACEHOLDER.findall(said)), (text, said)
        if "_" in text and " " not in text:
            continue  # a widget's name
        lost = Counter(FIXED.findall(text)) - Counter(FIXED.findall(said))
        assert not lost, (text, said, lost)
        for name in WIDGET.findall(text):
            assert name in said or rows.get(name, name) in said, (text, said, name)


@pytest.mark.parametrize("language", LANGUAGES)
def test_choices_are_called_what_the_widget_offers(schemas, language):
    """A front end shows them as they are, so a tooltip must not translate them."""
    translated = translator(table(language))
    for schema in schemas:
        for socket in schema.inputs:
            said = translated(socket.tooltip)
            for choice in socket.options or () if said else ():
                if re.search(rf"(?:^|[.;:] ){re.escape(choice)}:", socket.tooltip):
                    assert re.search(rf"\b{re.escape(choice)}\s?[:：]", said), (schema.node_id, choice, said)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_front_end_reads_a_translation_as_it_stands(schemas, language):
    """To the front end of ComfyUI 0.8.0 braces, @ and | in a text are commands."""
    for text in (text for schema in schemas for text in texts(schema)):
        assert not re.search(r"[{}@|]", translator(table(language))(text) or text), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_told_apart_in_english_is_told_apart(schemas, language):
    translated = translator(table(language))
    names = [translated(schema.display_name) or schema.display_name for schema in schemas]
    assert len(set(names)) == len(names)
    for schema in schemas:
        for sockets in (schema.inputs, schema.outputs):
            ids = [each.display_name or each.id for each in sockets]
            assert len({translated(each) or each for each in ids}) == len(ids), schema.node_id


def test_a_template_takes_over_what_the_schema_has(schemas):
    rows = {"Scores {what}, {how}.": "{how}: {what}"}
    assert translator(rows)("Scores images, well.") == "well: images"
    assert translator(rows)("Scores images") is None and row_of("Scores a, b.", {}) is None
    (made,) = node_defs(schemas[:1], lambda text: text if " " in text else None).values()
    assert made["display_name"] == "Load demo pair" and made["inputs"]["part"].keys() == {"tooltip"}

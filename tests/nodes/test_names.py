"""Display names: short, told apart, and in every language never cut off in a node that has its default width."""

import pytest
from understudy.nodes import CLASSES
from understudy.translations.write import LANGUAGES, translator
from understudy.translations.write import table as rows

from ..letters import width

NODES = [name for names in CLASSES.values() for name in names]
WIDGETS = {"COMBO", "STRING", "INT", "FLOAT", "BOOLEAN"}


def room(schema, said=str):
    """What a node's title has on the classic canvas of the front ends 1.35.9 and 1.49.6, in pixels: a new node is as
    wide as its title or its sockets need, with widgets 60 more, of which a margin of 60 is no title's. said: what a
    text is called in a language."""
    widgets = [each for each in schema.inputs if each.type in WIDGETS and not each.force_input]
    left = max([width(said(each.id), 12) for each in schema.inputs if each not in widgets], default=0)
    right = max([width(said(each.display_name), 12) for each in schema.outputs], default=0)
    sockets = left + right + 45
    wide = max(30 + width(said(schema.display_name), 14) + 10, sockets, 210 if widgets else 140)
    return wide + (60 if widgets else 0) - 60


@pytest.mark.parametrize("node", NODES)
def test_a_name_is_short_and_says_the_pack_s_only_on_the_badge(schema_of, node):
    name = schema_of(node).display_name
    assert "understudy" not in name.lower()
    assert len(name) <= 26 and name[0].isupper() and len(name.split()) > 1, "one word is another pack's, too"


def test_no_two_names_are_alike(schema_of):
    names = [schema_of(node).display_name.lower() for node in NODES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("node", NODES)
def test_a_name_is_not_cut_off_at_the_default_width(schema_of, node):
    schema = schema_of(node)
    assert width(schema.display_name, 14) <= room(schema)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", NODES)
def test_a_translated_name_is_not_cut_off_either(schema_of, node, language):
    schema, translated = schema_of(node), translator(rows(language))

    def said(text):
        return translated(text) or text

    assert width(said(schema.display_name), 14) <= room(schema, said)


def test_a_name_without_room_is_seen(schema_of):
    merge = schema_of("UnderstudyMerge")
    merge.outputs[0].display_name = "images"
    assert width(merge.display_name, 14) > room(merge)

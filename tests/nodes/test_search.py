"""Whoever types what they want finds the node for it."""

import pytest
from understudy.nodes import CLASSES

from .search import WANTED, finds

NODES = [name for names in CLASSES.values() for name in names]


@pytest.mark.parametrize("query, wanted", WANTED.items())
def test_what_people_type_finds_the_nodes_for_it_and_no_others_of_the_pack(schema_of, query, wanted):
    assert sorted(node for node in NODES if finds(query, schema_of(node))) == sorted(wanted)


@pytest.mark.parametrize("query", ["understudy", "oracle", "student", "teacher", "threshold", "split", "merge"])
def test_without_aliases_the_names_alone_are_found(schema_of, query):
    assert any(finds(query, schema_of(node), aliases=False) for node in NODES)


def test_what_nobody_offers_is_not_found(schema_of):
    assert not [node for node in NODES if finds("face swap", schema_of(node))]
    assert not finds("quality imagereward", schema_of("UnderstudyLoadOracle")), "words of two texts are not one"

"""Every error of the pack leaves every node as a built-in type, which ComfyUI shows as a sentence."""

import ast
import asyncio
import importlib
from pathlib import Path

import pytest
from understudy.nodes import CLASSES, node_classes
from understudy.nodes.errors import BASES, CALLED

ROOT = Path(__file__).parents[2]
# What a node may use, and so what may come out of one.
ROOMS = ("nodes", "samplers", "predictor", "oracles", "receipts", "files", "lettering", "demo_family")
NODES = [(module, name) for module, names in CLASSES.items() for name in names]


def own_errors():
    """The pack's own error types, found in the sources."""
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for each in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(each, ast.ClassDef) and each.name.endswith(("Error", "Mismatch", "NoScore")):
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                yield getattr(importlib.import_module(f"understudy.{module}"), each.name)


def raising(error):
    def method(cls, *args, **kwargs):
        raise error

    return classmethod(method)


def called(node):
    """The methods of a node, its own and inherited ones; the stand-in for the host's class has none."""
    return [name for name in CALLED if hasattr(node, name)]


@pytest.fixture
def registered(without_host):
    """(error) -> all classes as the host gets them, whose methods raise the error."""

    def make(error):
        for module, name in NODES:
            written = getattr(importlib.import_module(f"understudy.nodes.{module}"), name)
            for method in called(written):
                setattr(written, method, raising(error))
        found = asyncio.run(node_classes())
        assert [each.__name__ for each in found] == [name for _, name in NODES]
        return found

    return make


def test_the_pack_s_own_errors_are_found_and_all_are_of_these_types():
    found = {each.__name__ for each in own_errors()}
    assert {"OracleError", "NoScore", "CalibrationError", "CalibrationMismatch", "CheckpointError"} <= found
    assert all(issubclass(each, BASES) for each in own_errors())


@pytest.mark.parametrize("kind", list(own_errors()), ids=lambda kind: kind.__name__)
def test_an_error_leaves_every_node_as_a_built_in_type(registered, kind):
    own = kind.__new__(kind, "image 3 is missing; connect it")
    for node in registered(own):
        for method in called(node):
            with pytest.raises(BASES, match=r"^image 3 is missing; connect it$") as caught:
                getattr(node, method)()
            assert type(caught.value).__module__ == "builtins" and caught.value.__cause__ is own
            assert isinstance(own, type(caught.value)), "the nearest of them"


def test_what_is_no_error_of_the_pack_leaves_a_node_as_it_is(registered):
    """The host tells an interruption, and a lack of memory, by their types."""

    class InterruptProcessingException(Exception): ...

    class OutOfMemoryError(RuntimeError): ...

    for error in (InterruptProcessingException(), OutOfMemoryError("no memory"), ValueError("plain"), KeyError("k")):
        for node in registered(error):
            with pytest.raises(type(error)) as caught:
                node.execute()
            assert caught.value is error


def test_an_inherited_method_s_error_is_translated_too(without_host):
    from understudy.oracles.base import OracleError

    base = importlib.import_module("understudy.nodes.thresholds").OneMode
    base.execute = raising(OracleError("inherited"))
    (node,) = (each for each in asyncio.run(node_classes()) if each.__name__ == "UnderstudyThresholdFixed")
    with pytest.raises(ValueError, match="inherited") as caught:
        node.execute()
    assert type(caught.value) is ValueError

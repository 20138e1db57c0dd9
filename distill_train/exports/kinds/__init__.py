"""The kinds of export: each file here holds one, as its record ``KIND`` and the code that makes it.

A file that is added is found: the command, its help and its messages offer it.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from ..kind import Kind

MODULES = tuple(sorted(module.name for module in iter_modules(__path__)))
KINDS: tuple[Kind, ...] = tuple(import_module(f".{name}", __name__).KIND for name in MODULES)


def names() -> tuple[str, ...]:
    """What users may choose."""
    return tuple(dict.fromkeys(kind.name for kind in KINDS))


def choices() -> str:
    """The same for a help text, each with the node that loads it."""
    return ", ".join(f"{name} ({kind.node})" for name, kind in {kind.name: kind for kind in KINDS}.items())

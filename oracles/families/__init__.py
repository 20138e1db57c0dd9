"""The oracle families: each file here holds one, as its record ``FAMILY`` and the code that scores.

A file that is added is found: commands, nodes and their help offer it.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from ..family import Family

MODULES = tuple(sorted(module.name for module in iter_modules(__path__)))
_RECORDS: tuple[Family, ...] = tuple(import_module(f".{name}", __name__).FAMILY for name in MODULES)
FAMILIES = {record.name: record for record in _RECORDS}

TITLES = ", ".join(record.title for record in _RECORDS)
UNITS = "; ".join(f"{record.name} {record.unit}" for record in _RECORDS)
NEEDS = "; ".join(f"{record.encoder.words} for {record.title}" for record in _RECORDS if record.encoder)

"""What made a student's images, compared: the same settings, or each difference in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

# A widget of the nodes that is no setting, since an image does not depend on its batch. Older tables hold it.
BATCH_SIZE = "batch_size"


def plain(settings: dict) -> dict:
    """Settings as JSON knows them, so that they compare equal before and after a file."""
    return json.loads(json.dumps(settings, sort_keys=True))


def flat(settings, prefix: str = "") -> dict:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    if not isinstance(settings, dict):
        return {prefix: settings}
    found = {}
    for key, value in settings.items():
        found.update(flat(value, f"{prefix}.{key}" if prefix else key))
    return found


def comparable(settings: dict) -> dict:
    """Settings by their dotted names, less what no image depends on."""
    return {key: value for key, value in flat(plain(settings)).items() if key.rsplit(".", 1)[-1] != BATCH_SIZE}


class Difference(NamedTuple):
    """A setting, what it was and what it is, as JSON; in words "steps was 4, is 8"."""

    setting: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.setting} was {self.before}, is {self.now}"


def differences(before: dict, now: dict) -> list[Difference]:
    """Each key in which two flat dictionaries differ."""
    return [
        Difference(key, _said(before, key), _said(now, key))
        for key in sorted(before.keys() | now.keys())
        if _said(before, key) != _said(now, key)
    ]


def prompts_hash(prompts: Sequence[str]) -> str:
    """SHA-256 of prompts in their order."""
    return hashlib.sha256(json.dumps(list(prompts)).encode()).hexdigest()


def _said(settings: dict, key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "not set"

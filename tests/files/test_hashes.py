"""Hashes that are remembered, and when they are not."""

import os
import stat

import pytest
from understudy.files import hashes, sha256
from understudy.files.hashes import known_sha256

LONG_AGO = 1.1e9


@pytest.fixture
def hashed(tmp_path, monkeypatch):
    """Names of the files that were read to be hashed; every file is large, and the memory is empty."""
    names = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "LARGE", 1)
    monkeypatch.setattr(hashes, "sha256", lambda path: names.append(path.name) or sha256(path))
    return names


def model(folder, content=b"weights", changed=LONG_AGO):
    path = folder / "model.safetensors"
    path.write_bytes(content)
    os.utime(path, (changed, changed))
    return path


def test_a_file_is_read_once_until_it_changes(hashed, tmp_path):
    path = model(tmp_path)
    assert known_sha256(path) == known_sha256(path) == sha256(path) and hashed == [path.name]
    model(tmp_path, changed=LONG_AGO + 1)
    known_sha256(path)
    assert len(hashed) == 2, "a new time"
    model(tmp_path, b"more weights", LONG_AGO + 1)
    assert known_sha256(path) == sha256(path) and len(hashed) == 3, "a new size"
    (tmp_path / "other").mkdir()
    other = model(tmp_path / "other", b"same")
    model(tmp_path, b"less")
    assert known_sha256(other) != known_sha256(path), "another file of that size and time"


def test_a_file_that_changed_just_now_or_is_small_is_not_remembered(hashed, tmp_path, monkeypatch):
    path = tmp_path / "new.safetensors"
    path.write_bytes(b"weights")
    assert known_sha256(path) == known_sha256(path) and len(hashed) == 2
    monkeypatch.setattr(hashes, "LARGE", 100)
    small = model(tmp_path)
    assert known_sha256(small) == known_sha256(small) and len(hashed) == 4
    assert not (tmp_path / "cache").exists()


def test_without_a_place_to_write_it_is_hashed_every_time(hashed, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = model(tmp_path)
    assert known_sha256(path) == known_sha256(path) == sha256(path) and len(hashed) == 2


def test_the_memory_is_a_small_file(hashed, tmp_path):
    known_sha256(model(tmp_path))
    (noted,) = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert stat.S_ISREG(noted.stat().st_mode) and noted.stat().st_size == 64

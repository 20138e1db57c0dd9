"""Fetch a published oracle file when the user asks: resumed where it stopped, checked, and whole or not there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, urlopen

from ..files import sha256
from .family import HUB, Published

BLOCK = 1 << 20
SECONDS = 60  # without a byte, before a connection counts as broken
REDIRECTS = 5


class DownloadError(ValueError):
    """The file could not be fetched, or is not the published one; the message says what to do."""


class Downloaded(NamedTuple):
    """Where the file is, and whether a hash said that it is the published one (none does if nobody states it)."""

    path: Path
    hash_checked: bool


class Stated(NamedTuple):
    """Bytes and SHA-256 of the file, None where not known."""

    size: int | None
    digest: str | None


def download(
    entry: Published, folder: Path, on_progress: Callable[[int, int | None], None] | None = None
) -> Downloaded:
    """The file of ``entry`` in ``folder``; a file that is there and right is left alone.

    ``on_progress`` gets (bytes so far, bytes in all or None). What arrived before the connection broke or the disk was
    full is kept beside it as ``.partial`` and gone on with. As for other programs, ``HF_ENDPOINT`` in the environment
    names a mirror of the hub. Raises :class:`DownloadError`; what arrives with a wrong
    hash is deleted, a file that was there before is not.
    """
    target = folder / entry.file
    partial = folder / f"{entry.file}.partial"
    try:
        stated = _stated(entry)
        if target.exists():
            _check(target, stated, f"delete it first, then download {entry.name} again")
            return Downloaded(target, stated.digest is not None)
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(_address(entry), partial, stated.size, on_progress or (lambda done, total: None))
        try:
            _check(partial, stated, "what arrived is deleted; try again later, or fetch it by other means")
        except DownloadError:
            partial.unlink()
            raise
        os.replace(partial, target)
    except (OSError, HTTPException) as error:  # of the network (URLError is an OSError) and of the disk
        reason = f"the server said {error.code}" if isinstance(error, HTTPError) else error
        kept = f" {partial.stat().st_size:,} bytes are kept; run it again to go on." if partial.exists() else ""
        mirror = "set HF_ENDPOINT to the address of a mirror, or " if entry.url.startswith(HUB) else ""
        raise DownloadError(
            f"{_address(entry)}: {reason}.{kept} Or {mirror}fetch it by other means and put it into {folder}"
        ) from error
    return Downloaded(target, stated.digest is not None)


def _address(entry: Published) -> str:
    mirror = os.environ.get("HF_ENDPOINT")
    return mirror.rstrip("/") + entry.url.removeprefix(HUB) if mirror and entry.url.startswith(HUB) else entry.url


def _stated(entry: Published) -> Stated:
    """Our own record, and where that has none, what the hub says of the file before it redirects to the bytes."""
    if entry.sha256 is not None and entry.size is not None:
        return Stated(entry.size, entry.sha256)
    status, headers = _headers(_address(entry))
    # The length of a redirect's own answer says nothing about the file.
    size = headers.get("X-Linked-Size") or (headers.get("Content-Length") if status == 200 else None)
    digest = (headers.get("X-Linked-ETag") or "").strip('"')
    theirs = digest if re.fullmatch(r"[0-9a-f]{64}", digest) else None
    return Stated(entry.size or (int(size) if size else None), entry.sha256 or theirs)


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def _headers(url: str):
    """(status, headers) of the first answer that speaks of the file: a renamed repository first redirects within."""
    for _ in range(REDIRECTS):
        try:
            with build_opener(_Stay).open(Request(url, method="HEAD"), timeout=SECONDS) as answer:
                return answer.status, answer.headers
        except HTTPError as error:
            if error.code not in (301, 302, 303, 307, 308):
                raise
            location = error.headers.get("Location", "")
            if "X-Linked-Size" in error.headers or not location or urlsplit(location).netloc:
                return error.code, error.headers
            url = urljoin(url, location)
    raise ConnectionError(f"more than {REDIRECTS} redirects")


def _fetch(url: str, partial: Path, size: int | None, on_progress: Callable[[int, int | None], None]) -> None:
    # Without a size nothing would tell what a second half belongs to.
    done = partial.stat().st_size if size is not None and partial.exists() else 0
    if size is not None and done >= size:
        return
    request = Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with urlopen(request, timeout=SECONDS) as answer:
        if done and answer.status != 206:  # a server that cannot go on sends it all
            done = 0
        elif done and not answer.headers.get("Content-Range", f"bytes {done}-").startswith(f"bytes {done}-"):
            partial.unlink()
            raise ConnectionError("the server went on at another place than where this file ended; run it again")
        length = answer.headers.get("Content-Length")
        expected = size if size is not None or length is None else int(length)
        with partial.open("ab" if done else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
                done += len(block)
                on_progress(done, expected)
    if expected is not None and done < expected:
        raise ConnectionError("the connection broke off")


def _check(path: Path, stated: Stated, advice: str) -> None:
    found = path.stat().st_size
    if stated.size is not None and found != stated.size:
        raise DownloadError(f"{path} has {found:,} bytes, expected {stated.size:,}; {advice}")
    if stated.digest is not None and sha256(path) != stated.digest:
        raise DownloadError(f"{path} is not the published file: its SHA-256 is not {stated.digest}; {advice}")

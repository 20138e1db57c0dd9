"""Fetch a published oracle file when the user asks: resumed where it stopped, checked, and whole or not there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener, urlopen

from ..files import sha256
from .published import Published

BLOCK = 1 << 20
SECONDS = 60  # without a byte, before a connection counts as broken


class DownloadError(ValueError):
    """The file could not be fetched, or is not the published one; the message says what to do."""


def download(entry: Published, folder: Path, on_progress: Callable[[int, int | None], None] | None = None) -> Path:
    """The file of ``entry`` in ``folder``; a file that is there and right is left alone.

    ``on_progress`` gets (bytes so far, bytes in all or None). What arrived before a broken connection is kept beside it
    as ``.partial`` and gone on with. Raises :class:`DownloadError`; a file with a wrong hash is deleted.
    """
    target = folder / entry.file
    partial = folder / f"{entry.file}.partial"
    try:
        size, digest = _stated(entry)
        if target.exists():
            _check(target, size, digest, entry)
            return target
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(entry.url, partial, size, on_progress or (lambda done, total: None))
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = f"the server said {error.code}" if isinstance(error, HTTPError) else error
        kept = f" {partial.stat().st_size:,} bytes are kept; run it again to go on." if partial.exists() else ""
        raise DownloadError(
            f"{entry.url}: {reason}.{kept} Or fetch it by other means and put it into {folder}"
        ) from error
    try:
        _check(partial, size, digest, entry)
    except DownloadError:
        partial.unlink()
        raise
    os.replace(partial, target)
    return target


def _stated(entry: Published) -> tuple[int | None, str | None]:
    """Size and SHA-256: our own record, else what the hub says of the file before it redirects to the bytes."""
    if entry.sha256 is not None:
        return entry.size, entry.sha256
    headers = _headers(entry.url)
    size = headers.get("X-Linked-Size") or headers.get("Content-Length")
    digest = (headers.get("X-Linked-ETag") or "").strip('"')
    return int(size) if size else None, digest if re.fullmatch(r"[0-9a-f]{64}", digest) else None


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def _headers(url: str):
    try:
        with build_opener(_Stay).open(Request(url, method="HEAD"), timeout=SECONDS) as answer:
            return answer.headers
    except HTTPError as error:
        if error.code in (301, 302, 303, 307, 308):
            return error.headers
        raise


def _fetch(url: str, partial: Path, size: int | None, on_progress: Callable[[int, int | None], None]) -> None:
    done = partial.stat().st_size if partial.exists() else 0
    if size is not None and done >= size:
        return
    request = Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with urlopen(request, timeout=SECONDS) as answer:
        if done and answer.status != 206:  # a server that cannot go on sends it all
            done = 0
        with partial.open("ab" if done else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
                done += len(block)
                on_progress(done, size)
    if size is not None and done < size:
        raise ConnectionError("the connection broke off")


def _check(path: Path, size: int | None, digest: str | None, entry: Published) -> None:
    found = path.stat().st_size
    if size is not None and found != size:
        raise DownloadError(f"{path} has {found:,} bytes, expected {size:,}; delete it and download {entry.name} again")
    if digest is not None and sha256(path) != digest:
        raise DownloadError(f"{path} is not the published file: its SHA-256 is not {digest}; download it again")

"""`understudy score`: score pictures on disk with one or several oracles, into a table; a cut-off run goes on."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..files import write_whole
from ..oracles import load_oracle
from ..oracles.base import Oracle, check_images
from .images import find_images, prompts_for, read_image
from .processes import Processes
from .student_request import resolve_dtype

FORMATS = (".csv", ".parquet")


@dataclass(frozen=True)
class Request:
    """What to score: pictures or folders, a prompt for all or a file of prompts, the oracles, and where to."""

    paths: tuple[Path, ...]
    oracles: tuple[Path, ...]
    out: Path
    prompt: str | None = None
    prompts: Path | None = None
    families: tuple[str, ...] = ()
    encoder: Path | None = None
    batch_size: int = 8
    device: str = "auto"
    dtype: str = "auto"


@dataclass
class Result:
    """How many pictures are in the table, which could not be read and why, and remarks on the prompts."""

    scored: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def score(request: Request, on_progress: Callable[[int, int], None] | None = None) -> Result | None:
    """Write ``request.out``; returns the result on the main process, None on the others.

    Rows go to a journal beside it as they come, so that an interrupted run goes on where it was; a picture with the
    same path, prompt and oracles is not scored twice. Pictures that cannot be read are listed and skipped.
    Raises FileNotFoundError and ValueError for anything wrong with the request.
    """
    if request.out.suffix.lower() not in FORMATS:
        raise ValueError(f"--out is {request.out}; expected a name that ends in {' or '.join(FORMATS)}")
    if request.batch_size < 1:
        raise ValueError(f"--batch-size is {request.batch_size}; expected at least 1")
    _require_writer(request.out)
    images = find_images(request.paths)
    prompts = prompts_for(images, request.prompt, request.prompts)
    processes = Processes(request.device)
    oracles = _loaded(request, processes.device)
    columns = _columns(request.oracles, oracles)
    journals = _Journals(request.out, columns, oracles)
    done = journals.read()
    todo = [(i, p) for i, p in zip(images, prompts, strict=True) if _key(i, p) not in done]
    mine = todo[processes.rank :: processes.count]
    result = Result(remarks=[remark for oracle in oracles for remark in oracle.remarks(prompts)])
    with journals.open(processes.rank) as add:
        for at, rows in _scored(mine, oracles, request.batch_size, result):
            for row in rows:
                add(row)
            if on_progress:
                on_progress(at, len(mine))
    parts: list[Result] = processes.gather(result)
    if not processes.is_main:
        return None
    done = journals.read()
    rows = [done[_key(i, p)] for i, p in zip(images, prompts, strict=True) if _key(i, p) in done]
    _write(request.out, columns, rows)
    journals.remove()
    return Result(len(rows), {k: v for part in parts for k, v in part.unreadable.items()}, result.remarks)


def _loaded(request: Request, device: torch.device) -> list[Oracle]:
    families = request.families or ("auto",) * len(request.oracles)
    if len(families) != len(request.oracles):
        raise ValueError(f"{len(families)} --family for {len(request.oracles)} --oracle; give one for each, or none")
    return [
        load_oracle(path, family, device, resolve_dtype(request.dtype, device), request.encoder)
        for path, family in zip(request.oracles, families, strict=True)
    ]


def _columns(paths: Sequence[Path], oracles: Sequence[Oracle]) -> list[str]:
    """A family's name, with the file's where two oracles are of one family."""
    names = [oracle.family for oracle in oracles]
    return [n if names.count(n) == 1 else f"{n} {path.stem}" for n, path in zip(names, paths, strict=True)]


def _scored(todo, oracles: Sequence[Oracle], batch_size: int, result: Result) -> Iterator[tuple[int, list[list]]]:
    """(pictures seen so far, their rows), batch by batch. Pictures of a batch may differ in size."""
    for start in range(0, len(todo), batch_size):
        batch = []
        for path, prompt in todo[start : start + batch_size]:
            try:
                image = read_image(path)[None]
                check_images(image, [prompt])
                batch.append((path, prompt, image))
            except (OSError, SyntaxError, ValueError) as error:
                result.unreadable[str(path)] = str(error)
        if batch:
            prompts = [prompt for _, prompt, _ in batch]
            scores = [oracle.mixed([image for _, _, image in batch], prompts).tolist() for oracle in oracles]
            yield (
                start + len(batch),
                [[path.as_posix(), prompt, *(s[i] for s in scores)] for i, (path, prompt, _) in enumerate(batch)],
            )


def _key(path: Path | str, prompt: str) -> tuple[str, str]:
    return Path(path).as_posix(), prompt


class _Journals:
    """Rows as they come, one file per process, valid for one set of oracles."""

    def __init__(self, out: Path, columns: Sequence[str], oracles: Sequence[Oracle]):
        told = json.dumps([list(columns), [oracle.fingerprint for oracle in oracles]])
        self.out, self.mark = out, hashlib.sha256(told.encode()).hexdigest()[:12]

    def _paths(self) -> list[Path]:
        return sorted(self.out.parent.glob(f".{self.out.name}.{self.mark}.*.jsonl"))

    def read(self) -> dict[tuple[str, str], list]:
        rows = {}
        for path in self._paths():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # the line at which a run was cut off
                rows[_key(row[0], row[1])] = row
        return rows

    def open(self, rank: int) -> _Appender:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        return _Appender(self.out.with_name(f".{self.out.name}.{self.mark}.{rank}.jsonl"))

    def remove(self) -> None:
        for path in self._paths():
            path.unlink()


class _Appender:
    """Adds rows to a journal, each at once on disk."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Callable[[list], None]:
        cut_off = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        self.file = self.path.open("a", encoding="utf-8")
        if cut_off:
            self.file.write("\n")
        return self._add

    def __exit__(self, *_) -> None:
        self.file.close()

    def _add(self, row: list) -> None:
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()


def _require_writer(out: Path) -> None:
    if out.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ValueError(f"--out {out} needs pyarrow (pip install pyarrow); or name a .csv") from error


def _write(out: Path, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
    names = ["image", "prompt", *columns]
    if out.suffix.lower() == ".csv":
        from io import StringIO

        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
        write_whole(out, text.getvalue())
        return
    import os

    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({name: [row[i] for row in rows] for i, name in enumerate(names)})
    partial = out.with_name(f".{out.name}.partial")
    pyarrow.parquet.write_table(table, partial)
    os.replace(partial, out)

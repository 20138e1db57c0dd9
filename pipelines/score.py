"""`understudy score`: score pictures on disk with one or several oracles, into a table; a cut-off run goes on."""

from __future__ import annotations

import csv
import glob
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch

from ..files import write_whole
from ..oracles.base import NoScore, Oracle, check_images
from ..oracles.prompt_syntax import prompts_to_read
from .image_texts import prompts_for
from .images import find_images, read_image
from .oracle_files import load_oracles
from .processes import Processes
from .student_request import resolve_dtype

FORMATS = (".csv", ".parquet")


@dataclass(frozen=True)
class Request:
    """What to score: pictures or folders, a prompt for all or a file of prompts, the oracles, and where to.

    Neither prompt nor file is needed if no oracle reads prompts.
    """

    paths: tuple[Path, ...]
    oracles: tuple[Path, ...]
    out: Path
    prompt: str | None = None
    prompts: Path | None = None
    literal_prompts: bool = False
    families: tuple[str, ...] = ()
    encoders: tuple[Path, ...] = ()
    batch_size: int = 8
    device: str = "auto"
    dtype: str = "auto"


class Picture(NamedTuple):
    """A picture to score; ``state``, of its file, is another once the picture is replaced."""

    path: str
    prompt: str
    state: str


@dataclass
class Result:
    """How many pictures are in the table, which are not and why, and remarks on the prompts."""

    scored: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def score(request: Request, on_progress: Callable[[int, int], None] | None = None) -> Result | None:
    """Write ``request.out``; returns the result on the main process, None on the others.

    Rows go to a journal beside it as they come, so that a run that was cut off goes on where it was, if oracles,
    encoders, dtype and the reading of prompts are the same; a picture that was replaced meanwhile is scored again. The
    finished table takes the journal's place; to run again is to score again. Pictures that cannot be read, or whose
    score is no number, are listed and skipped. ``on_progress`` is called on the main process alone.
    Raises FileNotFoundError and ValueError for anything wrong with the request.
    """
    if request.out.suffix.lower() not in FORMATS:
        raise ValueError(f"--out is {request.out}; expected a name that ends in {' or '.join(FORMATS)}")
    if request.out.is_dir():
        raise ValueError(f"--out {request.out} is a folder; name the table to write")
    if request.batch_size < 1:
        raise ValueError(f"--batch-size is {request.batch_size}; expected at least 1")
    _require_writer(request.out)
    images, left_out = find_images(request.paths)
    no_prompts = request.prompt is None and request.prompts is None
    prompts = prompts_for(images, "" if no_prompts else request.prompt, request.prompts, request.paths)
    processes = Processes(request.device)
    dtype = resolve_dtype(request.dtype, processes.device)
    oracles = _loaded(request, processes.device, dtype)
    if no_prompts and (readers := [oracle.family for oracle in oracles if oracle.reads_prompts]):
        raise ValueError(
            f"give either --prompt TEXT for all images or --prompts FILE; {', '.join(readers)} scores images for it"
        )
    columns = _columns(request.oracles, oracles)
    journals = _Journals(
        request.out, [columns, [oracle.fingerprint for oracle in oracles], str(dtype), request.literal_prompts]
    )
    everything = [
        Picture(image.as_posix(), prompt, _state(image)) for image, prompt in zip(images, prompts, strict=True)
    ]
    # Dealt before those that are done are left out: another process may have written rows already.
    mine = everything[processes.rank :: processes.count]
    done = journals.read()
    mine = [picture for picture in mine if picture not in done]
    literal = request.literal_prompts or not any(oracle.reads_prompts for oracle in oracles)
    texts, syntax = prompts_to_read(prompts, literal)
    remarks = [*syntax, *(remark for oracle in oracles for remark in oracle.remarks(texts))]
    result = Result(
        skipped={path.as_posix(): reason for path, reason in left_out.items()}, remarks=list(dict.fromkeys(remarks))
    )
    with journals.open(processes.rank) as add:
        for at, rows in _scored(mine, oracles, request, result):
            for picture, scores in rows:
                add([*picture, *scores])
            if on_progress and processes.is_main:
                on_progress(at, len(mine))
    parts: list[Result] = processes.gather(result)
    if not processes.is_main:
        return None
    skipped = {path: reason for part in parts for path, reason in part.skipped.items()}
    done = journals.read()
    if lost := [picture.path for picture in everything if picture not in done and picture.path not in skipped]:
        raise ValueError(
            f"{len(lost)} pictures have no score, {lost[0]} the first: their rows are not in {request.out.parent}. "
            "All processes need the same folder for --out; run it again to go on"
        )
    rows = [[picture.path, picture.prompt, *done[picture]] for picture in everything if picture in done]
    _write(request.out, columns, rows)
    journals.remove()
    return Result(len(rows), skipped, result.remarks)


def _loaded(request: Request, device: torch.device, dtype: torch.dtype) -> list[Oracle]:
    families = request.families or ("auto",) * len(request.oracles)
    if len(families) != len(request.oracles):
        raise ValueError(f"{len(families)} --family for {len(request.oracles)} --oracle; give one for each, or none")
    return load_oracles(request.oracles, families, request.encoders, device, dtype)


def _state(image: Path) -> str:
    """Size and time of a file; nothing for one that went, which reading it will tell."""
    try:
        stat = image.stat()
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _columns(paths: Sequence[Path], oracles: Sequence[Oracle]) -> list[str]:
    """A family's name, with the file's where two oracles are of one family, and a number where that is the same."""
    families, names = [oracle.family for oracle in oracles], []
    for family, path in zip(families, paths, strict=True):
        name = first = family if families.count(family) == 1 else f"{family} {path.stem}"
        number = 1
        while name in names:
            number += 1
            name = f"{first} ({number})"
        names.append(name)
    return names


def _scored(
    todo: Sequence[Picture], oracles: Sequence[Oracle], request: Request, result: Result
) -> Iterator[tuple[int, list[tuple[Picture, list[float]]]]]:
    """(pictures seen so far, those of the batch with their scores). Pictures of a batch may differ in size."""
    size = request.batch_size
    for start in range(0, len(todo), size):
        batch = []
        for picture in todo[start : start + size]:
            try:
                _require_utf8(picture.path)
                image = read_image(Path(picture.path))[None]
                check_images(image, [picture.prompt])
            # Damaged bytes make decoders raise all kinds, struct.error, EOFError, KeyError: the picture cannot be read.
            except Exception as error:  # noqa: BLE001
                reason = str(error) if isinstance(error, (OSError, ValueError)) else repr(error)
                result.skipped[picture.path] = reason
            else:
                batch.append((picture, image))
        rows = _rows(batch, oracles, request.literal_prompts, result) if batch else []
        yield min(start + size, len(todo)), rows


def _rows(
    batch: Sequence[tuple[Picture, torch.Tensor]], oracles: Sequence[Oracle], literal: bool, result: Result
) -> list[tuple[Picture, list[float]]]:
    """Pictures with their scores; where one is no number, that picture alone is skipped."""
    pictures, images = zip(*batch, strict=True)
    prompts = prompts_to_read([picture.prompt for picture in pictures], literal).texts
    try:
        scores = [oracle.mixed(images, prompts).tolist() for oracle in oracles]
    except NoScore as error:
        if len(batch) > 1:
            return [row for one in batch for row in _rows([one], oracles, literal, result)]
        result.skipped[pictures[0].path] = f"{error.reason}; {error.advice}"
        return []
    return [(picture, list(values)) for picture, values in zip(pictures, zip(*scores, strict=True), strict=True)]


def _require_utf8(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ValueError("its name is not UTF-8, so that no table can hold it; rename it") from error


class _Journals:
    """Rows as they come, one file per process. Their ``settings`` are in the name, so that no others are taken up."""

    def __init__(self, out: Path, settings: list):
        self.out, self.mark = out, hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]

    def _paths(self) -> list[Path]:
        return sorted(self.out.parent.glob(f".{glob.escape(self.out.name)}.{self.mark}.*.jsonl"))

    def read(self) -> dict[Picture, list[float]]:
        rows = {}
        for path in self._paths():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # the line at which a run was cut off
                rows[Picture(*row[:3])] = row[3:]
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
            import_module("pyarrow")
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

    # A schema, as an empty table has no values to tell it from.
    kinds = [pyarrow.string()] * 2 + [pyarrow.float64()] * len(columns)
    values = [[row[i] for row in rows] for i in range(len(names))]
    table = pyarrow.table(values, schema=pyarrow.schema(list(zip(names, kinds, strict=True))))
    partial = out.with_name(f".{out.name}.partial")
    try:
        pyarrow.parquet.write_table(table, partial)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)

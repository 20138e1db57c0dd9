"""Data: what a batch holds, what it depends on, what is encoded once, and what cannot be used."""

import bz2
import collections
import csv
import gzip
import json
import logging
import lzma
import os
import re
import shutil
import struct
import sys
import tarfile
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import webdataset
from PIL import Image, ImageOps
from understudy.distill_train.config import RecipeError
from understudy.distill_train.data import make_source
from understudy.distill_train.data.ahead import ahead
from understudy.distill_train.data.buckets import make_buckets, nearest
from understudy.distill_train.data.cache import Cache
from understudy.distill_train.data.conditions import CONDITIONS
from understudy.distill_train.data.encode import CachedSource, DataError, Encoder, Item
from understudy.distill_train.data.settings import KINDS
from understudy.distill_train.process import Discrete
from understudy.distill_train.teachers import Teacher as BaseTeacher
from understudy.files import hashes, sha256

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
SHAPES = {"red": (32, 32), "green": (64, 32), "blue": (32, 64), "white": (128, 128)}  # width, height
BATCH = 4


class Teacher:
    """Latents are mean colours and a fourth channel; a caption's embedding is its colour."""

    kind, device, factor, latent_channels, default_size = "sd1", "cpu", 8, 4, 32
    unet, padded, keeps_lengths = None, (), False
    text_dtype = torch.float32
    separate, collate, rest = BaseTeacher.separate, BaseTeacher.collate, BaseTeacher.rest
    latent_shape = BaseTeacher.latent_shape
    text_plan, _as_long = BaseTeacher.text_plan, BaseTeacher._as_long

    def __init__(self, fingerprint="a" * 64, works=True):
        self.fingerprint, self.works, self.encoded, self.embedded, self.called = fingerprint, works, 0, [], 0
        self.process = Discrete(torch.linspace(0.999, 0.01, 100))
        self.maker = fingerprint

    def encode(self, pixels, generator=None):
        assert self.works, "the teacher was asked to encode"
        self.encoded += len(pixels)
        means = torch.nn.functional.avg_pool2d(pixels, 8)
        return torch.cat([means, means.mean(1, keepdim=True)], dim=1)

    def too_long(self, prompts):
        long = [prompt for prompt in prompts if len(prompt) > 77]
        return f"{len(long)} of {len(prompts)} prompts are too long" if long else ""

    def decode(self, latents):
        return latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3).sigmoid()

    def embed(self, prompts):
        assert self.works, "the teacher was asked to embed"
        self.embedded += prompts
        return {"text": torch.tensor([COLOURS.get(p, (len(p),) * 3) for p in prompts]).float()[:, None] / 255}

    def unconditional(self, count):
        return {"text": torch.zeros(count, 1, 3)}

    def sizes(self, height, width, count):
        return {"size": torch.full((count, 1), height / width)}

    def call(self, unet, noisy, t, given):
        assert self.works, "the teacher was asked to sample"
        self.called += len(noisy)
        return 0.5 * noisy + given["text"].mean((1, 2)).view(-1, 1, 1, 1) * given["size"].view(-1, 1, 1, 1)


def recipe(seed=0, precision="fp32"):
    return SimpleNamespace(seed=seed, loop=SimpleNamespace(batch_size=BATCH, precision=precision))


def steps(source, count=8):
    return [source.batch(step, range(step * BATCH, (step + 1) * BATCH)) for step in range(count)]


def same(one, other):
    assert one.names == other.names and (one.height, one.width) == (other.height, other.width)
    return torch.equal(one.latents, other.latents) and torch.equal(one.embeddings["text"], other.embeddings["text"])


@pytest.fixture
def folder(tmp_path):
    """Four pictures of each colour, all different, in each colour's shape."""
    folder = tmp_path / "pictures"
    for colour, rgb in COLOURS.items():
        for number in range(4):
            path = folder / colour / f"{colour}-{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", SHAPES[colour], tuple(max(0, value - number) for value in rgb)).save(path)
            path.with_suffix(".txt").write_text(f"{colour}\n")
    return folder


def settings(folder, **more):
    return {"kind": "folder", "path": str(folder), "stride": 8, **more}


@pytest.fixture
def make(folder, tmp_path):
    """A source of the folder: ``make(teacher)``."""

    def make(teacher=None, seed=0, precision="fp32", **more):
        return make_source(settings(folder, **more), teacher or Teacher(), recipe(seed, precision), tmp_path / "cache")

    return make


def test_sizes_fill_the_area_in_the_shapes_allowed():
    sizes = make_buckets(512, 64, 2.0)
    assert sizes[0] == (512, 512) and (768, 320) not in sizes and (640, 384) in sizes
    for height, width in sizes:
        assert height % 64 == width % 64 == 0 and 0.8 * 512**2 < height * width <= 512**2
        assert max(height, width) <= 2 * min(height, width) and (width, height) in sizes
    assert make_buckets(64, 64, 2.0) == [(64, 64)]
    assert nearest(sizes, 1000, 1000) == (512, 512) and nearest(sizes, 3000, 1000) == max(sizes)


def test_a_batch_has_one_size_and_each_picture_its_caption(make):
    shapes = set()
    for batch in steps(make(), 24):
        assert batch.latents.shape == (BATCH, 4, batch.height // 8, batch.width // 8)
        shapes.add((batch.height, batch.width))
        for name, latents, text in zip(batch.names, batch.latents, batch.embeddings["text"], strict=True):
            assert name.endswith(".png")
            torch.testing.assert_close(latents[:3].mean((1, 2)), text[0], atol=0.02, rtol=0)
    assert shapes == {(32, 32), (24, 40), (40, 24)}


def test_every_sample_comes_and_none_twice_in_a_step(make):
    source = make(max_aspect=1)
    names = [name for batch in steps(source, 40) for name in batch.names]
    assert len(set(names)) == len(source) == 16
    assert all(len(set(batch.names)) == BATCH for batch in steps(source))


def test_parts_of_a_batch_are_the_batch(make):
    source, other = make(), make()
    for step, whole in enumerate(steps(source)):
        first = step * BATCH
        parts = [other.batch(step, range(first, first + 1)), other.batch(step, range(first + 1, first + BATCH))]
        assert torch.equal(torch.cat([part.latents for part in parts]), whole.latents)
        assert parts[0].names + parts[1].names == whole.names


def test_draws_follow_from_the_seed(make):
    assert all(map(same, steps(make()), steps(make())))
    assert [batch.names for batch in steps(make(seed=1))] != [batch.names for batch in steps(make())]


def test_what_was_encoded_is_not_encoded_again(make, folder):
    first = make()
    assert all(map(same, steps(first), steps(make(Teacher(works=False)))))
    Image.new("RGB", (32, 32), (9, 9, 9)).save(folder / "red" / "red-0.png")
    (folder / "red" / "red-1.txt").write_text("crimson")
    changed = Teacher()
    make(changed)
    assert changed.encoded == 1 and changed.embedded == ["crimson"]
    other = Teacher("b" * 64)
    make(other)
    assert other.encoded == 16
    coarse = Teacher()
    make(coarse, size=16)
    assert coarse.encoded == 16 and coarse.embedded == []
    half = Teacher()
    half.text_dtype = torch.float16
    make(half)
    assert half.encoded == 0 and sorted(half.embedded) == sorted([*COLOURS, "crimson"])


def test_a_turned_picture_is_turned(folder, make):
    shutil.rmtree(folder / "green")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (64, 32), COLOURS["red"]).save(folder / "red" / "turned.jpg", exif=exif)
    (folder / "red" / "turned.txt").write_text("red")
    sizes = {name: batch.height for batch in steps(make(), 40) for name in batch.names if name.endswith("turned.jpg")}
    assert list(sizes.values()) == [40]


def test_captions_that_the_teacher_cuts_are_counted_once(make, folder, caplog):
    for name in ("red-0", "red-1"):
        (folder / "red" / f"{name}.txt").write_text("a long word " * 20 + name)
    make()
    said = [record.message for record in caplog.records]
    assert said == ["2 of 6 captions are too long; the rest of them is not learned"]


def test_broken_pictures_and_missing_captions_are_named_and_skipped(make, folder, caplog):
    whole = (folder / "red" / "red-0.png").read_bytes()
    (folder / "red" / "red-0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "red" / "red-1.png").write_bytes(b"no picture")
    (folder / "red" / "red-2.txt").unlink()
    (folder / "red" / "red-3.txt").write_text(" \n")
    with caplog.at_level(logging.WARNING):
        assert len(make()) == 12
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4 and all(any(f"red-{n}.png" in line for line in lines) for n in range(4))
    assert len(make()) == 12


def test_whatever_is_wrong_with_one_file_the_others_serve(make, folder, caplog, monkeypatch):
    (folder / "red" / "red-0.txt").write_bytes("r\u00f6d".encode("latin-1"))
    transposed, read = ImageOps.exif_transpose, Path.read_bytes

    def refused(path):
        if path.name == "red-1.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    def damaged(image, **more):
        if image.size == SHAPES["blue"]:
            raise struct.error("unpack requires a buffer of 2 bytes")
        return transposed(image, **more)

    monkeypatch.setattr(Path, "read_bytes", refused)
    monkeypatch.setattr(ImageOps, "exif_transpose", damaged)
    assert len(make()) == 10
    for said in ("red-0.txt is not UTF-8", "red-1.png is skipped: .*Permission denied", "blue-0.png is skipped"):
        assert re.search(said, caplog.text)


def test_a_file_without_content_is_encoded_again(make, tmp_path):
    expected = steps(make())
    for kind in ("latents", "text"):
        next((tmp_path / "cache").rglob(f"{kind}/*/*.safetensors")).write_bytes(b"")
    teacher = Teacher()
    assert all(map(same, steps(make(teacher)), expected))
    assert teacher.encoded == 1 and len(teacher.embedded) == 1


def settled(folder):
    """Let the files be older than those of which a further change might not show."""
    for path in folder.rglob("*.*"):
        os.utime(path, (1e9, 1e9))


def test_a_picture_that_has_not_changed_is_not_read_again(make, folder, tmp_path, monkeypatch):
    settled(folder)
    expected, fingerprint = steps(make()), make().fingerprint
    read, opened = Path.read_bytes, []

    def watched(path):
        opened.extend([path.name] * (path.suffix == ".png"))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", watched)
    assert all(map(same, steps(make(Teacher(works=False))), expected)) and opened == []
    Image.new("RGB", SHAPES["red"], (9, 9, 9)).save(folder / "red" / "red-0.png")  # of one size as before, maybe
    Image.new("RGB", SHAPES["red"], (8, 8, 8)).save(folder / "red" / "new.png")
    shutil.copy(folder / "red" / "red-0.txt", folder / "red" / "new.txt")
    (folder / "blue" / "blue-0.txt").write_text("navy")
    changed = Teacher()
    assert make(changed).fingerprint != fingerprint
    assert changed.encoded == 2 and sorted(opened) == ["new.png", "red-0.png"] and changed.embedded == ["navy"]
    settled(folder)
    lost = items(make())[0].latents
    next((tmp_path / "cache").rglob(f"{lost}.safetensors")).unlink()
    again = Teacher()
    make(again)
    assert again.encoded == 1


def test_what_a_dead_process_left_is_removed_unless_it_may_live(make, tmp_path):
    make()
    latents = next((tmp_path / "cache").rglob("latents/*/*.safetensors"))
    left = [latents.with_name(f"{latents.name}.7.partial"), latents.with_name(".aa.json.k2v")]
    for path in left:
        path.write_bytes(b"half")
    before = {path for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    make()
    assert all(path.exists() for path in left)
    for path in left:
        os.utime(path, (1e9, 1e9))
    make()
    assert {path for path in (tmp_path / "cache").rglob("*") if path.is_file()} == before - set(left)


def on_white(folder, make):
    """The mean colours that pictures in the folder have for the teacher, by name."""
    shutil.rmtree(folder / "green")
    batches = steps(make(max_aspect=1), 60)
    return {
        Path(name).name: latents[:3].mean((1, 2)).tolist()
        for batch in batches
        for name, latents in zip(batch.names, batch.latents, strict=True)
    }


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(folder, make, mode):
    picture = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    picture.paste((255, 255, 255, 255), (0, 0, 16, 32))
    if mode == "P":
        picture = Image.new("P", (32, 32), 0)
        picture.putpalette([0, 0, 0])
    else:
        picture = picture.convert(mode)
    picture.save(folder / "red" / "clear.png", **({"transparency": 0} if mode == "P" else {}))
    (folder / "red" / "clear.txt").write_text("white")
    assert on_white(folder, make)["clear.png"] == [1, 1, 1]


def test_half_transparent_colours_are_on_white(folder, make):
    Image.new("RGBA", (32, 32), (255, 0, 0, 51)).save(folder / "red" / "pale.png")
    (folder / "red" / "pale.txt").write_text("red")
    assert on_white(folder, make)["pale.png"] == pytest.approx([1, 0.8, 0.8], abs=0.01)


def test_grey_of_more_than_8_bits_is_named_and_skipped(folder, make, caplog):
    Image.new("I;16", (32, 32), 30_000).save(folder / "red" / "deep.png")
    (folder / "red" / "deep.txt").write_text("red")
    assert len(make()) == 16
    assert re.search("deep.png is skipped: .*I;16; expected 8 bits", caplog.text)


def test_of_colours_with_16_bits_the_upper_8_are_read(folder, make):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0))  # RGB, which PIL does not write
    rows = (b"\0" + struct.pack(">3H", 0x80FF, 0x4000, 0x2001) * 32) * 32
    png = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (folder / "red" / "deep.png").write_bytes(png)
    (folder / "red" / "deep.txt").write_text("red")
    assert on_white(folder, make)["deep.png"] == pytest.approx([0x80 / 255, 0x40 / 255, 0x20 / 255], abs=1e-6)


def test_other_samples_or_captions_have_another_fingerprint(make, folder):
    first = make()
    assert first.fingerprint == make().fingerprint and first.fingerprint.startswith("16 samples, ")
    (folder / "red" / "red-0.txt").write_text("crimson")
    assert make().fingerprint != first.fingerprint
    (folder / "red" / "red-0.png").unlink()
    assert make().fingerprint.startswith("15 samples, ")


def test_nothing_to_learn_from_is_one_clear_error(make, folder):
    for text in folder.rglob("*.txt"):
        text.unlink()
    with pytest.raises(DataError, match="no sample can be used"):
        make()
    for picture in folder.rglob("*.png"):
        picture.unlink()
    with pytest.raises(ValueError, match="no pictures in"):
        make()
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(FileNotFoundError, match="data.path"):
        make()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_captions_from_a_table(make, folder, tmp_path, suffix, caplog):
    expected = steps(make())
    rows = [{"file": p.relative_to(folder).as_posix(), "text": p.parent.name} for p in sorted(folder.rglob("*.png"))]
    rows[0]["file"] = rows[0]["file"].split("/")[1]  # a bare name will do
    Image.new("RGB", (32, 32)).save(folder / "silent.png")
    empty = {"file": "silent.png", "text": " "}
    table = tmp_path / f"captions{suffix}"
    with table.open("w", newline="") as file:
        if suffix == ".jsonl":
            wrong = [
                {"file": "gone.png", "text": "x"},
                {"file": rows[0]["file"], "text": None},
                {"file": None, "text": "x"},
            ]
            file.writelines(json.dumps(row) + "\n" for row in [*rows, empty, *wrong])
        else:
            rows = [{"File": row["file"], "text": row["text"]} for row in [*rows, empty]]
            writer = csv.DictWriter(file, ["File", "text"], delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows([*rows, {"File": "gone.png", "text": "x"}])
    for text in folder.rglob("*.txt"):
        text.unlink()
    assert all(map(same, steps(make(captions=str(table))), expected))
    assert "gone.png" in caplog.text and "silent.png is skipped: it has no caption" in caplog.text


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.csv", "picture,words\nx,y\n", "no column image .*it has picture, words"),
        ("a.jsonl", "{", "not JSON"),
        ("a.jsonl", "[1]", "a.jsonl entry 1 is 1; expected an object with image"),
        (
            "a.jsonl",
            '{"file": "red-0.png", "text": ["red"]}',
            r'a.jsonl line 1: its text is \["red"\]; expected a text',
        ),
        ("a.json", '["red", "blue"]', 'a.json entry 1 is "red"; expected an object with image'),
        ("a.csv", "text,file\na cat, sleeping,red/red-0.png\n", "a.csv line 2: it has more cells than the header"),
        ("a.csv", "", "it is empty"),
        ("a.csv", "file,text\nx,\udce4\n", "a.csv is not UTF-8: .* in line 2"),
    ],
)
def test_tables_that_make_no_sense_are_errors(make, tmp_path, name, content, said):
    (tmp_path / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=said):
        make(captions=str(tmp_path / name))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_names_in_a_table_are_spelled_in_several_ways(make, folder, tmp_path, suffix, caplog):
    expected = steps(make())
    pictures = sorted(folder.rglob("*.png"))
    names = [path.relative_to(folder).as_posix() for path in pictures]
    names[:3] = [f"./{names[0]}", f" {names[1]} ", str(pictures[2].resolve())]
    rows = [{"file": name, "text": path.parent.name} for name, path in zip(names, pictures, strict=True)]
    rows.append({"file": names[3], "text": "something else"})
    table = tmp_path / f"captions{suffix}"
    if suffix == ".csv":
        table.write_text("file,text\n" + "".join(f"{row['file']},{row['text']}\n" for row in rows))
    else:  # not every row has every key
        table.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [{"comment": "a\u2028b"}, *rows])
        )
    for text in folder.rglob("*.txt"):
        text.unlink()
    assert all(map(same, steps(make(captions=str(table))), expected))
    assert f"another caption for {names[3]}, which is not used: something else" in caplog.text


@pytest.mark.parametrize(
    "name, pattern",
    [
        ("c.csv", "{file},{text}"),
        ("c.jsonl", '{{"file_name": "{file}", "text": "{text}"}}'),
        ("c.json", '{{"file_name": "{file}", "text": "{text}"}}'),
    ],
)
def test_captions_are_whole_and_names_have_any_slashes_or_the_folder_before_them(make, folder, tmp_path, name, pattern):
    for text in folder.rglob("*.txt"):
        text.unlink()
    slash = "\\" if name == "c.csv" else "\\\\"
    names = {
        "red/red-0.png": f"red{slash}red-0.png",
        "red/red-1.png": "pictures/red/red-1.png",
        "red/red-2.png": "red-2.png",
    }
    lines = [pattern.format(file=file, text=f"1girl, solo, {number}") for number, file in enumerate(names.values())]
    content = {"c.csv": "\n".join(["file,text", *lines]), "c.jsonl": "\n".join(lines), "c.json": f"[{','.join(lines)}]"}
    (tmp_path / name).write_bytes(content[name].encode("utf-8-sig"))
    found = {
        Path(item.name).relative_to(folder).as_posix(): item.caption
        for item in items(make(captions=str(tmp_path / name)))
    }
    assert found == {file: f"1girl, solo, {number}" for number, file in enumerate(names)}


def test_kohya_s_layout_is_read(make, folder, caplog):
    (folder / "red").rename(folder / "3_red")
    for number in range(4):
        text = (folder / "3_red" / f"red-{number}.txt").rename(folder / "3_red" / f"red-{number}.caption")
        text.write_bytes(f"red {number}, whole".encode("utf-16" if number else "utf-8-sig"))
    (folder / "blue" / "blue-0.caption").write_text("navy")
    counts = collections.Counter(Path(item.name).name for item in items(make()))
    assert counts == {f"{colour}-{n}.png": 3 if colour == "red" else 1 for colour in COLOURS for n in range(4)}
    captions = {Path(item.name).name: item.caption for item in items(make())}
    assert captions["red-2.png"] == "red 2, whole" and captions["blue-0.png"] == "blue"
    assert "pictures in 3_red count 3 times each" in caplog.text
    assert "blue-0.caption is not used" in caplog.text and "blue-1" not in caplog.text
    assert len(make(repeats=False)) == 16
    teacher = Teacher()
    make(teacher, size=16)
    assert teacher.encoded == 16, "a picture is encoded once however often it counts"
    (folder / "blue").rename(folder / "2023_blue")
    with pytest.raises(DataError, match="2023_blue would count 2023 times each .*data.repeats=false"):
        make()
    assert len(make(repeats=False)) == 16


def test_a_number_before_a_folder_s_name_that_does_not_count_is_said(make, folder, caplog):
    (folder / "img").mkdir()
    (folder / "red").rename(folder / "img" / "3_red")
    assert len(make()) == 16
    assert "directly below data.path alone; the pictures in 3_red count once" in caplog.text
    caplog.clear()
    make(repeats=False)
    assert "3_red" not in caplog.text


def test_hidden_pictures_are_left_out_and_others_named(make, folder, caplog):
    for name in (".ipynb_checkpoints/red-0.png", ".thumbnails/a.png", "._red-0.png", "red/@eaDir/red-0.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "red" / "red-0.png", folder / name)
        (folder / name).with_suffix(".txt").write_text("red")
    (folder / "red" / "phone.heic").write_bytes(b"")
    for suffix, kind in ((".jp2", "JPEG2000"), (".jfif", "JPEG"), (".avif", "AVIF")):
        Image.new("RGB", (32, 32), COLOURS["red"]).save(folder / f"more{suffix}", kind)
    (folder / "more.txt").write_text("red")
    assert len(make()) == 19
    assert "phone.heic is skipped: PIL does not decode .heic" in caplog.text and "_red" not in caplog.text


def test_a_picture_with_a_large_profile_is_no_other_picture(make, folder, caplog):
    first = make()
    path = folder / "red" / "red-0.png"
    with Image.open(path) as image:
        image.save(path, icc_profile=bytes(2_000_000))
    second = make(Teacher())
    assert all(map(same, steps(first), steps(second))) and not caplog.text


def test_an_interrupted_save_leaves_nothing(make, tmp_path, monkeypatch):
    def cut_off(tensors, path, metadata=None):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", cut_off)
    with pytest.raises(KeyboardInterrupt):
        make()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_processes_share_the_work_in_order():
    encoder = Encoder.__new__(Encoder)

    def do(mine, done):
        return [10 * item for item in mine]

    parts = [do(list(range(7))[rank::3], None) for rank in range(3)]
    for rank in range(3):
        encoder.processes = SimpleNamespace(rank=rank, count=3, is_main=rank == 0, gather=lambda own: parts)
        assert encoder.share(range(7), "numbers", do) == [0, 10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize("kind", ["folder", "prompts"])
def test_processes_agree_on_what_is_missing_however_late_one_looks(folder, tmp_path, kind, monkeypatch):
    """Two processes as threads: the second looks into the cache only when the first has written to it, if it does.

    Their threads that decode have no rank: they look for pictures alone, of which each process has its own.
    """
    written, barrier, gathered = threading.Event(), threading.Barrier(2), [None, None]
    (tmp_path / "prompts.txt").write_text("red\nblue\nwhite\ngreen\n")
    data = settings(folder) if kind == "folder" else {"kind": kind, "path": str(tmp_path / "prompts.txt"), "steps": 2}

    class Place:
        count = 2

        def __init__(self, rank):
            self.rank, self.is_main = rank, rank == 0

        def gather(self, value):
            gathered[self.rank] = value
            barrier.wait(60)
            values = list(gathered)
            barrier.wait(60)
            return values

    has, save, ranks = Cache.has, Cache.save, threading.local()

    def late(self, kind, key, *suffix):
        if getattr(ranks, "own", 0) == 1 and kind != "latents" * (data["kind"] == "folder"):
            written.wait(0.2)
        return has(self, kind, key, *suffix)

    def saved(self, kind, key, tensors):
        save(self, kind, key, tensors)
        if kind != "latents" * (data["kind"] == "folder"):
            written.set()

    monkeypatch.setattr(Cache, "has", late)
    monkeypatch.setattr(Cache, "save", saved)
    monkeypatch.setattr("understudy.distill_train.data.encode.Processes", lambda device: Place(ranks.own))

    def work(rank):
        ranks.own = rank
        try:
            return len(make_source(data, Teacher(), recipe(), tmp_path / "cache"))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, range(2))) == [16 if kind == "folder" else 4] * 2


@pytest.fixture
def shards(folder, tmp_path):
    """The folder's pictures in two tar files; captions as text and in JSON."""
    pictures = sorted(folder.rglob("*.png"))
    for number, part in enumerate((pictures[:8], pictures[8:])):
        with webdataset.TarWriter(str(tmp_path / f"{number:03d}.tar")) as tar:
            for path in part:
                said = json.dumps({"prompt": path.parent.name}).encode()
                tar.write({"__key__": path.stem, "png": path.read_bytes(), "txt": path.parent.name, "json": said})
    return tmp_path / "{000..001}.tar"


def of_shards(shards, teacher=None, cache="cache", **more):
    data = {"kind": "webdataset", "path": str(shards), "stride": 8, **more}
    return make_source(data, teacher or Teacher(), recipe(), shards.parent / cache)


def test_shards_hold_what_the_folder_holds(make, shards):
    for source in (of_shards(shards), of_shards(shards, caption="json.prompt")):
        for batch, expected in zip(steps(source), steps(make()), strict=True):
            assert torch.equal(batch.latents, expected.latents)
            assert torch.equal(batch.embeddings["text"], expected.embeddings["text"])
            assert "000.tar/" in batch.names[0] or "001.tar/" in batch.names[0]


def test_a_run_that_was_cut_off_goes_on_at_the_shard(shards, monkeypatch):
    expected = steps(of_shards(shards, cache="other"))

    class Tired(Teacher):
        def encode(self, pixels, generator=None):
            if self.encoded == 10:
                raise KeyboardInterrupt
            return super().encode(pixels)

    with pytest.raises(KeyboardInterrupt):
        of_shards(shards, Tired())
    opened, library = [], webdataset.WebDataset
    monkeypatch.setattr("webdataset.WebDataset", lambda url, **more: opened.append(url) or library(url, **more))
    second = Teacher()
    assert all(map(same, steps(of_shards(shards, second)), expected))
    assert second.encoded == 6 and [url.rpartition("/")[2] for url in opened] == ["001.tar"]
    assert all(map(same, steps(of_shards(shards, Teacher(works=False))), expected))


def test_samples_of_a_shard_that_cannot_be_used_are_named(shards, caplog):
    with webdataset.TarWriter(str(shards.parent / "000.tar")) as tar:
        tar.write({"__key__": "broken", "png": b"no picture", "txt": "red"})
        tar.write({"__key__": "silent", "png": b"no picture"})
        tar.write({"__key__": "blind", "txt": "red"})
        tar.write({"__key__": "empty", "png": b"no picture", "txt": " "})
        tar.write({"__key__": "listed", "png": b"no picture", "json": b"[]"})
    assert len(of_shards(shards)) == 8
    assert all(f"000.tar/{name} is skipped" in caplog.text for name in ("broken", "silent", "blind", "empty"))
    assert "empty is skipped: it has no txt" in caplog.text
    with pytest.raises(DataError, match="no sample can be used"):
        of_shards(shards.parent / "000.tar")
    with pytest.raises(DataError, match="no sample can be used"):
        of_shards(shards.parent / "000.tar", caption="json.prompt")
    with pytest.raises(FileNotFoundError, match="002.tar"):
        of_shards(shards.parent / "{000..002}.tar")


def test_captions_of_a_shard_are_text_and_hidden_pictures_are_left_out(shards, caplog):
    picture = (shards.parent / "pictures" / "red" / "red-0.png").read_bytes()
    with webdataset.TarWriter(str(shards.parent / "000.tar")) as tar:
        tar.write({"__key__": "marked", "png": picture, "txt": "r\u00f6d".encode("utf-16")})
        tar.write({"__key__": "latin", "png": picture, "txt": "r\u00f6d".encode("latin-1")})
        tar.write({"__key__": "./.thumbnails/a", "png": picture, "txt": b"red"})
        tar.write({"__key__": "./other", "jfif": picture, "txt": b"other"})
    assert [item.caption for item in items(of_shards(shards.parent / "000.tar"))] == ["r\u00f6d", "other"]
    assert "000.tar/latin.txt is not UTF-8: " in caplog.text


def test_a_damaged_shard_is_named(shards):
    shard = shards.parent / "001.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(DataError, match="001.tar is not a whole tar file"):
        of_shards(shards)


def test_a_shard_that_was_cut_off_between_two_files_is_named_too(shards):
    shard = shards.parent / "001.tar"
    with tarfile.open(shard) as tar:
        end = tar.getmembers()[9].offset
    shard.write_bytes(shard.read_bytes()[:end])
    with pytest.raises(DataError, match="001.tar is not a whole tar file: it does not end"):
        of_shards(shards)


@pytest.mark.parametrize("suffix, compress", [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)])
def test_a_compressed_shard_that_is_cut_off_is_named(shards, suffix, compress):
    whole = compress((shards.parent / "001.tar").read_bytes())
    shard = shards.parent / f"001.tar{suffix}"
    shard.write_bytes(whole)
    assert len(of_shards(shard)) == 8
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"001.tar{suffix} is not a whole tar file"):
        of_shards(shard)


@pytest.mark.parametrize("at_once", [None, 0, 2 * 32 * 32, 1 << 20])
def test_pictures_are_encoded_several_at_once_where_that_is_faster(make, monkeypatch, at_once):
    expected, sizes, init = steps(make()), [], Encoder.__init__

    def on_a_gpu(self, *given):
        init(self, *given)
        if at_once is not None:
            self.pixels_at_once = at_once

    class Watched(Teacher):
        def encode(self, pixels, generator=None):
            sizes.append((tuple(pixels.shape[2:]), len(pixels)))
            return super().encode(pixels)

    monkeypatch.setattr(Encoder, "__init__", on_a_gpu)
    assert all(map(same, steps(make(Watched("b" * 64))), expected))
    assert sum(count for _, count in sizes) == 16 and len({size for size, _ in sizes}) > 1
    assert max(count for _, count in sizes) == {None: 1, 0: 1, 2 * 32 * 32: 2}.get(
        at_once, max(4, dict(sizes)[(32, 32)])
    )


def test_a_picture_that_lies_in_a_folder_twice_is_encoded_once(make, folder):
    for number in range(1, 4):
        shutil.copy(folder / "red" / "red-0.png", folder / "red" / f"red-{number}.png")
    teacher = Teacher()
    assert len(make(teacher)) == 16 and teacher.encoded == 13


def test_work_is_done_ahead_in_order_and_its_errors_come_in_their_place():
    done, threads = [], set()

    def work(number):
        threads.add(threading.get_ident())
        done.append(number)
        return 6 // (3 - number)

    results = ahead(work, range(10), lead=2)
    assert [next(results), next(results), next(results)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert done == sorted(done) and len(done) <= 6 and threads.isdisjoint({threading.get_ident()})
    assert list(ahead(lambda number: number, range(5), lead=0)) == list(range(5))


def test_a_thread_decodes_the_next_pictures_while_the_teacher_encodes(make):
    """The teacher waits until more pictures than its own are read: without the thread it would wait in vain."""
    read, more = [], threading.Event()

    class Waiting(Teacher):
        def encode(self, pixels, generator=None):
            assert more.wait(60), "nobody reads on while the teacher encodes"
            return super().encode(pixels)

    decoded = Encoder.decoded

    def watched(self, *given):
        read.append(given[0])
        if len(read) == 4:
            more.set()
        return decoded(self, *given)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Encoder, "decoded", watched)
        assert len(make(Waiting())) == 16


def test_a_shard_whose_latents_were_lost_is_read_again(shards, tmp_path):
    expected = steps(of_shards(shards))
    next((tmp_path / "cache").rglob("latents/*/*.safetensors")).unlink()
    teacher = Teacher()
    assert all(map(same, steps(of_shards(shards, teacher)), expected)) and teacher.encoded == 1


def test_a_shard_that_has_not_changed_is_not_hashed_again(shards, monkeypatch):
    settled(shards.parent)
    hashed = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(shards.parent / "cache"))
    monkeypatch.setattr(hashes, "LARGE", 1)
    monkeypatch.setattr(hashes, "sha256", lambda path: hashed.append(path.name) or sha256(path))
    for _ in range(2):
        of_shards(shards)
    assert hashed == ["000.tar", "001.tar"]
    os.utime(shards.parent / "000.tar", (1.1e9, 1.1e9))
    of_shards(shards)
    assert hashed[2:] == ["000.tar"]


def test_progress_is_told_within_a_shard(shards, monkeypatch):
    told, share = [], Encoder.share

    def watched(self, work, what, do, *part):
        return share(self, work, what, lambda mine, done: do(mine, lambda n: told.append(n) or done(n)), *part)

    monkeypatch.setattr(Encoder, "share", watched)
    of_shards(shards)
    shards_told = told[: told.index(2) + 1]
    assert shards_told == sorted(shards_told) and shards_told[-1] == 2
    assert len({n for n in shards_told if 0 < n < 1}) > 4 and len({n for n in shards_told if 1 < n < 2}) > 4


def test_without_the_library_shards_say_what_to_install(shards, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset.shardlists", None)
    with pytest.raises(DataError, match="pip install webdataset"):
        of_shards(shards)


@pytest.fixture
def prompts(tmp_path):
    """A source of prompts: ``prompts(teacher, **settings)``."""
    path = tmp_path / "prompts.txt"
    path.write_text("red\n\n blue \nwhite\n")

    def prompts(teacher=None, score=None, **more):
        data = {"kind": "prompts", "path": str(path), "steps": 3, "cfg": 2.0, "count": 7, **more}
        return make_source(data, teacher or Teacher(), recipe(), tmp_path / "cache", score)

    return prompts


def items(source):
    return [item for group in source.by_size for item in group]


def test_the_teacher_makes_the_latents_of_prompts_once(prompts):
    teacher = Teacher()
    source = prompts(teacher)
    assert [item.caption for item in items(source)] == ["red", "blue", "white", "red", "blue", "white", "red"]
    assert teacher.called == 7 * 3 * 2  # steps and branches
    assert all(map(same, steps(source), steps(prompts(Teacher(works=False)))))
    more = Teacher()
    prompts(more, count=9)
    assert more.called == 2 * 3 * 2
    found = {item.latents for item in items(source)}
    assert len(found) == 7 and found.isdisjoint(item.latents for item in items(prompts(seed=1)))
    told, steep = Teacher(), Teacher()
    told.process = Discrete(told.process.alphas_cumprod, "v_prediction")
    steep.process = Discrete(torch.linspace(0.999, 1e-7, 100))
    for other in (told, steep):
        assert found.isdisjoint(item.latents for item in items(prompts(other)))


def test_latents_of_a_prompt_do_not_depend_on_their_neighbours(prompts, tmp_path):
    together = steps(prompts(batch_size=7))
    shutil.rmtree(tmp_path / "cache")
    for one, other in zip(together, steps(prompts(batch_size=2)), strict=True):
        torch.testing.assert_close(one.latents, other.latents)
    assert together[0].latents.shape == (BATCH, 4, 4, 4) and together[0].latents.std() > 0.1


def test_an_oracle_reads_prompts_without_syntax_and_the_teacher_with_it(prompts, tmp_path, caplog):
    (tmp_path / "prompts.txt").rename(tmp_path / "before.txt")
    (tmp_path / "prompts.json").write_text('["a (red:1.3) star", "a cat"]')
    oracle, read, teacher = tmp_path / "oracle.safetensors", [], Teacher()
    oracle.write_bytes(b"one")
    told = {"path": str(tmp_path / "prompts.json"), "count": 2, "filter": {"oracle": str(oracle), "percentile": 1.0}}
    prompts(teacher, lambda pixels, texts: read.extend(texts) or pixels.mean((1, 2, 3)), **told)
    assert read == ["a red star", "a cat"] and set(teacher.embedded) == {"a (red:1.3) star", "a cat"}
    assert caplog.text.count("syntax is taken off 1 of the prompts") == 1
    assert "data.filter.literal_prompts=true scores them as they stand" in caplog.text, "and no command's own switch"
    told["filter"]["literal_prompts"] = True
    read.clear()
    prompts(teacher, lambda pixels, texts: read.extend(texts) or pixels.mean((1, 2, 3)), **told)
    assert read == ["a (red:1.3) star"], "the other was read so before"


def test_an_oracle_keeps_the_better_samples(prompts, tmp_path):
    everything = {item.name for item in items(prompts())}

    def score(pixels, texts):
        assert pixels.shape[1:] == (3, 32, 32) and len(pixels) == len(texts)
        return pixels.mean((1, 2, 3))

    oracle = tmp_path / "oracle.safetensors"
    oracle.write_bytes(b"one")
    told = {"oracle": str(oracle), "percentile": 50.0}
    kept = items(prompts(score=score, filter=told))
    # The median of seven is kept, and the three above it.
    assert len(kept) == 4 and {item.name for item in kept} < everything
    values = {item.name: score_of(item, tmp_path) for item in items(prompts())}
    assert {item.name for item in kept} == set(sorted(values, key=values.get)[3:])
    # Scores are kept for the next run, as long as it is the same oracle.
    assert items(prompts(score=None, filter=told)) == kept
    assert len(items(prompts(score=None, filter=told | {"percentile": 10.0}))) == 6
    oracle.write_bytes(b"another")
    with pytest.raises(DataError, match="no number"):
        prompts(score=lambda pixels, texts: pixels.mean((1, 2, 3)) * float("nan"), filter=told)
    oracle.unlink()
    with pytest.raises(FileNotFoundError, match="oracle.safetensors"):
        prompts(filter=told)


def score_of(item, tmp_path):
    latents = Cache(tmp_path / "cache", "a" * 64).load("latents", item.latents)["latents"]
    return Teacher().decode(latents[None]).mean().item()


def test_prompts_that_are_not_there_are_errors(prompts, tmp_path):
    (tmp_path / "prompts.txt").write_text("\n \n")
    with pytest.raises(ValueError, match="prompts.txt is empty"):
        prompts()
    os.unlink(tmp_path / "prompts.txt")
    with pytest.raises(FileNotFoundError, match="prompts.txt: no such prompt file"):
        prompts()


def test_prompts_come_from_a_column_of_a_table(prompts, tmp_path):
    (tmp_path / "prompts.csv").write_text('id,prompt\n1,red\n2,"blue, too"\n')
    source = prompts(path=str(tmp_path / "prompts.csv"), count=None)
    assert sorted(item.caption for item in items(source)) == ["blue, too", "red"]


@pytest.mark.parametrize(
    "data, said",
    [
        ({}, "data.kind is None; expected folder, webdataset, prompts, or scenes"),
        ({"kind": ["folder"]}, r"data.kind is \['folder'\]; expected"),
        ({"kind": "folder"}, "path"),
        ({"kind": "folder", "path": "x", "sise": 32}, "sise"),
        ({"kind": "folder", "path": "x", "size": 33}, "multiple of 8"),
        ({"kind": "folder", "path": "x", "size": 40, "stride": 16}, "data.stride is 16"),
        ({"kind": "prompts", "path": "x", "filter": {"oracle": "y", "percentile": 100}}, "percentile"),
    ],
)
def test_wrong_settings_are_named(tmp_path, data, said):
    with pytest.raises(RecipeError, match=said):
        make_source(data, Teacher(), recipe(), tmp_path)


def test_every_key_is_described():
    for kind in (*KINDS.values(), *CONDITIONS.values()):
        undescribed = [name for name, field in kind.model_fields.items() if not field.description]
        assert undescribed == []


def test_every_sample_is_drawn_as_often_as_any_other():
    cache = SimpleNamespace(load=lambda kind, key: {"latents": torch.zeros(1)})
    encoder = SimpleNamespace(cache=cache, embeddings=lambda captions: {}, lengths=lambda captions: {"": ()})
    wide = [Item(f"wide {n}", "", "", 8, 16) for n in range(2)]
    square = [Item(f"square {n}", "", "", 16, 16) for n in range(6)]
    drawn = [name for batch in steps(CachedSource(wide + square, encoder, 0, BATCH), 2000) for name in batch.names]
    for item in wide + square:
        assert drawn.count(item.name) == pytest.approx(1000, rel=0.1)

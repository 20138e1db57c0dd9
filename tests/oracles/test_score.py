"""understudy score: pictures on disk into a table."""

import csv
import os
import struct
import subprocess
import sys

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor
from understudy.cli import main
from understudy.oracles import load_oracle
from understudy.oracles.base import Oracle
from understudy.pipelines import score as module
from understudy.pipelines.images import read_image

from . import small_files


@pytest.fixture
def pictures(tmp_path):
    """Six pictures of different sizes and modes, a damaged one and one of 16 bits, in a folder with a folder in it."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    g = torch.Generator().manual_seed(0)
    for i, mode in enumerate(["RGB", "RGBA", "L", "RGB", "P", "RGB"]):
        pixels = (torch.rand(40 + i, 60 - i, 4, generator=g) * 255).byte().numpy()
        image = Image.fromarray(pixels, "RGBA").convert(mode)
        image.save(folder / ("more" if i > 3 else ".") / f"{i}.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:200])
    Image.new("I;16", (8, 8)).save(folder / "sixteen-bits.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture(scope="module")
def oracles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oracles")
    clip = small_files.write(small_files.open_clip_network().state_dict(), folder / "clip.safetensors")
    reward = small_files.write(small_files.image_reward_tensors(), folder / "ImageReward.safetensors")
    return clip, reward


def score(*words):
    try:
        main(["score", *map(str, words), "--device", "cpu"])
    except SystemExit as end:
        return end.code or 0
    return 0


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_picture_gets_each_oracle_s_score(pictures, oracles, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    options = ["--oracle", oracles[0], "--oracle", oracles[1], "--prompt", "a red star", "--batch-size", 4]
    assert score(pictures, *options, "--out", out) == 0
    table = rows(out)
    assert [row["image"].rsplit("/", 1)[1] for row in table] == [f"{i}.png" for i in range(6)]
    for column, path in (("clipscore", oracles[0]), ("imagereward", oracles[1])):
        oracle = load_oracle(path)
        for row in table:
            alone = oracle(read_image(module.Path(row["image"]))[None], ["a red star"]).item()
            assert float(row[column]) == pytest.approx(alone, abs=2e-3)
    told = capsys.readouterr().out
    assert "6 pictures scored" in told and "skipped" in told and "broken.png" in told and "I;16" in told
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("mode", "read"),
    [("RGB", "RGB"), ("L", "RGB"), ("1", "RGB"), ("CMYK", "RGB"), ("P", "RGB"), ("RGBA", "RGBA"), ("LA", "RGBA")],
)
def test_a_picture_with_an_alpha_channel_is_read_with_it(tmp_path, mode, read):
    pixels = (torch.rand(9, 7, 4, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    image = Image.fromarray(pixels, "RGBA").convert(mode)
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    image.save(path, **({"transparency": 3} if mode == "P" else {}))
    expected = image.convert("RGBA").convert("RGB") if mode == "P" else image.convert(read)
    assert torch.equal(read_image(path), to_tensor(expected))


def test_a_cut_off_run_goes_on(pictures, oracles, tmp_path, monkeypatch):
    out, seen = tmp_path / "scores.csv", []
    real = module.read_image

    def read(path):
        seen.append(path.name)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(module, "read_image", read)
    options = [pictures, "--oracle", oracles[0], "--prompt", "a", "--batch-size", 2, "--out", out]
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        main(["score", *map(str, options), "--device", "cpu"])
    assert not out.exists()
    (journal,) = tmp_path.glob(".scores.csv.*.jsonl")
    scored = len(journal.read_text().splitlines())
    assert scored == 4
    journal.write_text(journal.read_text() + '["half a li')
    seen.clear()
    monkeypatch.setattr(module, "read_image", lambda path: (seen.append(path.name), real(path))[1])
    assert score(*options) == 0
    assert len(rows(out)) == 6 and len(seen) == 8 - scored
    again = tmp_path / "again.csv"
    assert score(*options[:-1], again) == 0
    assert rows(again) == rows(out)


def test_a_picture_that_was_replaced_is_scored_again(pictures, oracles, tmp_path, monkeypatch):
    write = module._write
    monkeypatch.setattr(module, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    options = [pictures, "--oracle", oracles[0], "--prompt", "a", "--out", tmp_path / "s.csv"]
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        main(["score", *map(str, options), "--device", "cpu"])
    (pictures / "0.png").write_bytes((pictures / "1.png").read_bytes())
    seen, real = [], module.read_image
    monkeypatch.setattr(module, "_write", write)
    monkeypatch.setattr(module, "read_image", lambda path: (seen.append(path.name), real(path))[1])
    assert score(*options) == 0
    assert sorted(seen) == ["0.png", "broken.png", "sixteen-bits.png"]
    scores = [float(row["clipscore"]) for row in rows(tmp_path / "s.csv")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3) and len(scores) == 6


def test_a_name_that_is_not_utf_8_is_skipped(pictures, oracles, tmp_path, monkeypatch, capsys):
    find = module.find_images
    monkeypatch.setattr(module, "find_images", lambda paths: (find(paths)[0] + [module.Path("photo\udcff.png")], {}))
    assert score(pictures, "--oracle", oracles[0], "--prompt", "a", "--out", tmp_path / "s.csv") == 0
    told = capsys.readouterr().out
    assert len(rows(tmp_path / "s.csv")) == 6 and "6 pictures scored, 3 skipped" in told
    assert r"skipped photo\udcff.png: its name is not UTF-8" in told


def test_prompts_from_lines_and_tables(pictures, oracles, tmp_path):
    for name in ("broken.png", "sixteen-bits.png"):
        (pictures / name).unlink()
    lines = tmp_path / "p.txt"
    lines.write_text("".join(f"prompt {i}\n" for i in range(6)), encoding="utf-8")
    table = tmp_path / "p.csv"
    table.write_text("File,Caption\n" + "".join(f'{i}.png,"prompt {i}"\n' for i in range(5, -1, -1)), encoding="utf-8")
    for file, out in ((lines, tmp_path / "a.csv"), (table, tmp_path / "b.csv")):
        assert score(pictures, "--oracle", oracles[0], "--prompts", file, "--out", out) == 0
    assert [row["prompt"] for row in rows(tmp_path / "a.csv")] == [f"prompt {i}" for i in range(6)]
    assert rows(tmp_path / "a.csv") == rows(tmp_path / "b.csv")


def test_syntax_of_prompts_is_not_scored_unless_that_is_asked_for(pictures, oracles, tmp_path, monkeypatch, capsys):
    prompt, texts = "a (red:1.4) star BREAK, {a|b} <lora:x:1>", ["a red star, {a|b}"]
    texts.append(prompt)
    expected = [load_oracle(oracles[0])(read_image(pictures / "0.png")[None], [text]).item() for text in texts]
    assert abs(expected[0] - expected[1]) > 0.01
    options = [pictures, "--oracle", oracles[0], "--prompt", prompt, "--out", tmp_path / "s.csv"]
    write = module._write
    monkeypatch.setattr(module, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert score(*options) and not (tmp_path / "s.csv").exists()
    monkeypatch.setattr(module, "_write", write)
    for switch, score_of_first in zip((["--literal-prompts"], []), reversed(expected), strict=True):
        capsys.readouterr()
        assert score(*options, *switch) == 0  # a journal that was left by the other reading is not taken up
        assert rows(tmp_path / "s.csv")[0]["prompt"] == prompt
        assert float(rows(tmp_path / "s.csv")[0]["clipscore"]) == pytest.approx(score_of_first, abs=2e-3)
        told = capsys.readouterr().out
        assert (
            told.count("note: syntax is taken off 1 of the prompts") == told.count("{a|b}', which are") == (not switch)
        )


def test_what_pil_does_not_decode_is_named_and_what_is_hidden_is_not(pictures, oracles, tmp_path, capsys):
    (pictures / "phone.heic").write_bytes(b"")
    (pictures / ".thumbnails").mkdir()
    (pictures / ".thumbnails" / "0.png").write_bytes((pictures / "0.png").read_bytes())
    assert score(pictures, "--oracle", oracles[0], "--prompt", "a", "--out", tmp_path / "s.csv") == 0
    told = capsys.readouterr().out
    assert len(rows(tmp_path / "s.csv")) == 6 and "6 pictures scored, 3 skipped" in told
    assert f"skipped {(pictures / 'phone.heic').as_posix()}: PIL does not decode .heic" in told


def request(paths, oracles, out, **change):
    return module.Request(paths=(paths,), oracles=oracles, out=out, **{"prompt": "a", "device": "cpu"} | change)


class Place:
    """A process's place among two, one after the other in this process."""

    count = 2

    def __init__(self, rank, results):
        self.rank, self.is_main, self.results, self.device = rank, rank == 1, results, torch.device("cpu")

    def gather(self, result):
        self.results.append(result)
        return self.results


def test_a_process_that_starts_late_loses_no_picture(pictures, oracles, tmp_path, monkeypatch):
    results, shown = [], []
    for rank in (0, 1):
        monkeypatch.setattr(module, "Processes", lambda _, rank=rank: Place(rank, results))
        out = module.score(
            request(pictures, oracles[:1], tmp_path / "s.csv"), lambda *at, rank=rank: shown.append(rank)
        )
    assert out.scored == 6 and len(out.skipped) == 2 and len(rows(tmp_path / "s.csv")) == 6
    assert set(shown) == {1}, "only the main process shows how far it is"


def test_rows_that_another_process_wrote_elsewhere_are_missed(pictures, oracles, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Processes", lambda _: Place(1, []))
    with pytest.raises(ValueError, match="4 pictures have no score, .*0.png the first"):
        module.score(request(pictures, oracles[:1], tmp_path / "s.csv"))
    assert not (tmp_path / "s.csv").exists()
    assert len(list(tmp_path.glob(".s.csv.*.jsonl"))) == 1, "what was scored is kept"


def test_names_with_glob_characters(pictures, oracles, tmp_path):
    out = tmp_path / "scores[1].csv"
    assert score(pictures, "--oracle", oracles[0], "--prompt", "a", "--out", out) == 0
    assert len(rows(out)) == 6 and not list(tmp_path.glob(".scores*"))


def test_whatever_a_decoder_raises_the_picture_is_skipped(pictures, oracles, tmp_path, monkeypatch, capsys):
    raised = {"0": struct.error("4 bytes"), "1": EOFError(), "2": KeyError("palette"), "3": IndexError("list")}
    real = module.read_image

    def read(path):
        if path.stem in raised:
            raise raised[path.stem]
        return real(path)

    monkeypatch.setattr(module, "read_image", read)
    assert score(pictures, "--oracle", oracles[0], "--prompt", "a", "--out", tmp_path / "s.csv") == 0
    assert len(rows(tmp_path / "s.csv")) == 2
    told = capsys.readouterr().out
    for name, error in raised.items():
        assert f"{name}.png: {error!r}" in told


class Chosen(Oracle):
    """Brightness, and what a prompt names instead."""

    family, unit, fingerprint, reads_prompts = "chosen", "", "f", True

    def __init__(self):
        self.network = torch.nn.Linear(1, 1)

    def prepare(self, images):
        return images.mean((1, 2, 3))

    def score_prepared(self, pixels, prompts):
        return torch.tensor([float(p) if p != "light" else x for x, p in zip(pixels.tolist(), prompts, strict=True)])


def test_a_picture_whose_score_is_no_number_is_skipped_alone(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "load_oracles", lambda *_: [Chosen()])
    table = tmp_path / "p.csv"
    prompts = {"0": "light", "1": "nan", "2": "light", "3": "-inf", "broken": "light", "sixteen-bits": "light"}
    prompts |= {"more/4": "7", "more/5": "light"}
    table.write_text("image,prompt\n" + "".join(f"{name}.png,{prompt}\n" for name, prompt in prompts.items()))
    assert score(pictures, "--oracle", "x", "--prompts", table, "--out", tmp_path / "s.csv") == 0
    found = {row["image"].rsplit("/")[-1]: float(row["chosen"]) for row in rows(tmp_path / "s.csv")}
    assert list(found) == ["0.png", "2.png", "4.png", "5.png"] and found["4.png"] == 7
    assert found["0.png"] == pytest.approx(read_image(pictures / "0.png").mean().item(), abs=1e-4)
    told = capsys.readouterr().out
    assert f"skipped {(pictures / '1.png').as_posix()}: chosen gave no number (NaN)" in told
    assert f"skipped {(pictures / '3.png').as_posix()}: chosen gave -inf" in told and "float32" in told
    assert "4 pictures scored, 4 skipped" in told and not list(tmp_path.glob(".s.csv*"))


def test_a_journal_belongs_to_oracle_encoder_and_dtype(pictures, small_clip, tmp_path, monkeypatch):
    head = small_files.write(small_files.head_tensors("layers.", 48), tmp_path / "head.safetensors")
    state = small_files.open_clip_network(True).state_dict()
    encoders = [small_clip[0], small_files.write(state, tmp_path / "other.safetensors")]
    monkeypatch.setattr(module, "_write", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    for encoder, dtype in ((0, "float32"), (0, "float32"), (1, "float32"), (0, "bfloat16")):
        given = {"encoders": (encoders[encoder],), "dtype": dtype}
        with pytest.raises(OSError, match="no space"):
            module.score(request(pictures, (head,), tmp_path / "s.csv", **given))
    assert len(list(tmp_path.glob(".s.csv.*.jsonl"))) == 3


def test_encoders_go_to_the_heads(pictures, oracles, small_clip, tmp_path, capsys):
    head = small_files.write(small_files.head_tensors("layers.", 48), tmp_path / "head.safetensors")
    (tmp_path / "b").mkdir()
    other = small_files.write(small_files.head_tensors("layers.", 48), tmp_path / "b" / "head.safetensors")
    options = [pictures, "--prompt", "a", "--out", tmp_path / "s.csv", "--oracle", oracles[0], "--oracle", head]
    assert score(*options, "--encoder", small_clip[0]) == 0
    oracle = load_oracle(head, encoder=small_clip[0])
    for row in rows(tmp_path / "s.csv"):
        alone = oracle(read_image(module.Path(row["image"]))[None], ["a"]).item()
        assert float(row["laion-aesthetic-v2"]) == pytest.approx(alone, abs=2e-3)
    assert score(*options, "--oracle", other, *["--encoder", small_clip[0]] * 2) == 0
    columns = list(rows(tmp_path / "s.csv")[0])[2:]
    assert score(*options[:1], *options[3:5], "--oracle", head, "--encoder", small_clip[0]) == 0
    assert {row["prompt"] for row in rows(tmp_path / "s.csv")} == {""}, "no prompt is needed, as none is read"
    assert columns == ["clipscore", "laion-aesthetic-v2 head", "laion-aesthetic-v2 head (2)"]
    capsys.readouterr()
    assert score(*options, "--oracle", other, "--encoder", small_clip[0]) == 2
    assert "1 --encoder for 2 heads" in (told := capsys.readouterr().err) and "oracle convert HEAD --encoder" in told
    nothing = small_files.write({"weight": torch.ones(1, 48), "bias": torch.ones(1)}, tmp_path / "nothing.safetensors")
    assert score(*options, "--oracle", nothing, "--encoder", small_clip[0]) == 2
    assert "nothing.safetensors is not an oracle: its tensors begin with bias" in capsys.readouterr().err
    assert score(*options[:-2], "--encoder", small_clip[0]) == 2
    assert "no image encoder is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "a", "--prompts", "x"], "either --prompt TEXT"),
        ([], "either --prompt TEXT"),
        (["--prompts", "missing.txt"], "no such prompt file"),
        (["--prompts", "two.txt"], "2 lines for 8 images"),
        (["--prompts", "bad.csv"], "no column prompt"),
        (["--prompts", "few.csv"], "no row for"),
        (["--prompt", "a", "--out", "x.xlsx"], "ends in .csv or .parquet"),
        (["--prompt", "a", "--batch-size", "0"], "expected at least 1"),
        (["--prompt", "a", "--family", "hpsv2", "--family", "hpsv2"], "2 --family for 1 --oracle"),
    ],
)
def test_wrong_requests_are_one_line(pictures, oracles, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    module.Path("two.txt").write_text("a\nb\n")
    module.Path("bad.csv").write_text("image,words\n0.png,a\n")
    module.Path("few.csv").write_text("image,prompt\n0.png,a\n")
    assert score(pictures, "--oracle", oracles[0], "--out", "out.csv", *options) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert not list(tmp_path.glob("*out.csv*"))


def test_parquet_holds_what_csv_does(pictures, oracles, tmp_path):
    from pyarrow.parquet import read_table

    out = tmp_path / "scores.parquet"
    options = ["--oracle", oracles[0], "--prompt", "a lighthouse, \u706f\u53f0"]
    assert score(pictures, *options, "--out", out) == 0 == score(pictures, *options, "--out", tmp_path / "s.csv")
    table = read_table(out)
    assert [str(kind) for kind in table.schema.types] == ["string", "string", "double"]
    assert [{**row, "clipscore": str(row["clipscore"])} for row in table.to_pylist()] == rows(tmp_path / "s.csv")
    for path in pictures.rglob("[0-9].png"):
        path.write_bytes(b"damaged")
    assert score(pictures, *options, "--out", out) == 0
    assert read_table(out).schema == table.schema and read_table(out).num_rows == 0
    assert not list(tmp_path.glob(".scores*"))


def test_parquet_says_what_it_needs(pictures, oracles, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert score(pictures, "--oracle", oracles[0], "--prompt", "a", "--out", tmp_path / "scores.parquet") == 2
    assert "pip install pyarrow" in capsys.readouterr().err and not list(tmp_path.glob("*scores*"))


def test_a_parquet_that_cannot_be_written_leaves_nothing_half(pictures, oracles, tmp_path, monkeypatch):
    import pyarrow.parquet

    def full(_, path):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(pyarrow.parquet, "write_table", full)
    with pytest.raises(OSError, match="no space"):
        module.score(request(pictures, oracles[:1], tmp_path / "s.parquet"))
    assert [path.suffix for path in tmp_path.glob("*s.parquet*")] == [".jsonl"]


def test_two_processes_write_the_same_table(pictures, oracles, tmp_path):
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    options = [pictures, "--oracle", oracles[0], "--prompt", "a", "--batch-size", "2"]
    assert score(*options, "--out", one) == 0
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "understudy.cli"]
    done = subprocess.run(
        [*launch, "score", *map(str, options), "--device", "cpu", "--out", str(two)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("broken.png") == 1
    for a, b in zip(rows(one), rows(two), strict=True):
        assert a["image"] == b["image"] and float(a["clipscore"]) == pytest.approx(float(b["clipscore"]), abs=1e-3)


def test_a_folder_in_the_table_s_place_is_named_before_anything_is_scored(pictures, oracles, tmp_path, capsys):
    (tmp_path / "s.csv").mkdir()
    assert score(pictures, "--oracle", oracles[0], "--prompt", "a", "--out", tmp_path / "s.csv") == 2
    assert "s.csv is a folder; name the table" in capsys.readouterr().err
    assert not list(tmp_path.glob(".s.csv*")), "no journal stays behind"

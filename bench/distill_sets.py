"""The three sets of bench/distill.py: pictures, captions and classes, fetched where they are not at hand.

Fashion-MNIST is a Debian package, the emoji are npm packages, and the scenes are drawn by the demo family.
"""

import gzip
import io
import json
import shutil
import subprocess
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from understudy.demo_family.render import render
from understudy.demo_family.scenes import COLORS, SHAPES, Scene
from understudy.distill_train.data.randomness import generator
from understudy.distill_train.demo.scenes import draw_scenes, tokens_for
from understudy.files import read_header, save_tensors

SIDE = 32  # pixels of Fashion-MNIST and of the emoji
FASHION = "dataset-fashion-mnist"
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLOTHES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
EMOJI = {  # npm package: version
    "emojibase-data": "17.0.0",
    "@lobehub/fluent-emoji-3d": "1.1.0",
    "@iconify-json/fluent-emoji-flat": "1.2.6",
    "emoji-datasource-google": "16.0.0",
}
WORDS = 8  # tokens of a caption
TRAIN_SCENES, TEST_SCENES = 20_000, 2_048


@dataclass(frozen=True)
class Part:
    """``pixels`` [N, C, H, W] uint8, ``tokens`` [N, L], ``classes`` [N, K] bool: one or several for each picture."""

    pixels: Tensor
    tokens: Tensor
    classes: Tensor
    scenes: tuple[Scene, ...] = ()

    def images(self, at: Tensor | slice = slice(None)) -> Tensor:
        """Float32 in [0, 1], three channels."""
        images = self.pixels[at].float() / 255
        return images.expand(-1, 3, -1, -1)

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Pictures:
    """``words``: the token id of each; 0 is no word. Empty for the scenes, of which the demo family reads the texts."""

    name: str
    train: Part
    test: Part
    words: dict[str, int]


def fashion(folder: Path) -> Pictures:
    """60,000 and 10,000 grey pictures of ten kinds of clothing, with a black margin of two pixels."""
    source = FASHION_FOLDER if FASHION_FOLDER.is_dir() else _fetched_deb(folder)
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = _idx(source / f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
        labels = torch.from_numpy(_idx(source / f"{prefix}-labels-idx1-ubyte.gz", 8).astype(np.int64))
        pixels = torch.nn.functional.pad(torch.from_numpy(images), (2, 2, 2, 2))
        parts[part] = Part(pixels, labels[:, None] + 1, torch.nn.functional.one_hot(labels, 10).bool())
    return Pictures("fashion", **parts, words={name: i + 1 for i, name in enumerate(CLOTHES)})


def emoji(folder: Path) -> Pictures:
    """Emoji in three styles with names; a tenth of the concepts, in all their styles, is the test part."""
    packages = {name: _fetched_npm(name, version, folder) for name, version in EMOJI.items()}
    concepts = json.loads(_member(packages["emojibase-data"], "package/en/data.json"))
    concepts = {_plain(c["hexcode"]): c for c in concepts if "group" in c}
    cached = folder / "emoji.safetensors"
    if not cached.exists():
        found = {
            "3d": _drawn_files(packages["@lobehub/fluent-emoji-3d"], "package/assets/", concepts),
            "flat": _drawn_svgs(packages["@iconify-json/fluent-emoji-flat"], concepts),
            "noto": _drawn_files(packages["emoji-datasource-google"], "package/img/google/64/", concepts),
        }
        rows = [(code, style, pixels) for style, pictures in found.items() for code, pixels in sorted(pictures.items())]
        pixels = torch.from_numpy(np.stack([pixels for *_, pixels in rows])).permute(0, 3, 1, 2).contiguous()
        save_tensors({"pixels": pixels}, cached, {"names": json.dumps([[code, style] for code, style, _ in rows])})
    pixels, names = load_file(cached)["pixels"], json.loads(read_header(cached).metadata["names"])
    captions = [[style, *concepts[code]["label"].lower().replace(":", "").split()] for code, style in names]
    counts = Counter(word for caption in captions for word in caption)
    ids = {word: i + 1 for i, word in enumerate(sorted(counts))}
    tokens = torch.zeros(len(captions), WORDS, dtype=torch.long)
    for row, caption in zip(tokens, captions, strict=True):
        row[: len(caption[:WORDS])] = torch.tensor([ids[word] for word in caption[:WORDS]])
    groups = torch.tensor([concepts[code]["group"] for code, _ in names])
    classes = torch.nn.functional.one_hot(groups, 10).bool()
    order = sorted({code for code, _ in names})
    held_out = {code for code in order if int(generator("emoji", code).initial_seed()) % 10 == 0}
    in_test = torch.tensor([code in held_out for code, _ in names])
    parts = [Part(pixels[where], tokens[where], classes[where]) for where in (~in_test, in_test)]
    return Pictures("emoji", *parts, words=ids)


def scenes(folder: Path) -> Pictures:
    """Rendered scenes of the demo family's training and test splits; a thing's class is its color and shape."""
    return Pictures("scenes", _scenes("train", TRAIN_SCENES), _scenes("test", TEST_SCENES), words={})


def _scenes(split: str, count: int) -> Part:
    g = generator("bench", "distill", split)
    drawn = draw_scenes(count, g, split)
    pixels = torch.cat([(render(drawn[i : i + 256], g) * 255).round().byte() for i in range(0, count, 256)])
    classes = torch.zeros(count, len(COLORS), len(SHAPES), dtype=torch.bool)
    for row, scene in zip(classes, drawn, strict=True):
        for thing in scene.things:
            row[list(COLORS).index(thing.color), SHAPES.index(thing.shape)] = True
    return Part(pixels, tokens_for(drawn), classes.flatten(1), tuple(drawn))


SETS = {"fashion": fashion, "emoji": emoji, "scenes": scenes}


def _idx(path: Path, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header).copy()


def _fetched_deb(folder: Path) -> Path:
    """The data of the Debian package, which need not be installed."""
    target = folder / FASHION
    if not target.is_dir():
        _run(["apt-get", "download", FASHION], folder, f"install the Debian package {FASHION}")
        (package,) = folder.glob(f"{FASHION}_*.deb")
        partial = folder / f"{FASHION}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        _run(["dpkg-deb", "-x", str(package), str(partial)], folder, f"install the Debian package {FASHION}")
        partial.rename(target)
    return target / FASHION_FOLDER.relative_to("/")


def _fetched_npm(name: str, version: str, folder: Path) -> Path:
    path = folder / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not path.exists():
        _run(["npm", "pack", f"{name}@{version}"], folder, "install npm, or put that file there yourself")
    return path


def _run(command: list[str], folder: Path, otherwise: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        raise SystemExit(f"{' '.join(command)} in {folder} failed: {reason}; {otherwise}") from error


def _member(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as tar:
        return tar.extractfile(name).read()


def _plain(code: str) -> str:
    """A code by which the packages' spellings agree: upper case, without the variation selector."""
    return "-".join(part for part in code.upper().split("-") if part != "FE0F")


def _drawn_files(archive: Path, prefix: str, concepts) -> dict[str, np.ndarray]:
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            code = _plain(Path(member.name).stem) if member.name.startswith(prefix) else ""
            if code in concepts:
                found[code] = _on_white(Image.open(io.BytesIO(tar.extractfile(member).read())))
    return found


def _drawn_svgs(archive: Path, concepts) -> dict[str, np.ndarray]:
    from resvg_py import svg_to_bytes

    icons = json.loads(_member(archive, "package/icons.json"))["icons"]
    names = json.loads(_member(archive, "package/chars.json"))
    found = {}
    for code, name in names.items():
        if _plain(code) in concepts and name in icons:
            svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{icons[name]["body"]}</svg>'
            picture = svg_to_bytes(svg_string=svg, width=2 * SIDE, height=2 * SIDE)
            found[_plain(code)] = _on_white(Image.open(io.BytesIO(bytes(picture))))
    return found


def _on_white(picture: Image.Image) -> np.ndarray:
    picture = picture.convert("RGBA")
    page = Image.new("RGBA", picture.size, "white")
    page.alpha_composite(picture)
    return np.array(page.convert("RGB").resize((SIDE, SIDE), Image.LANCZOS))

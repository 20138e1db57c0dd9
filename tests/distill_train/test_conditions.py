"""Conditions: each kind by hand, and from the folder or the shards to a batch."""

import logging
import re
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from understudy.distill_train.config import RecipeError
from understudy.distill_train.data import make_source
from understudy.distill_train.data.conditions import (
    CONDITIONS,
    Canny,
    Condition,
    Depth,
    Downscaled,
    Folder,
    Grey,
    Masked,
    extras_of,
)
from understudy.distill_train.data.randomness import generator

from .test_data import BATCH, Teacher, recipe, settled, steps

WHITE = torch.ones(3, 16, 16)


def made(condition, pixels, seed=0):
    return condition.make(pixels, generator(seed))


def test_a_kind_that_makes_nothing_cannot_be_made():
    class Half(Condition):
        pass

    with pytest.raises(TypeError, match="abstract.*make"):
        Half()


def test_canny_finds_the_edge_of_a_square_and_nothing_in_a_plain_picture():
    pixels = torch.zeros(3, 32, 32)
    pixels[:, 8:24, 8:24] = 1
    edges = made(Canny(kind="canny"), pixels)["condition"]
    assert edges.shape == (1, 32, 32) and edges.dtype == torch.uint8 and set(edges.unique().tolist()) == {0, 255}
    rows, columns = (edges[0] > 0).nonzero(as_tuple=True)
    assert rows.min() in (7, 8) and rows.max() in (23, 24) and columns.min() in (7, 8) and columns.max() in (23, 24)
    assert not edges[0, 10:22, 10:22].any() and not made(Canny(kind="canny"), WHITE)["condition"].any()
    with pytest.raises(ValueError, match="expected at least low"):
        Canny(kind="canny", low=0.5, high=0.2)


def test_downscaled_loses_what_is_finer_than_its_factor():
    board = (torch.arange(16)[:, None] + torch.arange(16)[None]).remainder(2).float().expand(3, -1, -1)
    grey = made(Downscaled(kind="downscaled", factor=4), board)["condition"]
    assert grey.shape == (3, 16, 16) and (grey.float() - 127.5).abs().max() < 8
    halves = torch.cat([torch.zeros(3, 16, 8), torch.ones(3, 16, 8)], dim=2)
    kept = made(Downscaled(kind="downscaled", factor=4), halves)["condition"].float()
    assert kept[..., 0].max() < 20 and kept[..., -1].min() > 235 and kept[0, 0, 7:9].max() < 200


@pytest.mark.parametrize("shapes", ["boxes", "brushes", "both"])
def test_masked_hides_a_share_and_tells_it_apart_from_black(shapes):
    condition = Masked(kind="masked", shapes=shapes, least=0.2, most=0.4)
    pixels = torch.rand(3, 32, 48, generator=generator(1))
    pixels[:, :2] = 0
    rows = [made(condition, pixels, seed) for seed in range(8)]
    extras = extras_of(rows)
    mask, hint = extras["mask"], extras["condition"]
    assert mask.shape == (8, 1, 32, 48) and set(mask.unique().tolist()) == {0, 1} and hint.shape == (8, 3, 32, 48)
    hidden = mask.expand(-1, 3, -1, -1) > 0
    assert (hint[hidden] == -1).all()
    torch.testing.assert_close(hint[~hidden], pixels.expand(8, -1, -1, -1)[~hidden], rtol=0, atol=0.502 / 255)
    shares = mask.mean((1, 2, 3))
    assert shares.min() >= 0.2 and shares.max() < 0.75 and len(set(shares.tolist())) > 4
    again = made(condition, pixels, 3)
    assert torch.equal(again["mask"], rows[3]["mask"]) and not torch.equal(rows[2]["mask"], rows[3]["mask"])


def test_grey_is_how_light_a_colour_is():
    colours = torch.eye(3)[:, :, None]  # red, green and blue, one below the other
    hint = extras_of([made(Grey(kind="grey"), colours)])["condition"]
    assert hint.shape == (1, 3, 3, 1)
    torch.testing.assert_close(hint[0, :, :, 0], torch.tensor([0.299, 0.587, 0.114]).expand(3, 3), rtol=0, atol=0.002)


def test_depth_is_spread_over_the_whole_range():
    ramp = torch.linspace(0.2, 0.3, 11).expand(1, 4, 11)
    near = made(Depth(kind="depth", path="x"), ramp)["condition"]
    assert near[0, 0, [0, 2, -1]].tolist() == [0, 51, 255]
    far = made(Depth(kind="depth", path="x", invert=True), ramp)["condition"]
    assert far[0, 0, [0, -1]].tolist() == [255, 0]
    assert not made(Depth(kind="depth", path="x"), torch.full((1, 4, 4), 0.5))["condition"].any()


def test_a_picture_of_a_folder_is_as_it_is():
    pixels = torch.rand(3, 4, 4).mul(255).round().div(255)
    torch.testing.assert_close(extras_of([made(Folder(kind="folder", path="x"), pixels)])["condition"][0], pixels)


@pytest.fixture
def pictures(tmp_path):
    """Four pictures of 64 x 32, light on the right, in two folders; depth, and hints that mark the picture's middle."""
    rgb = np.zeros((32, 64, 3), np.uint8)
    rgb[:, 32:] = 255
    hint = np.zeros((32, 64, 3), np.uint8)
    hint[:, 16:48] = 255  # what remains of a square cut out of the middle
    for number in range(4):
        path = tmp_path / "pictures" / str(number % 2) / f"p{number}.png"
        for folder in ("pictures", "hints", "depth"):
            (tmp_path / folder / str(number % 2)).mkdir(parents=True, exist_ok=True)
        rgb[0, 0] = number
        Image.fromarray(rgb).save(path)
        path.with_suffix(".txt").write_text("red")
        Image.fromarray(hint).save(tmp_path / "hints" / str(number % 2) / f"p{number}.webp", lossless=True)
        deep = np.tile(np.linspace(1000, 1200, 64).astype(np.uint16), (32, 1))
        Image.fromarray(deep).save(tmp_path / "depth" / str(number % 2) / f"p{number}.png")
    return tmp_path


@pytest.fixture
def make(pictures):
    """A source: ``make(condition, teacher, kind)``."""
    shards = pictures / "a.tar"
    with tarfile.open(shards, "w") as tar:
        for path in sorted((pictures / "pictures").rglob("*.*")):
            tar.add(path, path.relative_to(pictures / "pictures").as_posix())

    def make(condition, teacher=None, kind="folder", **more):
        data = {
            "kind": kind,
            "path": str(pictures / "pictures" if kind == "folder" else shards),
            "max_aspect": 1,
            **more,
        }
        if condition is not None:
            data["condition"] = condition
        return make_source(data, teacher or Teacher(), recipe(), pictures / "cache")

    return make


def condition_of(kind, pictures):
    paths = {"folder": {"path": str(pictures / "hints")}, "depth": {"path": str(pictures / "depth")}}
    return {"kind": kind, **paths.get(kind, {})}


@pytest.mark.parametrize("source", ["folder", "webdataset"])
@pytest.mark.parametrize("kind", CONDITIONS)
def test_every_kind_comes_with_its_picture(make, pictures, kind, source):
    condition = condition_of(kind, pictures)
    batches = steps(make(condition, kind=source), 4)
    for batch in batches:
        hint = batch.extras["condition"]
        assert hint.shape == (BATCH, 3, 32, 32) and hint.dtype == torch.float32 and hint.max() <= 1
        assert (
            hint.min() >= (-1 if kind == "masked" else 0)
            and (hint.max() > 0)
            and set(batch.extras) == ({"condition", "mask"} if kind == "masked" else {"condition"})
        )
    if kind == "folder":  # the middle of the hint, as of the picture
        assert (batches[0].extras["condition"] == 1).all()
        assert batches[0].latents[:, 0, :, :2].max() < 0.1 and batches[0].latents[:, 0, :, 2:].min() > 0.9
    if kind == "depth":  # 16 bits: 8 would leave one step of grey
        assert len(batches[0].extras["condition"][0, 0, 0].unique()) > 20
    again = steps(make(condition, Teacher(works=False), source), 4)
    for one, other in zip(batches, again, strict=True):
        assert one.names == other.names
        assert all(torch.equal(one.extras[key], other.extras[key]) for key in one.extras)


def test_masks_belong_to_their_pictures(make):
    source = make({"kind": "masked"})
    masks = {name: mask for b in steps(source, 3) for name, mask in zip(b.names, b.extras["mask"], strict=True)}
    assert len({tuple(mask.flatten().tolist()) for mask in masks.values()}) == 4
    other = make({"kind": "masked", "seed": 1}).batch(0, range(BATCH))
    assert not any(torch.equal(mask, masks[name]) for name, mask in zip(other.names, other.extras["mask"], strict=True))


@pytest.mark.parametrize("source", ["folder", "webdataset"])
def test_conditions_are_part_of_what_a_run_learns_from_and_leave_others_alone(make, pictures, source):
    plain = make(None, kind=source)
    assert plain.batch(0, range(BATCH)).extras == {}
    seen = {plain.fingerprint}
    for condition in ({"kind": "grey"}, {"kind": "downscaled"}, {"kind": "downscaled", "factor": 8}):
        conditioned = Teacher()
        seen.add(make(condition, conditioned, source).fingerprint)
        assert conditioned.encoded == 0  # its latents are those of the run without
    hints = condition_of("folder", pictures)
    seen.add(make(hints, kind=source).fingerprint)
    Image.new("RGB", (64, 32), "blue").save(pictures / "hints" / "0" / "p0.webp", lossless=True)
    seen.add(make(hints, kind=source).fingerprint)
    assert len(seen) == 6
    assert make(None, Teacher(works=False), source).fingerprint == plain.fingerprint


def test_a_run_without_conditions_is_known_as_before(make):
    """Its digest and the names of its files in the cache, as they were before there were any."""
    source = make(None)
    items = [item for group in source.by_size for item in group]
    cache = source.encoder.cache
    assert source.fingerprint == f"4 samples, {cache.key(*(part for i in items for part in (i.latents, i.caption)))}"
    picture = next(item for item in items if item.name.endswith("p2.png"))
    with open(picture.name, "rb") as file:
        assert picture.latents == cache.key(file.read(), 32, 32)


def test_what_has_not_changed_is_not_read_again(make, pictures, monkeypatch):
    settled(pictures)
    hints = condition_of("folder", pictures)
    make(hints)
    read = []
    monkeypatch.setattr("understudy.distill_train.data.encode.opened", lambda data, **how: read.append(data))
    make(hints, Teacher(works=False))
    assert not read


@pytest.mark.parametrize("source", ["folder", "webdataset"])
def test_a_picture_whose_condition_is_missing_broken_or_of_another_shape_is_named_and_skipped(
    make, pictures, source, caplog
):
    (pictures / "hints" / "0" / "p0.webp").unlink()
    (pictures / "hints" / "1" / "p1.webp").write_bytes(b"RIFF")
    Image.new("RGB", (64, 64)).save(pictures / "hints" / "0" / "p2.webp")
    with caplog.at_level(logging.WARNING):
        assert len(make(condition_of("folder", pictures), kind=source)) == 1
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    for name, said in (("p0", "no condition for it in"), ("p1", "its condition cannot"), ("p2", "64x64 .*other shape")):
        assert any(name in line and re.search(said, line) for line in lines)


def test_a_condition_of_another_size_has_the_picture_s_crop(make, pictures):
    for path in (pictures / "hints").rglob("*.webp"):
        with Image.open(path) as image:
            image.resize((128, 64), Image.Resampling.NEAREST).save(path, lossless=True)
    hint = make(condition_of("folder", pictures)).batch(0, range(BATCH)).extras["condition"]
    assert hint[..., 2:-2].min() > 0.98


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"kind": "sketch"}, "condition: .*'canny', 'downscaled'"),
        ("outline", "condition: .*of pictures it is a table; say data.condition.kind = outline"),
        ({"kind": "depth"}, "condition.depth.path: Field required"),
        ({"kind": "masked", "most": 0.05}, "expected at least least"),
        ({"kind": "grey", "factor": 2}, "condition.grey.factor"),
    ],
)
def test_wrong_conditions_are_named(make, condition, said):
    with pytest.raises(RecipeError, match=said):
        make(condition)


def test_a_folder_of_conditions_must_be_there_and_be_clear(make, pictures):
    with pytest.raises(FileNotFoundError, match="data.condition.path .*nowhere: no such folder"):
        make({"kind": "folder", "path": str(pictures / "nowhere")})
    Image.new("RGB", (64, 32)).save(pictures / "hints" / "0" / "p0.png")
    with pytest.raises(RecipeError, match="are both the condition of 0/p0; keep one"):
        make(condition_of("folder", pictures))

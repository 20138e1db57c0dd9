"""Pictures on disk: which are found, and how they are read."""

import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, PngImagePlugin
from understudy.pipelines.images import find_images, opened, read_image, suffixes


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def test_folders_are_listed_by_what_pil_decodes_and_without_hidden_files(tmp_path):
    seen = ["1.PNG", "2.jfif", "3.avif", "10.jp2", "a/2.apng", "a/10.webp", "b.mpo", "c.tiff", "d.ico"]
    left = ["x.heic", "x.jxl", "x.svg", "x.eps", "x.wmf"]
    hidden = [".ipynb_checkpoints/1-checkpoint.png", "._1.png", ".thumbnails/1.png", "a/@eaDir/1.png", ".cache/x/1.png"]
    for name in [*seen, *left, *hidden, "notes.txt", "film.mpeg", "table.csv"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([tmp_path])
    assert [path.relative_to(tmp_path).as_posix() for path in found.images] == seen
    assert {path.name for path in found.left_out} == set(left)
    assert found.left_out[tmp_path / "x.heic"] == "PIL does not decode .heic"
    assert find_images([tmp_path / ".cache"]).images == [tmp_path / ".cache" / "x" / "1.png"], "named, it is not hidden"
    assert find_images([tmp_path / "._1.png"]).images == [tmp_path / "._1.png"]
    elsewhere = tmp_path.with_name("elsewhere")
    elsewhere.mkdir()
    (elsewhere / "1.png").touch()
    (tmp_path / "more").symlink_to(elsewhere)
    linked = find_images([tmp_path])
    assert linked.images == found.images and "link to a folder" in linked.left_out[tmp_path / "more"]
    assert find_images([tmp_path / "more"]).images == [tmp_path / "more" / "1.png"]
    (tmp_path / "more").unlink()
    for path in found.images:
        path.unlink()
    with pytest.raises(ValueError, match=r"no pictures in .*; 5 left out: .*\(PIL does not decode"):
        find_images([tmp_path])


def picture(width=64, height=48):
    small = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def saved(kind, **options):
    data = io.BytesIO()
    picture().save(data, kind, **options)
    return data.getvalue()


@pytest.mark.parametrize(
    "kind, suffix",
    [
        ("AVIF", ".avif"),
        ("JPEG", ".jfif"),
        ("JPEG2000", ".jp2"),
        ("PNG", ".apng"),
        ("WEBP", ".webp"),
        ("TIFF", ".tif"),
        ("BMP", ".bmp"),
        ("GIF", ".gif"),
        ("TGA", ".tga"),
        ("PPM", ".ppm"),
        ("MPO", ".mpo"),
        ("ICO", ".ico"),
        ("PCX", ".pcx"),
    ],
)
def test_whole_pictures_are_read_as_pil_does_and_cut_ones_refused(tmp_path, kind, suffix):
    assert suffix in suffixes()
    path = write(tmp_path, f"a{suffix}", saved(kind))
    with Image.open(path) as image:
        expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255
    assert torch.equal(read_image(path), expected)
    for part in (0.3, 0.6, 0.95):
        cut = write(tmp_path, f"cut{suffix}", path.read_bytes()[: int(part * path.stat().st_size)])
        with pytest.raises((OSError, SyntaxError, ValueError, EOFError)):
            read_image(cut)


@pytest.mark.parametrize(("content", "said"), [(b"", "it is empty"), (b"<html>", "PIL knows no picture in it")])
def test_what_is_no_picture_is_said_in_words(tmp_path, content, said):
    with pytest.raises(ValueError, match=f"^{said}$"):
        read_image(write(tmp_path, "a.png", content))


def test_a_png_may_hold_texts_and_profiles_of_any_size(tmp_path):
    plain = read_image(write(tmp_path, "a.png", saved("PNG")))
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 2_000_000, zip=True)
    text.add_itxt("translated", "y" * 2_000_000, lang="de", tkey="Text", zip=True)
    text.add_text("kept", "z" * 2000, zip=True)
    large = saved("PNG", pnginfo=text, icc_profile=bytes(2_000_000))
    end = large.rindex(b"\0\0\0\0IEND")
    content = b"late\0\0" + zlib.compress(bytes(2_000_000))
    late = len(content).to_bytes(4, "big") + b"zTXt" + content + zlib.crc32(b"zTXt" + content).to_bytes(4, "big")
    for data in (large, large[:end] + late + large[end:]):
        with pytest.raises(ValueError, match="too large"), Image.open(io.BytesIO(data)) as image:
            image.load()
        assert torch.equal(read_image(write(tmp_path, "b.png", data)), plain)
        with opened(data) as image:
            image.load()
            assert image.info == {"kept": "z" * 2000}
    with pytest.raises(OSError, match="truncated"):
        read_image(write(tmp_path, "c.png", large[: large.index(b"IDAT") + 200]))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_of_an_animated_picture_the_first_frame_is_read(tmp_path):
    first = picture()
    others = [Image.new("RGB", first.size, colour) for colour in ("red", "blue")]
    for kind in ("PNG", "WEBP"):
        data = saved(kind, save_all=True, append_images=others, lossless=True)
        with Image.open(io.BytesIO(data)) as image:
            assert image.n_frames == 3
        assert torch.equal(
            read_image(write(tmp_path, "a.png", data)), torch.from_numpy(np.array(first)).permute(2, 0, 1) / 255
        )

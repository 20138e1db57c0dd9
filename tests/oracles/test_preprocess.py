"""From 8-bit pictures of any size and mode to the network's input, against each package's own way through PIL."""

import copy

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import transforms
from torchvision.transforms import functional
from understudy.oracles import base, load_oracle
from understudy.oracles.preprocess import resized

from . import small_files

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SIZES = [(64, 64), (64, 2048), (2048, 64), (333, 777), (1024, 1023), (225, 223), (100, 61), (70, 64)]
SIZES += [(20, 17), (20, 64), (9, 31), (32, 32)]  # the networks here are 32 wide, so that these are enlarged
SIZES += [(5000, 8), (8, 5000)]


def picture(width, height, mode="RGB", opaque=False):
    """A smooth picture with fine detail and hard edges on it; so is its alpha, unless that is opaque."""
    g = np.random.default_rng(width * 7 + height)
    y, x = np.mgrid[0:height, 0:width]
    channels = []
    for _ in range({"RGB": 3, "RGBA": 4, "L": 1, "LA": 2}[mode]):
        a, b, c = g.uniform(2, 40, 3)
        wave = np.sin(x / a) + np.cos(y / b) + 2 * ((x + y) % (3 * c) < c) + g.normal(0, 0.2, (height, width))
        channels.append((wave - wave.min()) / np.ptp(wave) * 255)
    if opaque:
        channels[-1][:] = 255
    pixels = np.stack(channels, axis=-1).round().astype(np.uint8)
    return Image.fromarray(pixels.squeeze(), mode)


def cutout(width, height):
    """A thing on a transparent ground, as background removers make it: alpha is 0 or 255, with colours under both."""
    image = picture(width, height, "RGBA")
    image.putalpha(image.getchannel("A").point(lambda level: 255 * (level > 128)))
    return image


def as_tensor(image):
    return functional.to_tensor(image.convert("RGBA" if "A" in image.mode else "RGB"))[None]


def by_pil(image, width, height):
    """PIL's bicubic, across and then down, as every Pillow before 12.2 did; later ones pick the order by size.

    Colours are weighed by alpha once for both, as PIL does within one call.
    """
    if image.size == (width, height):
        return image
    weighed = image.convert({"RGBA": "RGBa", "LA": "La"}.get(image.mode, image.mode))
    resized = weighed.resize((width, image.height), Image.BICUBIC).resize((width, height), Image.BICUBIC)
    return resized.convert(image.mode)


def shorter_side(image, size):
    short = min(image.size)
    return by_pil(image, *(int(size * side / short) for side in image.size))


def clip_way(image, size):
    """OpenAI's CLIP, OpenCLIP and ImageReward, which drop alpha and widen grey at the end."""
    image = functional.center_crop(shorter_side(image, size), size)
    return functional.normalize(functional.to_tensor(image.convert("RGB")), *CLIP)


def transformers_way(image, size):
    """transformers' CLIPImageProcessor of the time, which went through PIL."""
    image = shorter_side(image.convert("RGB"), size)
    left, top = ((side - size) // 2 for side in image.size)
    image = image.crop((left, top, left + size, top + size))
    return functional.normalize(functional.to_tensor(image), *CLIP)


def hps_way(image, size):
    pixels = functional.to_tensor(image.convert("RGB"))
    scale = size / max(pixels.shape[1:])
    shape = [max(1, round(side * scale)) for side in pixels.shape[1:]]  # the package fails where none is left
    for now in ([shape[0], image.width], shape):  # in one call torch makes another column where a single one is left
        pixels = functional.resize(pixels, now, transforms.InterpolationMode.BICUBIC, antialias=True)
    down, right = size - shape[0], size - shape[1]
    pixels = functional.pad(pixels, [right // 2, down // 2, right - right // 2, down - down // 2])
    return functional.normalize(pixels, *CLIP)


def siglip_way(image, size):
    pixels = functional.to_tensor(by_pil(image.convert("RGB"), size, size))
    return (pixels - 0.5) / 0.5


WAYS = {
    "clipscore": clip_way,
    "clipscore in transformers' layout": transformers_way,
    "hpsv2.1": hps_way,
    "pickscore": transformers_way,
    "imagereward": clip_way,
    "laion-aesthetic-v2": clip_way,
    "aesthetic-v2.5": siglip_way,
}


@pytest.fixture(scope="module")
def oracles(tmp_path_factory, small_clip):
    files = small_files.write_families(tmp_path_factory.mktemp("oracles"))
    loaded = {family: load_oracle(path, family, encoder=encoder) for family, (path, encoder) in files.items()}
    return loaded | {"clipscore in transformers' layout": load_oracle(small_clip[0], "clipscore")}


@pytest.mark.parametrize("family", WAYS)
@pytest.mark.parametrize("size", SIZES)
def test_prepared_pixels_are_the_package_s_own(oracles, family, size):
    oracle, image = oracles[family], picture(*size)
    expected = WAYS[family](image, 32)
    prepared = oracle.prepare(as_tensor(image))[0]
    torch.testing.assert_close(prepared, expected, atol=1e-5, rtol=0)


def test_resizing_is_pil_s_to_the_bit():
    g = np.random.default_rng(0)
    for _ in range(40):
        width, height, new_width, new_height = g.integers(1, 400, 4).tolist()
        image = Image.fromarray(g.integers(0, 256, (height, width, 3), dtype=np.uint8))
        expected = functional.pil_to_tensor(by_pil(image, new_width, new_height))[None]
        assert torch.equal(resized(as_tensor(image), new_height, new_width).mul(255).round().byte(), expected)


def goes_down_first(old, new):
    """Whether the installed Pillow takes the passes of a resize the other way round than those before 12.2."""
    (width, height), (new_width, new_height) = old, new
    version = tuple(map(int, PIL.__version__.split(".")[:2]))
    if version >= (13, 0):
        return height - new_height > max(0, 2 * (width - new_width))
    return version >= (12, 2) and height > 100 * width and new_height < height


def test_which_pillow_is_followed():
    """One call of any Pillow gives our levels to the bit, but for the pictures whose passes a later one turns round."""
    g, turned = np.random.default_rng(1), []
    sizes = [g.integers(1, 300, 4).tolist() for _ in range(30)]
    for width, height, new_width, new_height in [*sizes, (3, 700, 40, 90), (2, 500, 32, 200), (64, 300, 32, 32)]:
        old, new = (width, height), (new_width, new_height)
        image = Image.fromarray(g.integers(0, 256, (height, width, 3), dtype=np.uint8))
        ours = resized(as_tensor(image), new_height, new_width)[0].mul(255).round().byte()
        once = image.resize(new, Image.BICUBIC)
        if not goes_down_first(old, new):
            assert torch.equal(ours, functional.pil_to_tensor(once)), (old, new)
            continue
        down, across = (
            image.resize((width, new_height), Image.BICUBIC),
            image.resize((new_width, height), Image.BICUBIC),
        )
        assert once == down.resize(new, Image.BICUBIC), (old, new)
        assert torch.equal(ours, functional.pil_to_tensor(across.resize(new, Image.BICUBIC))), (old, new)
        turned.append(bool((ours != functional.pil_to_tensor(once)).any()))
    assert any(turned) == goes_down_first((3, 700), (40, 90)), "or it would not matter which Pillow is followed"


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = [each for each in (result if isinstance(result, (tuple, list)) else [result]) if torch.is_tensor(each)]
        self.bytes = max([self.bytes, *(each.untyped_storage().nbytes() for each in made)])
        return result


@pytest.mark.parametrize("family", ["clipscore", "pickscore", "hpsv2.1", "aesthetic-v2.5", "demo"])
@pytest.mark.parametrize("size", [(5000, 8), (8, 5000), (4000, 64)])
def test_a_strip_costs_no_more_than_its_own_size(oracles, family, size):
    """Whole, it would be resized to 20000 x 32 pixels, by products with hundreds of millions of factors."""
    image = as_tensor(picture(*size))
    with Largest() as largest:
        oracles[family].prepare(image)
    assert largest.bytes < 4 * image.nbytes + 2**22, f"a tensor of {largest.bytes / 2**20:.0f} MiB"


@pytest.mark.parametrize("family", WAYS)
def test_scores_agree_with_the_way_through_pil(oracles, family):
    """Within half a percent of the range of the scores, on all shapes and modes."""
    oracle, pictures = oracles[family], [picture(*size) for size in SIZES]
    pictures += [picture(300, 200, "RGBA", opaque=True), picture(200, 300, "LA", opaque=True), picture(200, 300, "L")]
    pictures += [picture(300, 200, "RGBA"), picture(200, 300, "LA"), picture(21, 25, "RGBA"), cutout(300, 200)]
    prompts = ["a small red star"] * len(pictures)
    with torch.no_grad():
        expected = oracle.score_prepared(torch.stack([WAYS[family](image, 32) for image in pictures]), prompts)
    scores = torch.cat([oracle(as_tensor(image), prompts[:1]) for image in pictures])
    spread = expected.max() - expected.min()
    assert spread > 0.01
    assert (scores - expected).abs().max() < 0.005 * spread


@pytest.mark.parametrize("family", WAYS)
@pytest.mark.parametrize("make", [lambda *size: picture(*size, "RGBA"), lambda *size: picture(*size, "LA"), cutout])
def test_alpha_counts_as_in_the_package(oracles, family, make):
    """Those that resize first weigh colours by alpha; the others drop it, so that hidden colours count."""
    image, oracle = make(300, 200), oracles[family]
    prepared, expected = oracle.prepare(as_tensor(image))[0], WAYS[family](image, 32)
    torch.testing.assert_close(prepared, expected, atol=1e-5, rtol=0)
    opaque = oracle.prepare(as_tensor(image.convert("RGB")))[0]
    assert ((prepared - opaque).abs().max() > 0.1) == (WAYS[family] is clip_way)


def test_pictures_are_prepared_on_the_cpu_where_the_device_cannot(oracles, monkeypatch):
    oracle, seen = oracles["clipscore"], []
    monkeypatch.setattr(base, "WITHOUT_FLOAT64", ("meta",))
    monkeypatch.setattr(oracle, "network", copy.deepcopy(oracle.network).to("meta"))
    prepare = oracle.prepare
    monkeypatch.setattr(oracle, "prepare", lambda images: (seen.append(images.device.type), prepare(images))[1])
    assert oracle._prepared(torch.rand(1, 3, 40, 50)).device.type == "meta" and seen == ["cpu"]


@pytest.mark.parametrize("size", [(2000, 1), (1, 2000), (2000, 3)])
def test_a_line_has_a_pixel_left(oracles, size):
    prepared = oracles["hpsv2.1"].prepare(torch.ones(1, 3, *size))
    lit = (prepared > 0).any(1)[0].nonzero()
    assert prepared.shape == (1, 3, 32, 32)
    assert sorted(len(set(at)) for at in lit.T.tolist()) == [1, 32]
    assert oracles["hpsv2.1"](torch.ones(1, 3, *size), ["a line"]).isfinite().all()


@pytest.mark.parametrize("family", WAYS)
def test_scores_do_not_depend_on_the_batch(oracles, family):
    oracle = oracles[family]
    images = torch.cat([as_tensor(picture(90, 61 + i).resize((90, 70))) for i in range(17)])
    prompts = [f"{i} cats and a {word}" for i, word in enumerate(["dog", "small red star", "x"] * 6)][:17]
    together = oracle(images, prompts)
    spread = (together.max() - together.min()).item()
    alone = torch.cat([oracle(images[i : i + 1], prompts[i : i + 1]) for i in range(17)])
    order = torch.randperm(17, generator=torch.Generator().manual_seed(0)).tolist()
    mixed = oracle(images[order], [prompts[i] for i in order])
    torch.testing.assert_close(together, alone, atol=1e-5 * spread, rtol=1e-6)
    torch.testing.assert_close(together[order], mixed, atol=1e-5 * spread, rtol=1e-6)


@pytest.mark.parametrize(("of_input", "together"), [(4, 4), (0.5, 1)])
def test_a_cpu_takes_few_images_at_a_time_each_with_its_own_prompt(oracles, monkeypatch, of_input, together):
    oracle, taken = oracles["clipscore"], []
    images = torch.rand(together + 1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(oracle, "cpu_numbers", int(of_input * oracle.prepare(images)[0].numel()))
    real = oracle.score_prepared
    monkeypatch.setattr(
        oracle, "score_prepared", lambda pixels, prompts: (taken.append(list(prompts)), real(pixels, prompts))[1]
    )
    prompts = [f"{i} cats" for i in range(len(images))]
    scores = oracle(images, prompts)
    assert taken == [prompts[:-1], prompts[-1:]] and scores.shape == (len(prompts),)

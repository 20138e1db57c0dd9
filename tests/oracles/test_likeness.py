"""Likeness to a source: structural similarity and CLIP's image cosine, each image with its own source."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from understudy.oracles.base import OracleError
from understudy.oracles.calibration import Calibration
from understudy.oracles.combine import CombinedOracle, Part
from understudy.oracles.likeness import ClipCosine, Likeness, StructuralSimilarity, ssim
from understudy.oracles.preprocess import covering

TEXTS = ["", "", ""]


def pictures(count, seed=0, height=24, width=20):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def by_scipy(x, y):
    """Wang et al. 2004, eq. 13, by another convolution; the border of half a window is left out."""

    def local(plane):
        return gaussian_filter(plane, 1.5, truncate=3.5)[5:-5, 5:-5]

    found = []
    for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True):
        mean_a, mean_b = local(a), local(b)
        var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
        covariance = local(a * b) - mean_a * mean_b
        top = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
        found.append(top / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    return float(np.mean(found))


def test_ssim_is_wang_s():
    x = pictures(4)
    y = torch.stack([x[0], (x[1] + 0.1 * pictures(1, 1)[0]).clamp(0, 1), 1 - x[2], pictures(1, 2)[0]])
    assert ssim(x, y).tolist() == pytest.approx([by_scipy(a, b) for a, b in zip(x, y, strict=True)], abs=1e-6)
    assert ssim(x, y)[0] == 1 and 0.5 < ssim(x, y)[1] < 1 and ssim(x, y)[2] < 0 and abs(ssim(x, y)[3]) < 0.3


@pytest.fixture
def measures(small_clip):
    return {"ssim": (StructuralSimilarity(), 1.0), "clip": (ClipCosine(small_clip[0]), 100.0)}


@pytest.mark.parametrize("name", ["ssim", "clip"])
def test_the_same_picture_has_the_highest_likeness_and_the_batch_does_not_matter(measures, name):
    measure, best = measures[name]
    sources = pictures(3, height=40, width=40)
    images = torch.stack([sources[0], (sources[1] + 0.3 * pictures(1, 5, 40, 40)[0]).clamp(0, 1), sources[0]])
    oracle = Likeness(measure, list(sources))
    scores = oracle(images, TEXTS)
    assert scores[0] == pytest.approx(best, abs=1e-4)
    assert scores[1] < best - 1e-3 * best and scores[2] < best - 1e-3 * best
    order = [2, 0]
    assert torch.equal(oracle(images[order], TEXTS[:2], order), scores[order])
    assert not torch.allclose(oracle(images[order], TEXTS[:2], [0, 1]), scores[order], atol=1e-3)
    assert torch.equal(oracle(images[1:2], TEXTS[:1], [1]), scores[1:2])
    assert oracle.remarks(TEXTS) == [] and not oracle.reads_prompts


def test_one_source_is_that_of_all():
    oracle = Likeness(StructuralSimilarity(), [pictures(1)[0]])
    oracle.require_count(7)
    assert oracle(pictures(1).expand(3, -1, -1, -1), TEXTS, [4, 5, 6]).tolist() == [1, 1, 1]


def test_sources_that_are_not_the_images_are_refused():
    oracle = Likeness(StructuralSimilarity(), list(pictures(2)))
    with pytest.raises(OracleError, match="2 sources for 3 images"):
        oracle(pictures(3), TEXTS)
    with pytest.raises(OracleError, match="image 3 has no source: there are 2"):
        oracle(pictures(1), TEXTS[:1], [2])
    with pytest.raises(OracleError, match="no source"):
        Likeness(StructuralSimilarity(), [])
    with pytest.raises(OracleError, match="at least 11 x 11 pixels; got 8 x 24"):
        Likeness(StructuralSimilarity(), [pictures(1)[0]])(pictures(1, width=8), [""])
    with pytest.raises(OracleError, match="image 2 has values"):
        oracle(pictures(1) + 3, [""], [1])
    assert oracle(pictures(2), TEXTS[:2]).tolist() == [1, 1]


def test_a_source_of_another_size_is_cut_around_its_middle_and_resized():
    large = pictures(1, 3, 64, 67)
    assert torch.equal(covering(large, 64, 64), large[..., 1:65])
    oracle = Likeness(StructuralSimilarity(), [large[0]])
    assert oracle(large[..., 1:65], [""]).item() == 1 and oracle(large[..., 3:67], [""]).item() < 0.5
    smooth = torch.nn.functional.interpolate(pictures(1, 4, 8, 8), (96, 128), mode="bicubic").clamp(0, 1)
    half = covering(smooth, 48, 48)
    assert half.shape[-2:] == (48, 48)
    assert (half - torch.nn.functional.avg_pool2d(smooth, 2)[..., 8:56]).abs().max() < 0.03
    assert Likeness(StructuralSimilarity(), [smooth[0]])(half, [""]).item() > 0.999


def test_alpha_does_not_count():
    image = torch.cat([pictures(1), torch.zeros(1, 1, 24, 20)], dim=1)
    assert Likeness(StructuralSimilarity(), [pictures(1)[0]])(image, [""]).item() == 1
    assert Likeness(StructuralSimilarity(), [image[0]])(pictures(1), [""]).item() == 1


def test_a_calibration_holds_for_other_sources_but_scores_do_not(measures):
    one, other = (Likeness(StructuralSimilarity(), list(pictures(3, seed))) for seed in (0, 1))
    assert one.fingerprint == other.fingerprint != Likeness(measures["clip"][0], list(pictures(3))).fingerprint
    assert one.against != other.against
    assert one.against == Likeness(StructuralSimilarity(), list(pictures(3))).against


def test_it_combines_and_vetoes_as_others_do():
    sources = pictures(3)
    images = torch.stack([sources[0], (sources[1] + 0.5 * pictures(1, 9)[0]).clamp(0, 1), 1 - sources[2]])
    alike = Likeness(StructuralSimilarity(), list(sources))
    table = Calibration("ssim", {}, {}, alike.fingerprint, "", table=tuple(k / 100 for k in range(101)), count=500)
    both = CombinedOracle([Part(alike, table, 1.0, 30.0)])
    scores = both(images, TEXTS)
    assert scores[0] == 100 and 30 < scores[1] < 100 and scores[2] < 0
    assert torch.equal(both(images[2:], TEXTS[:1], [2]), scores[2:])
    both.require_count(3)
    with pytest.raises(OracleError, match="3 sources for 2 images"):
        both.require_count(2)
    other = CombinedOracle([Part(Likeness(StructuralSimilarity(), list(images)), table, 1.0, 30.0)])
    assert both.fingerprint == other.fingerprint and both.against != other.against is not None

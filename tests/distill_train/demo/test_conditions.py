"""What scenes are made from beside their texts: their own outlines, and themselves at a low resolution."""

import torch
from torch.nn import functional as F
from understudy.demo_family.render import SIDE, outlined, painted
from understudy.demo_family.scenes import Scene, Thing
from understudy.distill_train.config import Recipe
from understudy.distill_train.demo.scenes import Conditions, _rendered
from understudy.distill_train.demo.source import SceneSource
from understudy.distill_train.teachers import load_teacher


def test_the_outline_of_a_circle_is_a_ring_where_its_colour_ends():
    scene = Scene("black", Thing("large", "red", "circle"))
    draws = torch.full((1, 8), 0.5)  # in the middle, of the mean radius
    line, picture = outlined([scene], draws)[0, 0], painted([scene], draws)[0]
    ticks = torch.arange(SIDE) + 0.5 - SIDE / 2
    radius = torch.hypot(ticks[:, None], ticks[None])
    assert line[(radius - 10.25).abs() < 0.25].min() == 1 and not line[(radius - 10.25).abs() > 1.25].any()
    inside = F.max_pool2d(-picture[:1], 3, 1, 1) * -1
    outside = F.max_pool2d(picture[:1], 3, 1, 1)
    assert ((outside - inside)[0][line == 1] > 0).all()


def test_a_batch_of_scenes_has_its_own_outlines_or_small_pictures(tmp_path):
    demo = load_teacher("demo")
    recipe = Recipe(method="pd", seed=1, export="x.safetensors", loop={"steps": 1, "batch_size": 4, "lr": 1})

    def source(condition=None):
        data = {"kind": "scenes", "pictures": 300} | ({"condition": condition} if condition else {})
        return SceneSource.of_settings(data, demo, recipe, tmp_path)

    plain = source()
    assert plain.batch(0, range(4)).extras == {} and plain.fingerprint is None
    places = [int(name.split()[1]) for name in plain.batch(0, range(8)).names]
    assert max(places) >= 256 or len(set(places)) > 1
    pictures = torch.cat([_rendered(start, 300, 2)[0] for start in (0, 256)])[places]
    small = source("low_resolution").batch(0, range(8))
    assert torch.equal(small.latents, plain.batch(0, range(8)).latents)
    torch.testing.assert_close(F.avg_pool2d(small.extras["condition"], 8), F.avg_pool2d(pictures, 8), rtol=0, atol=0.06)
    assert (small.extras["condition"] - pictures).abs().amax((1, 2, 3)).min() > 0.2
    edges = source("outline")
    lines = edges.batch(0, range(8)).extras["condition"]
    assert lines.shape == (8, 3, SIDE, SIDE) and torch.equal(lines, edges.batch(0, range(8)).extras["condition"])
    change = (F.max_pool2d(pictures, 3, 1, 1) + F.max_pool2d(-pictures, 3, 1, 1)).amax(1)
    assert ((lines[:, 0] == 1) <= (change > 0.02)).all() and (lines[:, 0] == 1).flatten(1).any(1).all()
    assert edges.fingerprint != source("low_resolution").fingerprint


def test_conditions_are_those_of_the_pictures_in_every_chunk():
    conditions = Conditions(300, 2, "low_resolution")
    far = conditions.of([299])[0]
    scenes, draws = conditions.scenes[299], conditions.draws[299:]
    assert torch.equal(painted([scenes], draws)[0], _rendered(256, 300, 2)[0][43])
    torch.testing.assert_close(F.avg_pool2d(far, 8), F.avg_pool2d(_rendered(256, 300, 2)[0][43], 8), rtol=0, atol=0.06)

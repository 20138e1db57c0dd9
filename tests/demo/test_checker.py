import pytest
import torch
from understudy.demo_family import checker
from understudy.demo_family.language import parse
from understudy.demo_family.render import SIDE, render
from understudy.demo_family.scenes import RELATIONS, all_scenes


def some_scenes(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    scenes = all_scenes()
    return [scenes[i] for i in torch.randint(len(scenes), (count,), generator=g).tolist()], g


def test_renders_are_recognised():
    scenes, g = some_scenes(400)
    assert sum(checker.exact(render(scenes, g), scenes)) >= 0.99 * len(scenes)


@pytest.mark.parametrize("attribute", checker.ATTRIBUTES)
def test_a_changed_attribute_is_noticed(attribute):
    scenes, g = some_scenes(200, seed=1)
    scenes = [s for s in scenes if s.relation or attribute != "relation"]
    pictures = render([checker.changed(s, attribute, g) for s in scenes], g)
    assert sum(checker.exact(pictures, scenes)) <= 0.01 * len(scenes)


def test_single_things_are_recognised_and_a_second_one_is_noticed():
    scenes = [s for s in all_scenes() if s.second is None]
    g = torch.Generator().manual_seed(2)
    assert all(checker.exact(render(scenes, g), scenes))
    more = [checker.changed(s, "count", g) for s in scenes]
    assert not any(checker.exact(render(more, g), scenes))


def test_the_verdict_names_the_attribute():
    scene = parse("a small red star left of a large blue circle on a gray background")
    g = torch.Generator().manual_seed(3)
    for attribute in ("background", "size", "color", "shape", "relation"):
        picture = render([checker.changed(scene, attribute, g)], g)
        verdict = checker.read(picture)[0].verdict(scene)
        assert [name for name, right in verdict.items() if not right] == [attribute]


def test_exactly_one_relation_holds():
    scenes, g = some_scenes(100, seed=4)
    scenes = [s for s in scenes if s.second]
    for reading in checker.read(render(scenes, g)):
        first, second = reading.things
        assert sum(checker.relation(first, second) == r for r in RELATIONS) == 1


def test_noise_black_and_overlapping_things_show_nothing():
    scenes, g = some_scenes(30, seed=5)
    assert not any(checker.exact(torch.rand(30, 3, SIDE, SIDE, generator=g), scenes))
    assert not any(checker.exact(torch.zeros(30, 3, SIDE, SIDE), scenes))
    # Two pictures on top of each other.
    both = render(scenes, g) / 2 + render(scenes[::-1], g) / 2
    assert sum(checker.exact(both, scenes)) <= 1


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\[B, 3, 64, 64\].*32"):
        checker.read(torch.zeros(1, 3, 32, 32))


def test_rendering_depends_on_the_generator_alone_and_stays_in_range():
    scenes, _ = some_scenes(20, seed=6)
    a, b = (render(scenes, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a, b) and a.shape == (20, 3, SIDE, SIDE)
    assert 0 <= a.min() and a.max() <= 1

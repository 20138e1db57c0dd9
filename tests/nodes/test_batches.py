"""Images, prompts and scores stay together over batches and lists."""

import pytest
import torch
from understudy.nodes.batches import check_images, for_oracle, single_value, split, value_per_image


def test_images_keep_alpha_and_lose_overshoots():
    image = torch.tensor([-0.1, 0.5, 1.1, 0.25]).expand(2, 4, 6, 4)
    for channels in (3, 4):
        images = for_oracle(image[..., :channels])
        assert images.shape == (2, channels, 4, 6)
        assert images[0, :, 0, 0].tolist() == [0.0, 0.5, 1.0, 0.25][:channels]


def test_grey_images_become_three_channels():
    grey = torch.rand(2, 4, 6, 1)
    assert torch.equal(for_oracle(grey), grey.expand(-1, -1, -1, 3).movedim(-1, 1))


@pytest.mark.parametrize("value", [255.0, 1.51, -0.51, float("inf"), float("nan")])
def test_pixels_that_were_not_meant_for_0_to_1_are_refused(value):
    images = [torch.rand(2, 4, 6, 3), torch.rand(3, 4, 6, 4)]
    for channel in (0, 3):
        images[1][1, 2, 3] = 0.5
        images[1][1, 2, 3, channel] = value
        with pytest.raises(ValueError, match=r"pictures: image 4 has values from .*; expected \[0, 1\], so look"):
            check_images("pictures", images)


@pytest.mark.parametrize(
    "images, message",
    [
        ([], "images is an empty list"),
        ([torch.zeros(0, 8, 8, 3)], "images is an empty batch"),
        ([torch.zeros(1, 8, 8, 3), torch.zeros(0, 8, 8, 3)], "entry 1 of images is an empty batch"),
        ([torch.zeros(8, 8, 3)], r"images has shape \[8, 8, 3\]; expected \[batch, height, width, 1, 3 or 4\]"),
        ([torch.zeros(1, 8, 8, 2)], r"\[1, 8, 8, 2\]"),
        ([torch.zeros(1, 3, 8, 8)], r"\[1, 3, 8, 8\]"),
        ([torch.zeros(1, 0, 8, 3)], r"\[1, 0, 8, 3\]"),
        ([torch.zeros(1, 8, 8, 3, dtype=torch.uint8)], "images is torch.uint8; expected .* as floating-point"),
        ([torch.zeros(1, 8, 8, 3), None], "entry 1 of images is NoneType; expected"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        check_images("images", images)


def test_images_are_counted_and_channels_may_be_fewer():
    grey, colour = torch.rand(2, 4, 6, 1), torch.rand(1, 4, 6, 3)
    assert check_images("images", [grey, colour]) == [2, 1]
    with pytest.raises(ValueError, match=r"shape \[2, 4, 6, 1\]; expected \[batch, height, width, 3 or 4\]"):
        check_images("images", [grey], (3, 4))


def test_every_node_with_images_checks_them_in_the_same_way(without_host):
    """Whatever the node, the same words for the same image, before anything else is looked at."""
    from understudy.nodes.keep_better import UnderstudyKeepBetter
    from understudy.nodes.receipt import UnderstudyReceipt
    from understudy.nodes.score_images import UnderstudyScoreImages
    from understudy.nodes.scores_from_list import UnderstudyScoresFromList
    from understudy.nodes.teacher import UnderstudyTeacher
    from understudy.nodes.teacher_advanced import UnderstudyTeacherAdvanced

    bad = [torch.rand(1, 4, 6, 3), torch.full((1, 4, 6, 3), 255.0)]
    good = [torch.rand(1, 4, 6, 3)] * 2
    nothing = dict.fromkeys(("scores", "threshold", "oracle", "prompt", "receipt"))
    for node, inputs in (
        (UnderstudyScoreImages.execute, ("images", "oracle", "prompt")),
        (UnderstudyScoresFromList.execute, ("images", "scores")),
        (UnderstudyTeacher.check_lazy_status, ("images", "scores", "threshold")),
        (UnderstudyTeacher.execute, ("images", "scores", "threshold")),
        (UnderstudyTeacherAdvanced.check_lazy_status, ("images", "scores", "threshold")),
        (UnderstudyTeacherAdvanced.execute, ("images", "scores", "threshold")),
        (UnderstudyKeepBetter.check_lazy_status, ("images_after", "images_before", "scores")),
        (UnderstudyKeepBetter.execute, ("images_after", "images_before", "scores", "oracle", "prompt")),
        (UnderstudyReceipt.execute, ("images", "images_before", "scores", "threshold")),
    ):
        for name in (each for each in inputs if each.startswith("images")):
            given = {each: nothing.get(each, good) for each in inputs} | {name: bad}
            with pytest.raises(ValueError, match=f"{name}: image 2 has values from 255 to 255; expected"):
                node(**given)


def test_what_counts_once_is_refused_as_a_list_of_several(without_host, monkeypatch, tmp_path):
    from understudy.nodes import folders
    from understudy.nodes.calibrate import UnderstudyCalibrate
    from understudy.nodes.keep_better import UnderstudyKeepBetter
    from understudy.nodes.receipt import UnderstudyReceipt
    from understudy.nodes.score_images import UnderstudyScoreImages
    from understudy.nodes.teacher import UnderstudyTeacher
    from understudy.nodes.threshold import UnderstudyThreshold
    from understudy.oracles.scores import Scores
    from understudy.oracles.threshold import Threshold

    monkeypatch.setattr(folders, "calibrations_folder", lambda: tmp_path)
    images, scores = [torch.rand(1, 4, 6, 3)] * 2, [Scores((0.5,), ("i",), None, ("a",))] * 2
    several, oracles = [Threshold.fixed(0), Threshold.fixed(1)], [object(), object()]
    widgets = {
        "mode": ["fixed"],
        "percentile": [30.0],
        "value": [0.0, 1.0],
        "fraction": [0.25],
        "calibration": ["none"],
    }
    for node, name, inputs in (
        (UnderstudyScoreImages.execute, "oracle", {"oracle": oracles, "images": images, "prompt": ["a"]}),
        (UnderstudyCalibrate.execute, "name", {"scores": scores, "name": ["one", "two"]}),
        (UnderstudyThreshold.execute, "value", widgets),
        (UnderstudyTeacher.check_lazy_status, "threshold", {"images": images, "scores": scores, "threshold": several}),
        (UnderstudyKeepBetter.execute, "oracle", {"images_before": images, "images_after": images, "scores": scores,
                                                  "oracle": oracles, "prompt": ["a"]}),
        (UnderstudyReceipt.execute, "threshold", {"images_before": images, "images": images, "scores": scores,
                                                  "threshold": several}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"a list of 2 different entries for {name}; give one for all images"):
            node(**inputs)
    assert not list(tmp_path.iterdir())
    same = object()
    assert single_value([same, same], "oracle") is same
    with pytest.raises(ValueError, match="an empty list for oracle"):
        single_value([], "oracle")


@pytest.mark.parametrize(
    "prompts, sizes, expected",
    [
        (["a"], [3], ["a"] * 3),
        (["a", "b", "c"], [3], ["a", "b", "c"]),
        (["a", "b"], [1, 1], ["a", "b"]),
        (["a", "b"], [2, 1], ["a", "a", "b"]),
        (["a", "b", "c"], [2, 1], ["a", "b", "c"]),
    ],
)
def test_one_for_all_one_per_image_or_one_per_batch(prompts, sizes, expected):
    assert value_per_image(prompts, sizes, "prompts") == expected


def test_other_counts_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="2 prompts for 5 images"):
        value_per_image(["a", "b"], [5], "prompts")
    with pytest.raises(ValueError, match="3 prompts for 5 images in 2 batches"):
        value_per_image(["a", "b", "c"], [4, 1], "prompts")


def test_split_keeps_the_order():
    assert list(split([1, 2, 3, 4], [1, 3])) == [(1,), (2, 3, 4)]

"""Redone images come back into their places, in the size of what was there; the others are untouched."""

import pytest
import torch

FLAGS = [[False, True], [True, False, True]]


@pytest.fixture
def merged(without_host):
    from understudy.nodes.merge import merged

    return merged


def before(channels=3):
    return [torch.rand(2, 8, 8, channels), torch.rand(3, 16, 8, channels)]


def redone(*sizes):
    return [torch.rand(1, *size, 3) for size in sizes]


def test_images_come_back_to_their_places(merged):
    images, made = before(), redone((8, 8), (16, 8), (16, 8))
    kept = [batch.clone() for batch in images]
    for came in (made, [made[0], torch.cat(made[1:])]):
        output, scaled = merged(images, FLAGS, came)
        assert torch.equal(output[0][1], made[0][0]) and torch.equal(output[1][::2], torch.cat(made[1:]))
        assert torch.equal(output[0][0], images[0][0]) and torch.equal(output[1][1], images[1][1])
        assert scaled == []
    assert all(map(torch.equal, kept, images))


def test_a_batch_without_rejected_images_is_the_one_that_came(merged):
    images = before()
    output, _ = merged(images, [[False, False], [True, False, False]], redone((16, 8)))
    assert output[0] is images[0] and output[1] is not images[1]


def test_alpha_and_type_stay(merged):
    images = [batch.half() for batch in before(4)]
    (made,) = redone((8, 8))
    output, _ = merged(images, [[True, False], [False] * 3], [torch.cat([made, torch.ones(1, 8, 8, 1)], -1)])
    assert output[0].dtype == torch.float16 and torch.equal(output[0][0, ..., 3], images[0][0, ..., 3])
    assert torch.equal(output[0][0, ..., :3], made[0].half())


@pytest.mark.parametrize("factor", [2, 4])
def test_another_size_is_scaled_back(merged, factor):
    small = torch.linspace(0, 1, 8)[None, :, None, None].expand(1, 8, 8, 3)
    large = torch.nn.functional.interpolate(small.movedim(-1, 1), scale_factor=factor, mode="bilinear").movedim(1, -1)
    output, scaled = merged([torch.zeros(2, 8, 8, 3)], [[False, True]], [large])
    assert scaled == [1] and torch.allclose(output[0][1], small[0], atol=0.03)
    large = (torch.arange(8 * factor) > 5).float()[None, :, None, None].expand_as(large)
    output, _ = merged([torch.zeros(2, 8, 8, 3)], [[False, True]], [large])
    assert output[0].min() == 0 and output[0].max() == 1  # an edge does not overshoot


def test_what_is_over_after_rounding_is_cut_evenly(merged):
    wide = torch.zeros(1, 64, 68, 3)
    wide[:, :, 2:-2] = 1
    output, scaled = merged([torch.zeros(1, 64, 64, 3)], [[True]], [wide])
    assert scaled == [0] and torch.equal(output[0], torch.ones(1, 64, 64, 3))
    high = wide.transpose(1, 2)
    output, _ = merged([torch.zeros(1, 32, 32, 3)], [[True]], [high])
    assert torch.allclose(output[0], torch.ones(1, 32, 32, 3))


def test_another_shape_is_refused(merged):
    with pytest.raises(ValueError, match=r"image 5 came back with 8 x 8 pixels .* but it is 8 x 16"):
        merged(before(), FLAGS, redone((8, 8), (16, 8), (8, 8)))
    for side, fits in ((70, True), (59, True), (71, False), (58, False)):  # a tenth more or less
        square = [torch.zeros(1, 64, 64, 3)], [[True]], redone((64, side))
        if fits:
            assert merged(*square)[1] == [0]
        else:
            with pytest.raises(ValueError, match=f"image 1 came back with {side} x 64 pixels"):
                merged(*square)


def test_what_is_too_fine_for_an_image_s_own_size_becomes_its_mean(merged):
    stripes = ((torch.arange(32) + 1) % 4 > 1).float()  # where a pixel of the small picture is looked at, all are 1
    output, _ = merged([torch.zeros(1, 8, 8, 3)], [[True]], [stripes[None, None, :, None].expand(1, 32, 32, 3)])
    assert (output[0] - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("came", [0, 2, 4])
def test_another_count_is_refused(merged, came):
    with pytest.raises(ValueError, match=f"^{came} images came back at redone, but 3 were sent out"):
        merged(before(), FLAGS, redone(*[(16, 8)] * came))


def test_redone_is_looked_at_like_any_other_images(merged):
    with pytest.raises(ValueError, match="redone: image 2 has values from 255"):
        merged(before(), FLAGS, [torch.rand(1, 8, 8, 3), torch.full((2, 16, 8, 3), 255.0)])


def test_the_receipt_claims_no_number(without_host, monkeypatch):
    from understudy.nodes.merge import UnderstudyMerge
    from understudy.oracles.scores import Scores
    from understudy.oracles.threshold import Threshold
    from understudy.receipts.receipt import rows_of, teacher_lines

    monkeypatch.setattr(UnderstudyMerge, "hidden", type("Hidden", (), {"unique_id": "1"}), raising=False)
    images, scores = [torch.zeros(2, 8, 8, 3)], [Scores((0.0, 1.0), ("",) * 2, None, ("",) * 2)]
    (after,), refined, receipt = UnderstudyMerge.execute(images, scores, [Threshold.fixed(0.5)], redone((8, 8)))
    assert refined == [True, False]
    assert receipt.decisions == ("redone", "kept") and receipt.evaluations == (None, 0)
    rows = rows_of(list(images[0]), list(after), {"images": 2}, scores, [receipt])
    assert [row.decision for row in rows] == ["redone", "kept"]
    (line,) = teacher_lines(rows, [receipt])
    assert line == "teacher: nodes between Split and Merge, for 1 of 2 images; what they cost is not known"


def test_scores_of_another_oracle_than_the_threshold_s_calibration_are_refused(without_host):
    """As by Split and both Teachers, which ask the same."""
    from understudy.nodes.merge import UnderstudyMerge
    from understudy.oracles.calibration import Calibration
    from understudy.oracles.scores import Scores
    from understudy.oracles.threshold import Threshold

    threshold = Threshold.percentile(Calibration("mine", {str(i): i / 50 for i in range(50)}, {}, "one", ""), 30)
    images = [torch.zeros(2, 8, 8, 3)]
    scores = Scores((0.1, 1.0), ("",) * 2, "one", ("",) * 2)
    assert UnderstudyMerge.check_lazy_status(images, [scores], [threshold], redone=(None,)) == ["redone"]
    other, nobody = Scores((0.1, 1.0), ("",) * 2, "two", ("",) * 2), Scores((1.0,), ("",), None, ("",))
    for batches in ([other], [scores.of([0]), nobody]):
        with pytest.raises(ValueError, match='calibration .mine. .* oracle was "one", is'):
            UnderstudyMerge.check_lazy_status(images, batches, [threshold], redone=(None,))


def test_redone_is_asked_for_only_if_an_image_is_rejected(without_host):
    from understudy.nodes.merge import UnderstudyMerge
    from understudy.oracles.scores import Scores
    from understudy.oracles.threshold import Threshold

    images, scores = [torch.zeros(2, 8, 8, 3)], [Scores((0.6, 1.0), ("",) * 2, None, ("",) * 2)]
    for value, asked in ((0.5, []), (0.7, ["redone"])):
        assert UnderstudyMerge.check_lazy_status(images, scores, [Threshold.fixed(value)], redone=(None,)) == asked

import math

import pytest
import torch
from understudy.samplers import best_of, initial_noise
from understudy.samplers.best_of import seed_of_try

# Of 4 images, each in 3 tries.
TABLE = torch.tensor([[0.1, 0.7, 0.4], [0.9, 0.2, 0.3], [0.2, 0.3, 0.6], [0.5, 0.5, 0.5]])


class Student:
    """Try r of image i is 10 * i + r; it remembers what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, indices, number):
        self.calls.append((indices.tolist(), number))
        return (10.0 * indices + number)[:, None].expand(-1, 3)


def oracle(images, indices):
    rounds = (images[:, 0] - 10 * indices).long()
    return TABLE[indices, rounds]


def at_least(threshold):
    return lambda scores: scores >= threshold


def values(result):
    return torch.stack(result.images)[:, 0].tolist()


def test_without_a_rule_to_stop_the_best_of_all_tries_is_taken_and_the_first_of_equal_ones():
    student = Student()
    result = best_of(student, oracle, 4, 3)
    assert student.calls == [([0, 1, 2, 3], 0), ([0, 1, 2, 3], 1), ([0, 1, 2, 3], 2)]
    assert result.chosen.tolist() == [1, 0, 2, 0] and result.chosen.dtype == torch.int64
    assert result.tries.tolist() == [3, 3, 3, 3] and not result.passed.any()
    assert values(result) == [1.0, 10.0, 22.0, 30.0]
    assert torch.equal(result.scores, torch.tensor([0.7, 0.9, 0.6, 0.5]))
    assert torch.equal(result.all_scores, TABLE)


def test_an_image_stops_at_the_first_try_that_passes_and_the_others_go_on():
    student = Student()
    result = best_of(student, oracle, 4, 3, passes=at_least(0.5))
    assert student.calls == [([0, 1, 2, 3], 0), ([0, 2], 1), ([2], 2)]
    assert result.tries.tolist() == [2, 1, 3, 1] and result.chosen.tolist() == [1, 0, 2, 0]
    assert result.passed.tolist() == [True] * 4
    nan = torch.nan
    expected = torch.tensor([[0.1, 0.7, nan], [0.9, nan, nan], [0.2, 0.3, 0.6], [0.5, nan, nan]])
    assert torch.equal(result.all_scores.nan_to_num(-1), expected.nan_to_num(-1))


def test_where_none_passes_the_best_of_n_is_taken():
    result = best_of(Student(), oracle, 4, 3, passes=at_least(0.65))
    assert result.passed.tolist() == [True, True, False, False]
    assert result.tries.tolist() == [2, 1, 3, 3] and result.chosen.tolist() == [1, 0, 2, 0]
    assert values(result) == [1.0, 10.0, 22.0, 30.0]


def test_the_one_that_passes_is_taken_even_if_another_scored_higher():
    result = best_of(Student(), oracle, 4, 3, passes=lambda scores: (scores - 0.3).abs() < 0.01)
    assert result.chosen.tolist() == [1, 2, 1, 0] and result.passed.tolist() == [False, True, True, False]
    assert torch.equal(result.scores, torch.tensor([0.7, 0.3, 0.3, 0.5]))


def test_nothing_is_asked_for_when_all_have_passed_and_one_try_is_the_student_alone():
    student = Student()
    assert values(best_of(student, oracle, 4, 3, passes=at_least(0.0))) == [0.0, 10.0, 20.0, 30.0]
    assert len(student.calls) == 1
    assert best_of(student, oracle, 4, 1).all_scores.tolist() == TABLE[:, :1].tolist()


@pytest.mark.parametrize("passes", [None, at_least(0.5), at_least(0.65)])
def test_an_images_result_does_not_depend_on_the_others(passes):
    together = best_of(Student(), oracle, 4, 3, passes=passes)
    for image in range(4):
        own = torch.tensor([image])
        alone = best_of(
            lambda indices, number, own=own: Student()(own, number),
            lambda images, indices, own=own: oracle(images, own),
            1,
            3,
            passes=passes,
        )
        assert torch.equal(alone.images[0], together.images[image])
        for name in ("scores", "tries", "chosen", "passed"):
            assert getattr(alone, name)[0] == getattr(together, name)[image]


def test_images_may_have_different_sizes_and_the_oracle_sees_what_the_student_returned():
    made = [torch.zeros(3, 8, 8), torch.ones(3, 4, 6)]
    seen = []

    def judge(images, indices):
        seen.append(images)
        return [0.0, -math.inf]  # the lowest score is a score

    result = best_of(lambda indices, number: made, judge, 2, 1)
    assert seen == [made] and result.images == made and result.scores.tolist() == [0.0, -math.inf]


def test_lists_of_scores_and_of_decisions_are_taken():
    result = best_of(Student(), lambda *call: oracle(*call).tolist(), 4, 3, passes=lambda s: [x > 0.6 for x in s])
    assert result.tries.tolist() == [2, 1, 3, 3]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n": 0}, "n is 0; expected at least 1"),
        ({"batch": 0}, "batch is 0; expected at least 1"),
        ({"student": lambda indices, number: [None]}, "returned 1 images for 4 in round 0"),
        ({"oracle": lambda images, indices: [0.5]}, r"scores of shape \(1,\) for 4 images"),
        ({"passes": lambda scores: scores}, "expected one bool for each of 4 scores"),
        ({"passes": lambda scores: [True]}, r"shape \(1,\); expected one bool for each of 4"),
    ],
)
def test_other_counts_are_refused(changes, said):
    given = {"student": Student(), "oracle": oracle, "batch": 4, "n": 3, **changes}
    with pytest.raises(ValueError, match=said):
        best_of(**given)


def test_a_nan_names_the_image_by_its_place_among_all():
    def judge(images, indices):
        return oracle(images, indices).masked_fill(torch.tensor([int(i) == 2 and len(indices) == 2 for i in indices]),
                                                   torch.nan)  # fmt: skip

    with pytest.raises(ValueError, match="score of image 3 in round 1 is NaN"):
        best_of(Student(), judge, 4, 3, passes=at_least(0.5))


def test_the_first_try_has_the_images_own_seed_and_all_others_differ_from_each_other_and_from_neighbours():
    assert seed_of_try(2**64 - 1, 5, 0) == 2**64 - 1 and seed_of_try(7, 0, 1) == 634775300809380
    seeds = [seed_of_try(seed, index, number) for seed in range(8) for index in range(8) for number in range(1, 8)]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**50 for seed in seeds)
    assert seed_of_try(-1, 0, 1) == seed_of_try(2**64 - 1, 0, 1)  # torch takes both for the same
    shape = (4, 8, 8)
    noise = initial_noise([seed_of_try(7, index, 1) for index in (0, 1)], [0, 0], shape)
    assert not torch.equal(noise[0], noise[1])

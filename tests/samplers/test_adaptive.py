import pytest
import torch
from understudy.samplers import (
    PerImageNoise,
    adaptive,
    initial_noise,
    noise_variance,
    sample_consistency,
    sample_euler,
)

SCORES = torch.tensor([0.9, 0.1, 0.5, 0.2, 0.8])
STUDENT = torch.arange(5.0)[:, None].expand(5, 3).contiguous() + 0.1


class Teacher:
    """Answers -1 - i for image i, and remembers what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, start, indices):
        self.calls.append((start, indices))
        return -1.0 - indices[:, None].expand(-1, 3)


def below(threshold):
    return lambda scores: scores < threshold


def test_the_teacher_sees_only_the_rejected_in_order_and_results_go_back_in_order():
    teacher = Teacher()
    result = adaptive(lambda: STUDENT, lambda images: SCORES, teacher, reject=below(0.6))
    ((start, indices),) = teacher.calls
    assert indices.tolist() == [1, 2, 3] and indices.dtype == torch.int64
    assert torch.equal(start, STUDENT[1:4])
    assert torch.equal(result.images[1:4], torch.tensor([[-2.0], [-3.0], [-4.0]]).expand(3, 3))
    assert torch.equal(result.images[[0, 4]], STUDENT[[0, 4]])  # bit for bit
    assert torch.equal(result.student_images, STUDENT)
    assert torch.equal(result.scores, SCORES)
    assert result.rejected.tolist() == [False, True, True, True, False]
    assert result.decisions == ["kept", "refined", "refined", "refined", "kept"]


def test_regenerate_gives_the_teacher_no_image():
    teacher = Teacher()
    result = adaptive(lambda: STUDENT, lambda images: SCORES, teacher, reject=below(0.15), strategy="regenerate")
    ((start, indices),) = teacher.calls
    assert start is None and indices.tolist() == [1]
    assert result.decisions == ["kept", "regenerated", "kept", "kept", "kept"]
    assert torch.equal(result.images[1], torch.full([3], -2.0))


@pytest.mark.parametrize("strategy", ["refine", "regenerate"])
def test_the_teacher_is_not_called_when_none_is_rejected(strategy):
    teacher = Teacher()
    result = adaptive(lambda: STUDENT, lambda images: SCORES, teacher, reject=below(0.0), strategy=strategy)
    assert not teacher.calls and not result.rejected.any()
    assert torch.equal(result.images, STUDENT) and result.decisions == ["kept"] * 5


def test_all_may_be_rejected():
    result = adaptive(lambda: STUDENT, lambda images: SCORES, Teacher(), reject=below(2.0))
    assert torch.equal(result.images[:, 0], torch.tensor([-1.0, -2.0, -3.0, -4.0, -5.0]))
    assert result.decisions == ["refined"] * 5


def test_the_students_images_are_not_changed_in_place():
    student = STUDENT.clone()

    def teacher(start, indices):
        return start.zero_()

    result = adaptive(lambda: student, lambda images: SCORES, teacher, reject=below(2.0))
    assert torch.equal(student, STUDENT) and torch.equal(result.student_images, STUDENT)


def test_one_oracle_call_and_stages_are_told():
    stages, seen = [], []

    def oracle(images):
        seen.append(images)
        return SCORES

    adaptive(lambda: STUDENT, oracle, Teacher(), reject=below(0.6), on_stage=lambda *stage: stages.append(stage))
    assert len(seen) == 1 and torch.equal(seen[0], STUDENT)
    assert stages == [("student", None), ("oracle", 5), ("teacher", 3)]
    stages.clear()
    adaptive(lambda: STUDENT, oracle, Teacher(), reject=below(0.0), on_stage=lambda *stage: stages.append(stage))
    assert stages == [("student", None), ("oracle", 5)]


def test_lists_of_scores_and_decisions_are_taken():
    result = adaptive(
        lambda: STUDENT, lambda images: SCORES.tolist(), Teacher(), reject=lambda s: [x < 0.15 for x in s]
    )
    assert result.rejected.tolist() == [False, True, False, False, False]


def run(indices, strategy):
    """Student, oracle and teacher with real samplers, for those images of one imagined batch."""
    shape, sigmas = (4, 8, 8), torch.tensor([10.0, 2.0, 0.0])

    def denoised(x, sigma):
        sigma = sigma.reshape(-1, 1, 1, 1)
        return (0.25 * x + sigma**2 * 0.7) / (0.25 + sigma**2)

    def student():
        noise = PerImageNoise(1, indices, shape)
        return sample_consistency(denoised, initial_noise(1, indices, shape) * 10, sigmas, noise_sampler=noise)

    def teacher(start, rejected):
        own = [indices[i] for i in rejected]
        noise = initial_noise(2, own, shape)
        if start is None:
            x, steps = noise * 10, torch.linspace(10, 0, 6)
        else:
            steps = noise_variance(lambda n: torch.linspace(10, 0, n + 1), 5, 0.6, 0.01, 10.0)
            x = start + steps[0] * noise
        return sample_consistency(denoised, x, steps, noise_sampler=PerImageNoise(3, own, shape)) + sample_euler(
            denoised, x, steps
        )

    oracle = lambda images: images.mean((1, 2, 3))  # noqa: E731
    return adaptive(student, oracle, teacher, reject=lambda scores: scores < 0.71, strategy=strategy)


@pytest.mark.parametrize("strategy", ["refine", "regenerate"])
def test_an_image_is_decided_and_redone_the_same_way_in_any_batch(strategy):
    full = run(list(range(6)), strategy)
    assert 0 < full.rejected.sum() < 6
    for indices in ([3], [0], [5, 2], [4, 1, 3, 0], *[[i] for i in range(6)]):
        part = run(indices, strategy)
        assert part.decisions == [full.decisions[i] for i in indices]
        assert torch.equal(part.images, full.images[indices])
        assert torch.equal(part.scores, full.scores[indices])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "redo"}, "strategy is 'redo'; expected one of refine, regenerate"),
        ({"oracle": lambda images: torch.tensor([0.0, 1.0, float("nan"), 1.0, 1.0])}, "score of image 3 is NaN"),
        ({"oracle": lambda images: torch.zeros(4)}, r"scores of shape \(4,\) for 5 images"),
        ({"reject": lambda scores: scores}, "expected one bool for each of 5 images"),
        ({"reject": lambda scores: torch.ones(4, dtype=torch.bool)}, "expected one bool for each of 5 images"),
        (
            {"teacher": lambda start, indices: start[:1]},
            r"the teacher returned images of shape \(1, 3\) for 3 rejected",
        ),
    ],
)
def test_wrong_callables_are_named(changes, message):
    arguments = {
        "student": lambda: STUDENT,
        "oracle": lambda images: SCORES,
        "teacher": Teacher(),
        "reject": below(0.6),
    }
    with pytest.raises(ValueError, match=message):
        adaptive(**{**arguments, **changes})

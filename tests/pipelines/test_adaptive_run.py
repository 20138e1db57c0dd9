"""One batch of the adaptive run: what the teacher redoes keeps its own source, hint, prompt and seed."""

import numpy as np
import pytest
import torch
from PIL import Image
from understudy.oracles.likeness import StructuralSimilarity
from understudy.oracles.threshold import Threshold
from understudy.pipelines.adaptive_run import Cast, Costs, Plan, Watcher, jobs_for, run_batch
from understudy.pipelines.given_pictures import Asked
from understudy.pipelines.model import StudentPlan, TeacherPlan
from understudy.samplers.denoisers import DiscreteDenoiser, scaled_linear

from .test_model import Linear

SIZE = (12, 12)


class Steered(Linear):
    """Says that latents are most of what they are, moved by the prompt's length and the hint."""

    def __init__(self):
        def network(x, t, shift, hint=None):
            return 0.7 * x + shift[:, None, None, None] + (0 if hint is None else 0.3 * hint)

        self.denoiser = DiscreteDenoiser(network, scaled_linear(), prediction="x0")

    def decode(self, latents):
        return latents.sigmoid()


class Places:
    """Scores that reject the second and the last of four images."""

    reads_prompts = True

    def __call__(self, images, prompts):
        return torch.tensor([1.0, 0.0, 1.0, 0.0])[: len(images)] if len(images) == 4 else torch.ones(len(images))


@pytest.fixture
def asked(tmp_path):
    files = []
    for i in range(8):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png"
        )
        files.append(tmp_path / f"{i}.png")
    return [Asked("a" * (i + 1), files[i], files[4 + i]) for i in range(4)]


@pytest.mark.parametrize("strategy", ["refine", "regenerate"])
def test_the_redone_images_are_those_of_their_own_pictures(asked, strategy, tmp_path):
    def images(asked, seed, threshold, **change):
        teacher = TeacherPlan(2, 1.0, strategy=strategy, rollback=0.1, rollback_mode="schedule", strength=0.1)
        plan = Plan(StudentPlan(2, strength=0.1), teacher, Threshold.fixed(threshold), SIZE, **change)
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        outcomes = run_batch(
            Cast(Steered(), Places(), Steered), plan, jobs_for(asked, seed), folder, Costs(), Watcher()
        )
        pixels = [np.asarray(Image.open(file), dtype=int) for file in sorted((folder / "final").iterdir())]
        return [outcome.image for outcome in outcomes], pixels

    reports, together = images(asked, 5, 0.5)
    assert [report.decision == "kept" for report in reports] == [True, False, True, False]
    assert [(report.source, report.hint) for report in reports] == [(f"{i}.png", f"{4 + i}.png") for i in range(4)]
    for i in (1, 3):
        _, (alone,) = images([asked[i]], 5 + i, 2.0)
        assert abs(alone - together[i]).max() <= 1
        swapped = (
            Asked(asked[i].prompt, asked[0].source, asked[i].hint),
            Asked(asked[i].prompt, asked[i].source, asked[0].hint),
        )
        for other in swapped:
            assert abs(images([other], 5 + i, 2.0)[1][0] - together[i]).max() > 3
    # Likeness rejects by itself, and says how alike both versions are.
    vetoed, _ = images(asked, 5, -1.0, likeness=StructuralSimilarity(), least_likeness=2.0)
    assert [report.decision == "kept" for report in vetoed] == [False] * 4
    assert all(report.likeness_after is not None and report.likeness < 1 for report in vetoed)
    some = sorted(report.likeness for report in vetoed)[1]
    vetoed, _ = images(asked, 5, -1.0, likeness=StructuralSimilarity(), least_likeness=some)
    assert [report.decision != "kept" for report in vetoed] == [report.likeness < some for report in vetoed]
    assert sum(report.decision != "kept" for report in vetoed) == 1

"""Best of n: tries in a host of stand-ins, and in a real A1111."""

import math
from contextlib import nullcontext

import pytest
import torch
from understudy.a1111 import tries as module
from understudy.a1111.counting import KEPT_AS, Evaluations
from understudy.a1111.tries import tries_of
from understudy.a1111.trouble import OUT_OF_MEMORY
from understudy.samplers.best_of import seed_of_try

from .jobs import HIRES, SMALL, small
from .test_txt2img import asked, by_score
from .watching_files import new_files


class Conditioning:
    """As the host holds prompts that AND may join."""

    def __init__(self, batch):
        self.batch, self.shape = batch, (len(batch),)


class Processing:
    """A student whose picture is a number made of its seed and its prompt."""

    sd_model, subseed_strength, seed_resize_from_h, seed_resize_from_w = None, 0, 0, 0
    steps, cfg_scale, disable_extra_networks = 2, 1, False

    def __init__(self, seeds, subseeds=None):
        self.seeds, self.subseeds = list(seeds), list(subseeds or [9] * len(seeds))
        self.prompts = [f"prompt {place}" for place in range(len(seeds))]
        self.negative_prompts = [""] * len(seeds)
        self.c, self.uc = Conditioning(list(self.prompts)), list(self.prompts)
        self.init_latent = torch.arange(len(seeds))[:, None]
        self.batch_size, self.do_not_save_samples, self.rng, self.sampled = len(seeds), False, "theirs", []

    def sample(self, conditioning, unconditional_conditioning, seeds, subseeds, subseed_strength, prompts):
        assert conditioning.batch == unconditional_conditioning == prompts == self.prompts
        assert self.batch_size == len(seeds) == len(self.init_latent) and self.do_not_save_samples
        assert [f"prompt {int(latent)}" for latent in self.init_latent] == prompts
        self.sampled.append((list(seeds), list(subseeds)))
        getattr(self, KEPT_AS).add(1, 1)
        return picture(seeds)

    def state(self):
        return {name: value for name, value in vars(self).items() if name not in ("sampled", KEPT_AS)}


def picture(seeds):
    """[B, 1, 1, 1] in [-1, 1]."""
    return torch.tensor([[[[seed % 1000 / 500 - 1]]] for seed in seeds])


@pytest.fixture
def student(stand_in, monkeypatch):
    """Runs tries over a Processing, whose pictures are scored by their pixel."""
    stand_in.processing.decode_latent_batch = lambda model, samples, **_: list(samples)
    stand_in.devices.cpu, stand_in.devices.autocast = "cpu", nullcontext
    stand_in.rng.ImageRNG = lambda shape, seeds, **_: (shape, seeds)
    monkeypatch.setattr(module.host, "undisturbed", lambda settings: nullcontext())
    monkeypatch.setattr(module.host, "shown_pass", lambda *_: nullcontext())
    monkeypatch.setattr(module.host, "load_chosen_checkpoint", lambda p: None)

    def run(p, n, passes=None, score=lambda pixels, places: [float(each) for each in pixels]):
        return tries_of(p, picture(p.seeds), (4, 8, 8), Evaluations(2, 1), n, score, passes)

    return run


def of(seed):
    return (seed % 1000 / 500 - 1 + 1) / 2


def test_the_best_try_is_taken_and_its_seed_is_told(student):
    p = Processing([5, 700])
    before = p.state()
    tried = student(p, 4)
    for place, seed in enumerate((5, 700)):
        seeds = [seed_of_try(seed, 0, number) for number in range(4)]
        assert tried.seeds[place] == max(seeds, key=of) and tried.scores[place] == pytest.approx(max(map(of, seeds)))
        assert tried.first_scores[place] == pytest.approx(of(seed))
        assert torch.equal(tried.latents[place], picture([tried.seeds[place]])[0])
    assert tried.counts == [4, 4] and tried.problem == ""
    assert tried.evaluations == [2 + 3 * 1] * 2
    assert p.state() == before and len(p.sampled) == 3


def test_what_a_picture_becomes_is_the_same_alone(student):
    together = student(Processing([5, 700, 31]), 3)
    assert [student(Processing([seed]), 3).seeds[0] for seed in (5, 700, 31)] == together.seeds


def test_what_passes_is_not_tried_again(student):
    p = Processing([5, 700, 31])
    tried = student(p, 3, passes=lambda score: score >= 0.5)
    assert tried.seeds[1] == 700 and tried.counts[1] == 1
    assert all(700 not in seeds for seeds, _ in p.sampled)
    assert p.sampled[0][0] == [seed_of_try(5, 0, 1), seed_of_try(31, 0, 1)]
    passed = [score >= 0.5 for score in tried.scores]
    assert all(count == 3 or done for count, done in zip(tried.counts, passed, strict=True))


def test_of_variations_the_variations_seed_is_another(student):
    p = Processing([5, 5], [9, 10])
    p.subseed_strength = 0.5
    tried = student(p, 2)
    assert tried.seeds == [5, 5]
    assert p.sampled == [([5, 5], [seed_of_try(9, 0, 1), seed_of_try(10, 0, 1)])]


@pytest.mark.parametrize("how", ["interrupted", "raised"])
def test_a_try_that_fails_leaves_the_best_of_those_before(student, stand_in, how):
    p = Processing([5])
    sample = p.sample

    def fail(**given):
        if len(p.sampled) == 1:
            if how == "raised":
                raise RuntimeError("CUDA out of memory")
            stand_in.shared.state.interrupted = True
        return sample(**given)

    p.sample = fail
    tried = student(p, 4)
    seeds = [5, seed_of_try(5, 0, 1)]
    assert tried.seeds == [max(seeds, key=of)] and tried.counts == [2]
    assert tried.problem == ("interrupted" if how == "interrupted" else OUT_OF_MEMORY)
    assert p.batch_size == 1 and p.seeds == [5] and p.rng == "theirs"


def test_pictures_without_a_score_are_tried_again_and_never_preferred(student):
    def score(pixels, places):
        return [math.nan if float(each) == pytest.approx(of(5)) else float(each) for each in pixels]

    tried = student(Processing([5]), 2, passes=lambda score: True, score=score)
    assert tried.seeds == [seed_of_try(5, 0, 1)] and math.isnan(tried.first_scores[0])
    tried = student(Processing([5]), 2, score=lambda pixels, places: [math.nan])
    assert tried.seeds == [5] and math.isnan(tried.scores[0])


def alike(one: bytes, other: bytes) -> bool:
    """Equal to the rounding of a batch."""
    pairs = list(zip(one, other, strict=True))
    return max(abs(a - b) for a, b in pairs) <= 1 and sum(a != b for a, b in pairs) < len(pairs) / 50


@pytest.fixture(scope="module")
def first(a1111):
    """What the first tries score."""
    return small(a1111, *asked(share=0.0))


@pytest.mark.parametrize("changes", [{}, {"batch_size": 1, "n_iter": 4}], ids=["a batch", "one by one"])
def test_of_three_tries_the_best_is_shown_with_the_seed_that_makes_it(a1111, first, changes):
    made = small(a1111, *asked(share=0.0, best_of=3), **changes)
    assert made.said("tries") == ["3"] * 4 and made.said("evaluations") == ["12"] * 4
    gained = [float(new) - float(old) for new, old in zip(made.said("score"), first.said("score"), strict=True)]
    assert min(gained) > -1e-3 and max(gained) > 1e-3
    for place, asked_for in enumerate(made.said("first seed")):
        assert (asked_for is None) == (made.info["all_seeds"][place] == 1 + place)
        assert f"Seed: {made.info['all_seeds'][place]}," in made.texts[place]
    place = next(place for place, seed in enumerate(made.said("first seed")) if seed is not None)
    seed = made.info["all_seeds"][place]
    alone = small(a1111, batch_size=1, seed=seed)
    assert alike(alone.pixels[0], made.pixels[place])
    if changes:
        assert alone.pixels[0] == made.pixels[place]
    # As pasted: the panel says one try.
    assert made.said("best of") == ["1"] * 4
    pasted = small(a1111, *asked(share=0.0, best_of=1), batch_size=1, seed=seed)
    assert pasted.pixels[0] == alone.pixels[0]


def test_below_a_score_only_what_fails_is_tried_again_and_the_teacher_has_the_rest(a1111, first):
    score = by_score(first)
    made = small(a1111, *asked(rule="below score", score=score, best_of=2))
    for place, old in enumerate(map(float, first.said("score"))):
        assert made.said("tries")[place] == (None if old >= score else "2")
        assert (made.said("decision")[place] == "redone") == (float(made.said("score")[place]) < score)
        if old >= score:
            assert made.pixels[place] == first.pixels[place] and made.texts[place].count("Understudy first seed") == 0


def test_the_redone_start_from_the_try_that_was_taken(a1111):
    job = {"batch_size": 1}
    made = small(a1111, *asked(rule="below score", score=100.0, best_of=4), **job, seed=40)
    assert made.said("first seed") == ["40"] and made.said("decision") == ["redone"]
    alone = small(a1111, *asked(rule="below score", score=100.0), **job, seed=made.info["all_seeds"][0])
    assert alone.pixels == made.pixels


def test_tries_go_through_hires_fix_and_leave_no_file(a1111):
    hires = {**HIRES, "hr_scale": 1.5, "denoising_strength": 0.5, "batch_size": 1}
    large = a1111.able("hires fix over the API", **SMALL, **hires).images[0].size
    before = "save_images_before_highres_fix"  # the host puts back only what somebody has set
    a1111.post("/sdapi/v1/options", {before: False})
    with new_files(a1111) as files:
        made = small(
            a1111,
            *asked(share=0.0, best_of=3),
            **hires,
            seed=7,
            save_images=True,
            override_settings={before: True},
        )
    assert made.images[0].size == large and made.said("tries") == ["3"]
    assert len(files) == 2  # before hires fix, of the first, and the picture
    alone = small(a1111, **hires, seed=made.info["all_seeds"][0])
    assert alone.pixels == made.pixels


def test_of_variations_another_variation_is_tried(a1111):
    same = {"subseed_strength": 0.3, "subseed": 5, "batch_size": 1}
    found = (small(a1111, *asked(share=0.0, best_of=4), **same, seed=seed) for seed in range(1, 9))
    made = next(made for made in found if made.said("first seed") != [None])
    assert made.said("first seed") == ["5"] and made.info["all_seeds"][0] in range(1, 9)
    again = small(a1111, **{**same, "subseed": made.info["all_subseeds"][0]}, seed=made.info["all_seeds"][0])
    assert again.pixels == made.pixels


def test_a_picture_none_of_whose_tries_has_a_score_says_why(a1111):
    made = small(a1111, *asked(share=0.0, best_of=2), prompt="a submarine", batch_size=1)
    (said,) = made.said("decision")
    assert said.startswith("not scored: unknown in 'a submarine'") and made.said("score") == [None]

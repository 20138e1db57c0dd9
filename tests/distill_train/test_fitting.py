"""How much of a batch fits at once: the search, what a training makes of it, and what a run keeps of that."""

import json
import os
import signal

import pytest
import torch
from understudy.distill_train.config import RecipeError
from understudy.distill_train.run import fitting
from understudy.distill_train.run.directory import Run
from understudy.distill_train.run.estimate import estimate
from understudy.distill_train.run.fitting import SPARE, fit, largest_fitting
from understudy.distill_train.run.loop import train
from understudy.distill_train.run.memory import metered
from understudy.distill_train.run.optimizers import state_bytes
from understudy.distill_train.run.processes import start_process
from understudy.distill_train.run.stopping import Stopped
from understudy.distill_train.run.training import Training

from .test_loop import SHARDING, losses, on_tiny, same  # noqa: F401 - a fixture
from .tiny import CPU, method, recipe

LORA = {"train": "lora", "rank": 2}
AUTO = {"accumulate": "auto", "checkpointing": "auto", "steps": 4, "checkpoint_every": 2, "ema": 0.0}


def test_the_largest_size_that_fits_is_found_without_trying_what_cannot():
    def search(limit, peak_of):
        tried = []
        return largest_fitting([1, 2, 3, 4, 6, 12], lambda size: tried.append(size) or peak_of(size), limit), tried

    assert search(1000, lambda size: 10 + 5 * size) == (12, [1, 2, 3, 4, 6, 12])
    assert search(29, lambda size: 10 + 5 * size) == (3, [1, 2, 3])
    assert search(29, lambda size: 10 + size**2) == (4, [1, 2, 3, 4])
    assert search(16, lambda size: 10 + 5 * size) == (1, [1, 2])
    assert search(14, lambda size: 10 + 5 * size) == (0, [1])
    assert search(-1, lambda size: 10 + 5 * size) == (0, [])

    def out_of_memory(size):
        if size > 2:
            raise torch.cuda.OutOfMemoryError
        return size

    assert search(1000, out_of_memory) == (2, [1, 2, 3])


def training_by(**loop):
    return Training(method("lcm", AUTO | loop, LORA), start_process("cpu"))


def needed(parts, recomputed=False):
    """Bytes that a step takes beside the network, by hand."""
    training = training_by(accumulate=parts, checkpointing=recomputed)
    with metered(CPU) as most:
        training.rehearse(4 // parts)
        peak = most(lambda: training.rehearse(4 // parts))
    return peak + state_bytes(training.recipe.loop, training.parameters[0])


@pytest.fixture
def there_are(monkeypatch):
    """Called with bytes, lets so many be used by a training."""
    return lambda count: monkeypatch.setattr(fitting, "room", lambda *_: (count + 1) / (1 - SPARE))


def found(training):
    fit(training)
    assert training.recipe is training.method.recipe
    return training.recipe.loop.accumulate, training.recipe.loop.checkpointing


def test_a_batch_is_worked_on_in_as_few_parts_as_fit(there_are):
    for parts in (1, 2, 4):
        there_are(needed(parts))
        assert found(training_by()) == (parts, False)
        there_are(needed(parts) - 100)
        assert found(training_by()) != (parts, False)


def test_activations_are_recomputed_only_where_not_one_sample_fits_without(there_are):
    assert needed(4, recomputed=True) < needed(4)
    there_are(needed(4, recomputed=True))
    assert found(training_by()) == (4, True)
    there_are(needed(4))
    assert found(training_by()) == (4, False)


def test_what_the_recipe_says_stays(there_are):
    there_are(needed(1))
    assert found(training_by(accumulate=2)) == (2, False)
    assert found(training_by(checkpointing=True)) == (1, True)
    there_are(0)
    assert found(training_by(accumulate=4, checkpointing=True)) == (4, True), "nothing to find, so nothing is measured"


def test_where_nothing_fits_one_line_says_so(there_are):
    there_are(1000)
    with pytest.raises(RecipeError, match="not even 1 of the 4 samples at once fits into the .* GiB that are free"):
        fit(training_by())
    with pytest.raises(RecipeError, match=r"not even 2 of .* or raise loop.memory_gib = 0.5"):
        fit(training_by(accumulate=2, memory_gib=0.5))


def test_what_is_measured_are_the_last_of_a_batch_where_the_longest_texts_are(there_are):
    there_are(needed(1))
    training, seen = training_by(), []
    source = training.method.source
    batch = source.batch
    source.batch = lambda step, indices: seen.append(indices) or batch(step, indices)
    fit(training)
    assert {len(indices) for indices in seen} == {1, 2, 4} and {indices.stop for indices in seen} == {4}


def test_finding_changes_nothing_that_is_learned(there_are):
    there_are(needed(2))
    plain, fitted = training_by(accumulate=2, checkpointing=False), training_by()
    before = torch.get_rng_state()
    fit(fitted)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in fitted.network.parameters()) and not fitted.optimizers[0].state
    for _ in range(2):
        (loss, norm), (again, norm_again) = plain.advance()[0], fitted.advance()[0]
        assert torch.equal(loss, again) and torch.equal(norm, norm_again)


def test_weights_that_processes_hold_in_parts_need_a_number():
    training = training_by()
    training.accelerator = SHARDING
    with pytest.raises(RecipeError, match='with FSDP loop.accumulate and loop.checkpointing cannot be "auto"'):
        fit(training)


def test_a_run_keeps_to_what_it_found(on_tiny, there_are, tmp_path, monkeypatch):  # noqa: F811
    there_are(needed(2))
    r = recipe("lcm", AUTO, LORA)
    whole = train(r, tmp_path / "whole", device="cpu")
    own = json.loads((tmp_path / "whole" / "recipe.json").read_text())["loop"]
    assert (own["accumulate"], own["checkpointing"]) == (2, False)
    with monkeypatch.context() as patched, pytest.raises(Stopped):
        advance = Training.advance
        patched.setattr(Training, "advance", lambda self: (os.kill(os.getpid(), signal.SIGINT), advance(self))[1])
        train(r, tmp_path / "run", device="cpu")
    there_are(needed(4, recomputed=True))  # on another card, say
    assert same(train(r, tmp_path / "run", resume=True, device="cpu"), whole)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert Run.own_recipe(tmp_path / "run").loop.accumulate == 2


def test_an_estimate_says_what_it_found(on_tiny, there_are, tmp_path):  # noqa: F811
    there_are(needed(2))
    found = estimate(recipe("lcm", AUTO | {"steps": 20}, LORA), tmp_path / "run", "cpu")
    assert (found.parts, found.recomputed) == (2, False)
    assert "loop.accumulate = 2, loop.checkpointing = false" in found.summary()

"""Several optimizers that take turns on parts of one network."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from understudy.distill_train.config import RecipeError, Strict
from understudy.distill_train.data.randomness import Draws
from understudy.distill_train.methods.base import Method, Shardable, Turn
from understudy.distill_train.run.directory import Run
from understudy.distill_train.run.failures import TrainingError
from understudy.distill_train.run.loop import set_up, train
from understudy.distill_train.run.processes import require_whole_weights

from .test_loop import SHARDING
from .tiny import recipe
from .two_processes import run_in_two_processes


class Pair(nn.Module):
    """A student and a critic of what it makes, in one network, as the loop wraps one."""

    def __init__(self):
        super().__init__()
        self.student, self.critic = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x, judged):
        return self.critic(self.student(x)) if judged else self.critic(x)


class Contest(Method):
    """The critic tells the student's output from the data; the student makes what it takes for data."""

    name, summary, source, Settings = "contest", "a test", "this project", Strict

    def __init__(self, recipe, device):
        super().__init__(Strict(), recipe, device)
        self.network, self.frozen = Pair(), []

    def turns(self):
        return [Turn(self.student_loss, "student"), Turn(self.critic_loss, "critic")]

    def student_loss(self, network, step, indices):
        self.frozen.append([name for name, p in self.network.named_parameters() if not p.requires_grad])
        return -network(self.draw(indices), judged=True).mean()

    def critic_loss(self, network, step, indices):
        self.frozen.append([name for name, p in self.network.named_parameters() if not p.requires_grad])
        x = self.draw(indices)
        both = torch.cat([x + 1, self.network.student(x)])
        signs = torch.cat([-torch.ones(len(x), 1), torch.ones(len(x), 1)])
        return torch.nn.functional.softplus(signs * network(both, judged=False)).mean()

    def draw(self, indices):
        return Draws(self.recipe.seed, indices, self.device).normal("x", (3,))

    def loss(self, network, step):
        raise AssertionError("turns have losses of their own")

    def require_parts(self, parts):
        pass

    def measure(self, network):
        return None, {}

    def export(self, network, path):
        save_file(network.state_dict(), path)


def contest(loop=None, **more):
    return recipe("contest", {"steps": 6, "checkpoint_every": 2, "ema": 0.5} | (loop or {}), **more)


def start(directory, resume=False, loop=None, make=Contest):
    return train(contest(loop), directory, resume, "cpu", make)


def logged(directory):
    lines = (directory / "log.jsonl").read_text().splitlines()
    timed = ("samples_per_second", "memory_gib")
    return [{key: value for key, value in json.loads(line).items() if key not in timed} for line in lines]


def test_each_turn_lowers_its_own_loss_by_its_own_part(tmp_path):
    training = set_up(contest(), tmp_path / "run", device="cpu", make=Contest).training
    network, losses = training.network, []
    for turn in (0, 1):
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        losses.append(training.take_turn(turn)[0])
        changed = {name.split(".")[0] for name, p in network.named_parameters() if not torch.equal(p, before[name])}
        assert changed == {("student", "critic")[turn]}
    # The critic's turn saw the student after its turn; a step's own random numbers are one draw for both.
    again = set_up(contest(), tmp_path / "again", device="cpu", make=Contest).training
    loss, norm = again.advance()[0]
    assert loss == losses[0] and norm > 0
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.network.parameters(), strict=True))
    assert again.method.frozen == [["critic.weight", "critic.bias"], ["student.weight", "student.bias"]]
    assert all(p.requires_grad for p in again.network.parameters())
    assert len(again.ema.weights) == 2  # of what is exported


def test_a_run_of_two_turns_goes_on_to_the_last_bit_and_logs_both(tmp_path):
    whole = load_file(start(tmp_path / "whole"))
    start(tmp_path / "run")
    run = Run(tmp_path / "run")
    state = torch.load(run.checkpoints()[-1], weights_only=True)
    assert [len(optimizer["state"]) for optimizer in state["optimizers"]] == [2, 2]
    run.checkpoints()[-1].unlink()
    resumed = load_file(start(tmp_path / "run", resume=True))
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
    assert logged(tmp_path / "run") == logged(tmp_path / "whole")
    assert {"loss", "grad_norm", "loss critic", "grad_norm critic", "lr"} < logged(tmp_path / "run")[0].keys()


def test_turns_work_in_parts_and_in_half_precision(tmp_path):
    start(tmp_path / "whole")
    start(tmp_path / "parts", loop={"accumulate": 2})
    for ours, theirs in zip(logged(tmp_path / "parts"), logged(tmp_path / "whole"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    start(tmp_path / "half", loop={"precision": "fp16"})
    assert logged(tmp_path / "half")[-1]["loss critic"] == pytest.approx(ours["loss critic"], rel=0.1)


def test_what_should_train_but_has_no_part_in_the_loss_is_named(tmp_path):
    class Idle(Contest):
        def __init__(self, *given):
            super().__init__(*given)
            self.network.critic.spare = nn.Linear(2, 2)

    with pytest.raises(TrainingError, match="does not depend on spare.bias, spare.weight, which should train"):
        start(tmp_path / "run", make=Idle)


def test_shards_are_for_methods_that_say_how():
    with pytest.raises(RecipeError, match="contest does not train with FSDP"):
        require_whole_weights(Contest(contest(), torch.device("cpu")), SHARDING)

    class Half(Contest, Shardable):
        pass

    with pytest.raises(TypeError, match="abstract.*export_sharded"):
        Half(contest(), torch.device("cpu"))


class Uneven(Contest):
    """The critic learns three times for each time that the student does."""

    def turns(self):
        student, critic = super().turns()
        return [student, critic._replace(times=3)]


def test_a_turn_may_be_taken_several_times_each_on_a_batch_of_its_own(tmp_path):
    training = set_up(contest(), tmp_path / "run", device="cpu", make=Uneven).training
    told = []
    for at, turn in enumerate(training.turns):

        def watched(network, step, indices, name=turn.part, loss=turn.loss):
            told.append((name, step, indices, training.network.critic.weight.clone()))
            return loss(network, step, indices)

        training.turns[at] = turn._replace(loss=watched)
    for _ in range(2):
        training.advance()
    size = training.recipe.loop.batch_size
    batches = [("student", 0), *(("critic", n) for n in (0, 1, 2)), ("student", 1), *(("critic", n) for n in (3, 4, 5))]
    assert [entry[:3] for entry in told] == [(name, n, range(n * size, (n + 1) * size)) for name, n in batches]
    assert len({tuple(weight.flatten().tolist()) for *_, weight in told[1:5]}) == 4
    assert training.step == 2


def test_a_broken_loss_in_any_of_them_stops_the_run(tmp_path):
    class Broken(Uneven):
        def critic_loss(self, network, step, indices):
            # Without a gradient, so that no later loss is broken by it.
            return super().critic_loss(network, step, indices) + (float("nan") if step == 4 else 0)

    with pytest.raises(TrainingError, match="not a finite number at step 2"):
        start(tmp_path / "run", make=Broken)


def test_uneven_turns_go_on_to_the_last_bit_and_in_half_precision(tmp_path):
    whole = load_file(start(tmp_path / "whole", make=Uneven))
    start(tmp_path / "run", make=Uneven)
    Run(tmp_path / "run").checkpoints()[-1].unlink()
    resumed = load_file(start(tmp_path / "run", resume=True, make=Uneven))
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
    start(tmp_path / "half", loop={"precision": "fp16"}, make=Uneven)
    assert logged(tmp_path / "half")[-1]["loss critic"] == pytest.approx(
        logged(tmp_path / "whole")[-1]["loss critic"], 0.1
    )


@pytest.mark.slow
def test_two_processes_are_one_with_the_whole_batch(tmp_path):
    start(tmp_path / "alone", loop={"accumulate": 2})
    code = "import pathlib, sys; from tests.distill_train.test_turns import start; "
    code += "start(pathlib.Path(sys.argv[1]), loop={'accumulate': 2})"
    run_in_two_processes("-c", code, str(tmp_path / "pair"))
    for ours, theirs in zip(logged(tmp_path / "pair"), logged(tmp_path / "alone"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)

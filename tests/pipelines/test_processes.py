"""Several processes, as `accelerate launch` starts them."""

from datetime import timedelta
from types import SimpleNamespace

import accelerate
import torch
from understudy.pipelines.processes import Processes


def test_one_that_is_done_waits_for_the_others_longer_than_torch_would(monkeypatch):
    given = {}

    def state(**options):
        given.update(options)
        return SimpleNamespace(process_index=1, num_processes=2, device=torch.device("cpu"))

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(accelerate, "PartialState", state)
    processes = Processes("cpu")
    assert (processes.rank, processes.count, processes.is_main) == (1, 2, False)
    assert given["cpu"] and given["timeout"] >= timedelta(days=1), "a group's default is 10 to 30 minutes"

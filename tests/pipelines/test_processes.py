"""Several processes, as `accelerate launch` starts them."""

from datetime import timedelta
from types import SimpleNamespace

import torch
from understudy.pipelines.processes import Processes


def test_the_others_wait_for_a_share_longer_than_for_a_step(monkeypatch):
    asked = []

    def gather(found, value, group):
        found[:] = [value, group]

    state = SimpleNamespace(process_index=1, num_processes=2, device=torch.device("cpu"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.PartialState", lambda cpu: state)
    monkeypatch.setattr(torch.distributed, "new_group", lambda **what: asked.append(what) or "patient")
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    processes = Processes("cpu")
    assert (processes.rank, processes.count, processes.is_main) == (1, 2, False)
    assert processes.gather("share") == ["share", "patient"]
    assert asked == [{"backend": "gloo", "timeout": timedelta(days=1)}], "a group's default is 10 to 30 minutes"

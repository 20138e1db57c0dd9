"""One process, or the several that `accelerate launch` started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import torch

# How long one that is done waits for the others' shares; if one fails, its launcher ends them all.
PATIENCE = timedelta(days=1)


class Processes:
    """This process's place among all, and its device."""

    rank = 0
    count = 1

    def __init__(self, device: str = "auto"):
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device is {device!r}; expected auto, cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device is cuda, but torch finds no CUDA device here; use --device cpu")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            state = PartialState(cpu=device == "cpu")
            self.rank, self.count, self.device = state.process_index, state.num_processes, state.device
            # Other collectives, such as training's, should notice a dead process sooner.
            self.patient = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
        else:
            self.device = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def gather(self, value) -> list:
        """Every process's value, in order of rank, on every process."""
        if self.count == 1:
            return [value]
        gathered = [None] * self.count
        torch.distributed.all_gather_object(gathered, value, group=self.patient)
        return gathered

    @contextmanager
    def on_main(self, folder: Callable[[], AbstractContextManager[Path]]) -> Iterator[Path]:
        """The folder that the main process opens, on every process; only the main one closes it."""
        if not self.is_main:
            yield Path(self._from_main(None))
            return
        with folder() as path:
            self._from_main(str(path))
            yield path

    def _from_main(self, value):
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

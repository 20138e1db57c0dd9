"""The processes that train together: how one starts, which samples are its own, and how all stop at one step."""

import sys
import time
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from ..config import Loop, RecipeError
from ..methods.base import Method, Shardable
from ..students.sharding import is_sharded

if TYPE_CHECKING:
    from accelerate import Accelerator

NEEDED = ("accelerate", "psutil", "safetensors")  # beside what the command itself needs; pip leaves torch as it is


def start_process(device: str) -> "Accelerator":
    """This process's part in training on a device, "auto", "cpu" or "cuda".

    Raises RecipeError without that device, and for a library that ComfyUI's Python, say, does not have.
    """
    if lacking := [name for name in NEEDED if find_spec(name) is None]:
        raise RecipeError(
            f"training needs what {sys.executable} has not; run it with -m pip install {' '.join(lacking)}"
        )
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    if device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("device is cuda, but torch finds no CUDA device here; use --device cpu")
    waiting = InitProcessGroupKwargs(timeout=timedelta(hours=1))  # for a checkpoint that the main process writes
    # The recipe alone says how to train, whatever `accelerate config` has put into the launcher's environment.
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no", dynamo_backend="no", kwargs_handlers=[waiting])
    accelerator.gradient_accumulation_steps = 1
    return accelerator


def device_of(accelerator: "Accelerator") -> torch.device:
    device = accelerator.device
    return torch.device("cpu") if device.type == "cpu" else device  # launchers number it; safetensors knows no cpu:0


def parts_of_batch(loop: Loop, accelerator: "Accelerator") -> int:
    """In how many parts a batch is worked on, at the least.

    Raises RecipeError for a size that they do not share equally.
    """
    parts = accelerator.num_processes * (1 if loop.accumulate == "auto" else loop.accumulate)
    if loop.batch_size % parts:
        raise RecipeError(
            f"loop.batch_size is {loop.batch_size}; expected a multiple of {parts}, for "
            f"{accelerator.num_processes} processes and loop.accumulate = {loop.accumulate}"
        )
    return parts


def own_parts(step: int, loop: Loop, accelerator: "Accelerator") -> list[range]:
    """Global indices of this process's samples of a step, in parts of equal size."""
    share = loop.batch_size // accelerator.num_processes
    start = step * loop.batch_size + accelerator.process_index * share
    part = share // loop.accumulate
    return [range(at, at + part) for at in range(start, start + share, part)]


def require_whole_weights(method: Method, accelerator: "Accelerator") -> None:
    """Raises RecipeError for a training that FSDP cannot share among processes, where it should."""
    if not is_sharded(accelerator):
        return
    if not isinstance(method, Shardable):
        raise RecipeError(f"{method.recipe.method} does not train with FSDP")
    method.require_shards()
    loop = method.recipe.loop
    several = len(method.stages()) > 1 or len(method.turns()) > 1
    averages = loop.ema or method.keeps_averages
    if averages or loop.precision == "fp16" or several:
        raise RecipeError(
            "with FSDP no process holds whole weights to average: set loop.ema = 0 and settings.target_ema = 0, "
            "loop.precision to bf16 or fp32, and train one stage in one turn"
        )


class StopVote:
    """Whether any process was asked to stop; the same answer in all of them.

    They ask each other about once a second, as each time the device has to be waited for. step: where they begin.
    """

    def __init__(self, accelerator: "Accelerator", step: int = 0):
        self.accelerator = accelerator
        self.ask_at = 0  # the step after which they ask each other again
        self.asked = step, time.monotonic()  # when they did last

    def ask_next(self, step: int) -> None:
        """Have them ask each other at this step, as the last one took longer than others."""
        self.ask_at = step

    def __call__(self, step: int, asked: bool) -> bool:
        processes = self.accelerator.num_processes
        if processes == 1:
            return asked
        if step < self.ask_at:
            return False
        (before, then), now = self.asked, time.monotonic()
        votes = torch.tensor([float(asked), (now - then) / max(1, step - before)], device=device_of(self.accelerator))
        anyone, seconds = self.accelerator.reduce(votes, "sum").tolist()  # seconds: of a step, summed like the requests
        self.ask_at, self.asked = step + max(1, int(processes / max(seconds, 1e-3))), (step, now)
        return anyone > 0

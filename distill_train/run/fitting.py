"""``loop.accumulate`` and ``loop.checkpointing`` = "auto": in how few parts a batch fits, by measured passes."""

from collections.abc import Callable, Sequence

import torch

from ..config import RecipeError
from ..students.sharding import is_sharded
from .memory import metered, room
from .optimizers import state_bytes
from .processes import device_of
from .training import Training

# Of the room, for what the measured part has less of: pictures of other shapes, of up to 6 % more pixels, longer texts,
# and the gaps between what an allocator hands out.
SPARE = 0.1


def fit(training: Training) -> None:
    """Settle what the recipe leaves open. A loop without "auto" is left as it is, and nothing is measured.

    The largest part of a process's share that fits is taken, without recomputation where one sample fits without. What
    is found depends on the memory that is free, so it goes into the run's recipe. Raises RecipeError where not even one
    sample fits, and for weights that processes hold in parts.
    """
    loop, accelerator = training.recipe.loop, training.accelerator
    if "auto" not in (loop.accumulate, loop.checkpointing):
        return
    if is_sharded(accelerator):
        raise RecipeError(
            'with FSDP loop.accumulate and loop.checkpointing cannot be "auto"; say a number, and true or false'
        )
    share = loop.batch_size // accelerator.num_processes
    sizes = _divisors(share) if loop.accumulate == "auto" else [share // loop.accumulate]
    spared = (1 - SPARE) * room(training.device, loop.memory_gib)
    limit = spared - sum(state_bytes(loop, parameters) for parameters in training.parameters)

    def peak_of(size: int) -> int:
        if size == sizes[0]:  # once more, for what happens once, and gradients: a later part finds all of them there
            training.rehearse(size)
        return most(lambda: training.rehearse(size))

    with metered(training.device) as most:
        for recomputed in [False, True] if loop.checkpointing == "auto" else [loop.checkpointing]:
            if recomputed and loop.checkpointing == "auto":
                training.method.save_memory()
            fitting = torch.tensor([largest_fitting(sizes, peak_of, limit)], device=device_of(accelerator))
            training.forget_gradients()
            if size := int(accelerator.gather(fitting).min()):
                training.method.require_parts(accelerator.num_processes * (share // size))
                training.settle(accumulate=share // size, checkpointing=recomputed)
                return
    raise RecipeError(
        f"not even {sizes[0]} of the {loop.batch_size} samples at once fits into the {max(limit, 0) / 2**30:.3g} GiB "
        "that are free beside the networks; take smaller pictures, a lower student.rank or another device"
        + ("" if loop.memory_gib is None else f", or raise loop.memory_gib = {loop.memory_gib:g}")
    )


def largest_fitting(sizes: Sequence[int], peak_of: Callable[[int], int], limit: float) -> int:
    """The largest of rising ``sizes`` of which :func:`peak_of` gives at most ``limit`` bytes; 0 for none.

    Each is measured, until the line through the two before lies above the limit already.
    """
    fitting, peak, slope = 0, 0, 0.0
    for size in sizes:
        if peak + slope * (size - fitting) > limit:
            break
        try:
            now = peak_of(size)
        except torch.cuda.OutOfMemoryError:
            break
        if now > limit:
            break
        slope = (now - peak) / (size - fitting) if fitting else 0.0
        fitting, peak = size, now
    return fitting


def _divisors(count: int) -> list[int]:
    return [size for size in range(1, count + 1) if count % size == 0]

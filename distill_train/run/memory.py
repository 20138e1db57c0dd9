"""The memory that tensors take: counted where no device counts it, measured where one does."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


def memory(device: torch.device) -> float:
    """GiB: the most that torch has held of a CUDA device, or what this process takes now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**30
    return _resident() / 2**30


def room(device: torch.device, most: float | None = None) -> int:
    """Bytes that tensors may still take on a device: what is free there, and not more than ``most`` GiB in all."""
    if device.type == "cuda":
        held, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        free = torch.cuda.mem_get_info(device)[0] + reserved - held
    else:
        import psutil

        held, free = _resident(), psutil.virtual_memory().available
    return free if most is None else min(free, int(most * 2**30) - held)


@contextmanager
def metered(device: torch.device) -> Iterator[Callable[[Callable[[], None]], int]]:
    """Within, what it gives does some work and returns the most bytes that tensors took meanwhile.

    Those that were there when the context began do not count; those of earlier work that are still there do. Of a CUDA
    device it is the allocator's count, elsewhere that of :class:`LiveTensors`.
    """
    if device.type != "cuda":
        with LiveTensors() as live:

            def most(work: Callable[[], None]) -> int:
                live.forget_peak()
                work()
                return live.peak

            yield most
        return
    before = torch.cuda.memory_allocated(device)

    def most_on_cuda(work: Callable[[], None]) -> int:
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before

    yield most_on_cuda
    torch.cuda.empty_cache()  # of the sizes that were tried and not taken
    torch.cuda.reset_peak_memory_stats(device)


class Known(NamedTuple):
    """A storage, and whether it counts, as those do not that were there before."""

    storage: weakref.ref
    counts: bool


class LiveTensors(TorchDispatchMode):
    """Bytes of the tensors that operations made while it was active and somebody still holds; ``peak`` is the most.

    Those that were there before do not count, unless :meth:`hold` is told of them. What shares memory counts once. Fake
    tensors, which have shapes and no memory, are counted as real ones are. Work memory within an operation is unseen.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, Known] = {}

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were there before."""
        for tensor in tensors:
            place = tensor.untyped_storage()._cdata
            if place in self._known and not self._known[place].counts:  # an operation was given it
                del self._known[place]
            self._note(tensor, True)

    def forget_peak(self) -> None:
        """Let ``peak`` begin anew."""
        self.peak = self.now

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        for given in tree_iter((arguments, named)):
            self._note(given, False)
        result = operation(*arguments, **(named or {}))
        for made in tree_iter(result):
            self._note(made, True)
        return result

    def _note(self, value: object, counts: bool) -> None:
        if not isinstance(value, Tensor):
            return
        storage = value.untyped_storage()
        place = storage._cdata
        if place in self._known:
            return
        size = storage.nbytes() if counts else 0
        self.now += size
        self.peak = max(self.peak, self.now)
        self._known[place] = Known(weakref.ref(storage, lambda _: self._release(place, size)), counts)

    def _release(self, place: int, size: int) -> None:
        self.now -= size
        del self._known[place]


def _resident() -> int:
    import psutil

    return psutil.Process().memory_info().rss

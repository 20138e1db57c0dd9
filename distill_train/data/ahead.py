"""Work that a thread does ahead of who needs it, as pictures are decoded while a device encodes those before."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Given, Made = TypeVar("Given"), TypeVar("Made")


def ahead(function: Callable[[Given], Made], work: Iterable[Given], lead: int) -> Iterator[Made]:
    """``function(one)`` for each of ``work``, in its order, made by one thread that is at most ``lead`` ahead.

    What the function raises comes where its result would have.
    """
    with ThreadPoolExecutor(1) as thread:
        waiting = deque()
        try:
            for one in work:
                waiting.append(thread.submit(function, one))
                if len(waiting) > lead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()

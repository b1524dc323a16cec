"""Many calls that wait, some at a time."""

import collections
import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], n_at_once: int
) -> Iterator[Result]:
    """Yield the results of a function, in the order of its arguments; raise what it raises.

    Parameters
    ----------
    function
        What to call, in threads.
    items
        Its arguments, which are taken as they are needed.
    n_at_once
        Most calls at a time; as many results are kept at most.
    """
    with concurrent.futures.ThreadPoolExecutor(n_at_once, "request") as pool:
        waiting: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= n_at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

"""Calls that wait for storage: some at a time, if it is slow."""

import collections
import concurrent.futures
import time
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Item = TypeVar("Item")
Result = TypeVar("Result")

AT_ONCE = 32
"""Calls at a time where each one waits."""

_TRIED = 8
"""Calls that are timed."""

_SLOW = 0.002
"""Seconds of a call from which on threads pay."""


class Pace:
    """Finds out how many calls at a time pay, from what the first ones took.

    Parameters
    ----------
    n_at_once
        Calls at a time to begin with; more than one if it is known that each one waits.
    """

    def __init__(self, n_at_once: int = 1) -> None:
        self.n_at_once = n_at_once
        """Calls at a time."""
        self._seconds: list[float] | None = [] if n_at_once == 1 else None

    def call(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Return what a function returns, and time it if it is among the first."""
        seconds = self._seconds
        if seconds is None:
            return function(*args, **kwargs)
        began = time.perf_counter()
        result = function(*args, **kwargs)
        seconds.append(time.perf_counter() - began)
        if len(seconds) >= _TRIED:
            # Some of them may have waited for a processor; the first one often opens a connection.
            if sorted(seconds)[_TRIED // 4] > _SLOW:
                self.n_at_once = AT_ONCE
            self._seconds = None
        return result


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], n_at_once: int = 1
) -> Iterator[Result]:
    """Yield the results of a function, in the order of its arguments; raise what it raises.

    Parameters
    ----------
    function
        What to call; in threads, if that pays.
    items
        Its arguments, which are taken as they are needed.
    n_at_once
        Calls at a time, if it is known that each one waits; otherwise the first ones are timed.
    """
    pace, iterator = Pace(n_at_once), iter(items)
    while pace.n_at_once == 1:
        for item in iterator:
            yield pace.call(function, item)
            break
        else:
            return
    with concurrent.futures.ThreadPoolExecutor(pace.n_at_once, "request") as pool:
        waiting: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
        try:
            for item in iterator:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= pace.n_at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

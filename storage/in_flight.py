"""Operations on files, which mostly wait: many at a time where they take long, one by one elsewhere."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Item = TypeVar("Item")
Result = TypeVar("Result")

_MEASURED = 5
"""Operations that are measured, an odd number. What most of them take counts: a single one may have had bad
luck."""

_LONG = 0.0005
"""Seconds of an operation that is worth a thread. A local one takes a tenth of that."""

_EACH = 0.0002
"""Seconds of work that there is with a file: with as many others under way as fit into the time that it takes
to get it, nobody has to wait."""

_FEWEST, _MOST = 32, 128
"""Operations at a time where they take long."""


class Requests:
    """Does operations in threads if they take long. Used by one thread; a context manager that closes it.

    Parameters
    ----------
    number
        Operations at a time; by default one, until some of them were measured and took long.
    """

    def __init__(self, number: int | None = None) -> None:
        self.at_once = number or 1
        """Operations at a time; with one, there is no thread."""
        self.is_measuring = False
        """Whether operations are to be done by `measured`."""
        self._is_fixed = number is not None
        self._seconds: list[float] = []
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._n_threads = 0

    def __enter__(self) -> Requests:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads. It does not wait for them: one may hang in a file system that does."""
        with contextlib.suppress(queue.Empty):
            while (job := self._jobs.get_nowait()) is not None:
                job.cancel()
        for _ in range(self._n_threads):
            self._jobs.put(None)
        self._n_threads = 0

    def measure(self) -> None:
        """Have the next operations measured, if their result can change anything."""
        # What was measured before counts: there may be few operations from one call to the next.
        self.is_measuring = self.at_once == 1 and not self._is_fixed

    def measured(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Return what an operation gives, and note what it took."""
        began = time.perf_counter() - _busy_seconds()
        try:
            return function(*args, **kwargs)
        finally:
            self._seconds.append(time.perf_counter() - _busy_seconds() - began)
            long = [seconds for seconds in self._seconds if seconds > _LONG]
            # Where most took long, it is of no use to wait for the others.
            if len(long) > _MEASURED // 2 or len(self._seconds) >= _MEASURED:
                self.is_measuring = False
                seconds = sorted(self._seconds)[len(self._seconds) // 2]
                self._seconds.clear()
                self.suit(seconds)

    def suit(self, seconds: float) -> None:
        """Have as many operations under way as suit what one takes, in s; never fewer than until now."""
        if seconds > _LONG:
            self.at_once = max(self.at_once, min(_MOST, max(_FEWEST, round(seconds / _EACH))))
            for _ in range(min(self.at_once - self._n_threads, self._jobs.qsize())):
                self._start()

    def begin(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Job[Result]:
        """Begin an operation in a thread; its `result` waits for it, and raises what it raises."""
        job = Job(lambda: function(*args, **kwargs))
        if self._n_threads < self.at_once:
            self._start()
        if self._n_threads:
            self._jobs.put(job)
        else:
            job.run()
        return job

    def _start(self) -> None:
        # Daemons, since the interpreter would wait for others at its end.
        thread = threading.Thread(target=_serve, args=(self._jobs,), name="request", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system gives no more.
            self.at_once = max(1, self._n_threads)
        else:
            self._n_threads += 1

    def ahead(self, items: Iterable[Item], begin: Callable[[Item], object]) -> Iterator[Item]:
        """Yield items; if operations take long, those of the next items have begun by then.

        Parameters
        ----------
        items
            The items.
        begin
            Begins the operations of an item.
        """
        waiting: collections.deque[Item] = collections.deque()
        for item in items:
            if self.at_once == 1 and not waiting:
                yield item
                continue
            begin(item)
            waiting.append(item)
            if len(waiting) > self.at_once:
                yield waiting.popleft()
        yield from waiting

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield what an operation gives for each item, in their order; raise what it raises.

        Parameters
        ----------
        function
            The operation.
        items
            The items, which are taken as they are needed.
        """
        self.measure()
        jobs: collections.deque[Job[Result]] = collections.deque()

        def begin(item: Item) -> None:
            jobs.append(self.begin(function, item))

        try:
            for item in self.ahead(items, begin):
                if jobs:
                    yield jobs.popleft().result()
                elif self.is_measuring:
                    yield self.measured(function, item)
                else:
                    yield function(item)
        finally:
            for job in jobs:
                job.cancel()


class Job(concurrent.futures.Future[Result]):
    """An operation that is under way, or will be."""

    def __init__(self, work: Callable[[], Result]) -> None:
        super().__init__()
        self._work: Callable[[], Result] | None = work

    def run(self) -> None:
        """Do it, unless it was cancelled."""
        work, self._work = self._work, None
        if work is None or not self.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as exc:
            self.set_exception(exc)
        else:
            self.set_result(result)


def _busy_seconds() -> float:
    """Return for how many seconds this thread has worked, or was ready to and had no processor.

    On a busy machine even the quickest operation takes as long as a slow one now and then. Threads would make
    that worse: they are of use only where an operation waits for something else.
    """
    worked = time.thread_time()
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return worked + int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        # The system does not tell how long it had no processor.
        return worked


def _serve(jobs: queue.SimpleQueue[Job[Any] | None]) -> None:
    # They are for the main thread, which may be waiting.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while (job := jobs.get()) is not None:
        job.run()
        # Or its result would stay until there is another one.
        del job

"""How a worker is started, fed, watched and stopped: as a process, or within the calling one."""

import contextlib
import cProfile
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection as standard_connection
from typing import Any

import multiprocess
from aggregator.schemas import messages, output_paths
from aggregator.storage import errors
from aggregator.workers.engines import launch, library_messages
from aggregator.workers.roles import handling
from multiprocess import reduction

MAX_IN_FLIGHT = 2
"""Messages that a worker may have unanswered: one to work on, one to go on with."""


Attempt = Callable[[Callable[[], messages.Reply]], messages.Reply | None]
"""Returns what some work returns, or nothing if it was given up."""


class LocalWorker:
    """A worker in the calling process: it answers while the message is sent.

    Parameters
    ----------
    kind, name
        As for `roles.Worker`.
    attempt
        Does what may be given up at any moment; then there is no reply.
    """

    def __init__(self, kind: str, name: str, attempt: Attempt) -> None:
        self.name = name
        self._kind = kind
        self._attempt = attempt
        self.pid = os.getpid()
        self.outstanding: deque[str] = deque()
        self.replies: deque[messages.Reply] = deque()
        self._worker = handling.Worker(kind, name)

    def send(self, message: messages.Setup | messages.Request) -> None:
        """Answer a message; `wait` gives the reply."""
        # What a batch or a graph consists of has to be whole; all else is done again by the next run.
        whole = self._kind == handling.INGESTER or isinstance(message, messages.Setup | messages.PublishGraph)
        if whole:
            self.replies.append(self._worker.handle(message))
        elif (reply := self._attempt(lambda: self._worker.handle(message))) is not None:
            self.replies.append(reply)

    @property
    def in_flight(self) -> int:
        """Number of replies that nobody has taken."""
        return len(self.replies)

    def busy_seconds(self) -> float:
        """Return for how long it has been at a message, which is never seen from outside."""
        return 0.0

    def end(self) -> None:
        """Close the role."""
        self._worker.close()

    def join(self, seconds: float) -> None:
        """Wait until it has ended, which it has."""


class _Inherited:
    """A file descriptor that a new process gets a copy of, and keeps open for its life."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Any, tuple[Any]]:
        return _take_over, (reduction.DupFd(self.fd),)


def _take_over(copy: Any) -> _Inherited:
    return _Inherited(copy.detach())


class Clock:
    """Seconds in which this process was running, roughly: those in which it was stopped don't count."""

    _LONGEST_STEP = 1.0

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.monotonic()

    def tick(self) -> None:
        """Go on. This has to be called several times a second: what is longer is taken for a stop."""
        now = time.monotonic()
        self.seconds += min(now - self._last, self._LONGEST_STEP)
        self._last = now


class ProcessWorker:
    """A worker in a process of its own, at the other end of a pipe that nobody else uses.

    Parameters
    ----------
    kind, name
        As for `roles.Worker`.
    lock
        Descriptor of the checkpoint's lock. The worker inherits it, so that the lock outlives a killed
        coordinator until the last worker is gone.
    clock
        Measures for how long it is at a message.
    """

    def __init__(self, kind: str, name: str, lock: int, clock: Clock) -> None:
        self.name = name
        self._clock = clock
        self.outstanding: deque[str] = deque()
        self._since = 0.0
        self.pipe, child = multiprocess.get_context("spawn").Pipe(duplex=True)
        self.process = launch.start(serve, (kind, name, child, _Inherited(lock)), name)
        self.pid: int = self.process.pid
        child.close()

    def send(self, message: messages.Setup | messages.Request) -> None:
        """Send a message; a dead worker shows in `wait`."""
        if not self.outstanding:
            self._since = self._clock.seconds
        self.outstanding.append(handling.describe(message))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send_bytes(messages.pack(message))

    @property
    def in_flight(self) -> int:
        """Number of messages sent and not answered."""
        return len(self.outstanding)

    def receive(self) -> messages.Reply:
        """Return the next reply, after logging what libraries had to say meanwhile."""
        while isinstance(message := messages.unpack(self.pipe.recv_bytes()), messages.Logged):
            logging.getLogger(message.logger).log(message.level, "%s: %s", self.name, message.text)
        reply = check(message)
        self.outstanding.popleft()
        self._since = self._clock.seconds
        return reply

    def busy_seconds(self) -> float:
        """Return for how long it has been at the first message that it has not answered.

        The time in which it, or this process, was stopped is nobody's fault and does not count.
        """
        if self.outstanding and _is_stopped(self.pid):
            self._since = self._clock.seconds
        return self._clock.seconds - self._since if self.outstanding else 0.0

    def end(self) -> None:
        """Close the pipe, which the worker takes as the end."""
        self.pipe.close()

    def join(self, seconds: float) -> None:
        """Wait until it has ended; kill it if that takes longer."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def check_alive(self) -> None:
        """Raise FatalWorkerError if the process is gone."""
        code = self.process.exitcode
        if code is None:
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise errors.FatalWorkerError(
            f"{self.name} (process {self.process.pid}) {how}; what is committed stays. "
            "Run the same command again."
        )


def _is_stopped(pid: int) -> bool:
    """Return whether somebody has stopped a process (SIGSTOP, SIGTSTP) and not continued it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            # The state follows the name, which may have any characters in it.
            return stream.read().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False


Worker = LocalWorker | ProcessWorker


def wait(workers: Sequence[Worker], timeout: float) -> Iterator[tuple[Worker, messages.Reply]]:
    """Yield what workers have answered, after waiting for at most `timeout` seconds.

    Raises
    ------
    FatalWorkerError
        If a worker failed or died.
    """
    for worker in workers:
        if isinstance(worker, LocalWorker):
            while worker.replies:
                yield worker, check(worker.replies.popleft())
    processes = [worker for worker in workers if isinstance(worker, ProcessWorker)]
    if not processes:
        return
    by_source: dict[Any, ProcessWorker] = {w.pipe: w for w in processes}
    by_source.update({w.process.sentinel: w for w in processes})
    # A pipe can hold replies of a process that is gone; they count.
    ready = standard_connection.wait(list(by_source), timeout)
    for source in sorted(ready, key=lambda source: isinstance(source, int)):
        worker = by_source[source]
        try:
            while worker.pipe.poll():
                yield worker, worker.receive()
        except (EOFError, OSError):
            worker.process.join(1.0)
        worker.check_alive()


def check(reply: messages.Reply) -> messages.Reply:
    """Return a reply, or raise what it tells of."""
    if isinstance(reply, messages.Failed):
        error: errors.AggregatorError = errors.FatalWorkerError(reply.cause)
        if reply.exit_code == errors.RefusedError.exit_code:
            error = errors.RefusedError(reply.cause)
        error.add_note(reply.details)
        raise error
    return reply


def serve(kind: str, name: str, pipe: Any, _lock: _Inherited) -> None:
    """Run a worker until its pipe closes: the main function of its process."""
    launch.settle()
    worker = handling.Worker(kind, name)
    collector = library_messages.Collector()
    logging.getLogger().addHandler(collector)
    logging.captureWarnings(True)
    profile: cProfile.Profile | None = None
    try:
        while True:
            message = messages.unpack(pipe.recv_bytes())
            if isinstance(message, messages.Setup) and message.worker_profile_dir:
                path = os.path.join(message.worker_profile_dir, f"{name}.profile")
                protection = message.protection
                profile = cProfile.Profile()
                profile.enable()
            reply = worker.handle(message)
            for logged in collector.take():
                pipe.send_bytes(messages.pack(logged))
            pipe.send_bytes(messages.pack(reply))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        worker.close()
        if profile is not None:
            profile.disable()
            _write_profile(profile, path, protection)
    # Everything is closed; taking the interpreter down would only keep the coordinator waiting.
    os._exit(0)


def _write_profile(profile: cProfile.Profile, path: str, protection: output_paths.Protection) -> None:
    try:
        output_paths.check_again(path, output_paths.Kind.PROFILE, protection)
        profile.dump_stats(path)
    except (OSError, errors.AggregatorError) as exc:
        print(f"No profile is written: {exc}", file=sys.stderr)

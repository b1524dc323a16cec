"""Workers in processes of their own, each at the other end of a pipe that nobody else uses."""

import contextlib
import logging
import os
import pickle
import time
from collections.abc import Callable, Sequence
from typing import Any

from aggregator.workers.engines import clock, engine, launch, library_messages, outcomes
from multiprocess import connection


class Worker(engine.Worker):
    """A worker of `Engine`.

    Parameters
    ----------
    program
        Its program.
    inherited
        Descriptors that it keeps open.
    running
        Measures for how long it is at a message.
    leads_group
        Whether it leads a process group of its own; see `launch.Process`.
    """

    def __init__(
        self, program: engine.Program, inherited: Sequence[int], running: clock.Clock, leads_group: bool
    ) -> None:
        self._clock = running
        self._since = 0.0
        self.process = launch.Process(serve, [program], inherited, leads_group=leads_group)
        self.pipe = self.process.pipe
        super().__init__(program.name, self.process.pid)

    def send(self, message: Any, about: str) -> None:
        """Send a message; a dead worker shows in `Engine.wait`."""
        if not self.outstanding:
            # What nobody has counted yet was before this message.
            self._clock.tick()
            self._since = self._clock.seconds
        self.outstanding.append(about)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send_bytes(pickle.dumps(message))

    def receive(self) -> outcomes.Outcome:
        """Return the next outcome, after logging what libraries had to say meanwhile."""
        while isinstance(reply := pickle.loads(self.pipe.recv_bytes()), library_messages.Logged):
            logging.getLogger(reply.logger).log(reply.level, "%s: %s", self.name, reply.text)
        self.outstanding.popleft()
        self._since = self._clock.seconds
        outcome: outcomes.Outcome = reply
        return outcome

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()

    def busy_seconds(self) -> float:
        """Return for how long it has been at its oldest message.

        The time in which it, or this process, was stopped is nobody's fault and does not count.
        """
        if self.outstanding and clock.is_stopped(self.pid):
            self._since = self._clock.seconds
        return self._clock.seconds - self._since if self.outstanding else 0.0

    def join(self, seconds: float) -> None:
        """Wait until it has ended; kill it if that takes longer."""
        self.process.join(seconds)
        if self.process.poll() is None:
            self.process.kill()
        self.process.close()

    def how_it_ended(self) -> outcomes.Outcome | None:
        """Return how the process ended; nothing if it has not."""
        code = self.process.poll()
        if code is None:
            return None
        return outcomes.Killed(-code) if code < 0 else outcomes.Exited(code)


class Engine(engine.Engine):
    """Runs each worker in a process of its own.

    Parameters
    ----------
    inherited
        Descriptors that every worker keeps open: a lock that they hold outlives this process until the last
        worker is gone.
    leads_groups
        Whether what a worker has started ends with it, if it is killed.
    """

    def __init__(self, inherited: Sequence[int] = (), *, leads_groups: bool = False) -> None:
        self._inherited = inherited
        self._leads_groups = leads_groups
        self._clock = clock.Clock()
        self._workers: list[Worker] = []
        self._watched: dict[Any, Worker] = {}

    def start(self, program: engine.Program) -> engine.Worker:
        """Start a worker. It imports its libraries while this process goes on."""
        worker = Worker(program, self._inherited, self._clock, self._leads_groups)
        self._workers.append(worker)
        self._watched |= {worker.pipe: worker, worker.process.sentinel: worker}
        return worker

    def wait(self, seconds: float) -> Sequence[tuple[engine.Worker, outcomes.Outcome]]:
        """Return new outcomes, after waiting for at most some seconds."""
        self._clock.tick()
        ready = connection.wait(list(self._watched), seconds)
        self._clock.tick()
        answers: list[tuple[engine.Worker, outcomes.Outcome]] = []
        # A pipe can hold replies of a process that is gone; they count.
        for source in sorted(ready, key=lambda source: isinstance(source, int)):
            if source in self._watched:
                self._look(self._watched[source], answers.append)
        # What a worker has started may hold its ends of pipes for long.
        for worker in {} if ready else set(self._watched.values()):
            if worker.how_it_ended() is not None:
                self._look(worker, answers.append)
        return answers

    def _look(self, worker: Worker, note: Callable[[tuple[engine.Worker, outcomes.Outcome]], None]) -> None:
        """Note what a worker has answered, and how it ended if it has."""
        # Whoever has ended has sent everything before.
        end = worker.how_it_ended()
        try:
            while worker.pipe.poll():
                note((worker, worker.receive()))
        except (EOFError, OSError):
            worker.process.join(1.0)
            end = worker.how_it_ended() or outcomes.Lost("it has closed its pipe")
        if end is not None:
            del self._watched[worker.pipe], self._watched[worker.process.sentinel]
            worker.process.kill_group()
            note((worker, end))

    def end(self, seconds: float) -> None:
        """Close all pipes, which workers take as the end; kill those that take longer than some seconds."""
        self._watched.clear()
        for worker in self._workers:
            worker.pipe.close()
        deadline = time.monotonic() + seconds
        while self._workers:
            # It leaves the list when it is gone: a second signal can come while it is waited for.
            self._workers[-1].join(max(0.0, deadline - time.monotonic()))
            self._workers.pop()


def serve(pipe: connection.Connection, program: engine.Program) -> None:
    """Run a worker until its pipe closes: the main function of its process."""
    with contextlib.suppress(OSError):
        # Results of commands go to standard output; what others print in here is none.
        os.dup2(2, 1)
    runner = engine.Runner(program)
    collector = library_messages.Collector()
    logging.getLogger().addHandler(collector)
    logging.captureWarnings(True)
    try:
        while True:
            outcome = runner.answer(pickle.loads(pipe.recv_bytes()))
            for logged in collector.take():
                pipe.send_bytes(pickle.dumps(logged))
            pipe.send_bytes(_packed(outcome))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        runner.close()
    # Everything is closed; taking the interpreter down would only keep the parent waiting.
    os._exit(0)


def _packed(outcome: outcomes.Outcome) -> bytes:
    try:
        return pickle.dumps(outcome)
    except Exception as exc:
        return pickle.dumps(outcomes.failure(exc))

"""Executes a workflow for HTCondor on this machine, for tests and laptops; no scheduler."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import logging
import os
import signal
import time
from collections.abc import Iterator
from concurrent import futures

from aggregator.console import interruption, progress
from aggregator.execution.workflows import condor_workflow, dag_faults, dag_files, dag_schedule, workflow
from aggregator.running import node_commands, workflow_directory
from aggregator.storage import durable_files, errors, local_files, locks

_log = logging.getLogger(__name__)

_DONE = "run-workflow.done"
"""Names of the nodes that have succeeded, one a line, after a hash of the DAG."""
_LOCK = "run-workflow.lock"
_POLL_SECONDS = 0.5
_N_NAMED = 10
"""Jobs that are named."""


@dataclasses.dataclass(slots=True)
class WorkflowAccount:
    """What was done of a workflow."""

    n_jobs: int
    """Jobs, the last one not included."""
    n_before: int
    """Those that had succeeded before."""
    n_succeeded: int = 0
    """Those that have succeeded now."""
    failed: list[str] = dataclasses.field(default_factory=list)
    """Those that have failed."""

    def lines(self) -> list[str]:
        """Return it as text."""
        n_left = self.n_jobs - self.n_before - self.n_succeeded - len(self.failed)
        counts = {
            "succeeded": self.n_succeeded,
            "had succeeded before": self.n_before,
            "failed": len(self.failed),
            "not run": n_left,
        }
        told = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
        lines = [f"Jobs: {told or 'none'}"]
        lines += [f"  {name} has failed; see {workflow.LOGS}/{name}.*" for name in self.failed[:_N_NAMED]]
        return lines


def run(directory: str, n_jobs: int, *, interactive_status: bool | None = None) -> WorkflowAccount:
    """Execute a workflow; what has succeeded before is left alone.

    Parameters
    ----------
    directory
        The workflow.
    n_jobs
        Jobs that run at a time.
    interactive_status
        Whether to show progress bars; by default if standard error is a terminal.

    Raises
    ------
    RefusedError
        If it is no workflow for HTCondor, or there is something wrong with its files.
    InUseError
        If it is being executed.
    Interrupted
        If a signal asked to stop; jobs that were running have ended.
    AggregatorError
        If the workflow has failed.
    """
    directory = os.path.abspath(directory)
    told, dag_path = workflow_directory.marker(directory), os.path.join(directory, condor_workflow.DAG)
    if told is None or not told.content or not local_files.exists(dag_path):
        raise errors.RefusedError(
            f"{directory}: is no complete workflow for HTCondor; aggregator write-workflow makes one."
        )
    with errors.explained(), interruption.Interruption() as stopping, _locked(directory) as lock:
        content = local_files.read_part(dag_path)
        dag, faults = dag_files.read(content.decode(errors="surrogateescape").splitlines())
        submits, more = dag_faults.find(dag, directory)
        if found := [*faults, *more]:
            raise errors.RefusedError("\n".join(f"{directory}: {fault}" for fault in found))
        commands = node_commands.NodeCommands(directory, submits, lock.descriptor)
        journal = _Journal(os.path.join(directory, _DONE), content)
        return _Run(dag, commands, journal, stopping, n_jobs, interactive_status).run()


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[locks.Lock]:
    """Keep others away, also after a kill as long as a job of this process runs."""
    if local_files.exists(os.path.join(directory, f"{condor_workflow.DAG}.lock")):
        raise errors.InUseError(f"{directory}: HTCondor is at it. Wait until it has finished.")
    path = os.path.join(directory, _LOCK)
    with durable_files.writing(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    with locks.take(path, fd, "Wait until its jobs have ended.") as lock:
        lock.sign()
        yield lock


class _Journal:
    """Nodes that have succeeded, as long as not all is done.

    Parameters
    ----------
    path
        Its file.
    content
        The DAG: what is said of another one counts for nothing.
    """

    def __init__(self, path: str, content: bytes) -> None:
        self._path = path
        self._head = hashlib.blake2b(content, digest_size=16).hexdigest()

    def names(self) -> set[str]:
        """Return the nodes that have succeeded; a line that is cut off counts for nothing."""
        if not local_files.exists(self._path):
            return set()
        head, *names = local_files.read_part(self._path).decode(errors="replace").split("\n")[:-1] or [""]
        return set(names) if head == self._head else set()

    def begin(self, names: set[str]) -> None:
        """Start over with some nodes."""
        lines = "".join(f"{line}\n" for line in [self._head, *sorted(names)])
        durable_files.write_atomically(self._path, [lines.encode()])

    def add(self, name: str) -> None:
        """Add a node."""
        with durable_files.writing(self._path), open(self._path, "ab") as stream:
            stream.write(f"{name}\n".encode())

    def remove(self) -> None:
        """Forget everything: the next time begins anew."""
        with durable_files.writing(self._path):
            os.unlink(self._path)


class _Run:
    """One execution of a DAG.

    Parameters
    ----------
    dag
        The DAG.
    commands
        Execute nodes.
    journal
        Nodes that have succeeded.
    stopping
        Takes signals.
    n_jobs
        Nodes that run at a time.
    interactive_status
        Whether to show progress bars.
    """

    def __init__(
        self,
        dag: dag_files.Dag,
        commands: node_commands.NodeCommands,
        journal: _Journal,
        stopping: interruption.Interruption,
        n_jobs: int,
        interactive_status: bool | None,
    ) -> None:
        self._dag = dag
        self._commands = commands
        self._journal = journal
        self._stopping = stopping
        self._n_jobs = n_jobs
        names = journal.names() & set(dag.nodes)
        journal.begin(names)
        self._schedule = dag_schedule.DagSchedule(dag, names)
        self._account = WorkflowAccount(len(dag.nodes), len(names))
        self._shown = progress.Progress({"jobs": len(dag.nodes)}, time.monotonic(), None, interactive_status)
        self._running: dict[futures.Future[int], dag_files.Node] = {}

    def run(self) -> WorkflowAccount:
        """Execute what is left, and the final node."""
        with self._shown, futures.ThreadPoolExecutor(self._n_jobs) as pool:
            self._shown.phase("running")
            self._shown.advance("jobs", self._account.n_before)
            try:
                self._stopping.told(lambda: self._go_on(pool))
                code = self._stopping.told(lambda: self._finish(pool))
            except BaseException:
                self._commands.stop(signal.SIGKILL)
                raise
        if code:
            failure = errors.AggregatorError("\n".join(["The workflow has failed.", *self._account.lines()]))
            raise failure
        self._journal.remove()
        return self._account

    def _go_on(self, pool: futures.ThreadPoolExecutor) -> None:
        is_stopping = False
        while True:
            if self._stopping.is_asked and not is_stopping:
                is_stopping = True
                self._commands.stop(signal.SIGTERM)
            if not is_stopping:
                for node in itertools.islice(self._schedule.ready(), self._n_jobs - len(self._running)):
                    told = {"RETRY": str(self._schedule.tries.get(node.name, 0))}
                    self._running[pool.submit(self._commands.run, node, told)] = node
            if not self._running:
                break
            done, _ = futures.wait(self._running, _POLL_SECONDS, futures.FIRST_COMPLETED)
            for future in done:
                self._take(self._running.pop(future), future.result(), is_stopping)
            self._shown.beat(lambda: f"{len(self._account.failed)} have failed")
        self._stopping.check()

    def _take(self, node: dag_files.Node, code: int, is_stopping: bool) -> None:
        if self._schedule.finish(node.name, code):
            self._account.n_succeeded += 1
            self._journal.add(node.name)
            self._shown.advance("jobs", 1)
        elif not is_stopping:
            _log.warning("Job %s has ended with %d", node.name, code)
            self._account.failed = list(self._schedule.failed)

    def _finish(self, pool: futures.ThreadPoolExecutor) -> int:
        """Run the final node; return the code of the DAG."""
        schedule = self._schedule
        if self._dag.final is None:
            return schedule.result if schedule.result is not None else int(bool(schedule.failed))
        told = {"DAG_STATUS": str(int(schedule.status)), "FAILED_COUNT": str(len(schedule.failed))}
        future = pool.submit(self._commands.run, self._dag.final, told)
        is_stopping = False
        while not future.done():
            futures.wait([future], _POLL_SECONDS)
            if self._stopping.is_asked and not is_stopping:
                is_stopping = True
                self._commands.stop(signal.SIGTERM)
        self._stopping.check()
        if code := future.result():
            _log.error("The last job, %s, has ended with %d", self._dag.final.name, code)
        return code

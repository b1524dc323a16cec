"""Executes nodes of a DAG here: the commands of jobs and scripts, and stops them when that is asked for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence

from aggregator.execution.workflows import dag_files, submit_files
from aggregator.storage import errors

_NOT_STARTED = 127
"""Code of a command that can't be started, as shells have it."""


class NodeCommands:
    """Executes nodes, each in a thread of its own.

    Parameters
    ----------
    directory
        Where the DAG is.
    submits
        Submit files by path.
    descriptor
        What all commands inherit, for a lock that is held as long as one of them runs.
    """

    def __init__(self, directory: str, submits: Mapping[str, submit_files.Submit], descriptor: int) -> None:
        self._directory = directory
        self._submits = submits
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_stopping = False

    def stop(self, number: signal.Signals) -> None:
        """Send a signal to all that runs, and start nothing else."""
        with self._lock:
            self._is_stopping = True
            for process in self._running:
                # A session of its own; what a job has started gets the signal from it, unless that kills.
                send = os.killpg if number == signal.SIGKILL else os.kill
                with contextlib.suppress(ProcessLookupError):
                    send(process.pid, number)

    def run(self, node: dag_files.Node, told: Mapping[str, str]) -> int:
        """Execute a node; return its code.

        Parameters
        ----------
        node
            The node.
        told
            What its scripts may be told.
        """
        told = {"JOB": node.name, "MAX_RETRIES": str(node.retries), **told}
        code = self._script(node.pre, told) if node.pre else 0
        if code:
            return code
        code = self._job(node)
        if node.post and not self._is_stopping:
            code = self._script(node.post, {**told, "RETURN": str(code)})
        return code

    def _script(self, command: Sequence[str], told: Mapping[str, str]) -> int:
        words = [told.get(word[1:], word) if word.startswith("$") else word for word in command]
        return self._execute([os.path.join(self._directory, words[0]), *words[1:]], "", "")

    def _job(self, node: dag_files.Node) -> int:
        """Execute a job until it succeeds, or another attempt is of no use."""
        submit = self._submits[node.submit]
        code = 0
        for attempt in range(submit.retries + 1):
            macros = {**node.variables, "JOB": node.name, "Cluster": str(attempt), "Process": "0"}
            output, error = (submit.output(key, macros) for key in ("output", "error"))
            code = self._execute(submit.command(macros), output, error)
            if self._is_stopping or code in submit.final_codes:
                break
        return code

    def _execute(self, command: Sequence[str], output: str, error: str) -> int:
        """Execute a command; return its exit code, or minus the signal that has ended it."""
        with contextlib.ExitStack() as stack:
            streams = [
                stack.enter_context(open(os.path.join(self._directory, path or os.devnull), "ab"))
                for path in (output, error)
            ]
            with self._lock:
                if self._is_stopping:
                    return errors.AggregatorError.exit_code
                try:
                    process = subprocess.Popen(
                        command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=streams[0],
                        stderr=streams[1], pass_fds=[self._descriptor], start_new_session=True,
                    )  # fmt: skip
                except OSError as exc:
                    streams[1].write(f"{command[0]}: can't be started ({exc.strerror})\n".encode())
                    return _NOT_STARTED
                self._running.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)

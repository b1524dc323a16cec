"""A workflow that was killed, or interrupted, while it was executed here goes on where it was."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import aggregator
from aggregator.running import workflow_run
from tests.helpers import kills, shell_workflows, waiting

SCRIPT = (
    "echo $0 >> order; [ $0 != b ] || [ -e go ] || { echo $$ > pid; while [ ! -e go ]; do sleep 0.05; done; }"
)
"""The second node waits until it may go on."""

DAG = f"{shell_workflows.nodes('abc')}PARENT a CHILD b\nPARENT b CHILD c\n{shell_workflows.FINAL}"


@contextlib.contextmanager
def at_second_node(directory: pathlib.Path, script: str = SCRIPT) -> Iterator[Any]:
    """Execute a workflow until its second node runs."""
    shell_workflows.make(directory, DAG, script=script)
    with kills.start(["run-workflow", str(directory)]) as running:
        try:
            waiting.until((directory / "pid").exists)
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                running.kill()
            (directory / "go").touch()


def test_a_killed_one_goes_on_when_its_jobs_have_ended(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "w"
    with at_second_node(directory) as running:
        running.kill()
        running.wait()
        # Its job is still there: the same quanta must not be executed a second time meanwhile.
        with pytest.raises(aggregator.AggregatorError, match="in use by process") as caught:
            workflow_run.run(str(directory), 1)
        assert caught.value.exit_code == 1
        job = int((directory / "pid").read_text())
        os.kill(job, signal.SIGKILL)
        waiting.assert_gone([job])
    account = workflow_run.run(str(directory), 1)
    assert (account.n_before, account.n_succeeded) == (1, 2)
    assert shell_workflows.told(directory / "order") == ["a", "b", "b", "c", "last"]


def test_an_interrupted_one_asks_its_jobs_to_end(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "w"
    script = f'trap "echo asked >> order; exit 143" TERM; {SCRIPT}'.replace('"', '""')
    with at_second_node(directory, script) as running:
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=waiting.SECONDS) == 143
    assert shell_workflows.told(directory / "order") == ["a", "b", "asked"]
    assert shell_workflows.told(directory / "post") == []
    workflow_run.run(str(directory), 1)
    assert shell_workflows.told(directory / "order") == ["a", "b", "asked", "b", "c", "last"]


def test_interrupted_twice_it_takes_along_what_its_jobs_have_started(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "w"
    script = "trap : TERM; sleep 1000 & echo $! > child; echo $$ > pid; while true; do wait; done"
    shell_workflows.make(directory, DAG, script=script)
    with kills.start(["run-workflow", str(directory)]) as running:
        waiting.until((directory / "pid").exists)
        job, child = (int((directory / name).read_text()) for name in ("pid", "child"))
        for _ in range(2):
            waiting.send(running.pid, signal.SIGTERM)
        assert running.wait(timeout=waiting.SECONDS) == 143
    waiting.assert_gone([job, child])


def test_a_line_that_was_cut_off_counts_for_nothing(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "w"
    with at_second_node(directory) as running:
        running.kill()
        running.wait()
    done = directory / "run-workflow.done"
    done.write_bytes(done.read_bytes() + b"b")
    job = int((directory / "pid").read_text())
    waiting.assert_gone([job])
    assert workflow_run.run(str(directory), 1).n_before == 1
    # What is said of another DAG does not count, either.
    done.write_bytes(b"other\na\nb\nc\n")
    assert workflow_run.run(str(directory), 1).n_before == 0

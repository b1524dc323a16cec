"""Two processes that execute the same quantum: whatever is left is one story, and all of it is there."""

from __future__ import annotations

import pathlib
import signal

import pytest
from aggregator.execution import graph_context
from aggregator.schemas.execution import log_records
from click import testing

from aggregator.command_line import main
from aggregator.running import graph_run
from tests.helpers import executions, plain_runs, waiting

KIND = "StructuredDataDict"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> plain_runs.PlainRun:
    run = plain_runs.make(tmp_path_factory.mktemp("plain") / "run", 60)
    graph_run.init_run(run.graph, run.root)
    return run


@pytest.fixture
def run(template: plain_runs.PlainRun, tmp_path: pathlib.Path) -> plain_runs.PlainRun:
    (tmp_path / "marks").mkdir()
    return template.copy(tmp_path / "run")


def contents(run: plain_runs.PlainRun) -> dict[pathlib.Path, bytes]:
    """Return all files of quanta, but for locks."""
    return {
        path: path.read_bytes()
        for path in (run.root / "u").rglob("*.*")
        if path.is_file() and path.name[0] != "."
    }


class Late:
    """A job of one quantum that waits in the middle of it.

    Parameters
    ----------
    run
        The run.
    mode
        What the quantum does when it goes on.
    """

    def __init__(self, run: plain_runs.PlainRun, mode: str) -> None:
        self.data = executions.first(run)
        self._go, marks = run.root / "go", run.root.parent / "marks"
        executions.tell(run, self.data, f"await {mode} {self._go}", marks=str(marks))
        self._running = executions.start("run-quanta", run, "--quantum", str(self.data.id))
        waiting.until((marks / str(self.data.id)).exists)

    def end(self) -> tuple[int, str]:
        """Let it go on; return its exit code and last words."""
        self._go.touch()
        stdout, stderr = self._running.communicate()
        return self._running.returncode, stdout + stderr

    def __enter__(self) -> Late:
        return self

    def __exit__(self, *exc: object) -> None:
        self._running.send_signal(signal.SIGKILL)
        self._running.communicate()
        self._go.touch()


def execute(run: plain_runs.PlainRun, late: Late, mode: str) -> int:
    """Execute the same quantum in this process; return the exit code."""
    executions.tell(run, late.data, mode)
    arguments = ["run-quanta", str(run.graph), str(run.root), "--quantum", str(late.data.id), "--in-process"]
    return testing.CliRunner().invoke(main.main, arguments).exit_code


@pytest.mark.parametrize("mode", ["ok", "sign", "fail"])
def test_what_comes_late_changes_nothing(run: plain_runs.PlainRun, mode: str) -> None:
    with Late(run, mode) as late:
        assert execute(run, late, "ok") == 0
        before = contents(run)
        assert late.end()[0] == 0
    assert contents(run) == before
    [log] = executions.logs(run)
    assert log_records.parse(log.read_bytes()).extra.exception is None


def test_two_failures_are_both_on_record(run: plain_runs.PlainRun) -> None:
    with Late(run, "fail") as late:
        assert execute(run, late, "repeatable") == 1
        assert late.end()[0] == 1
    [log] = executions.logs(run)
    extra = log_records.parse(log.read_bytes()).extra
    assert extra.exception is not None
    assert extra.exception.type_name == "ValueError"
    [earlier] = extra.previous_attempts
    assert earlier.exception is not None
    assert earlier.exception.message == "again and again"


def test_one_that_meets_another_leaves_the_quantum_to_it(run: plain_runs.PlainRun) -> None:
    with Late(run, "sign") as late:
        # Another one is in the middle of it, and its first output is there.
        with graph_context.GraphContext(str(run.graph), str(run.root)) as context:
            quantum = context.quantum(context.block(late.data.quantum))
            refs = [ref for ref in quantum.predicted_outputs() if ref.datasetType.storage_class == KIND]
            [[file]] = context.files.predicted(refs[0], KIND)
            file.write(b"of another", checksum=False)
        before = contents(run)
        code, text = late.end()
    assert (code, "another process executes it, too" in text) == (1, True)
    assert contents(run) == before
    # That one was killed; whoever comes now finds nothing in the way.
    assert execute(run, late, "ok") == 0
    assert b"of another" not in contents(run).values()

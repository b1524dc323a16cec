"""Signals reach a run in one process wherever it is; closed terminals and stopped processes are no faults."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import pty
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import psutil
import pytest
from aggregator.schemas.graphs import provenance_graph
from aggregator.storage import fault_points

import aggregator
from aggregator.console import interruption
from aggregator.synthesis import campaign, parameters
from tests.helpers import clocks, databases, kills, thinning, waiting

N_QUANTA = 60
SCANNING = ["dictionary:1", "manifest:1", "quantum:5", "quantum:40", "rename.digest:2", "digest:1", "logs:2"]
WRITING = ["outputs:1", "inputs:1", "copy:1", "assembly:1"]
COMMITTING = ["insert:1", "committed:1", "report:2", "ledger:2"]
LAST = ["output:1", "renamed:1", "complete:1"]
"""At these, nothing is left to be stopped."""
ONCE = ["manifest:1", "quantum:40", "rename.digest:2", "logs:2", "inputs:1", "insert:1", "committed:1"]
TWICE = ["dictionary:1", "quantum:5", "digest:1", "outputs:1", "copy:1", "insert:1", "ledger:2", "renamed:1"]
"""Where `make test` sends one signal, and two."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("synthetic") / "run"
    asked = parameters.SynthesisParameters(quanta=N_QUANTA, log_size=2000, metadata_size=2000, failed=0.05)
    campaign.synthesize(str(root), asked, interactive_status=False)
    return root


@pytest.fixture
def run(template: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(template, tmp_path / "run"))


@pytest.fixture(scope="module")
def undisturbed(template: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    copy = pathlib.Path(shutil.copytree(template, tmp_path_factory.mktemp("undisturbed") / "run"))
    aggregate(copy)
    return content(copy)


def aggregate(run: pathlib.Path, **options: Any) -> Any:
    config = aggregator.AggregatorConfig(
        output_path=str(run.parent / "out.qg"),
        ingest_batch_size=100,
        zstd_dict_n_inputs=20,
        interactive_status=False,
        **options,
    )
    return aggregator.aggregate_graph(str(run / campaign.GRAPH), str(run), config)


def content(run: pathlib.Path) -> Any:
    """Return the database and the graph as values that can be compared."""
    with provenance_graph.ProvenanceGraph(str(run.parent / "out.qg")) as graph:
        quanta = {q.quantum_id: msgspec.json.encode(q) for q in graph.quanta()}
        sets = {d.dataset_id: (d.produced, d.producer, sorted(d.consumers)) for d in graph.datasets()}
        blocks = {q: (repr(graph.logs(q)), repr(graph.metadata(q))) for q in quanta}
    return rows(run), quanta, sets, blocks


def rows(run: pathlib.Path) -> Any:
    """Return all rows, without times of their own."""
    tables = databases.Sqlite(run / "gen3.sqlite3").content()
    return {n: v for n, v in tables.items() if n not in ("collection", "dataset", "dataset_type")} | {
        "dataset": len(tables["dataset"])
    }


def leftovers(run: pathlib.Path) -> list[str]:
    """Return what is neither a part of a checkpoint nor a result."""
    checkpoint = run / f"{campaign.GRAPH}.checkpoint"
    names = [*os.listdir(run.parent), *(os.listdir(checkpoint) if checkpoint.exists() else ())]
    return [name for name in names if name.endswith((".tmp", ".partial", ".part"))]


def check(run: pathlib.Path, undisturbed: Any) -> None:
    assert leftovers(run) == []
    aggregate(run)
    assert content(run) == undisturbed
    assert leftovers(run) == []


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Return a function that has this process get signals at a point; it returns the list of later points."""

    def at(point: str, *numbers: int) -> list[str]:
        name, _, text = point.partition(":")
        left = [int(text)]
        later: list[str] = []

        def reached(here: str) -> None:
            if left[0] <= 0:
                later.append(here)
            elif here == name:
                left[0] -= 1
                if not left[0]:
                    # The last one comes while the first one is dealt with.
                    with contextlib.ExitStack() as stack:
                        for number in reversed(numbers):
                            stack.callback(os.kill, os.getpid(), number)

        monkeypatch.setattr(fault_points, "reached", reached)
        return later

    yield at
    monkeypatch.undo()


@pytest.mark.parametrize("point", thinning.thinned([*SCANNING, *WRITING, *COMMITTING], ONCE))
def test_one_signal_ends_what_is_under_way(
    run: pathlib.Path, undisturbed: Any, send: Any, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """In one process, it stops within a quantum or a piece of the graph, and commits what is scanned."""
    number = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP][len(point) % 3]
    with monkeypatch.context():
        later = send(point, number)
        with pytest.raises(aggregator.AggregatorError, match=f"interrupted by {number.name}") as caught:
            aggregate(run)
    assert caught.value.exit_code == (130 if number == signal.SIGINT else 143)
    assert not {"quantum", "shard", "outputs", "inputs", "copy", "assembly", "output"} & set(later)
    assert not (run.parent / "out.qg").exists()
    monkeypatch.undo()
    check(run, undisturbed)


@pytest.mark.parametrize("point", LAST)
def test_a_signal_when_all_is_done_changes_nothing(
    run: pathlib.Path, undisturbed: Any, send: Any, point: str
) -> None:
    send(point, signal.SIGTERM)
    aggregate(run)
    assert content(run) == undisturbed
    assert not (run / f"{campaign.GRAPH}.checkpoint").exists()


@pytest.mark.parametrize("point", thinning.thinned([*SCANNING, *WRITING, *COMMITTING, *LAST], TWICE))
def test_a_second_signal_ends_it_at_once(
    run: pathlib.Path, undisturbed: Any, send: Any, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Wherever it is, in one process, too: in a transaction, in the file of the graph."""
    later = send(point, signal.SIGTERM, signal.SIGINT)
    with pytest.raises(interruption.Interrupted) as caught:
        aggregate(run)
    assert caught.value.at_once
    assert caught.value.exit_code in (130, 143)
    # What status tells of a run is written whatever its end is.
    assert set(later) <= {"rename.json"}
    monkeypatch.undo()
    check(run, undisturbed)


PLACES = list(itertools.product(range(5), [1, 2]))


@pytest.mark.parametrize(("place", "n_signals"), thinning.thinned(PLACES, PLACES[::3]))
def test_signals_between_any_two_lines(
    run: pathlib.Path, undisturbed: Any, place: int, n_signals: int
) -> None:
    """Wherever signals come, nothing is lost, and what is temporary goes."""
    left = [2000 + 9973 * place]
    project = str(pathlib.Path(aggregator.__file__).parent.parent)

    def trace(frame: types.FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(project) or "interruption" in frame.f_code.co_filename:
            return None
        left[0] -= event == "line"
        if left[0] == 0:
            sys.settrace(None)
            for _ in range(n_signals):
                os.kill(os.getpid(), signal.SIGTERM)
        return trace

    sys.settrace(trace)
    # One that comes when everything is done changes nothing.
    try:
        with contextlib.suppress(interruption.Interrupted):
            aggregate(run)
    finally:
        sys.settrace(None)
    assert left[0] <= 0, "the run is shorter than that"
    check(run, undisturbed)


def test_an_ignored_hangup_stays_ignored(run: pathlib.Path, undisturbed: Any, send: Any) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        send("quantum:5", signal.SIGHUP)
        aggregate(run)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert content(run) == undisturbed


def start(run: pathlib.Path, point: str, marker: pathlib.Path, *options: str, **streams: Any) -> Any:
    environment = {**os.environ, fault_points.VARIABLE: f"{point}:{marker}"}
    command = [
        sys.executable,
        "-m",
        "aggregator",
        "aggregate-graph",
        str(run / campaign.GRAPH),
    ]
    command += [str(run), "-o", str(run.parent / "out.qg"), "--zstd-dict-n-inputs", "20", *options]
    return subprocess.Popen(command, env=environment, start_new_session=True, **streams)


@pytest.mark.parametrize("n_processes", [1, 2])
def test_a_closed_terminal_is_a_request_to_stop(
    run: pathlib.Path, undisturbed: Any, tmp_path: pathlib.Path, n_processes: int
) -> None:
    marker = tmp_path / "marker"
    main, other = pty.openpty()

    def take_terminal() -> None:
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    streams = {"stdin": other, "stdout": other, "stderr": other, "preexec_fn": take_terminal}
    with start(run, "quantum:20", marker, "-j", str(n_processes), **streams) as running:
        os.close(other)
        kills.wait_for(marker, running)
        # The kernel sends SIGHUP, and whatever is written from now on is an error.
        os.close(main)
        time.sleep(0.3)
        os.truncate(marker, 0)
        assert running.wait(120) == 143
    kills.assert_gone(running.pid)
    check(run, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_work_ends_the_command_in_words(
    run: pathlib.Path, tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    marker, summary = tmp_path / "marker", tmp_path / "summary.json"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with start(run, "command:1", marker, "--summary-json", str(summary), **streams) as running:
        os.kill(kills.wait_for(marker, running), number)
        os.truncate(marker, 0)
        printed, complaints = running.communicate(timeout=120)
    assert running.returncode == (130 if number == signal.SIGINT else 143)
    assert (printed, complaints.strip()) == ("", f"Error: interrupted by {number.name}.")
    assert not (run / f"{campaign.GRAPH}.checkpoint").exists()


def wait_while_busy(pid: int, checkpoint: pathlib.Path) -> None:
    """Wait until a process has removed its checkpoint, and then does nothing."""
    before, now, process = None, 0.0, psutil.Process(pid)
    while checkpoint.exists() or now != before or process.status() == psutil.STATUS_RUNNING:
        time.sleep(0.7)
        before, now = now, sum(process.cpu_times())


LAST_WORDS = list(itertools.product([signal.SIGINT, signal.SIGTERM, signal.SIGHUP], [1, 2]))


@pytest.mark.parametrize(("number", "n_signals"), thinning.thinned(LAST_WORDS, LAST_WORDS[::3]))
def test_signals_while_a_complete_run_prints_its_last_words(
    run: pathlib.Path, undisturbed: Any, tmp_path: pathlib.Path, number: signal.Signals, n_signals: int
) -> None:
    """One changes nothing; two end a process whose output nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, b"." * 4096):
            pass
    os.set_blocking(writing, True)
    marker, summary = tmp_path / "marker", tmp_path / "summary.json"
    streams = {"stdout": writing, "stderr": subprocess.DEVNULL}
    with start(run, "complete:1", marker, "--summary-json", str(summary), **streams) as running:
        os.close(writing)
        kills.wait_for(marker, running)
        os.truncate(marker, 0)
        wait_while_busy(running.pid, run / f"{campaign.GRAPH}.checkpoint")
        for _ in range(n_signals):
            waiting.send(running.pid, number)
        if n_signals == 1:
            with open(reading, "rb", closefd=False) as stream:
                assert b"Provenance graph:" in stream.read()
            assert running.wait(120) == 0
            assert msgspec.json.decode(summary.read_bytes())["outcome"] == "complete"
        else:
            assert running.wait(120) == -number
    os.close(reading)
    assert content(run) == undisturbed


def test_a_stopped_process_is_not_blamed_on_a_scanner(
    run: pathlib.Path, undisturbed: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time in which scanners were stopped does not count for their time limit."""
    marker = tmp_path / "marker"
    workers: list[psutil.Process] = []
    n_looks = 0

    def is_running() -> bool:
        """Stop all workers when one has reached its point, and start them again after a long time."""
        nonlocal n_looks
        if not workers and marker.exists():
            workers.extend(psutil.Process().children())
            for worker in workers:
                clocks.stop(worker.pid)
        n_looks += bool(workers)
        if n_looks == 20:
            os.truncate(marker, 0)
            for worker in workers:
                worker.resume()
        return 0 < n_looks < 20

    clocks.run_by_steps(monkeypatch, 10.0, is_running)
    monkeypatch.setenv(fault_points.VARIABLE, f"quantum:5:{marker}")
    aggregate(run, n_processes=2, scan_timeout=60)
    assert n_looks >= 20
    assert content(run) == undisturbed


def test_a_synthesis_stops_and_goes_on(tmp_path: pathlib.Path, send: Any, template: pathlib.Path) -> None:
    root = tmp_path / "made"
    asked = parameters.SynthesisParameters(quanta=N_QUANTA, log_size=2000, metadata_size=2000, failed=0.05)
    left = [8]
    real = os.open

    def opening(*args: Any, **kwargs: Any) -> int:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", opening)
        with pytest.raises(interruption.Interrupted) as caught:
            campaign.synthesize(str(root), asked, interactive_status=False)
    assert caught.value.exit_code == 143
    campaign.synthesize(str(root), asked, interactive_status=False)
    made, expected = ({str(p.relative_to(r)) for p in r.rglob("*") if p.is_file()} for r in (root, template))
    assert made == expected


_FIRST_WORKER = """
import signal, sys
from aggregator.workers.engines import launch, processes

process = launch.Process(processes.serve, [None], [])
for line in open(f"/proc/{process.pid}/status"):
    if line.startswith(("SigBlk", "SigIgn")):
        print(int(line.split()[1], 16))
process.kill()
"""


def test_the_first_worker_is_deaf_to_the_terminal_from_its_start() -> None:
    # A new interpreter, which takes long: Python itself ends by a signal then, with a traceback.
    done = subprocess.run([sys.executable, "-c", _FIRST_WORKER], capture_output=True, text=True, check=True)
    blocked, ignored = map(int, done.stdout.split())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        assert (blocked | ignored) >> (number - 1) & 1, number.name


@pytest.mark.parametrize("module", ["click", "msgspec", "sqlalchemy"])
def test_a_signal_while_modules_are_imported_ends_a_command_in_a_line(
    run: pathlib.Path, tmp_path: pathlib.Path, module: str
) -> None:
    """Of the command line, and of what the command needs."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / f"{module}.py").write_text(
        f"import pathlib, time\npathlib.Path({str(tmp_path / 'there')!r}).touch()\ntime.sleep(600)\n"
    )
    path = os.pathsep.join([str(tmp_path / "slow"), str(pathlib.Path(__file__).parents[2])])
    with subprocess.Popen(
        [sys.executable, "-m", "aggregator", "run", str(run / campaign.GRAPH), str(run)],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        waiting.until((tmp_path / "there").exists)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=120)
    assert (running.returncode, "Traceback" in told, "interrupted" in told) == (130, False, True), told

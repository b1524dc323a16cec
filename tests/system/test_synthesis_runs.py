"""The making of synthetic runs: equal parameters make equal files; it can be interrupted, and goes on."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec
import pytest
from aggregator.storage import errors

import aggregator
from aggregator.synthesis import (
    campaign,
    node_numbers,
    parameters,
    parts,
    state,
    survey_pipeline,
)
from tests.helpers import databases, postgresql_server, synthetic_runs, thinning, waiting


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> campaign.Campaign:
    """Return a run with all kinds of trouble; to be read only."""
    return synthetic_runs.make(tmp_path_factory.mktemp("synthetic") / "run")


def test_equal_parameters_make_equal_files(made: campaign.Campaign, tmp_path: pathlib.Path) -> None:
    synthetic_runs.make(tmp_path / "again", n_processes=3)
    first, second = synthetic_runs.content(made.root), synthetic_runs.content(tmp_path / "again")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    synthetic_runs.make(tmp_path / "other", seed=2)
    other = synthetic_runs.content(tmp_path / "other")
    same = [
        name for name in first if other.get(name) == first[name] and "_config" not in name and first[name]
    ]
    assert not [name for name in same if "_log" in name or "_metadata" in name]
    assert other[campaign.GRAPH] != first[campaign.GRAPH]


def test_complete_run_is_recognised(tmp_path: pathlib.Path) -> None:
    first = synthetic_runs.make(tmp_path / "run", quanta=100)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    second = synthetic_runs.make(tmp_path / "run", quanta=100)
    assert second.seconds == 0
    assert second.counts == first.counts
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == before
    with pytest.raises(errors.RefusedError, match="other parameters"):
        synthetic_runs.make(tmp_path / "run", quanta=101)


def test_other_directories_are_left_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "important").write_text("")
    with pytest.raises(errors.RefusedError, match="not empty"):
        synthetic_runs.make(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["important"]


def command(root: pathlib.Path, *options: str) -> list[str]:
    given = [word for k, v in synthetic_runs.TROUBLE.items() for word in (f"--{k.replace('_', '-')}", str(v))]
    program = [sys.executable, "-m", "aggregator", "synthesize"]
    return [*program, str(root), *given, "--no-interactive-status", *options]


@pytest.mark.parametrize("n_processes", thinning.thinned([1, 2], [2]))
def test_goes_on_after_kills(made: campaign.Campaign, tmp_path: pathlib.Path, n_processes: int) -> None:
    root = tmp_path / "run"
    state = root / ".synthesis"

    def killed(wanted: Callable[[], bool]) -> bool:
        """Start it, and kill it as soon as there is what is wanted; return whether that came."""
        running = subprocess.Popen(
            command(root, "-j", str(n_processes)), start_new_session=True, stderr=subprocess.DEVNULL
        )
        while running.poll() is None and not wanted():
            time.sleep(0.001)
        was_there = running.poll() is None
        if was_there:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        return was_there

    assert killed(root.exists)
    assert killed(state.exists)
    assert killed((root / "gen3.sqlite3").exists)
    assert killed((root / "butler.yaml").exists)
    assert killed((state / "dictionary").exists)
    assert killed((root / "SynthCam").exists)
    for number in range(1, 10, 2 if n_processes == 1 else 4):
        # Those that were complete are still there.
        assert killed(lambda n=number: len(list(state.glob("part-??????"))) >= n)
    killed(lambda: bool(list(root.glob("predicted.qg*"))))
    assert not killed(lambda: False)
    first, second = synthetic_runs.content(made.root), synthetic_runs.content(root)
    assert [name for name in first if first[name] != second.get(name)] == []
    # Nothing but files that were being renamed may be left over.
    assert [name for name in second if name not in first and not name.endswith(".tmp")] == []


def test_goes_on_where_it_was(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "run"
    options = ("--quanta", "3000")
    running = subprocess.Popen(command(root, *options), start_new_session=True, stderr=subprocess.DEVNULL)
    held = parts.Parts(str(root))
    deadline = time.monotonic() + 60
    while len(done := [n for n in range(9) if held.has_part(n)]) < 3:
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    files = {p: p.stat().st_mtime_ns for p in (root / survey_pipeline.OUTPUT_RUN).rglob("isr_log_*")}
    subprocess.run(command(root, *options), check=True, capture_output=True)
    after = {p: p.stat().st_mtime_ns for p in files}
    # At least the chunks that were complete have not been made again.
    assert sum(after[p] == files[p] for p in files) >= 0.9 * min(len(files), node_numbers.CHUNK * len(done))
    assert not (root / ".synthesis").exists()


def test_one_process_at_a_time(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "run"
    with subprocess.Popen(
        command(root, "--quanta", "5000"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as running:
        while not (root / ".synthesis").exists():
            time.sleep(0.01)
        with pytest.raises(errors.InUseError, match="in use by"):
            synthetic_runs.make(root, quanta=5000)
        running.kill()


def test_dead_process_is_noticed(tmp_path: pathlib.Path) -> None:
    import psutil

    with subprocess.Popen(
        command(tmp_path / "run", "--quanta", "4000", "-j", "2"), stderr=subprocess.PIPE, text=True
    ) as running:
        helpers: list[psutil.Process] = []
        while not list((tmp_path / "run" / ".synthesis").glob("part-*")):
            assert running.poll() is None
            time.sleep(0.01)
        helpers = psutil.Process(running.pid).children()
        assert len(helpers) == 2
        helpers[0].kill()
        _, complaints = running.communicate(timeout=waiting.SECONDS)
    assert running.returncode == 1
    assert "Run the same command again" in complaints
    waiting.assert_gone([helpers[1].pid])


@pytest.mark.parametrize("n_processes", [1, 2])
def test_no_room(tmp_path: pathlib.Path, n_processes: int) -> None:
    """Files that can't be written end it with a message; with room, the same command goes on."""
    options = ("--log-size", "1500000", "--quanta", "60", "-j", str(n_processes))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    arguments = command(tmp_path / "run", *options)
    done = subprocess.run(arguments, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    assert "Make room" in done.stderr
    # With one process, nobody has heard of others.
    assert ("synthesizer-" in done.stderr) == (n_processes > 1)
    assert "Traceback" not in done.stderr
    subprocess.run(arguments, check=True, capture_output=True)


def test_aggregation_finds_the_fates(made: campaign.Campaign, tmp_path: pathlib.Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(made.root, root)
    config = aggregator.AggregatorConfig(output_path=str(tmp_path / "out.qg"))
    done = aggregator.aggregate_graph(str(root / campaign.GRAPH), str(root), config)
    total = sum((done.counts[task] for task in done.tasks), collections.Counter())
    found = made.counts["fates"]
    assert total["Successful"] == found["success"] + found["retried"] + found["caveats"]
    assert total["Aborted success"] == found["without log"]
    assert total["Failed"] == found["failed"] + found["without metadata"] + found["without both"]
    assert total["Blocked"] == found["blocked"]
    assert not done.conflicts


def test_corrupt_files_are_named(tmp_path: pathlib.Path) -> None:
    made = synthetic_runs.make(tmp_path / "run", corrupt=0.03)
    config = aggregator.AggregatorConfig(output_path=str(tmp_path / "out.qg"), keep_checkpoint=True)
    with pytest.raises(errors.AggregatorError, match="can't be read"):
        aggregator.aggregate_graph(made.predicted, made.root, config)
    listed = (pathlib.Path(made.predicted + ".checkpoint") / "unreadable.jsonl").read_text().splitlines()
    assert len(listed) == made.counts["fates"]["corrupt"] == 27
    kinds = collections.Counter("log" if "_log_" in line else "metadata" for line in listed)
    assert min(kinds["log"], kinds["metadata"]) > 3


def test_memory_hardly_grows(tmp_path: pathlib.Path) -> None:
    """Peak memory at 1,000 and at 5,000 quanta; their files and blocks take 10 kB a quantum and more."""
    program = (
        "import os, sys\n"
        "from aggregator.synthesis import campaign, parameters\n"
        "from aggregator.workers.engines import memory\n"
        "asked = parameters.SynthesisParameters(quanta=int(sys.argv[2]), log_size=0, metadata_size=0)\n"
        "campaign.synthesize(sys.argv[1], asked, interactive_status=False)\n"
        "print(memory.peak(os.getpid()))\n"
    )
    peaks = []
    for n in (1_000, 5_000):
        arguments = [sys.executable, "-c", program, str(tmp_path / str(n)), str(n)]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < 200e6
    assert (peaks[1] - peaks[0]) / 4_000 < 1_500


def test_help_imports_little() -> None:
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from aggregator.command_line import main\n"
        "done = CliRunner().invoke(main.main, ['synthesize', '--help'])\n"
        "assert done.exit_code == 0 and '--small-files' in done.output, done.output\n"
        "assert 'numpy' not in sys.modules and 'sqlalchemy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_command_line(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(command(tmp_path / "run"), check=True, capture_output=True, text=True)
    assert "900 quanta of 10 tasks" in done.stdout
    again = subprocess.run(command(tmp_path / "run"), check=True, capture_output=True, text=True)
    assert "Made earlier" in again.stdout
    refused = subprocess.run(command(tmp_path / "run", "--seed", "5"), capture_output=True, text=True)
    assert refused.returncode == 2
    assert "other parameters" in refused.stderr
    described = msgspec.json.decode((tmp_path / "run" / "synthesis.json").read_bytes())
    assert described["counts"]["quanta"] == 900
    assert described["parameters"]["seed"] == 1


def test_same_run_on_postgresql(
    made: campaign.Campaign, postgresql: postgresql_server.Server, tmp_path: pathlib.Path
) -> None:
    name = postgresql.create_database()
    try:
        place = databases.Postgresql(postgresql, name, "synthetic")
        other = synthetic_runs.make(tmp_path / "run", database=place.url, namespace=place.namespace)
        # A second time from the start, as after a kill: what is in the database is left alone.
        described = tmp_path / "run" / "synthesis.json"
        document = json.loads(described.read_text())
        described.write_text(json.dumps(document | {"counts": None}))
        synthetic_runs.make(tmp_path / "run", database=place.url, namespace=place.namespace)
        expected = databases.Sqlite(pathlib.Path(made.root) / "gen3.sqlite3")
        for table in (
            "dataset",
            "collection_chain",
            "file_datastore_records",
            "detector",
            "patch",
            "opaque_meta",
        ):
            assert place.count(table) == expected.count(table), table
        config = aggregator.AggregatorConfig(output_path=str(tmp_path / "out.qg"))
        done = aggregator.aggregate_graph(other.predicted, other.root, config)
        assert done.n_ingested > 2 * made.counts["quanta"]
        assert place.count("dataset") == expected.count("dataset") + done.n_ingested
    finally:
        postgresql.drop_database(name)
    same = [
        name
        for name, data in synthetic_runs.content(tmp_path / "run").items()
        if (pathlib.Path(made.root) / name).is_file()
        and data == (pathlib.Path(made.root) / name).read_bytes()
    ]
    assert len(same) > 2 * made.counts["quanta"]
    assert campaign.GRAPH in same


def test_second_synthesis_at_the_same_moment(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has seen an empty directory, and takes nothing away from the first one."""
    asked = parameters.SynthesisParameters(quanta=300)
    root = str(tmp_path / "run")
    with state.State(root, asked):
        before = (tmp_path / "run" / state.DESCRIPTION).stat().st_ino
        monkeypatch.setattr(state, "_read", lambda root, path: None)
        with pytest.raises(errors.InUseError, match="another process has just begun"):
            state.State(root, asked)
        assert (tmp_path / "run" / state.DESCRIPTION).stat().st_ino == before

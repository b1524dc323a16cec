"""Bad input, and a broken machine: each row of the table in docs/operations.md."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import container, nodes, provenance_graph
from click import testing

import aggregator
from aggregator.command_line import main
from tests.helpers import kills, thinning
from tests.helpers.oracle import compare, runs

NOBODY = 65534


@pytest.fixture
def case(clean_oracle_run: runs.OracleRun, tmp_path: pathlib.Path) -> kills.Case:
    return kills.Case(runs.copy_run(clean_oracle_run, tmp_path / "repo"), tmp_path / "out.qg")


@pytest.fixture(scope="module")
def undisturbed(clean_oracle_run: runs.OracleRun, tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("undisturbed")
    clean = kills.Case(runs.copy_run(clean_oracle_run, directory / "repo"), directory / "out.qg")
    aggregate(clean)
    return clean.content()


def aggregate(case: kills.Case, **config: Any) -> Any:
    config = {"output_path": str(case.output), "mock_storage_classes": True} | config
    options = aggregator.AggregatorConfig(**config)
    return aggregator.aggregate_graph(str(case.run.predicted_path), str(case.run.root), options)


def run(case: kills.Case, n_processes: int = 1, **options: Any) -> tuple[int, str]:
    """Aggregate by the command line; return exit code and complaints.

    One process is this one, unless it shall stop somewhere.
    """
    if n_processes == 1 and not options:
        done = testing.CliRunner().invoke(main.main, case.arguments(1))
        return done.exit_code, done.stderr
    with case.start(n_processes, **options) as running:
        _, complaints = running.communicate(timeout=120)
    return running.returncode, complaints


def victim(case: kills.Case, connection: str, task: str = "calibrate") -> pathlib.Path:
    """Return a file of a quantum in the middle of the graph."""
    return case.run.file(next(case.run.quanta(task)), connection)


def edit(path: pathlib.Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, separators=(",", ":")))


def _without(*names: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for name in names:
            document["metadata"]["quantum"]["arrays"].pop(name, None)

    return change


def _set(section: str, name: str, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document["metadata"]["quantum"][section][name] = value

    return change


def _to_directory(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()


UNREADABLE: dict[str, tuple[str, Callable[[pathlib.Path], None]]] = {
    "metadata truncated": ("_metadata", lambda p: os.truncate(p, 300)),
    "metadata empty": ("_metadata", lambda p: os.truncate(p, 0)),
    "metadata garbage": ("_metadata", lambda p: p.write_bytes(b"\x00\x01garbage")),
    "metadata not UTF-8": ("_metadata", lambda p: p.write_bytes(p.read_bytes().replace(b"vm", b"\xff\xfe"))),
    "metadata a directory": ("_metadata", _to_directory),
    "metadata of another kind": ("_metadata", lambda p: p.write_text("[1, 2]")),
    "metadata with unknown caveats": ("_metadata", lambda p: edit(p, _set("scalars", "caveats", 4096))),
    "metadata without end time": ("_metadata", lambda p: edit(p, _without("endUtc"))),
    "metadata without start time": ("_metadata", lambda p: edit(p, _without("prepUtc"))),
    "metadata with an unknown output": (
        "_metadata",
        lambda p: edit(p, _set("arrays", "outputs", ["00000000-0000-7000-8000-000000000000"])),
    ),
    "log truncated": ("_log", lambda p: os.truncate(p, 500)),
    "log garbage": ("_log", lambda p: p.write_bytes(b"garbage")),
    "log not UTF-8": ("_log", lambda p: p.write_bytes(p.read_bytes().replace(b"INFO", b"\xff\xfe\xfd\xfc"))),
    "log a directory": ("_log", _to_directory),
    "log with records in the extra of the last attempt": (
        "_log",
        lambda p: p.write_text(p.read_text().replace('"logs":[]', '"logs":[{}]')),
    ),
}


@pytest.mark.parametrize(
    ("kind", "n_processes"),
    # What is different with several processes is how the problem is told, not what it is.
    [*((kind, 1) for kind in UNREADABLE), ("metadata truncated", 2), ("log garbage", 2)],
)
def test_unreadable_file_holds_its_quantum(
    case: kills.Case, undisturbed: Any, kind: str, n_processes: int
) -> None:
    connection, damage = UNREADABLE[kind]
    path = victim(case, connection)
    kept = path.read_bytes()
    damage(path)
    assert path.is_dir() or path.read_bytes() != kept
    code, complaints = run(case, n_processes)
    assert code == 1
    [error] = [line for line in complaints.splitlines() if line.startswith("Error: ")]
    assert "1 quantum has files that can't be read" in error
    assert str(path) in complaints
    assert not case.output.exists()
    checkpoint = pathlib.Path(f"{case.run.predicted_path}.checkpoint")
    [line] = (checkpoint / "unreadable.jsonl").read_text().splitlines()
    entry = next(case.run.quanta("calibrate"))
    assert json.loads(line)["quantum_id"] == entry["id"]
    assert json.loads(line)["path"] == str(path)
    # Everything that does not come after it is in the database.
    rows = compare.database_rows(case.run.database)
    assert 0 < len(rows["dataset"]) < len(undisturbed[0]["dataset"])
    # Repaired, the next run scans just that quantum.
    if path.is_dir():
        path.rmdir()
    path.write_bytes(kept)
    done = aggregate(case)
    assert done.n_reused == sum(count.total() for count in done.counts.values()) - 1
    assert case.content() == undisturbed
    assert case.leftovers() == []


def _as_nobody(case: kills.Case, *more: str) -> subprocess.CompletedProcess[str]:
    """Aggregate as a user without privileges."""
    # That user may have no access to the libraries: aggregating another copy before imports all of them.
    code = (
        "import configparser, difflib, os, sys, aggregator, aggregator.command_line.main as c\n"
        "config = aggregator.AggregatorConfig(mock_storage_classes=True, output_path=sys.argv[2] + '/o.qg')\n"
        "aggregator.aggregate_graph(sys.argv[2] + '/predicted.qg', sys.argv[2], config)\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "c.main(['aggregate-graph', sys.argv[1] + '/predicted.qg', sys.argv[1], *sys.argv[3:]])"
    )
    with tempfile.TemporaryDirectory() as directory:
        other = runs.copy_run(case.run, pathlib.Path(directory) / "other")
        for entry in other.manifest["quanta"]:
            for path in filter(pathlib.Path.exists, other.files(entry)):
                path.chmod(0o644)
        other.database.chmod(0o644)
        options = ["--mock-storage-classes", "-o", str(case.output), *more]
        command = [sys.executable, "-c", code, str(case.run.root), str(other.root), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def _give_away(case: kills.Case) -> None:
    """Give a copy, and the way to it, to the user without privileges."""
    for directory in [case.output.parent, *case.output.parent.parents]:
        if pathlib.Path(tempfile.gettempdir()) in directory.parents:
            os.chmod(directory, 0o755)
    os.chown(case.output.parent, NOBODY, NOBODY)
    for directory, _, files in os.walk(case.run.root):
        os.chown(directory, NOBODY, NOBODY)
        for name in files:
            os.chown(os.path.join(directory, name), NOBODY, NOBODY)


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="gives files to another user")


@needs_root
def test_file_without_permission(case: kills.Case, undisturbed: Any) -> None:
    """A repair that leaves size and time as they were is noticed."""
    _give_away(case)
    path = victim(case, "_log")
    os.chmod(path, 0)
    done = _as_nobody(case)
    assert done.returncode == 1, done.stderr
    assert f"{path}: can't open it (Permission denied)" in done.stderr
    os.chmod(path, 0o644)
    again = _as_nobody(case)
    assert again.returncode == 0, again.stderr
    assert case.content() == undisturbed


@needs_root
def test_read_only_database(case: kills.Case) -> None:
    _give_away(case)
    os.chmod(case.run.database, 0o444)
    done = _as_nobody(case)
    assert done.returncode == 1
    assert str(case.run.database) in done.stderr
    assert not case.output.exists()
    os.chmod(case.run.database, 0o644)
    assert _as_nobody(case).returncode == 0


@needs_root
def test_checkpoint_directory_that_cannot_be_written(case: kills.Case) -> None:
    _give_away(case)
    directory = case.output.parent / "closed"
    directory.mkdir(mode=0o755)
    for place in (directory, directory / "checkpoint"):
        done = _as_nobody(case, "--checkpoint-dir", str(place))
        assert done.returncode == 2
        assert f"{place}: can't write the checkpoint (Permission denied)" in done.stderr
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("option", ["output_path", "checkpoint_dir"])
def test_directory_that_does_not_exist(case: kills.Case, option: str) -> None:
    place = case.output.parent / "missing" / "place"
    with pytest.raises(aggregator.RefusedError, match=f"{place.parent}.* must exist"):
        aggregate(case, **{option: str(place)})
    assert not place.parent.exists()
    assert case.leftovers() == []


@needs_root
def test_output_directory_that_cannot_be_written(case: kills.Case) -> None:
    _give_away(case)
    os.chown(case.output.parent, 0, 0)
    os.chmod(case.output.parent, 0o755)
    done = _as_nobody(case)
    assert done.returncode == 2
    assert f"{case.output.parent}: can't write there" in done.stderr


def test_unreadable_below_a_failure_does_not_matter(
    oracle_run: runs.OracleRun, tmp_path: pathlib.Path
) -> None:
    """Blocked wins: what is below a failure is not even read for the graph."""
    case = kills.Case(runs.copy_run(oracle_run, tmp_path / "repo"), tmp_path / "out.qg")
    plain = kills.Case(runs.copy_run(oracle_run, tmp_path / "plain"), tmp_path / "plain.qg")
    aggregate(plain)
    with provenance_graph.ProvenanceGraph(str(plain.output)) as graph:
        blocked = {q.quantum_id for q in graph.quanta() if q.status == statuses.BLOCKED}
    damaged = 0
    for entry in case.run.manifest["quanta"]:
        path = case.run.file(entry, "_metadata")
        if entry["id"] in blocked and path.exists():
            path.write_bytes(b"garbage")
            damaged += 1
    assert damaged
    aggregate(case)
    assert case.content() == plain.content()


def test_unreadable_recorded_as_failed(case: kills.Case) -> None:
    path = victim(case, "_metadata")
    path.write_bytes(b"garbage")
    done = aggregate(case, unreadable="failed", keep_checkpoint=True)
    assert done.n_problems == len(done.problems) == 1
    entry = next(case.run.quanta("calibrate"))
    compare.check_provenance(case.output, case.run.predicted_path)
    with provenance_graph.ProvenanceGraph(str(case.output)) as graph:
        quantum = graph.quantum(entry["id"])
        [attempt] = quantum.attempts
        assert attempt.status == statuses.FAILED
        assert attempt.exception is not None
        assert attempt.exception.type_name == nodes.UNREADABLE_EXCEPTION
        assert str(path) in attempt.exception.message
        assert graph.logs(entry["id"]) == [None]
        assert graph.metadata(entry["id"]) == [None]
        outputs = [graph.dataset(i) for ids in quantum.outputs.values() for i in ids]
        assert not any(dataset.produced for dataset in outputs)
        after = [q for q in graph.quanta() if q.status == statuses.BLOCKED]
        assert after
        assert all(not q.attempts for q in after)
    models = compare.provenance_models(case.output)
    assert models["quanta"][entry["id"]]["status"] == "FAILED"
    rows = compare.database_rows(case.run.database)
    assert not set(str(rows["dataset"])) & {i for ids in quantum.outputs.values() for i in ids}
    # Repaired, it is judged again by its files.
    shutil.rmtree(f"{case.run.predicted_path}.checkpoint")


def test_incomplete_on_half_written_files_is_no_error(case: kills.Case) -> None:
    os.truncate(victim(case, "_metadata"), 100)
    os.truncate(victim(case, "_log", "measure"), 100)
    done = aggregate(case, incomplete=True)
    assert done.n_held > 0
    assert done.n_ingested > 0


def test_empty_log_is_accepted(case: kills.Case) -> None:
    victim(case, "_log").write_bytes(b"")
    aggregate(case)
    entry = next(case.run.quanta("calibrate"))
    with provenance_graph.ProvenanceGraph(str(case.output)) as graph:
        assert graph.logs(entry["id"]) == [[]]
        assert graph.quantum(entry["id"]).status == statuses.SUCCESSFUL


def test_huge_log_among_small_ones(case: kills.Case) -> None:
    """A log of 200 MB is no reason to fail; the dictionary is trained all the same."""
    path = victim(case, "_log")
    document = json.loads(path.read_text())
    record = document["records"][0]
    document["records"] = [{**record, "message": f"{i} " + "x" * 20_000} for i in range(10_000)]
    path.write_text(json.dumps(document, separators=(",", ":")))
    assert path.stat().st_size > 200e6
    # In a process of its own: the memory of this one is that of all tests before.
    case.options = ("--zstd-dict-n-inputs", "20")
    printed = case.finish()
    entry = next(case.run.quanta("calibrate"))
    with provenance_graph.ProvenanceGraph(str(case.output)) as graph:
        logs = graph.logs(entry["id"])
    assert logs is not None
    assert logs[0] is not None
    assert len(logs[0]) == 10_000
    [peak] = re.findall(r"Peak memory in MB: coordinator (\d+)", printed)
    assert int(peak) < 200


def test_output_that_exists_is_replaced(case: kills.Case, undisturbed: Any) -> None:
    aggregate(case)
    older = case.output.stat().st_ino
    aggregate(case)
    assert case.output.stat().st_ino != older
    assert case.content() == undisturbed


def _graph_truncated(case: kills.Case) -> None:
    os.truncate(case.run.predicted_path, case.run.predicted_path.stat().st_size // 2)


def _graph_newer(case: kills.Case) -> None:
    with container.Container(str(case.run.predicted_path)) as opened:
        header = json.loads(opened.read_block("header"))
        codec = opened.codec
    with zipfile.ZipFile(case.run.predicted_path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[container.single("header")] = codec.compress(json.dumps(header | {"version": 99}).encode())
    with zipfile.ZipFile(case.run.predicted_path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _repository_unknown(case: kills.Case) -> None:
    with contextlib.closing(sqlite3.connect(case.run.database)) as db, db:
        db.execute("update butler_attributes set value = '99.0.0' where name like 'version:%Datasets%'")
        db.execute("update butler_attributes set value = '99.0.0' where name like 'version:%datasets%'")
    db.close()


REFUSED: dict[str, tuple[Callable[[kills.Case], Any], str]] = {
    "graph missing": (lambda case: case.run.predicted_path.unlink(), "can't open the graph"),
    "graph truncated": (_graph_truncated, "not a quantum graph file, or truncated"),
    "graph of a newer version": (_graph_newer, "version 99"),
    "graph no graph": (lambda case: case.run.predicted_path.write_text("{}"), "not a quantum graph file"),
    "repository missing": (lambda case: (case.run.root / "butler.yaml").unlink(), "butler.yaml"),
    "repository of unknown versions": (_repository_unknown, "99.0.0"),
}


@pytest.mark.parametrize(
    ("kind", "n_processes"),
    # They are refused before there are other processes.
    thinning.thinned(itertools.product(REFUSED, [1, 2]), [(kind, 1) for kind in REFUSED]),
)
def test_refused(case: kills.Case, kind: str, n_processes: int) -> None:
    damage, message = REFUSED[kind]
    damage(case)
    before = case.run.database.read_bytes()
    code, complaints = run(case, n_processes)
    assert code == 2
    [error] = [line for line in complaints.splitlines() if line.startswith("Error: ")]
    assert message in error
    assert "Traceback" not in complaints
    assert not case.output.exists()
    assert case.run.database.read_bytes() == before
    assert case.leftovers() == []


def test_damaged_block_inside_the_graph_is_named(case: kills.Case) -> None:
    from aggregator.schemas.graphs import predicted

    with predicted.PredictedGraph(str(case.run.predicted_path)) as graph:
        table = graph.address_table()
        offset = int(table.offsets[3, 0])
        header, _ = graph._container._members["quantum_datasets.mb"]
        start = graph._container._begin("quantum_datasets.mb", header)
    with open(case.run.predicted_path, "r+b") as stream:
        stream.seek(start + offset + 20)
        stream.write(b"\xff" * 16)
    code, complaints = run(case, 2)
    assert code == 1
    assert f"predicted.qg[quantum_datasets.mb]: block at offset {offset}" in complaints
    assert not case.output.exists()


def test_same_data_id_under_another_id_is_named_with_both_ids(case: kills.Case, undisturbed: Any) -> None:
    """The other datasets are committed."""
    aggregate(case)
    entry = next(case.run.quanta("calibrate"))
    [(dataset_id, _)] = entry["outputs"]["_metadata"]
    plain, other = dataset_id.replace("-", ""), "0" * 32
    with contextlib.closing(sqlite3.connect(case.run.database)) as db, db:
        db.execute("pragma foreign_keys = off")
        tables = [n for (n,) in db.execute("select name from sqlite_master where name like 'dataset_tags_%'")]
        for table in [n for n in tables if "idx" not in n]:
            db.execute(f"update {table} set dataset_id = ? where dataset_id = ?", (other, plain))
        for table in ("dataset_location", "file_datastore_records"):
            db.execute(f"update {table} set dataset_id = ? where dataset_id = ?", (other, plain))
        db.execute("update dataset set id = ? where id = ?", (other, plain))
    db.close()
    code, complaints = run(case)
    assert code == 1
    assert "1 dataset could not be ingested" in complaints
    assert plain in complaints
    assert other in complaints


def test_missing_dimension_record_is_named(case: kills.Case) -> None:
    with contextlib.closing(sqlite3.connect(case.run.database)) as db, db:
        db.execute("pragma foreign_keys = off")
        [(visit,)] = db.execute("select max(id) from visit").fetchall()
        db.execute("delete from visit where id = ?", (visit,))
    db.close()
    code, complaints = run(case)
    assert code == 1
    assert "could not be ingested, all others were" in complaints
    assert f"visit={visit}" in complaints


def test_locked_database_is_told_after_a_wait(case: kills.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from aggregator.butler.registry import registry

    impatient = functools.partial(registry.open_registry, busy_timeout_ms=300)
    monkeypatch.setattr(registry, "open_registry", impatient)
    other = sqlite3.connect(case.run.database, isolation_level=None)
    other.execute("begin exclusive")
    try:
        with pytest.raises(aggregator.AggregatorError, match="locked") as caught:
            aggregate(case)
        assert caught.value.exit_code == 1
        assert str(case.run.database) in str(caught.value)
    finally:
        other.close()
    aggregate(case)


def _limited(case: kills.Case, size: int, *options: str) -> str:
    """Aggregate with a limit on the size of files, in bytes; return the error."""
    code = (
        "import resource, sys; n = int(sys.argv.pop(1))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (n, n))\n"
        "import aggregator.command_line.main as c; c.main()"
    )
    command = [
        *(sys.executable, "-c", code, str(size), "aggregate-graph"),
        *(str(case.run.predicted_path), str(case.run.root), "-o", str(case.output), "-j", "2"),
        *("--mock-storage-classes", *options),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    assert not case.output.exists()
    [error] = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    return error


@pytest.mark.parametrize("full", ["edges", "digests", "database", "graph"])
def test_full_disk_leaves_nothing_half_written(case: kills.Case, undisturbed: Any, full: str) -> None:
    """The file that has no room is named, and the next run goes on."""
    if full == "graph":
        # Then there is nothing left to write but the graph.
        aggregate(case, dry_run=True)
        case.output.unlink()
    database_size = case.run.database.stat().st_size
    limit, name = {
        "edges": (10, "edges"),
        "digests": (2_000, ".digest"),
        "database": (database_size + 10_000, case.run.database.name),
        "graph": (30_000, ".partial"),
    }[full]
    # A database that is not written needs no room.
    assert name in _limited(case, limit, *["--dry-run"] * (full in ("digests", "graph")))
    aggregate(case)
    assert case.content() == undisturbed
    assert case.leftovers() == []


def test_two_aggregations_of_one_run_at_once(
    case: kills.Case, undisturbed: Any, tmp_path: pathlib.Path
) -> None:
    """On different checkpoints, both end correct."""
    output = tmp_path / "second.qg"
    second = kills.Case(case.run, output, ("--checkpoint-dir", str(tmp_path / "other.checkpoint")))
    with case.start(2) as one, second.start(2) as two:
        complaints = [each.communicate(timeout=120)[1] for each in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), complaints
    assert case.content() == undisturbed
    assert second.content()[1:] == undisturbed[1:]


def test_no_file_descriptor_is_left_open(case: kills.Case) -> None:
    command = [
        *(sys.executable, "-X", "dev", "-m", "aggregator", "aggregate-graph"),
        *(str(case.run.predicted_path), str(case.run.root), "-o", str(case.output), "-j", "1"),
        "--mock-storage-classes",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "ResourceWarning" not in done.stderr

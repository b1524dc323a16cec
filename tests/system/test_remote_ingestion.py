"""Graphs that take the place of files on an object store."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import sqlite3
from collections.abc import Iterator
from typing import Any

import click.testing
import obstore
import pytest
import yaml
from aggregator.schemas.graphs import provenance_graph

from aggregator.command_line import main
from tests.helpers import graph_files, kills, object_servers, small_runs, thinning

FATES = {"failed": 0.05, "blocked": 0.05, "retried": 0.05, "caveats": 0.1, "aborted": 0.05}


@pytest.fixture(autouse=True)
def environment(s3: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def aggregated(tmp_path_factory: pytest.TempPathFactory) -> small_runs.SmallRun:
    """Return an aggregated run, which nobody changes."""
    run = small_runs.make(tmp_path_factory.mktemp("local") / "run", 120, **FATES)
    config = yaml.safe_load((run.root / "butler.yaml").read_text())
    config["datastore"] |= {"root": "<butlerRoot>", "name": "FileDatastore@<butlerRoot>"}
    (run.root / "butler.yaml").write_text(yaml.safe_dump(config))
    run.aggregate()
    return run


@pytest.fixture(scope="module")
def expected(aggregated: small_runs.SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what comes of an ingestion on a file system: rows, and the files that are left."""
    run = small_runs.copy(aggregated, tmp_path_factory.mktemp("expected") / "run")
    assert ingest(run, "--transfer", "copy").exit_code == 0
    return rows(run), files(run)


@pytest.fixture
def bucket(s3: object_servers.S3Server) -> str:
    return s3.new_bucket()


@pytest.fixture
def run(
    aggregated: small_runs.SmallRun, s3: object_servers.S3Server, bucket: str, tmp_path: pathlib.Path
) -> small_runs.SmallRun:
    """Return the run with its files in a bucket."""
    moved = small_runs.copy(aggregated, tmp_path / "run")
    client = s3.client(bucket)
    for key in files(moved):
        obstore.put(client, f"some repo/{key}", (moved.root / key).read_bytes())
    shutil.rmtree(moved.root / "u")
    set_root(moved, f"s3://{bucket}/some repo")
    return moved


def set_root(run: small_runs.SmallRun, root: str) -> None:
    path = run.root / "butler.yaml"
    config = yaml.safe_load(path.read_text())
    config["datastore"] |= {"root": root}
    path.write_text(yaml.safe_dump(config))


def files(run: small_runs.SmallRun) -> list[str]:
    """Return the files of the run."""
    found = (path for path in (run.root / "u").rglob("*") if path.is_file())
    return sorted(str(path.relative_to(run.root)) for path in found)


def rows(run: small_runs.SmallRun) -> Any:
    """Return what the database has, without the graph's id, which is another one each time."""
    with contextlib.closing(sqlite3.connect(run.root / "gen3.sqlite3")) as connection:
        where = "dataset_id NOT IN (SELECT id FROM dataset WHERE dataset_type_id = (SELECT id FROM "
        where += "dataset_type WHERE name = 'run_provenance'))"
        select = f"SELECT dataset_id, path, formatter, component FROM file_datastore_records WHERE {where}"
        return sorted(connection.execute(select).fetchall())


def command(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main.main, list(arguments))


def ingest(run: small_runs.SmallRun, *options: str, graph: str | None = "") -> click.testing.Result:
    given = [] if graph is None else [graph or str(run.output)]
    return command("ingest-graph", str(run.root), *given, *options, "--no-interactive-status")


def left(s3: object_servers.S3Server, bucket: str) -> list[str]:
    """Return the files of the run in the bucket."""
    return [key.removeprefix("some repo/") for key in s3.keys(bucket) if key.startswith("some repo/")]


def check(run: small_runs.SmallRun, s3: object_servers.S3Server, bucket: str, expected: Any) -> None:
    assert rows(run) == expected[0]
    assert sorted(left(s3, bucket)) == expected[1]


@pytest.mark.parametrize("mode", thinning.thinned(["copy", "move", "auto"], ["move"]))
def test_it_is_as_with_local_files(
    run: small_runs.SmallRun, s3: object_servers.S3Server, bucket: str, expected: Any, mode: str
) -> None:
    done = ingest(run, "--transfer", mode)
    assert done.exit_code == 0, done.output
    check(run, s3, bucket, expected)
    assert run.output.exists() == (mode != "move")
    shown = command("show", str(run.root), "--failed")
    assert shown.exit_code == 0, shown.output
    again = ingest(run, "--output-run", next(iter(_runs(run))), graph=None)
    assert again.exit_code == 0, again.output
    check(run, s3, bucket, expected)
    refused = command("aggregate-graph", str(run.predicted), str(run.root), "--dry-run")
    assert refused.exit_code == 2
    assert "holds its provenance graph already (s3://" in refused.output


def _runs(run: small_runs.SmallRun) -> Iterator[str]:
    with contextlib.closing(sqlite3.connect(run.root / "gen3.sqlite3")) as connection:
        select = "SELECT c.name FROM dataset d JOIN collection c ON c.collection_id = d.run_id"
        select += " JOIN dataset_type t ON t.id = d.dataset_type_id WHERE t.name = 'run_provenance'"
        yield from (name for (name,) in connection.execute(select))


@pytest.mark.parametrize("mode", thinning.thinned(["copy", "move", "symlink"], ["copy", "symlink"]))
def test_the_graph_is_in_another_bucket(
    run: small_runs.SmallRun, s3: object_servers.S3Server, bucket: str, expected: Any, mode: str
) -> None:
    elsewhere = s3.new_bucket()
    obstore.put(s3.client(elsewhere), "a b/prov.qg", run.output.read_bytes())
    run.output.unlink()
    done = ingest(run, "--transfer", mode, graph=f"s3://{elsewhere}/a b/prov.qg")
    if mode == "symlink":
        assert done.exit_code == 2
        assert "can't be linked" in done.output
        return
    assert done.exit_code == 0, done.output
    check(run, s3, bucket, expected)
    assert s3.keys(elsewhere) == ([] if mode == "move" else ["a b/prov.qg"])


def test_the_graph_is_in_its_datastore_already(
    run: small_runs.SmallRun, s3: object_servers.S3Server, bucket: str, expected: Any
) -> None:
    obstore.put(s3.client(bucket), "some repo/graphs/a b.qg", run.output.read_bytes())
    done = ingest(run, "--transfer", "auto", graph=f"s3://{bucket}/some%20repo/graphs/a%20b.qg")
    assert done.exit_code == 0, done.output
    kept = set(left(s3, bucket))
    assert "graphs/a b.qg" in kept
    # Its place can't be told from the name of the run.
    (pointer,) = (key for key in kept if key.endswith("/.provenance_graph.json"))
    assert kept - {"graphs/a b.qg", pointer} == {key for key in expected[1] if "run_provenance" not in key}


def test_a_remote_graph_into_local_files(
    aggregated: small_runs.SmallRun,
    s3: object_servers.S3Server,
    bucket: str,
    tmp_path: pathlib.Path,
    expected: Any,
) -> None:
    run = small_runs.copy(aggregated, tmp_path / "run")
    obstore.put(s3.client(bucket), "prov.qg", run.output.read_bytes())
    done = ingest(run, graph=f"s3://{bucket}/prov.qg")
    assert done.exit_code == 0, done.output
    assert (rows(run), files(run)) == expected
    assert s3.keys(bucket) == []


def test_another_graph_in_its_place(
    run: small_runs.SmallRun, s3: object_servers.S3Server, bucket: str, expected: Any
) -> None:
    [place] = [key for key in expected[1] if "run_provenance" in key]
    members = graph_files.members(run.output)
    other = graph_files.pack(run.root.parent / "other.qg", {**members, "more": b"1"})
    obstore.put(s3.client(bucket), f"some repo/{place}", other.read_bytes())
    before = s3.keys(bucket)
    done = ingest(run)
    assert done.exit_code == 2
    assert "is another graph than" in done.output
    assert s3.keys(bucket) == before
    obstore.put(s3.client(bucket), f"some repo/{place}", b"my thesis")
    assert ingest(run).exit_code == 2
    # A copy of it will do.
    obstore.put(s3.client(bucket), f"some repo/{place}", run.output.read_bytes())
    assert ingest(run).exit_code == 0
    check(run, s3, bucket, expected)


def test_what_can_not_be_deleted_is_named(
    run: small_runs.SmallRun,
    s3: object_servers.S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    expected: Any,
) -> None:
    def deny(method: str, path: str) -> int:
        return 403 if "delete" in path.partition("?")[2] or method == "DELETE" else 0

    with object_servers.FaultyServer(s3, deny) as denying:
        monkeypatch.setenv("S3_ENDPOINT_URL", denying.url)
        done = ingest(run)
    assert done.exit_code == 1
    assert "could not be deleted (s3://" in done.output
    assert "access is denied" in done.output
    assert run.output.exists()
    assert rows(run) == expected[0]
    assert len(left(s3, bucket)) > len(expected[1])
    monkeypatch.setenv("S3_ENDPOINT_URL", s3.url)
    done = ingest(run)
    assert done.exit_code == 0, done.output
    check(run, s3, bucket, expected)


def test_what_has_changed_since_is_kept(
    run: small_runs.SmallRun, s3: object_servers.S3Server, bucket: str, expected: Any
) -> None:
    log = next(key for key in left(s3, bucket) if "_log" in key)
    client = s3.client(bucket)
    data = obstore.get(client, f"some repo/{log}").bytes().to_bytes()
    obstore.put(client, f"some repo/{log}", data.replace(b"INFO", b"info"))
    done = ingest(run)
    assert done.exit_code == 1
    assert "1 original file is not what the graph was made from" in done.output
    assert log in left(s3, bucket)
    obstore.delete(client, f"some repo/{log}")
    assert ingest(run).exit_code == 0
    check(run, s3, bucket, expected)


def test_the_graph_is_replaced_meanwhile(
    run: small_runs.SmallRun, s3: object_servers.S3Server, bucket: str, tmp_path: pathlib.Path
) -> None:
    """Nothing is deleted for a graph that nobody has read."""
    before = left(s3, bucket)
    marker = tmp_path / "marker"
    arguments = ["ingest-graph", str(run.root), str(run.output)]
    with kills.start(arguments, "examined:1", marker) as running:
        kills.wait_for(marker, running)
        [place] = [key for key in s3.keys(bucket) if "run_provenance" in key]
        obstore.put(s3.client(bucket), place, b"my thesis")
        marker.write_text("")
        _, complaints = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "replaced or removed" in complaints or "was changed by somebody else" in complaints
    assert set(before) <= set(left(s3, bucket))


POINTS = [
    *("checked", "uploading", "uploaded", "placed", "forgotten", "graph-ingested"),
    *("committed", "deleted", "complete"),
]


@pytest.mark.parametrize("point", thinning.thinned(POINTS, ["uploading", "forgotten", "deleted"]))
def test_killed_and_started_again(
    run: small_runs.SmallRun,
    s3: object_servers.S3Server,
    bucket: str,
    tmp_path: pathlib.Path,
    expected: Any,
    point: str,
) -> None:
    originals = set(left(s3, bucket))
    marker = tmp_path / "marker"
    arguments = ["ingest-graph", str(run.root), str(run.output), "--batch-size", "60"]
    with kills.start(arguments, f"{point}:1", marker) as running:
        kills.wait_for(marker, running)
        kills.kill_group(running.pid)
        running.communicate(timeout=kills.GONE_SECONDS)
    gone = originals - set(left(s3, bucket))
    placed = [key for key in s3.keys(bucket) if "run_provenance" in key]
    if gone:
        # Whatever is gone is in the graph, and known to be there.
        [place] = placed
        held = {row[1] for row in rows(run)}
        assert place.removeprefix("some repo/") in held
        assert not gone & held
    if point in ("checked", "uploading"):
        assert placed == []
    done = ingest(run, "--batch-size", "60") if run.output.exists() else ingest(run, graph=None)
    assert done.exit_code == 0, done.output
    check(run, s3, bucket, expected)
    assert not run.output.exists()


def test_two_at_once(
    run: small_runs.SmallRun,
    s3: object_servers.S3Server,
    bucket: str,
    tmp_path: pathlib.Path,
    expected: Any,
) -> None:
    marker = tmp_path / "marker"
    with kills.start(["ingest-graph", str(run.root), str(run.output)], "placed:1", marker) as running:
        kills.wait_for(marker, running)
        second = ingest(run)
        assert second.exit_code == 1
        assert "is being ingested" in second.output
        marker.write_text("")
        running.communicate(timeout=120)
    assert running.returncode == 0
    check(run, s3, bucket, expected)


def test_the_graph_in_its_place_is_whole(
    run: small_runs.SmallRun, s3: object_servers.S3Server, bucket: str, aggregated: small_runs.SmallRun
) -> None:
    assert ingest(run).exit_code == 0
    [place] = [key for key in s3.keys(bucket) if "run_provenance" in key]
    with (
        provenance_graph.ProvenanceGraph(f"s3://{bucket}/{place}") as remote,
        provenance_graph.ProvenanceGraph(os.fspath(aggregated.output)) as local,
    ):
        assert remote.fingerprint == local.fingerprint

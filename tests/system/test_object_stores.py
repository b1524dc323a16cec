"""Runs whose files are on an object store, compared with the same runs on a file system."""

from __future__ import annotations

import contextlib
import pathlib
import random
import sqlite3
from typing import Any

import pytest
import yaml
from aggregator.schemas.graphs import provenance_graph
from aggregator.storage import object_clients

import aggregator
from tests.helpers import object_servers, small_runs

FATES = {"failed": 0.05, "blocked": 0.05, "retried": 0.05, "caveats": 0.1, "aborted": 0.05}


@pytest.fixture(autouse=True)
def environment(s3: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> small_runs.SmallRun:
    return small_runs.make(tmp_path_factory.mktemp("local") / "run", 120, **FATES)


@pytest.fixture(scope="module")
def expected(local_run: small_runs.SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what comes of it on a file system."""
    run = small_runs.copy(local_run, tmp_path_factory.mktemp("expected") / "run")
    run.aggregate()
    return content(run)


@pytest.fixture
def bucket(s3: object_servers.S3Server) -> str:
    return s3.new_bucket()


@pytest.fixture
def run(
    local_run: small_runs.SmallRun, s3: object_servers.S3Server, bucket: str, tmp_path: pathlib.Path
) -> small_runs.SmallRun:
    """Return the run with its files in a bucket and nowhere else."""
    moved = small_runs.copy(local_run, tmp_path / "run")
    s3.take(bucket, "some repo", moved.root / "u")
    set_root(moved, f"s3://{bucket}/some repo/")
    return moved


def set_root(run: small_runs.SmallRun, root: str) -> None:
    path = run.root / "butler.yaml"
    config = yaml.safe_load(path.read_text())
    config["datastore"] |= {"root": root, "name": "FileDatastore@<butlerRoot>"}
    path.write_text(yaml.safe_dump(config))


def content(run: small_runs.SmallRun) -> Any:
    """Return what the database and the graph tell."""
    with contextlib.closing(sqlite3.connect(run.root / "gen3.sqlite3")) as connection:
        tables = {
            name: sorted(connection.execute(f"SELECT {columns} FROM {name}").fetchall())
            for name, columns in (
                ("dataset", "id, dataset_type_id, run_id"),
                ("dataset_location", "datastore_name, dataset_id"),
                ("file_datastore_records", "dataset_id, path, formatter, storage_class, component"),
            )
        }
    with provenance_graph.ProvenanceGraph(str(run.output)) as graph:
        return tables, graph.fingerprint


@pytest.mark.parametrize("n_processes", [1, 2])
def test_it_is_the_same_as_with_local_files(
    run: small_runs.SmallRun, expected: Any, n_processes: int
) -> None:
    done = run.aggregate(n_processes=n_processes)
    assert done.n_ingested
    assert content(run) == expected


def test_it_is_the_same_in_the_dialect_of_google(
    run: small_runs.SmallRun,
    s3: object_servers.S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    expected: Any,
) -> None:
    monkeypatch.setitem(object_clients._CLIENT, "allow_http", True)
    with object_servers.GoogleServer(s3, lambda method, path: 0) as google:
        for name, value in google.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        set_root(run, f"gs://{bucket}/some repo/")
        assert run.aggregate().n_ingested
        assert google.n_requests > 100
    assert content(run) == expected


def test_a_second_run_reads_nothing_again(
    run: small_runs.SmallRun, s3: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch, expected: Any
) -> None:
    paths: list[str] = []

    def count(method: str, path: str) -> int:
        # Whether there is an ingested graph is looked up in each run, at its start and at its end.
        if "provenance_graph" not in path:
            paths.append(path)
        return 0

    with object_servers.FaultyServer(s3, count) as counting:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_site", counting.url)
        set_root(
            run,
            yaml.safe_load((run.root / "butler.yaml").read_text())["datastore"]["root"].replace(
                "s3://", "s3://site@"
            ),
        )
        run.aggregate(output_path=None, dry_run=True)
        first = len(paths)
        run.aggregate()
        assert content(run) == expected
        # Only what failed or is missing is looked at again.
        assert len(paths) - first < first / 4


def test_a_server_in_trouble_changes_nothing(
    run: small_runs.SmallRun, s3: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch, expected: Any
) -> None:
    chance = random.Random(5)

    def fault(method: str, path: str) -> int:
        if chance.random() < 0.05:
            return 503
        return object_servers.CUT if method == "GET" and chance.random() < 0.03 else 0

    with object_servers.FaultyServer(s3, fault) as faulty:
        monkeypatch.setenv("S3_ENDPOINT_URL", faulty.url)
        run.aggregate()
    assert content(run) == expected


def test_what_is_refused_is_not_missing(
    run: small_runs.SmallRun, s3: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch, expected: Any
) -> None:
    def deny(method: str, path: str) -> int:
        return 403 if "_metadata" in path else 0

    with object_servers.FaultyServer(s3, deny) as denying:
        monkeypatch.setenv("S3_ENDPOINT_URL", denying.url)
        with pytest.raises(aggregator.AggregatorError) as raised:
            run.aggregate()
    assert "access is denied" in str(raised.value)
    assert object_servers.SECRET not in str(raised.value)
    monkeypatch.setenv("S3_ENDPOINT_URL", s3.url)
    run.aggregate()
    assert content(run) == expected


def test_nothing_begins_where_nothing_can_be_seen(
    run: small_runs.SmallRun, s3: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    before = sorted(run.root.iterdir())
    with object_servers.FaultyServer(s3, lambda method, path: 403) as denying:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_denied", denying.url)
        set_root(run, f"s3://denied@{bucket}/some repo")
        with pytest.raises(aggregator.RefusedError, match="access is denied"):
            run.aggregate()
    set_root(run, "s3://no-such-bucket-at-all/some repo")
    with pytest.raises(aggregator.RefusedError, match="no such bucket"):
        run.aggregate()
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", "/nowhere")
    set_root(run, f"s3://{bucket}/other")
    with pytest.raises(aggregator.RefusedError, match="no credentials"):
        run.aggregate()
    assert sorted(run.root.iterdir()) == before


def test_a_wrong_prefix(run: small_runs.SmallRun, bucket: str) -> None:
    """One letter is wrong, and then no quantum has ever been attempted."""
    set_root(run, f"s3://{bucket}/some rep")
    with pytest.raises(aggregator.AggregatorError, match="not one file"):
        run.aggregate()
    assert not run.output.exists()

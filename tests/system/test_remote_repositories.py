"""Repositories that are on an object store as a whole, with a database elsewhere."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import click.testing
import obstore
import pytest
import yaml
from aggregator.schemas.graphs import provenance_graph

from aggregator.command_line import main
from tests.helpers import kills, object_servers

SIZE = ("--quanta", "60", "--small-files", "--failed", "0", "--blocked", "0", "--corrupt", "0")


@pytest.fixture(scope="module")
def server() -> Iterator[object_servers.S3Server]:
    with object_servers.running() as running:
        yield running


@pytest.fixture(autouse=True)
def environment(
    server: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def bucket(server: object_servers.S3Server) -> str:
    return server.new_bucket()


@pytest.fixture
def database(tmp_path: pathlib.Path) -> str:
    return f"sqlite:///{tmp_path}/database.sqlite3"


def command(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main.main, list(arguments))


def contents(server: object_servers.S3Server, bucket: str) -> dict[str, Any]:
    """Return the objects by key: their content, but of graphs that of the members."""
    client = server.client(bucket)
    return {key: obstore.get(client, key).bytes().to_bytes() for key in server.keys(bucket)}


def test_create(server: object_servers.S3Server, bucket: str, database: str) -> None:
    done = command("create", f"s3://{bucket}/a repo/", "--db", database)
    assert done.exit_code == 0, done.output
    [(key, data)] = contents(server, bucket).items()
    assert key == "a repo/butler.yaml"
    config = yaml.safe_load(data)
    assert config["datastore"]["root"] == "<butlerRoot>"
    assert config["registry"]["db"] == database
    again = command("create", f"s3://{bucket}/a%20repo", "--db", database)
    assert again.exit_code == 2
    assert "there is a repository here already" in again.output
    assert contents(server, bucket) == {key: data}


@pytest.mark.parametrize(
    ("place", "options", "text"),
    [
        ("s3://BUCKET/repo", [], "a SQLite database can't be in a bucket"),
        ("s3://no-such-bucket-anywhere/repo", ["--db", "DATABASE"], "no such bucket"),
        ("s3://key:verysecret@BUCKET/repo", ["--db", "DATABASE"], "password"),
    ],
)
def test_create_is_refused(
    server: object_servers.S3Server, bucket: str, database: str, place: str, options: list[str], text: str
) -> None:
    options = [option.replace("DATABASE", database) for option in options]
    done = command("create", place.replace("BUCKET", bucket), *options)
    assert done.exit_code == 2
    assert text in done.output
    assert "verysecret" not in done.output
    assert server.keys(bucket) == []
    assert not os.path.exists(database.removeprefix("sqlite:///"))


def test_a_run_in_a_bucket_from_begin_to_end(
    server: object_servers.S3Server, bucket: str, database: str, tmp_path: pathlib.Path
) -> None:
    root = f"s3://{bucket}/some runs/one"
    done = command("synthesize", root, *SIZE, "--db", database)
    assert done.exit_code == 0, done.output
    remote = {key.removeprefix("some runs/one/"): data for key, data in contents(server, bucket).items()}
    # The same run in a directory has the same files.
    assert command("synthesize", str(tmp_path / "local"), *SIZE).exit_code == 0
    local = {
        str(path.relative_to(tmp_path / "local")): path.read_bytes()
        for path in (tmp_path / "local").rglob("*")
        if path.is_file()
    }
    for name in ("butler.yaml", "gen3.sqlite3", "synthesis.json"):
        local.pop(name)
    remote.pop("butler.yaml")
    assert remote == local
    again = command("synthesize", root, *SIZE, "--db", database)
    assert again.exit_code == 0
    assert "earlier" in again.output
    arguments = ["aggregate-graph", f"{root}/predicted.qg", root, "-o", f"{root}/graph.qg"]
    done = command(*arguments, "--no-interactive-status")
    assert done.exit_code == 0, done.output
    done = command("ingest-graph", root, f"{root}/graph.qg", "--no-interactive-status")
    assert done.exit_code == 0, done.output
    shown = command("show", root, "--format", "json")
    assert json.loads(shown.output)
    with provenance_graph.ProvenanceGraph(
        next(f"s3://{bucket}/{key}" for key in server.keys(bucket) if "run_provenance" in key)
    ) as graph:
        assert graph.header.n_quanta == 60
    assert os.listdir() == ["one.synthesis"]


def test_a_place_where_something_is(server: object_servers.S3Server, bucket: str, database: str) -> None:
    obstore.put(server.client(bucket), "run/thesis.tex", b"mine")
    done = command("synthesize", f"s3://{bucket}/run", *SIZE, "--db", database)
    assert done.exit_code == 2
    assert "is not empty" in done.output
    assert server.keys(bucket) == ["run/thesis.tex"]
    assert os.listdir() == []


@pytest.mark.parametrize("point", ["uploading:1", "insert:2"])
def test_killed_and_started_again(
    server: object_servers.S3Server, bucket: str, database: str, tmp_path: pathlib.Path, point: str
) -> None:
    root, marker = f"s3://{bucket}/run", tmp_path / "marker"
    arguments = ["synthesize", root, *SIZE, "--db", database]
    with kills.start(arguments, point, marker) as running:
        kills.wait_for(marker, running)
        kills.kill_group(running.pid)
        running.communicate(timeout=kills.GONE_SECONDS)
    assert "run/predicted.qg" not in server.keys(bucket)
    done = command(*arguments)
    assert done.exit_code == 0, done.output
    assert "run/predicted.qg" in server.keys(bucket)
    done = command("aggregate-graph", f"{root}/predicted.qg", root, "--dry-run", "--no-interactive-status")
    assert done.exit_code == 0, done.output


def test_what_can_not_be_looked_at_is_no_missing_repository(
    server: object_servers.S3Server, bucket: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("create", f"s3://{bucket}/repo", "--db", database).exit_code == 0
    absent = command("show", f"s3://{bucket}/other")
    assert absent.exit_code == 2
    assert "there is no Butler repository" in absent.output
    with object_servers.FaultyServer(server, lambda method, path: 403 * path.endswith(".yaml")) as denying:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_denied", denying.url)
        denied = command("show", f"s3://denied@{bucket}/repo")
    assert denied.exit_code == 1
    assert "access is denied" in denied.output

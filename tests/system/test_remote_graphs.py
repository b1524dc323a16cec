"""Graphs that are on an object store."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import click.testing
import obstore
import pytest
from aggregator.schemas.graphs import provenance_graph

import aggregator
from aggregator.command_line import main
from tests.helpers import object_servers, small_runs


@pytest.fixture(scope="module")
def server() -> Iterator[object_servers.S3Server]:
    with object_servers.running() as running:
        yield running


@pytest.fixture(autouse=True)
def environment(server: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(server: object_servers.S3Server) -> str:
    return server.new_bucket()


@pytest.fixture(scope="module")
def local_graph(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    run = small_runs.make(
        tmp_path_factory.mktemp("local") / "run", 300, failed=0.1, blocked=0.1, log_size=8000
    )
    run.aggregate()
    return run.output


@pytest.fixture
def graph(server: object_servers.S3Server, bucket: str, local_graph: pathlib.Path) -> str:
    """Return the URI of a provenance graph."""
    obstore.put(server.client(bucket), "some runs/prov.qg", local_graph.read_bytes())
    return f"s3://{bucket}/some%20runs/prov.qg"


def command(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main.main, list(arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "GRAPH"),
        ("show", "GRAPH", "--failed"),
        ("provenance-report", "GRAPH"),
        ("provenance-report", "GRAPH", "--format", "json"),
    ],
    ids=lambda arguments: "-".join(arguments),
)
def test_it_answers_as_the_local_file(
    graph: str, local_graph: pathlib.Path, arguments: tuple[str, ...]
) -> None:
    remote, local = (
        command(*(place if argument == "GRAPH" else argument for argument in arguments))
        for place in (graph, str(local_graph))
    )
    assert (remote.exit_code, local.exit_code) == (0, 0), remote.output
    assert remote.output.replace(graph, "PLACE") == local.output.replace(str(local_graph), "PLACE")


def test_a_quantum_with_everything(graph: str, local_graph: pathlib.Path) -> None:
    with provenance_graph.ProvenanceGraph(str(local_graph)) as opened:
        quantum = next(opened.quanta()).quantum_id
    for view in ("--logs", "--metadata", "--upstream"):
        answers = [
            command("show", place, "--quantum", quantum, view, "--format", "json")
            for place in (graph, str(local_graph))
        ]
        assert [answer.exit_code for answer in answers] == [0, 0]
        documents = [json.loads(answer.output) for answer in answers]
        for document in documents:
            document.pop("graph", None)
        assert documents[0] == documents[1]


def test_one_object_and_not_the_whole_of_it(
    graph: str, server: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch, local_graph: pathlib.Path
) -> None:
    with provenance_graph.ProvenanceGraph(str(local_graph)) as opened:
        quantum = next(opened.quanta()).quantum_id
    with object_servers.FaultyServer(server, lambda method, path: 0) as counting:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_count", counting.url)
        with aggregator.Provenance(graph.replace("s3://", "s3://count@")) as provenance:
            assert provenance.quantum(quantum).quantum_id == quantum
        assert counting.n_bytes < local_graph.stat().st_size / 4


def test_it_is_replaced_while_it_is_read(graph: str, server: object_servers.S3Server, bucket: str) -> None:
    with aggregator.Provenance(graph) as provenance:
        obstore.put(server.client(bucket), "some runs/prov.qg", b"other content")
        with pytest.raises(aggregator.AggregatorError, match="replaced or removed") as raised:
            list(provenance.quanta())
    assert raised.value.exit_code == 1


@pytest.mark.parametrize(
    ("location", "code", "text"),
    [
        ("s3://BUCKET/some runs/other.qg", 2, "No such object"),
        ("s3://no-such-bucket-anywhere/prov.qg", 2, "no such bucket"),
        ("s3://BUCKET/", 2, "prov"),
        ("s3://key:verysecret@BUCKET/prov.qg", 2, "password"),
        ("s3://BUCKET", 2, ""),
        ("ftp://host/prov.qg", 2, "only local files"),
    ],
)
def test_what_is_no_graph(graph: str, bucket: str, location: str, code: int, text: str) -> None:
    answer = command("show", location.replace("BUCKET", bucket))
    assert answer.exit_code == code
    assert text in answer.output or not location.endswith(".qg")
    assert "verysecret" not in answer.output


def test_access_is_denied(
    graph: str, server: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_servers.FaultyServer(server, lambda method, path: 403 * path.endswith(".qg")) as denying:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_denied", denying.url)
        answer = command("show", graph.replace("s3://", "s3://denied@"))
    assert answer.exit_code == 2
    assert "access is denied" in answer.output
    assert object_servers.SECRET not in answer.output

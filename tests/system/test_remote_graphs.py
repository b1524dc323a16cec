"""Graphs that are on an object store."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import re
import shutil
import signal
from typing import Any

import click.testing
import obstore
import pytest
import yaml
from aggregator.schemas.graphs import provenance_graph
from aggregator.storage import fault_points

import aggregator
from aggregator.command_line import main
from tests.helpers import graph_files, kills, object_servers, small_runs, thinning


@pytest.fixture(autouse=True)
def environment(s3: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(s3: object_servers.S3Server) -> str:
    return s3.new_bucket()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> small_runs.SmallRun:
    """Return a run with its provenance graph, which nobody changes."""
    run = small_runs.make(
        tmp_path_factory.mktemp("local") / "run", 300, failed=0.1, blocked=0.1, log_size=8000
    )
    small_runs.copy(run, run.root.with_name("before"))
    run.aggregate()
    return run


@pytest.fixture(scope="module")
def local_graph(finished: small_runs.SmallRun) -> pathlib.Path:
    return finished.output


@pytest.fixture
def graph(s3: object_servers.S3Server, bucket: str, local_graph: pathlib.Path) -> str:
    """Return the URI of a provenance graph."""
    obstore.put(s3.client(bucket), "some runs/prov.qg", local_graph.read_bytes())
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
    texts = [remote.output.replace(graph, "PLACE"), local.output.replace(str(local_graph), "PLACE")]
    assert len({re.sub(r"\d\d:\d\d:\d\dZ", "NOW", text) for text in texts}) == 1


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
    graph: str, s3: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch, local_graph: pathlib.Path
) -> None:
    with provenance_graph.ProvenanceGraph(str(local_graph)) as opened:
        quantum = next(opened.quanta()).quantum_id
    with object_servers.FaultyServer(s3, lambda method, path: 0) as counting:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_count", counting.url)
        with aggregator.Provenance(graph.replace("s3://", "s3://count@")) as provenance:
            assert provenance.quantum(quantum).quantum_id == quantum
        assert counting.n_bytes < local_graph.stat().st_size / 4


def test_it_is_replaced_while_it_is_read(graph: str, s3: object_servers.S3Server, bucket: str) -> None:
    with aggregator.Provenance(graph) as provenance:
        obstore.put(s3.client(bucket), "some runs/prov.qg", b"other content")
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


def test_access_is_denied(graph: str, s3: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_servers.FaultyServer(s3, lambda method, path: 403 * path.endswith(".qg")) as denying:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_denied", denying.url)
        answer = command("show", graph.replace("s3://", "s3://denied@"))
    assert answer.exit_code == 2
    assert "access is denied" in answer.output
    assert object_servers.SECRET not in answer.output


@pytest.fixture
def executed(finished: small_runs.SmallRun, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the run before its aggregation, without its predicted graph; work in a directory of its own."""
    before = small_runs.SmallRun(finished.root.with_name("before"))
    run = small_runs.copy(before, tmp_path / "run")
    shutil.copy(run.predicted, tmp_path / "predicted.qg")
    run.predicted.unlink()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return run


@pytest.fixture
def predicted(executed: small_runs.SmallRun, s3: object_servers.S3Server, bucket: str) -> str:
    """Return the URI of its predicted graph."""
    path = executed.root.parent / "predicted.qg"
    obstore.put(s3.client(bucket), "some runs/predicted.qg", path.read_bytes())
    return f"s3://{bucket}/some%20runs/predicted.qg"


def aggregate(predicted: str, run: small_runs.SmallRun, *options: str) -> click.testing.Result:
    arguments = [predicted, str(run.root), *options]
    return command("aggregate-graph", *arguments, "--no-interactive-status")


def fingerprint(path: pathlib.Path | str) -> str:
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        return graph.fingerprint


@pytest.mark.parametrize("n_processes", thinning.thinned(["1", "2"], ["2"]))
def test_the_predicted_graph_is_remote(
    predicted: str, executed: small_runs.SmallRun, local_graph: pathlib.Path, n_processes: str
) -> None:
    done = aggregate(predicted, executed, "-o", str(executed.output), "-j", n_processes)
    assert done.exit_code == 0, done.output
    assert fingerprint(executed.output) == fingerprint(local_graph)
    assert os.listdir() == []


def test_it_is_fetched_once(
    predicted: str,
    executed: small_runs.SmallRun,
    s3: object_servers.S3Server,
    monkeypatch: pytest.MonkeyPatch,
    local_graph: pathlib.Path,
) -> None:
    with object_servers.FaultyServer(s3, lambda method, path: 0) as counting:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_count", counting.url)
        counted = predicted.replace("s3://", "s3://count@")
        assert aggregate(counted, executed, "--dry-run").exit_code == 0
        assert counting.n_bytes > (size := (executed.root.parent / "predicted.qg").stat().st_size)
        assert os.listdir() == ["predicted.qg.checkpoint"]
        counting.n_bytes = 0
        known = command("status", counted)
        assert f"Checkpoint of {counted}, run" in known.output
        assert "no verdicts" not in known.output
        assert "FAILED" in known.output.upper()
        assert counting.n_bytes == 0
        assert aggregate(counted, executed, "-o", str(executed.output)).exit_code == 0
        assert counting.n_bytes < size / 2
    assert fingerprint(executed.output) == fingerprint(local_graph)
    assert os.listdir() == []


def test_status_of_remote_graphs(
    predicted: str, graph: str, executed: small_runs.SmallRun, s3: object_servers.S3Server, bucket: str
) -> None:
    assert "there is no checkpoint" in command("status", predicted).output
    known = command("status", graph, "--format", "json")
    assert json.loads(known.output)["provenance_graph"] == graph
    assert aggregate(predicted, executed, "--dry-run").exit_code == 0
    # Another graph of this name has nothing to do with the checkpoint that is here.
    data = (executed.root.parent / "predicted.qg").read_bytes()
    obstore.put(s3.client(bucket), "other/predicted.qg", data)
    other = command("status", f"s3://{bucket}/other/predicted.qg", "--format", "json")
    assert json.loads(other.output)["state"] == "unknown"


def test_another_object_in_its_place(
    predicted: str,
    executed: small_runs.SmallRun,
    s3: object_servers.S3Server,
    bucket: str,
    tmp_path: pathlib.Path,
    local_graph: pathlib.Path,
) -> None:
    assert aggregate(predicted, executed, "--dry-run").exit_code == 0
    before = {path.name: path.read_bytes() for path in pathlib.Path("predicted.qg.checkpoint").iterdir()}
    other = small_runs.make(tmp_path / "other", 60)
    obstore.put(s3.client(bucket), "some runs/predicted.qg", other.predicted.read_bytes())
    done = aggregate(predicted, executed, "-o", str(executed.output))
    assert done.exit_code == 2
    assert "is another object than the one that" in done.output
    assert not executed.output.exists()
    after = {path.name: path.read_bytes() for path in pathlib.Path("predicted.qg.checkpoint").iterdir()}
    before.pop("last-run.json")
    after.pop("last-run.json")
    assert after == before
    data = (tmp_path / "predicted.qg").read_bytes()
    obstore.put(s3.client(bucket), "some runs/predicted.qg", data)
    done = aggregate(predicted, executed, "-o", str(executed.output))
    assert done.exit_code == 0, done.output
    assert fingerprint(executed.output) == fingerprint(local_graph)


def test_fresh_begins_with_the_other_object(
    predicted: str, executed: small_runs.SmallRun, s3: object_servers.S3Server, bucket: str
) -> None:
    assert aggregate(predicted, executed, "--dry-run").exit_code == 0
    # The same content by another way has another ETag.
    data = (executed.root.parent / "predicted.qg").read_bytes()
    other = graph_files.pack(
        executed.root.parent / "again.qg", graph_files.members(executed.root.parent / "predicted.qg")
    )
    assert other.read_bytes() != data
    obstore.put(s3.client(bucket), "some runs/predicted.qg", other.read_bytes())
    assert aggregate(predicted, executed, "--dry-run").exit_code == 2
    done = aggregate(predicted, executed, "--dry-run", "--fresh")
    assert done.exit_code == 0, done.output
    assert aggregate(predicted, executed, "--dry-run").exit_code == 0
    copies = list(pathlib.Path("predicted.qg.checkpoint").glob("*.qg"))
    assert [path.read_bytes() for path in copies] == [other.read_bytes()]


@pytest.mark.parametrize(
    "point", thinning.thinned(["rename.qg", "fetched", "manifest"], ["rename.qg", "manifest"])
)
def test_killed_while_it_is_fetched(
    predicted: str,
    executed: small_runs.SmallRun,
    tmp_path: pathlib.Path,
    point: str,
    local_graph: pathlib.Path,
) -> None:
    marker = tmp_path / "marker"
    arguments = ["aggregate-graph", predicted, str(executed.root), "-o", str(executed.output)]
    with kills.start(arguments, f"{point}:1", marker) as running:
        os.kill(kills.wait_for(marker, running), signal.SIGKILL)
        running.communicate(timeout=kills.GONE_SECONDS)
    done = aggregate(predicted, executed, "-o", str(executed.output))
    assert done.exit_code == 0, done.output
    assert fingerprint(executed.output) == fingerprint(local_graph)
    assert os.listdir() == []


def test_a_graph_that_can_not_be_fetched(
    predicted: str,
    executed: small_runs.SmallRun,
    s3: object_servers.S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = []

    def deny(method: str, path: str) -> int:
        if method != "GET" or not path.endswith("predicted.qg"):
            return 0
        reads.append(path)
        return 403 if len(reads) > 1 else 0

    with object_servers.FaultyServer(s3, deny) as counting:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_count", counting.url)
        done = aggregate(predicted.replace("s3://", "s3://count@"), executed, "--dry-run")
    assert done.exit_code == 1
    assert "access is denied" in done.output


@pytest.fixture
def output(bucket: str) -> str:
    """Return where the provenance graph goes."""
    return f"s3://{bucket}/results/prov%20%231.qg"


def local_copy(s3: object_servers.S3Server, bucket: str, tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "copy.qg"
    path.write_bytes(obstore.get(s3.client(bucket), "results/prov #1.qg").bytes().to_bytes())
    return path


@pytest.mark.parametrize("n_processes", thinning.thinned(["1", "2"], ["2"]))
def test_the_provenance_graph_goes_to_a_bucket(
    predicted: str,
    output: str,
    executed: small_runs.SmallRun,
    s3: object_servers.S3Server,
    bucket: str,
    tmp_path: pathlib.Path,
    local_graph: pathlib.Path,
    n_processes: str,
) -> None:
    for _ in range(2):
        # The second time it replaces the first one.
        done = aggregate(predicted, executed, "-o", output, "-j", n_processes)
        assert done.exit_code == 0, done.output
        assert f"provenance-report '{output}'" in done.output or output in done.output
        assert fingerprint(local_copy(s3, bucket, tmp_path)) == fingerprint(local_graph)
        assert os.listdir() == []
        assert sorted(s3.keys(bucket)) == ["results/prov #1.qg", "some runs/predicted.qg"]
    assert command("show", output).exit_code == 0


def test_what_is_not_replaced(
    predicted: str,
    graph: str,
    executed: small_runs.SmallRun,
    s3: object_servers.S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = s3.client(bucket)
    obstore.put(client, "mine.qg", b"my thesis")
    obstore.put(client, "empty.qg", b"")
    monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_site", s3.url)
    before = {key: obstore.head(client, key)["e_tag"] for key in s3.keys(bucket)}
    for place, text in [
        (predicted, "is the predicted graph"),
        (predicted.replace("s3://", "s3://site@"), "is the predicted graph"),
        (predicted.replace("%20", " "), "is the predicted graph"),
        (f"s3://{bucket}/mine.qg", "is no provenance graph"),
        (f"s3://{bucket}/empty.qg", "is no provenance graph"),
        ("s3://no-such-bucket-anywhere/a.qg", "no such bucket"),
        (f"s3://{bucket}", "names no file"),
        (f"s3://{bucket}/", "names no file"),
        (f"s3://key:verysecret@{bucket}/a.qg", "password"),
        ("ftp://host/a.qg", "only local files"),
    ]:
        done = aggregate(predicted, executed, "-o", place)
        assert (done.exit_code, text in done.output) == (2, True), (place, done.output)
        assert "verysecret" not in done.output
        assert os.listdir() == []
    assert {key: obstore.head(client, key)["e_tag"] for key in s3.keys(bucket)} == before


def test_where_the_files_of_the_run_are(
    predicted: str, executed: small_runs.SmallRun, bucket: str, s3: object_servers.S3Server
) -> None:
    client = s3.client(bucket)
    for path in executed.run_directory.rglob("*"):
        if path.is_file():
            obstore.put(client, f"repo/{path.relative_to(executed.root)}", path.read_bytes())
    shutil.rmtree(executed.root / "u")
    config = yaml.safe_load((executed.root / "butler.yaml").read_text())
    config["datastore"] |= {"root": f"s3://{bucket}/repo"}
    (executed.root / "butler.yaml").write_text(yaml.safe_dump(config))
    run_name = json.loads(command("status", predicted, "--format", "json").output)["run"]
    done = aggregate(predicted, executed, "-o", f"s3://{bucket}/repo/{run_name}/some/prov.qg")
    assert done.exit_code == 2
    assert f"where the files of run {run_name} are" in done.output
    assert aggregate(predicted, executed, "-o", f"s3://{bucket}/repo/prov.qg").exit_code == 0


def test_it_comes_there_meanwhile(
    predicted: str,
    output: str,
    executed: small_runs.SmallRun,
    s3: object_servers.S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put = obstore.put

    def reached(point: str) -> None:
        if point == "uploading":
            put(s3.client(bucket), "results/prov #1.qg", b"somebody's")

    monkeypatch.setattr(fault_points, "reached", reached)
    done = aggregate(predicted, executed, "-o", output)
    assert done.exit_code == 1
    content = obstore.get(s3.client(bucket), "results/prov #1.qg").bytes().to_bytes()
    assert content == b"somebody's"
    assert output in done.output


KILLS = list(itertools.product(["output", "uploading", "uploaded"], [False, True]))


@pytest.mark.parametrize(("point", "is_old"), thinning.thinned(KILLS, KILLS[1:5:2]))
def test_killed_while_it_is_put_there(
    predicted: str,
    output: str,
    executed: small_runs.SmallRun,
    s3: object_servers.S3Server,
    bucket: str,
    tmp_path: pathlib.Path,
    local_graph: pathlib.Path,
    point: str,
    is_old: bool,
) -> None:
    old = graph_files.pack(tmp_path / "old.qg", graph_files.members(local_graph)).read_bytes()
    client = s3.client(bucket)
    if is_old:
        obstore.put(client, "results/prov #1.qg", old)
    marker = tmp_path / "marker"
    arguments = ["aggregate-graph", predicted, str(executed.root), "-o", output, "-j", "2"]
    with kills.start(arguments, f"{point}:1", marker) as running:
        kills.wait_for(marker, running)
        kills.kill_group(running.pid)
        running.communicate(timeout=kills.GONE_SECONDS)
    if point == "uploaded":
        assert fingerprint(local_copy(s3, bucket, tmp_path)) == fingerprint(local_graph)
    elif is_old:
        assert local_copy(s3, bucket, tmp_path).read_bytes() == old
    else:
        assert s3.keys(bucket) == ["some runs/predicted.qg"]
    done = aggregate(predicted, executed, "-o", output)
    assert done.exit_code == 0, done.output
    assert fingerprint(local_copy(s3, bucket, tmp_path)) == fingerprint(local_graph)
    assert os.listdir() == []


def test_the_server_does_not_take_it(
    predicted: str,
    output: str,
    executed: small_runs.SmallRun,
    s3: object_servers.S3Server,
    monkeypatch: pytest.MonkeyPatch,
    bucket: str,
) -> None:
    with object_servers.FaultyServer(s3, lambda method, path: 403 * (method == "PUT")) as denying:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_denied", denying.url)
        there = output.replace("s3://", "s3://denied@")
        done = aggregate(predicted, executed, "-o", there)
        assert done.exit_code == 1
        assert f"{there}: can't write it (access is denied" in done.output
    done = aggregate(predicted, executed, "-o", output)
    assert done.exit_code == 0, done.output
    assert os.listdir() == []

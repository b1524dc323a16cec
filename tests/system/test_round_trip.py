"""Which of two attempts stays, what is never replaced, and what a pack can't do to a host or a repository."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import pathlib
import shutil
import time
import uuid
import zipfile
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import yaml
import zstandard
from aggregator.butler import run_lock
from aggregator.butler.configuration import repository_config
from aggregator.execution import readiness
from aggregator.schemas import pack_reader, pack_writer, packs
from aggregator.schemas.execution import log_records
from aggregator.schemas.graphs import addresses, predicted

import aggregator
from aggregator.running import graph_run, run_config
from aggregator.transfer import delivered_files, payloads
from tests.helpers import executions, object_servers, plain_runs, round_trips, sharing


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> plain_runs.PlainRun:
    """Return a graph of 60 quanta, of which none has run."""

    def make(path: pathlib.Path) -> plain_runs.PlainRun:
        return plain_runs.make(path / "repo", 60)

    return sharing.made_once(tmp_path_factory, "plain_round_trip", make)


@pytest.fixture
def run(made: plain_runs.PlainRun, tmp_path: pathlib.Path) -> plain_runs.PlainRun:
    """Return a copy of it with the run's init outputs."""
    copy = made.copy(tmp_path / "repo")
    graph_run.init_run(copy.graph, copy.root)
    return copy


@pytest.fixture
def first(run: plain_runs.PlainRun) -> readiness.QuantumData:
    return executions.first(run)


def execute(node: pathlib.Path) -> None:
    with contextlib.suppress(graph_run.ExecutionError):
        graph_run.execute(node / "graph.qg", node, run_config.RunConfig(in_process=True))


def left(
    run: plain_runs.PlainRun, directory: pathlib.Path, data: readiness.QuantumData, mode: str, **options: Any
) -> pathlib.Path:
    """Return what a quantum leaves on a node when it is told what to do."""
    executions.tell(run, data, mode)
    return round_trips.leave(run.root, run.graph, directory, {data.id}, execute, **options)


def files(run: plain_runs.PlainRun) -> dict[str, bytes]:
    """Return all files of a run."""
    paths = sorted(path for path in run.root.glob("u/**/*") if path.is_file())
    return {str(path.relative_to(run.root)): path.read_bytes() for path in paths}


def clear(run: plain_runs.PlainRun, before: dict[str, bytes]) -> None:
    """Remove all files of a run but those that were there before."""
    for name in files(run).keys() - before.keys():
        (run.root / name).unlink()


def outputs(run: plain_runs.PlainRun, before: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files that have come to a run."""
    return {name: content for name, content in files(run).items() if name not in before}


@pytest.mark.ordering("K6")
def test_a_success_takes_the_place_of_a_failure(
    run: plain_runs.PlainRun,
    first: readiness.QuantumData,
    tmp_path: pathlib.Path,
) -> None:
    before = files(run)
    failed = left(run, tmp_path / "a", first, "fail")
    good = left(run, tmp_path / "b", first, "ok")
    for packs_given in ([failed, good], [good, failed]):
        clear(run, before)
        done = [aggregator.deliver([pack], run.root) for pack in packs_given]
        assert (done[0].n_quanta, done[1].n_quanta + done[1].n_outdone) == (1, 1)
        content = outputs(run, before)
        [log] = executions.logs(run)
        assert executions.exception(log) is None
        assert len(content) == 3
        again = aggregator.deliver(packs_given, run.root)
        assert (again.n_present, again.n_outdone, again.n_files) == (1, 1, 0)
        assert outputs(run, before) == content


@pytest.mark.ordering("K6")
def test_of_two_failures_the_later_one_stays(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    before = files(run)
    earlier = left(run, tmp_path / "a", first, "repeatable", failed="all")
    later = left(run, tmp_path / "b", first, "fail", failed="all")
    contents = []
    for packs_given in ([earlier, later], [later, earlier]):
        clear(run, before)
        aggregator.deliver(packs_given, run.root)
        contents.append(outputs(run, before))
    # The earlier one had left an output; the later one has not.
    assert contents[0] == contents[1]
    [name] = contents[0]
    assert executions.exception(run.root / name) == "ValueError"


def test_of_two_successes_the_first_stays(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    two = [left(run, tmp_path / name, first, "ok") for name in "ab"]
    aggregator.deliver(two[:1], run.root)
    before = files(run)
    done = aggregator.deliver(two, run.root)
    assert (done.n_present, done.n_outdone, done.replaced) == (1, 1, [])
    assert files(run) == before


def test_the_story_of_an_earlier_attempt_stays(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    aggregator.deliver([left(run, tmp_path / "a", first, "fail")], run.root)
    aggregator.deliver([left(run, tmp_path / "b", first, "ok")], run.root)
    config = aggregator.AggregatorConfig(register_dataset_types=True, incomplete=True)
    aggregator.aggregate_graph(run.graph, run.root, config)
    [log] = executions.logs(run)
    [attempt] = log_records.parse(log.read_bytes()).extra.previous_attempts
    assert attempt.exception is not None
    assert attempt.exception.type_name == "ValueError"


@pytest.mark.parametrize(("failed", "n_files"), [("none", 0), ("logs", 1), ("all", 2)])
def test_what_is_packed_of_failures(
    run: plain_runs.PlainRun,
    first: readiness.QuantumData,
    tmp_path: pathlib.Path,
    failed: str,
    n_files: int,
) -> None:
    with pack_reader.Pack(str(left(run, tmp_path / "a", first, "repeatable", failed=failed))) as pack:
        [row] = pack.table(packs.QUANTA, packs.PackedQuantum)
    assert (len(row.files), row.status) == (n_files, -1)
    done = aggregator.deliver([tmp_path / "a" / "out.pack"], run.root)
    assert (done.n_withheld, done.n_quanta, done.n_not_attempted) == (not n_files, bool(n_files), 0)
    assert done.lines()[0].count("1 ") >= 1


def test_a_quantum_without_any_files_is_not_attempted(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    pack = round_trips.leave(run.root, run.graph, tmp_path / "a", {first.id}, lambda node: None)
    done = aggregator.deliver([pack], run.root)
    assert (done.n_not_attempted, done.n_quanta, done.n_files) == (1, 0, 0)


def test_files_that_cannot_be_used_are_left_out_and_named(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path
) -> None:
    two = [data for data in run.quanta() if data.task == "isr"][:2]

    def spoil(node: pathlib.Path) -> None:
        execute(node)
        logs = sorted(node.rglob("*_log_*.json"))
        assert len(logs) == 2
        logs[0].write_bytes(b"garbage")

    with pytest.raises(aggregator.HeldError, match="1 quanta have files that can't be used") as caught:
        round_trips.leave(run.root, run.graph, tmp_path / "a", {data.id for data in two}, spoil)
    assert isinstance(caught.value.summary, aggregator.CollectSummary)
    assert caught.value.summary.statuses == {"SUCCESSFUL": 1}
    assert aggregator.deliver([tmp_path / "a" / "out.pack"], run.root).n_quanta == 1


@pytest.mark.ordering("K7")
def test_outputs_of_unknown_origin_are_not_replaced(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    before = files(run)
    pack = left(run, tmp_path / "a", first, "ok")
    aggregator.deliver([pack], run.root)
    for name, content in outputs(run, before).items():
        path = run.root / name
        if "_log_" in name or "_metadata_" in name:
            path.unlink()
        else:
            path.write_bytes(content + b" ")
    orphans = outputs(run, before)
    with pytest.raises(aggregator.AggregatorError, match="neither metadata nor log") as caught:
        aggregator.deliver([pack], run.root)
    assert caught.value.exit_code == 1
    assert outputs(run, before) == orphans
    done = aggregator.deliver([pack], run.root, overwrite_orphans=True)
    assert sorted(done.replaced) == sorted(str(run.root / name) for name in orphans)


@pytest.mark.ordering("K8")
def test_a_pack_of_another_graph_is_refused(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    pack = left(run, tmp_path / "a", first, "ok")
    other = plain_runs.make(tmp_path / "other", 61)
    before = files(other)
    with pytest.raises(aggregator.RefusedError, match="is of another graph than"):
        aggregator.deliver([pack], other.root, graph_path=other.graph)
    assert files(other) == before
    other_pack = left(other, tmp_path / "b", executions.first(other), "ok")
    with pytest.raises(aggregator.RefusedError, match="Deliver them one after the other"):
        aggregator.deliver([pack, other_pack], run.root)
    with pytest.raises(aggregator.RefusedError, match="what a job needs"):
        aggregator.deliver([tmp_path / "a" / "job.pack"], run.root)
    with pytest.raises(aggregator.RefusedError, match="what a job has left"):
        aggregator.unpack(pack, tmp_path / "node")
    shutil.move(run.graph, tmp_path / "moved.qg")
    with pytest.raises(aggregator.RefusedError, match="--graph"):
        aggregator.deliver([pack], run.root)
    assert aggregator.deliver([pack], run.root, graph_path=tmp_path / "moved.qg").n_quanta == 1


@pytest.mark.ordering("K8")
def test_another_repository_has_to_be_meant(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    pack = left(run, tmp_path / "a", first, "ok")
    other = run.copy(tmp_path / "other")
    before = files(other)
    with pytest.raises(aggregator.RefusedError, match="its job was packed from"):
        aggregator.deliver([pack], other.root)
    assert files(other) == before
    with pytest.raises(aggregator.RefusedError, match=r"no[-_a-z]*where") as caught:
        aggregator.deliver([pack], tmp_path / "nowhere")
    assert "--graph" not in str(caught.value)
    assert aggregator.deliver([pack], other.root, other_repository=True).n_quanta == 1
    (tmp_path / "link").symlink_to(run.root)
    assert aggregator.deliver([pack], tmp_path / "link").n_quanta == 1


@pytest.mark.parametrize("is_job", [False, True])
def test_jobs_that_run_and_deliveries_are_kept_apart(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path, is_job: bool
) -> None:
    pack = left(run, tmp_path / "a", first, "ok")
    before = files(run)
    config = repository_config.load(str(run.root))
    with pack_reader.Pack(str(pack)) as opened:
        name = opened.manifest.origin.run
    lock = run_lock.held_by_job if is_job else run_lock.held
    with lock(name, config.datastores), pytest.raises(aggregator.InUseError):
        aggregator.deliver([pack], run.root)
    assert {each: content for each, content in files(run).items() if "lock" not in each} == before


def rewritten(source: pathlib.Path, target: pathlib.Path, graph: bytes, **changes: Any) -> pathlib.Path:
    """Write a pack of a job with another graph, as a stranger would: all checksums are right."""
    with pack_reader.Pack(str(source)) as pack, pack_writer.Writer(str(target), lambda: None) as out:
        rows = list(pack.table(packs.INPUTS, packs.InputFile))
        for row in rows:
            out.add_file(row.name, pack.file(row.name, row.size, row.checksum))
        out.add(packs.GRAPH, [graph])
        out.add_table(packs.INPUTS, rows)
        out.finish(msgspec.structs.replace(pack.manifest, **changes))
    return target


def test_a_graph_that_cannot_be_executed_is_refused(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    source = tmp_path / "job.pack"
    aggregator.pack(run.root, run.graph, source, quanta={first.id})
    with pack_reader.Pack(str(source)) as pack:
        graph = b"".join(pack.graph())
        origin = pack.manifest.origin
    middle = len(graph) // 2
    flipped = graph[: len(graph) // 3] + bytes(64) + graph[len(graph) // 3 + 64 :]
    node = tmp_path / "node"
    for number, (content, changes) in enumerate(
        [
            (b"garbage", {}),
            (graph[:middle], {}),
            (flipped, {}),
            (b"", {}),
            (graph, {"n_quanta": 2}),
            (graph, {"origin": msgspec.structs.replace(origin, run="u/other")}),
        ]
    ):
        bad = rewritten(source, tmp_path / f"{number}.pack", content, **changes)
        with pytest.raises(aggregator.RefusedError, match=r"Nothing was unpacked|its graph"):
            aggregator.unpack(bad, node)
        assert not node.exists()
    aggregator.unpack(rewritten(source, tmp_path / "same.pack", graph), node)


def test_two_that_unpack_are_kept_apart(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    aggregator.pack(run.root, run.graph, tmp_path / "job.pack", quanta={first.id})
    node = tmp_path / "node"
    found = []

    def again(_: Any) -> None:
        if not found:
            with pytest.raises(aggregator.InUseError) as caught:
                aggregator.unpack(tmp_path / "job.pack", node)
            found.append(caught.value)

    aggregator.unpack(tmp_path / "job.pack", node, on_progress=again)
    assert found
    assert aggregator.unpack(tmp_path / "job.pack", node).n_files == 0


def test_another_configuration_is_refused(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    def change(node: pathlib.Path) -> None:
        execute(node)
        config = next(node.rglob("isr_config_*"))
        config.write_bytes(config.read_bytes() + b"\nconfig.more = 1\n")

    pack = round_trips.leave(run.root, run.graph, tmp_path / "a", {first.id}, change)
    before = files(run)
    with pytest.raises(aggregator.RefusedError, match="with another configuration"):
        aggregator.deliver([pack], run.root)
    assert files(run) == before


def test_init_outputs_can_come_from_a_job(run: plain_runs.PlainRun, tmp_path: pathlib.Path) -> None:
    n_init = len(files(run))
    shutil.rmtree(run.root / "u")
    data = executions.first(run)

    def init_too(node: pathlib.Path) -> None:
        graph_run.init_run(node / "graph.qg", node)
        execute(node)

    pack = round_trips.leave(run.root, run.graph, tmp_path / "a", {data.id}, init_too)
    done = aggregator.deliver([pack], run.root)
    assert (done.n_quanta, done.kept) == (1, [])
    assert len(files(run)) == n_init + 3
    # Versions of packages may differ between hosts.
    packages = next(run.root.rglob("packages_*"))
    packages.write_bytes(packages.read_bytes() + b"\n")
    assert aggregator.deliver([pack], run.root).kept == [str(packages)]


@pytest.mark.exhaustive
def test_a_graph_that_was_ingested_is_refused(run: plain_runs.PlainRun, tmp_path: pathlib.Path) -> None:
    executions.execute(run)
    pack = tmp_path / "job.pack"
    with pytest.raises(aggregator.AggregatorError, match="all 60 quanta have succeeded before"):
        aggregator.pack(run.root, run.graph, pack)
    executions.aggregated(run).close()
    aggregator.ingest_graph(run.root, run.root / "provenance.qg")
    with pytest.raises(aggregator.RefusedError, match="holds these quanta"):
        aggregator.pack(run.root, run.graph, pack)
    assert not pack.exists()


def test_a_missing_input_is_refused(run: plain_runs.PlainRun, tmp_path: pathlib.Path) -> None:
    with predicted.PredictedGraph(str(run.graph)) as graph:
        table = graph.address_table()
        quantum = next(
            q for q, _ in graph.read_quanta(table.offsets[:, 0], table.sizes[:, 0]) if q.datastore_records
        )
    [(_, records)] = quantum.datastore_records.items()
    [row, *_] = next(iter(next(iter(records["records"].values())).values())).values()
    path = run.root / row[0]["path"]
    content = path.read_bytes()
    path.write_bytes(content + b"more")
    if row[0]["file_size"] >= 0:
        with pytest.raises(aggregator.RefusedError, match="its record says"):
            aggregator.pack(run.root, run.graph, tmp_path / "job.pack")
    path.unlink()
    with pytest.raises(aggregator.RefusedError, match=r"is missing: .*Put the file back"):
        aggregator.pack(run.root, run.graph, tmp_path / "job.pack")
    assert not (tmp_path / "job.pack").exists()


def test_only_packs_are_replaced(run: plain_runs.PlainRun, tmp_path: pathlib.Path) -> None:
    other = tmp_path / "job.pack"
    other.write_bytes(b"mine")
    for path, message in (
        (other, "is no pack"),
        (run.graph, "is the predicted graph"),
        (next(run.root.glob("u/*/*/*")) / "x.pack", "where the files of run"),
        (run.root / "butler.yaml", "the configuration"),
        (tmp_path, "is a directory"),
        (tmp_path / "no" / "job.pack", "its directory does not exist"),
        ("s3://bucket/job.pack", "has to be on this host"),
    ):
        with pytest.raises(aggregator.RefusedError, match=message):
            aggregator.pack(run.root, run.graph, path)
    assert other.read_bytes() == b"mine"
    other.unlink()
    sizes = [aggregator.pack(run.root, run.graph, other).pack_size for _ in range(2)]
    assert sizes[0] == sizes[1]


def test_results_that_are_nowhere_else_are_not_replaced(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    out = left(run, tmp_path / "one", first, "")
    content = out.read_bytes()
    job, empty = tmp_path / "one" / "job.pack", tmp_path / "empty"
    aggregator.unpack(job, empty)
    with pytest.raises(aggregator.RefusedError, match="1 other quanta have left"):
        aggregator.collect(empty, out)
    with pytest.raises(aggregator.RefusedError, match=r"what a job of run .* has left"):
        aggregator.pack(run.root, run.graph, out)
    with pytest.raises(aggregator.RefusedError, match="what a job needs"):
        aggregator.collect(empty, job)
    assert out.read_bytes() == content
    aggregator.collect(tmp_path / "one" / "node", out)
    out.write_bytes(content[: len(content) // 2])
    with pytest.raises(aggregator.RefusedError, match="cut off"):
        aggregator.collect(tmp_path / "one" / "node", out)


def test_what_comes_while_a_pack_is_delivered_is_not_replaced(
    run: plain_runs.PlainRun,
    first: readiness.QuantumData,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, before, write = left(run, tmp_path / "one", first, ""), files(run), delivered_files.write

    def late(source: Any, targets: Any, replaced: Any) -> delivered_files.Written:
        place = pathlib.Path(targets[0].place.location)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"of a job that runs beside")
        return write(source, targets, replaced)

    monkeypatch.setattr(delivered_files, "write", late)
    with pytest.raises(aggregator.AggregatorError, match="another process has written it"):
        aggregator.deliver([out], run.root)
    assert list(outputs(run, before).values()) == [b"of a job that runs beside"]


def test_files_can_come_by_another_way(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    listing = tmp_path / "in.jsonl"
    options = {"quanta": {first.id}, "manifest": listing}
    done = aggregator.pack(run.root, run.graph, tmp_path / "job.pack", **options)
    assert done.payload == "none"
    head, *listed = map(json.loads, listing.read_text().splitlines())
    assert (head["manifest"], len(listed)) == (1, done.n_files)
    with pack_reader.Pack(str(tmp_path / "job.pack")) as pack:
        rows = list(pack.table(packs.INPUTS, packs.InputFile))
        assert not pack.has_file(rows[0].name)
    staged, node = tmp_path / "staged", tmp_path / "node"
    staged.mkdir()
    assert {(each["from"], each["path"], each["size"]) for each in listed} == {
        (row.origin, row.name, row.size) for row in rows
    }
    for brought in (rows[:2], rows):
        for row in brought:
            shutil.copy(row.origin, staged / row.name)
        with contextlib.ExitStack() as stack:
            if brought != rows:
                stack.enter_context(pytest.raises(aggregator.AggregatorError, match="are missing"))
            unpacked = aggregator.unpack(tmp_path / "job.pack", node, staged=staged)
        assert (node / "butler.yaml").exists() is (brought == rows)
    assert (unpacked.n_files, unpacked.n_present) == (done.n_files - 2, 2)
    assert (node / rows[0].path).samefile(staged / rows[0].name)
    execute(node)
    _check_way_back(run, node, tmp_path)
    (staged / rows[0].name).write_bytes(b"")
    with pytest.raises(aggregator.AggregatorError, match="has 0 bytes"):
        aggregator.unpack(tmp_path / "job.pack", tmp_path / "other", staged=staged)


def _check_way_back(run: plain_runs.PlainRun, node: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Collect without files, and deliver when some have come, and when all have."""
    before, home = files(run), tmp_path / "home"
    home.mkdir()
    listing = tmp_path / "out.jsonl.zst"
    collected = aggregator.collect(node, tmp_path / "out.pack", manifest=listing)
    assert (collected.statuses, collected.n_files) == ({"SUCCESSFUL": 1}, 3)
    with zstandard.open(listing, "rt") as stream:
        _, *listed = map(json.loads, stream)
    for number, each in enumerate(listed):
        with pytest.raises(aggregator.AggregatorError, match=f"^{3 - number} files are neither"):
            aggregator.deliver([tmp_path / "out.pack"], run.root, staged=home)
        assert files(run) == before
        shutil.copy(each["from"], home / each["path"])
    content = (home / listed[0]["path"]).read_bytes()
    (home / listed[0]["path"]).write_bytes(content[::-1])
    with pytest.raises(aggregator.AggregatorError, match="is not the file that it was"):
        aggregator.deliver([tmp_path / "out.pack"], run.root, staged=home)
    (home / listed[0]["path"]).write_bytes(content)
    assert aggregator.deliver([tmp_path / "out.pack"], run.root, staged=home).n_files == 3
    assert aggregator.deliver([tmp_path / "out.pack"], run.root).n_present == 1


def test_a_directory_of_somebody_else_is_left_alone(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    pack, node = tmp_path / "job.pack", tmp_path / "node"
    aggregator.pack(run.root, run.graph, pack, quanta={first.id})
    node.mkdir()
    (node / "mine").touch()
    with pytest.raises(aggregator.RefusedError, match="is not empty, there is 'mine'"):
        aggregator.unpack(pack, node)
    assert [each.name for each in node.iterdir()] == ["mine"]
    with pytest.raises(aggregator.RefusedError, match="no pack of a job was unpacked"):
        aggregator.collect(node, tmp_path / "out.pack")
    (node / "mine").unlink()
    aggregator.unpack(pack, node)
    aggregator.pack(run.root, run.graph, tmp_path / "other.pack")
    with pytest.raises(aggregator.RefusedError, match="another pack was unpacked"):
        aggregator.unpack(tmp_path / "other.pack", node)
    execute(node)
    # After an execution all is as it shall be, whatever that has replaced.
    assert aggregator.unpack(pack, node).n_files == 0


@pytest.mark.ordering("K3")
@pytest.mark.parametrize(
    "changes",
    [
        {"path": "../outside"},
        pytest.param({"path": "/tmp/outside"}, marks=pytest.mark.exhaustive),
        pytest.param({"path": "a/../../outside"}, marks=pytest.mark.exhaustive),
        {"path": "butler.yaml"},
        pytest.param({"path": "job.json"}, marks=pytest.mark.exhaustive),
        pytest.param({"path": "a//b"}, marks=pytest.mark.exhaustive),
        pytest.param({"path": "a\0b"}, marks=pytest.mark.exhaustive),
        {"name": "../../etc/passwd"},
        {"datastore": "another"},
    ],
)
def test_no_pack_leads_out_of_the_directory(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path, changes: dict[str, str]
) -> None:
    pack = tmp_path / "job.pack"
    aggregator.pack(run.root, run.graph, pack)
    with pack_reader.Pack(str(pack)) as opened:
        rows = list(opened.table(packs.INPUTS, packs.InputFile))
        manifest, graph = opened.manifest, b"".join(opened.graph())
        content = [b"".join(opened.file(row.name, row.size, row.checksum)) for row in rows]
    rows[3] = msgspec.structs.replace(rows[3], **changes)
    with pack_writer.Writer(str(pack), lambda: None) as out:
        for row, each in zip(rows, content, strict=True):
            if packs.is_flat_name(row.name):
                out.add_file(row.name, [each])
        out.add(packs.GRAPH, [graph])
        out.add_table(packs.INPUTS, rows)
        out.finish(manifest)
    with pytest.raises(aggregator.RefusedError, match="where no job has inputs"):
        aggregator.unpack(pack, tmp_path / "node")
    assert not (tmp_path / "node").exists()
    assert not (tmp_path / "outside").exists()


@pytest.mark.ordering("K5")
def test_outputs_that_are_none_are_not_delivered(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    pack = left(run, tmp_path / "a", first, "ok")
    before = files(run)
    other = next(data for data in run.quanta() if data.task == "isr" and data.id != first.id)
    for changes, message in (
        ({"id": str(other.id)}, "which the graph does not say"),
        ({"id": "01a200dc-a8c6-77a6-8839-7ca00bcb3374"}, "which the graph has not"),
        ({"id": "../x"}, "which the graph has not"),
    ):
        for row in _rewritten(pack, tmp_path / "bad.pack", changes):
            assert row.files
        with pytest.raises(aggregator.FormatError, match=message):
            aggregator.deliver([tmp_path / "bad.pack"], run.root)
    assert files(run) == before


def _rewritten(
    source: pathlib.Path, target: pathlib.Path, changes: dict[str, str]
) -> Iterator[packs.PackedQuantum]:
    with pack_reader.Pack(str(source)) as opened, pack_writer.Writer(str(target), lambda: None) as out:
        rows = list(opened.table(packs.QUANTA, packs.PackedQuantum))
        for row in rows:
            for file in row.files:
                out.add_file(file.name, opened.file(file.name, file.size, file.checksum))
        rows = [msgspec.structs.replace(row, **changes) for row in rows]
        out.add_table(packs.QUANTA, rows)
        out.finish(opened.manifest)
    yield from rows


def test_a_pack_that_names_another_run_is_refused(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    pack, bad = left(run, tmp_path / "one", first, "ok"), tmp_path / "bad.pack"
    with pack_reader.Pack(str(pack)) as opened, pack_writer.Writer(str(bad), lambda: None) as out:
        origin = msgspec.structs.replace(opened.manifest.origin, run="../../evil")
        out.add_table(packs.QUANTA, opened.table(packs.QUANTA, packs.PackedQuantum))
        out.finish(msgspec.structs.replace(opened.manifest, origin=origin))
    with pytest.raises(aggregator.RefusedError, match=r"of run '\.\./\.\./evil'"):
        aggregator.deliver([bad], run.root)
    job = tmp_path / "one" / "node" / "job.json"
    job.write_text(job.read_text().replace(origin.location, "x").replace(opened.manifest.origin.run, "evil"))
    with pytest.raises(aggregator.RefusedError, match="of run 'evil'"):
        aggregator.collect(tmp_path / "one" / "node", tmp_path / "again.pack")
    assert not list(tmp_path.rglob("evil"))


def test_a_part_of_a_graph_is_what_it_should_be(run: plain_runs.PlainRun, tmp_path: pathlib.Path) -> None:
    ids = {data.id for data in run.quanta() if data.task in ("isr", "calibrate")}
    chosen = {str(each) for each in ids}
    aggregator.pack(run.root, run.graph, tmp_path / "job.pack", quanta=ids)
    aggregator.unpack(tmp_path / "job.pack", tmp_path / "node")
    part_path = tmp_path / "node" / "graph.qg"
    with predicted.PredictedGraph(str(run.graph)) as whole, predicted.PredictedGraph(str(part_path)) as part:
        documents = [_documents(graph) for graph in (whole, part)]
        assert documents[1] == {key: document for key, document in documents[0].items() if key in chosen}
        edges = [_edges(graph) for graph in (whole, part)]
        assert edges[1] == {pair for pair in edges[0] if pair <= chosen}
        assert edges[1]
        assert part.header.n_quanta == len(chosen) == sum(part.header.n_task_quanta.values())
        assert part.header.n_task_quanta.keys() == whole.header.n_task_quanta.keys()
        assert part.pipeline_json == whole.pipeline_json
        assert part.dictionary == whole.dictionary
        elements = set(whole.pipeline.universe["elements"])
        rows = [list(map(str, graph.dimension_rows(elements))) for graph in (whole, part)]
        assert set(rows[1]) < set(rows[0])


def _documents(graph: predicted.PredictedGraph) -> dict[str, Any]:
    table = graph.address_table()
    read = graph.read_quanta(table.offsets[:, 0], table.sizes[:, 0])
    documents = {quantum.quantum_id: json.loads(document) for quantum, document in read}
    for document in documents.values():
        # Sizes are known better in the part.
        document["datastore_records"] = sorted(
            str(document["datastore_records"]).count("formatter") * ["record"]
        )
    return documents


def _edges(graph: predicted.PredictedGraph) -> set[frozenset[str]]:
    table = graph.address_table()
    names = [str(uuid.UUID(digits)) for digits in addresses.hex_digits(table.ids)]
    return {frozenset(names[row] for row in pair) for pair in graph.edges(table).tolist()}


def test_summaries_are_documents(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    pack = tmp_path / "job.pack"
    done: list[Any] = [
        aggregator.pack(run.root, run.graph, pack, quanta={first.id}),
        aggregator.unpack(pack, tmp_path / "node"),
    ]
    execute(tmp_path / "node")
    done.append(aggregator.collect(tmp_path / "node", tmp_path / "out.pack"))
    done.append(aggregator.deliver([tmp_path / "out.pack"], run.root))
    for each in done:
        assert each.lines()
        assert msgspec.json.encode(each.document())
        assert dataclasses.asdict(each)["run"] == each.document().run
    with zipfile.ZipFile(pack) as archive:
        assert archive.testzip() is None


def test_a_repository_on_an_object_store(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load((run.root / "butler.yaml").read_text())
    config["registry"]["db"] = f"sqlite:///{run.root}/gen3.sqlite3"
    (run.root / "butler.yaml").write_text(yaml.safe_dump(config))
    first = executions.first(run)
    with object_servers.running() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        bucket = server.new_bucket()
        for path in run.root.rglob("*"):
            if path.is_file() and path.suffix != ".sqlite3":
                server.put(bucket, f"a repo/{path.relative_to(run.root)}", path.read_bytes())
        root = f"s3://{bucket}/a repo"
        before = set(server.keys(bucket))
        pack = tmp_path / "job.pack"
        aggregator.pack(root, run.graph, pack, quanta={first.id})
        aggregator.unpack(pack, tmp_path / "node")
        execute(tmp_path / "node")
        aggregator.collect(tmp_path / "node", tmp_path / "out.pack")
        done = aggregator.deliver([tmp_path / "out.pack"], root)
        assert (done.n_quanta, done.n_files) == (1, 3)
        new = set(server.keys(bucket)) - before
        assert len(new) == 3
        assert all(key.startswith("a repo/u/") for key in new)
        assert aggregator.deliver([tmp_path / "out.pack"], root).n_present == 1


def test_a_chain_of_datastores(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    config = yaml.safe_load((run.root / "butler.yaml").read_text())
    whole = config["datastore"]
    other = {**whole, "root": "<butlerRoot>/other", "constraints": {"reject": ["isr_log"]}}
    package = "lsst.daf.butler.datastores.chainedDatastore.ChainedDatastore"
    config["datastore"] = {"cls": package, "datastores": [{"datastore": whole}, {"datastore": other}]}
    (run.root / "butler.yaml").write_text(yaml.safe_dump(config))
    pack = left(run, tmp_path / "a", first, "ok")
    node = repository_config.load(str(tmp_path / "a" / "node"))
    central = repository_config.load(str(run.root))
    assert [each.name for each in node.datastores] == [each.name for each in central.datastores]
    assert [each.constraints for each in node.datastores] == [each.constraints for each in central.datastores]
    assert [each.root for each in node.datastores] == [node.root, f"{node.root}/datastore-1"]
    done = aggregator.deliver([pack], run.root)
    # Everything twice, but for the log.
    assert done.n_files == 5
    there = {path.relative_to(run.root / "other") for path in (run.root / "other").rglob("*.*")}
    assert len(there) == 2
    assert all((run.root / path).is_file() for path in there)
    assert aggregator.deliver([pack], run.root).n_present == 1


def test_what_goes_wrong_in_between_is_told_and_mended(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {data.id for data in run.quanta() if data.task == "isr"}
    pack = round_trips.leave(run.root, run.graph, tmp_path / "a", ids, execute)
    before, put, calls = files(run), payloads.put, itertools.count()

    def fail(*arguments: Any, **options: Any) -> None:
        if next(calls) == 7:
            raise aggregator.AggregatorError("the disk is full")
        put(*arguments, **options)

    monkeypatch.setattr(payloads, "put", fail)
    with pytest.raises(aggregator.AggregatorError, match="the disk is full") as caught:
        aggregator.deliver([pack], run.root)
    there = outputs(run, before)
    # Nobody goes on when the command has ended.
    time.sleep(0.2)
    assert outputs(run, before) == there
    assert isinstance(caught.value.summary, aggregator.DeliverSummary)
    assert caught.value.summary.n_quanta < len(ids)
    done = aggregator.deliver([pack], run.root)
    assert (done.n_quanta + done.n_present, done.replaced) == (len(ids), [])
    assert aggregator.deliver([pack], run.root).n_present == len(ids)


def test_a_file_in_place_of_a_directory(
    run: plain_runs.PlainRun, first: readiness.QuantumData, tmp_path: pathlib.Path
) -> None:
    pack = left(run, tmp_path / "a", first, "ok")
    place = next((tmp_path / "a" / "node").rglob("isr_log"))
    in_the_way = run.root / place.relative_to(tmp_path / "a" / "node")
    in_the_way.write_text("mine")
    before = files(run)
    with pytest.raises(aggregator.AggregatorError, match="is no directory") as caught:
        aggregator.deliver([pack], run.root)
    assert caught.value.exit_code == 1
    assert files(run) == before

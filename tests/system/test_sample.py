"""The sample run: every entry of its expected results, from our graph (with our reader) and our database."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import pathlib
import sqlite3
import uuid
from collections import Counter, defaultdict
from typing import Any

import msgspec
import pytest
from aggregator.butler.dimensions import universe
from aggregator.schemas.execution import caveats, statuses
from aggregator.schemas.graphs import container, nodes, pipeline, provenance_graph

import aggregator
from tests.helpers import samples

RUN = "u/sample/run1"


class Ours:
    """Our graph of the sample, read with our reader."""

    def __init__(self, path: pathlib.Path) -> None:
        self.graph = provenance_graph.ProvenanceGraph(str(path))
        self.quanta = {q.quantum_id: q for q in self.graph.quanta()}
        self.datasets = {d.dataset_id: d for d in self.graph.datasets()}
        dimensions = universe.Universe.from_config(self.graph.pipeline.universe)
        self.groups = {t.name: dimensions.group(t.dimensions) for t in self.graph.pipeline.dataset_types}
        self.groups |= {t.label: dimensions.group(t.dimensions) for t in self.graph.pipeline.tasks}

    def data_id(self, name: str, coordinate: msgspec.Raw) -> dict[str, Any]:
        return dict(zip(self.groups[name].keys, msgspec.json.decode(coordinate), strict=True))


@pytest.fixture(scope="module", params=[1, 2], ids=["-j 1", "-j 2"])
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    sample = samples.unpack(tmp_path_factory.mktemp("ours"))
    _aggregate(sample, output_path=str(sample.root / "ours.qg"), n_processes=request.param)
    result = Ours(sample.root / "ours.qg")
    yield result
    result.graph.close()


def _aggregate(sample: samples.Sample, **config: Any) -> Any:
    options = aggregator.AggregatorConfig(mock_storage_classes=True, **config)
    return aggregator.aggregate_graph(str(sample.repo / "predicted.qg"), str(sample.repo), options)


def test_header(ours: Ours, sample: samples.Sample) -> None:
    with container.Container(ours.graph.path) as opened:
        header = json.loads(opened.read_block("header"))
    assert header == sample.expected["provenance"]["header"]


def test_init_quanta(ours: Ours, sample: samples.Sample) -> None:
    found = {
        q.task_label: {"quantum_id": q.quantum_id, "config_id": q.outputs["_config"]}
        for q in ours.graph.init_quanta()
    }
    assert found == sample.expected["provenance"]["init_quanta"]


def test_quanta(ours: Ours, sample: samples.Sample) -> None:
    expected = sample.expected["provenance"]["quanta"]
    assert ours.quanta.keys() == expected.keys()
    for quantum_id, entry in expected.items():
        quantum = ours.quanta[quantum_id]
        assert quantum.task_label == entry["task"]
        assert ours.data_id(quantum.task_label, quantum.data_coordinate) == entry["data_id"]
        assert statuses.NAMES[quantum.status] == entry["status"]
        assert quantum.outputs[pipeline.METADATA_CONNECTION] == [entry["metadata_id"]]
        assert quantum.outputs[pipeline.LOG_CONNECTION] == [entry["log_id"]]
        assert _predecessors(ours, quantum) == entry["predecessors"]
        _check_attempts(quantum, entry)
        _check_blocks(ours, quantum, entry)


def _predecessors(ours: Ours, quantum: nodes.Quantum) -> list[str]:
    producers = {ours.datasets[d].producer for ids in quantum.inputs.values() for d in ids}
    return sorted(p for p in producers if p in ours.quanta)


def _check_attempts(quantum: nodes.Quantum, entry: dict[str, Any]) -> None:
    assert len(quantum.attempts) == entry["n_attempts"]
    found = msgspec.to_builtins(quantum.attempts)
    for attempt in [*found, *entry["attempts"]]:
        if attempt["resource_usage"] is not None:
            start = datetime.datetime.fromisoformat(attempt["resource_usage"].pop("start"))
            attempt["resource_usage"] = {k: pytest.approx(v) for k, v in attempt["resource_usage"].items()}
            attempt["resource_usage"]["start"] = start
    assert found == entry["attempts"]
    last = quantum.attempts[-1] if quantum.attempts else nodes.Attempt()
    assert last.caveats == entry["caveats"]
    assert (last.exception and last.exception.type_name) == entry["exception_type"]
    assert (last.exception and last.exception.metadata) == entry["exception_metadata"]


def _check_blocks(ours: Ours, quantum: nodes.Quantum, entry: dict[str, Any]) -> None:
    for node in (quantum.quantum_id, entry["log_id"]):
        logs = ours.graph.logs(node)
        found = None if logs is None else [None if a is None else len(a) for a in logs]
        assert found == entry["n_logs"]
    for node in (quantum.quantum_id, entry["metadata_id"]):
        metadata = ours.graph.metadata(node)
        assert (metadata and [a is not None for a in metadata]) == entry["has_metadata"]
        if metadata is not None:
            _check_metadata([None if a is None else msgspec.to_builtins(a) for a in metadata], entry)


def _check_metadata(found: Any, entry: dict[str, Any]) -> None:
    """Compare metadata; where the expectation lost a number, it was not finite."""

    def same(mine: Any, theirs: Any) -> bool:
        if isinstance(theirs, dict) and "__float__" in theirs:
            theirs = float(theirs["__float__"])
        if isinstance(mine, dict):
            return mine.keys() == theirs.keys() and all(same(mine[k], theirs[k]) for k in mine)
        if isinstance(mine, list):
            return len(mine) == len(theirs) and all(map(same, mine, theirs))
        if isinstance(mine, float) and not math.isfinite(mine):
            return theirs is None or str(theirs) == str(mine)
        return bool(mine == theirs)

    assert same(found, entry["metadata_block"]["attempts"])


def test_non_finite_numbers_are_there(ours: Ours) -> None:
    measured = next(
        q for q in ours.quanta.values() if q.task_label == "measure" and q.attempts[-1].caveats == 0
    )
    metadata = ours.graph.metadata(measured.quantum_id)
    assert metadata is not None
    assert metadata[-1] is not None
    task = metadata[-1].metadata["measure"]
    assert math.isnan(task.scalars["plain_nan"])
    assert (task.scalars["plus_inf"], task.scalars["minus_inf"]) == (math.inf, -math.inf)
    assert math.isnan(task.arrays["float_list"][1])
    assert (task.scalars["int_value"], task.scalars["flag"]) == (7, True)
    assert task.scalars["numeric_string"] == "12"


def test_datasets(ours: Ours, sample: samples.Sample) -> None:
    expected = sample.expected["provenance"]["datasets"]
    assert ours.datasets.keys() == expected.keys()
    for dataset_id, entry in expected.items():
        dataset = ours.datasets[dataset_id]
        assert dataset.dataset_type_name == entry["dataset_type"]
        assert ours.data_id(dataset.dataset_type_name, dataset.data_coordinate) == entry["data_id"]
        assert dataset.run == entry["run"]
        assert dataset.produced == entry["produced_in_file"]
        assert dataset.producer == entry["producer"]
        assert sorted(dataset.consumers) == entry["consumers"]
        assert _produced_as_loaded(ours, dataset) == entry["produced"]


def _produced_as_loaded(ours: Ours, dataset: nodes.Dataset) -> bool:
    """Return the flag that a reader makes of quantum and dataset (quantum-graph-format.md section 7.6)."""
    if dataset.producer is None or dataset.producer not in ours.quanta:
        return True
    quantum = ours.quanta[dataset.producer]
    if [dataset.dataset_id] == quantum.outputs[pipeline.METADATA_CONNECTION]:
        return quantum.status in (statuses.SUCCESSFUL, statuses.ABORTED_SUCCESS)
    if [dataset.dataset_id] == quantum.outputs[pipeline.LOG_CONNECTION]:
        return quantum.status in (statuses.SUCCESSFUL, statuses.FAILED)
    return dataset.produced


def test_tables(ours: Ours, sample: samples.Sample) -> None:
    expected = sample.expected["provenance"]
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    with_caveats: dict[str, list[int]] = defaultdict(list)
    exceptions: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for quantum in ours.quanta.values():
        counts[quantum.task_label][quantum.status] += 1
        last = quantum.attempts[-1] if quantum.attempts else nodes.Attempt()
        if last.caveats:
            with_caveats[quantum.task_label].append(last.caveats)
        if last.exception is not None:
            column = "Successes" if quantum.status == statuses.SUCCESSFUL else "Failures"
            exceptions[quantum.task_label, last.exception.type_name][column] += 1
    assert [row["Task"] for row in expected["quantum_table"]] == [t.label for t in ours.graph.pipeline.tasks]
    columns = {
        "Aborted": -4,
        "Unknown": -3,
        "Aborted success": -2,
        "Failed": -1,
        "Blocked": 0,
        "Successful": 1,
    }
    for row in expected["quantum_table"]:
        task = row["Task"]
        assert {name: counts[task][code] for name, code in columns.items()} == {n: row[n] for n in columns}
        assert counts[task].total() == row["TOTAL"]
        assert ours.graph.header.n_task_quanta[task] == row["EXPECTED"]
        assert _caveat_cell(with_caveats[task]) == row["Caveats"]
    rows = {(r["Task"], r["Exception"]): (r["Successes"], r["Failures"]) for r in expected["exception_table"]}
    assert rows == {key: (c["Successes"], c["Failures"]) for key, c in exceptions.items()}


def _caveat_cell(found: list[int]) -> str:
    if not found:
        return ""
    [bits] = set(found)
    letters = {
        caveats.ADJUST_QUANTUM_RAISED: "A",
        caveats.UNPROCESSABLE_DATA: "D",
        caveats.UPSTREAM_FAILURE_NO_WORK: "U",
        caveats.PARTIAL_OUTPUTS_ERROR: "P",
        caveats.NO_WORK: "N",
    }
    letter = next(code for bit, code in letters.items() if bits & bit)
    return f"{'*' if bits & caveats.ALL_OUTPUTS_MISSING else '+'}{letter}({len(found)})"


@pytest.mark.parametrize(
    ("variant", "config"),
    [
        ("after_aggregate", {}),
        ("incomplete", {"incomplete": True}),
        ("promise", {"promise_ingest_graph": True}),
        ("dict", {"zstd_dict_size": 512, "zstd_dict_n_inputs": 16}),
        ("before", {"dry_run": True}),
    ],
)
@pytest.mark.parametrize("n_processes", [1, 2])
def test_database(sample: samples.Sample, variant: str, config: dict[str, Any], n_processes: int) -> None:
    _aggregate(sample, n_processes=n_processes, **config)
    expected = sample.expected["db"][variant]
    with contextlib.closing(sqlite3.connect(sample.repo / "gen3.sqlite3")) as db, db:
        tables = [n for (n,) in db.execute("select name from sqlite_master where type='table' order by 1")]
        counts = {t: db.execute(f'select count(*) from "{t}"').fetchone()[0] for t in tables}
        assert counts == expected["row_counts"]
        collections = db.execute("select collection_id, name, type from collection order by 1")
        assert [list(row) for row in collections] == expected["collections"]
        assert _chains(db) == expected["chains"]
        assert _dataset_types(db) == sorted(row[:2] for row in expected["dataset_types"])
        assert _datasets_per_type(db) == expected["datasets_per_type_in_run"]
        assert _records(db) == expected["records_in_run"]
    db.close()


def _chains(db: sqlite3.Connection) -> list[list[Any]]:
    query = """select p.name, c.position, k.name from collection_chain c
        join collection p on p.collection_id = c.parent join collection k on k.collection_id = c.child
        order by 1, 2"""
    return [list(row) for row in db.execute(query)]


def _dataset_types(db: sqlite3.Connection) -> list[list[Any]]:
    return [list(row) for row in db.execute("select name, storage_class from dataset_type order by name")]


def _datasets_per_type(db: sqlite3.Connection) -> dict[str, int]:
    query = """select t.name, count(*) from dataset d join dataset_type t on t.id = d.dataset_type_id
        join collection c on c.collection_id = d.run_id where c.name = ? group by 1"""
    return dict(db.execute(query, (RUN,)).fetchall())


def _records(db: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    names = ("path", "formatter", "storage_class", "component", "checksum", "file_size")
    query = f"""select f.dataset_id, {", ".join("f." + name for name in names)} from file_datastore_records f
        join dataset d on d.id = f.dataset_id join collection c on c.collection_id = d.run_id
        where c.name = ?"""
    return {
        str(uuid.UUID(row[0])): dict(zip(names, row[1:], strict=True)) for row in db.execute(query, (RUN,))
    }

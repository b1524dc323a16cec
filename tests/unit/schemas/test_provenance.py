import json
import math
import pathlib
import random
import tracemalloc
from typing import Any

import msgspec
import pytest
from aggregator.schemas.execution import caveats, statuses, task_metadata
from aggregator.schemas.graphs import address_file, nodes, provenance_graph
from aggregator.storage import errors

import aggregator
from tests.helpers import graph_files

NAMES = ["provenance.qg", "provenance_dict.qg", "provenance_newer.qg"]
RUN_QUANTUM = "01a200fd-f19c-7fa5-9790-61d1b9d59a80"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return graph_files.unpack_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    found: dict[str, Any] = graph_files.expected()["provenance"]
    return found


@pytest.fixture(params=NAMES)
def path(request: pytest.FixtureRequest, root: pathlib.Path) -> pathlib.Path:
    found: pathlib.Path = root / request.param
    return found


def same_number(value: Any, wanted: Any) -> bool:
    """Compare values of metadata: one version wrote null for what is not finite, another all as floats."""
    if wanted is None:
        return isinstance(value, float) and not math.isfinite(value)
    return bool(value == wanted or (isinstance(value, float) and value == float(wanted)))


def assert_metadata(found: task_metadata.TaskMetadata | None, wanted: Any) -> None:
    if found is None or wanted is None:
        assert found is wanted
        return
    assert found.scalars.keys() == wanted["scalars"].keys()
    assert found.arrays.keys() == wanted["arrays"].keys()
    assert found.metadata.keys() == wanted["metadata"].keys()
    for name, value in found.scalars.items():
        assert same_number(value, wanted["scalars"][name]), name
    for name, values in found.arrays.items():
        for value, other in zip(values, wanted["arrays"][name], strict=True):
            assert same_number(value, other), name
    for name, nested in found.metadata.items():
        assert_metadata(nested, wanted["metadata"][name])


def test_quanta_are_what_the_reference_says(path: pathlib.Path, expected: dict[str, Any]) -> None:
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        quanta = {quantum.quantum_id: quantum for quantum in graph.quanta()}
        assert quanta.keys() == expected["quanta"].keys()
        for quantum_id, wanted in expected["quanta"].items():
            quantum = quanta[quantum_id]
            assert quantum == graph.quantum(quantum_id)
            assert quantum.task_label == wanted["task"]
            assert statuses.NAMES[quantum.status] == wanted["status"]
            values = nodes.coordinate_values(quantum.data_coordinate)
            assert sorted(map(str, values)) == sorted(map(str, wanted["data_id"].values()))
            assert msgspec.to_builtins(quantum.attempts) == wanted["attempts"]
            assert quantum.outputs["_log"] == [wanted["log_id"]]
            assert quantum.outputs["_metadata"] == [wanted["metadata_id"]]


def test_logs_and_metadata_are_what_the_reference_says(path: pathlib.Path, expected: dict[str, Any]) -> None:
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        for quantum_id, wanted in expected["quanta"].items():
            logs, metadata = graph.logs(quantum_id), graph.metadata(quantum_id)
            assert graph.logs(wanted["log_id"]) == logs
            assert (graph.logs(wanted["metadata_id"]), graph.metadata(wanted["log_id"])) == (None, None)
            if wanted["status"] == "BLOCKED":
                assert (logs, metadata) == (None, None)
                continue
            assert logs is not None
            assert metadata is not None
            assert [None if a is None else len(a) for a in logs] == wanted["n_logs"]
            assert [m is not None for m in metadata] == wanted["has_metadata"]
            blocks = wanted["metadata_block"]["attempts"]
            by_dataset = graph.metadata(wanted["metadata_id"])
            assert by_dataset is not None
            for one, other, block in zip(metadata, by_dataset, blocks, strict=True):
                assert_metadata(one, block)
                assert_metadata(other, block)


def test_datasets_are_what_the_reference_says(path: pathlib.Path, expected: dict[str, Any]) -> None:
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        datasets = {dataset.dataset_id: dataset for dataset in graph.datasets()}
        assert datasets.keys() == expected["datasets"].keys()
        for dataset_id, wanted in expected["datasets"].items():
            dataset = datasets[dataset_id]
            assert dataset == graph.dataset(dataset_id)
            assert (dataset.dataset_type_name, dataset.run) == (wanted["dataset_type"], wanted["run"])
            assert (dataset.produced, dataset.producer) == (wanted["produced_in_file"], wanted["producer"])
            assert sorted(dataset.consumers) == sorted(wanted["consumers"])
            values = nodes.coordinate_values(dataset.data_coordinate)
            assert sorted(map(str, values)) == sorted(map(str, wanted["data_id"].values()))


def test_the_rest_is_what_the_reference_says(path: pathlib.Path, expected: dict[str, Any]) -> None:
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        found = {q.task_label: (q.quantum_id, q.outputs["_config"]) for q in graph.init_quanta()}
        assert found == {
            label: (wanted["quantum_id"], wanted["config_id"])
            for label, wanted in expected["init_quanta"].items()
        }
        assert list(found) == [task.label for task in graph.pipeline.tasks]
        assert msgspec.to_builtins(graph.header).items() <= expected["header"].items()
        assert {"python", "pipe_base"} <= graph.packages().keys()
        (schema,) = (q.inputs for q in graph.init_quanta() if q.task_label == "measure")
        assert graph.dataset(schema["schema"]).dataset_type_name == "clean_schema"


def test_log_records_are_typed(root: pathlib.Path) -> None:
    content = graph_files.members(root / "provenance.qg")
    documents = graph_files.blocks(content, "logs")
    with provenance_graph.ProvenanceGraph(str(root / "provenance.qg")) as graph:
        found = [graph.logs(quantum.quantum_id) for quantum in graph.quanta()]
    plain = [json.loads(msgspec.json.encode({"attempts": logs})) for logs in found if logs is not None]
    assert plain == documents


def test_nodes_are_found_in_small_pages(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_file, "_PAGE_SIZE", 300)
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        for dataset in graph.datasets():
            assert graph.dataset(dataset.dataset_id.upper().replace("-", "")) == dataset


def test_blocks_larger_than_a_chunk_are_read(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        wanted = list(graph.quanta()), list(graph.datasets())
        for size in (1, 7, 8, 9, 100, 1000, 5000):
            monkeypatch.setattr(provenance_graph, "_CHUNK_SIZE", size)
            assert (list(graph.quanta()), list(graph.datasets())) == wanted


def test_ids_that_are_not_there_are_refused(root: pathlib.Path, expected: dict[str, Any]) -> None:
    some_dataset, some_quantum = next(iter(expected["datasets"])), next(iter(expected["quanta"]))
    init_quantum = expected["init_quanta"]["clean"]["quantum_id"]
    with provenance_graph.ProvenanceGraph(str(root / "provenance.qg")) as graph:
        for absent in (init_quantum, "00000000-0000-0000-0000-000000000000", "f" * 32):
            for find in (graph.quantum, graph.dataset, graph.logs, graph.metadata):
                with pytest.raises(errors.RefusedError, match="no quantum or dataset"):
                    find(absent)
        with pytest.raises(errors.RefusedError, match="not a UUID"):
            graph.quantum("clean")
        with pytest.raises(errors.RefusedError, match="is a dataset"):
            graph.quantum(some_dataset)
        with pytest.raises(errors.RefusedError, match="is a quantum"):
            graph.dataset(some_quantum)


def rewritten(root: pathlib.Path, tmp_path: pathlib.Path, changes: dict[str, bytes | None]) -> str:
    members = graph_files.members(root / "provenance.qg")
    return str(graph_files.pack(tmp_path / "graph.qg", {**members, **changes}))


def with_block(root: pathlib.Path, tmp_path: pathlib.Path, component: str, node_id: str, text: bytes) -> str:
    """Return the path of a graph in which one node has another block; only its own address is kept right."""
    members = graph_files.members(root / "provenance.qg")
    table = members["nodes.addr"]
    row = table.index(bytes.fromhex(node_id.replace("-", "")), 17)
    column = row + 24 + 16 * nodes.COMPONENTS.index(component)
    # After all others, where a block can have any size.
    block = graph_files.join([graph_files.compress(text)])[0]
    payload = members[f"{component}.mb"]
    place = len(payload).to_bytes(8, "big") + len(block).to_bytes(8, "big")
    changes = {
        f"{component}.mb": payload + block,
        "nodes.addr": table[:column] + place + table[column + 16 :],
    }
    return rewritten(root, tmp_path, changes)


def quantum_document(root: pathlib.Path, **changes: Any) -> dict[str, Any]:
    blocks = graph_files.blocks(graph_files.members(root / "provenance.qg"), "quanta")
    found: dict[str, Any] = next(block for block in blocks if block["quantum_id"] == RUN_QUANTUM)
    return {**found, **changes}


USAGE = {"memory": 5, "start": "2026-01-01", "prep_time": 0, "init_time": 0, "run_time": 1, "run_time_cpu": 1}


def test_numbers_are_understood_in_all_spellings(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    attempt = {"attempt": 0.0, "status": 1.0, "caveats": 4.0, "resource_usage": {**USAGE, "memory": None}}
    special = {"values": [1, math.inf], "exception": {"type_name": "E", "message": "", "metadata": {}}}
    special["exception"] = {
        **special["exception"],
        "metadata": {"a": math.nan, "b": -math.inf, "c": "12", "d": 3},
    }
    second = {"attempt": 1, "status": -1, "exception": special["exception"], "resource_usage": None}
    document = quantum_document(root, attempts=[attempt, second], unknown_key=[math.nan])
    path = with_block(root, tmp_path, "quanta", RUN_QUANTUM, json.dumps(document, indent=1).encode())
    with provenance_graph.ProvenanceGraph(path) as graph:
        first, last = graph.quantum(RUN_QUANTUM).attempts
    assert (first.attempt, first.status, first.caveats) == (0, statuses.SUCCESSFUL, caveats.NO_WORK)
    assert first.resource_usage is not None
    assert math.isnan(first.resource_usage.memory)
    assert last.exception is not None
    found = last.exception.metadata
    assert math.isnan(found["a"])  # type: ignore[arg-type]
    assert (found["b"], found["c"], found["d"]) == (-math.inf, "12", 3)
    assert (last.resource_usage, last.previous_process_quanta) == (None, [])


@pytest.mark.parametrize("text", ["null", "NaN"])
def test_metadata_without_a_number_is_nan(root: pathlib.Path, tmp_path: pathlib.Path, text: str) -> None:
    section_text = f'{{"scalars": {{"x": {text}, "s": "null"}}, "arrays": {{"a": [1.5, {text}]}}}}'
    nested = f'{{"metadata": {{"t": {section_text}}}}}'
    block = f'{{"attempts": [null, {nested}, {{"scalars": {{"i": -Infinity, "n": 12}}}}]}}'.encode()
    with provenance_graph.ProvenanceGraph(
        with_block(root, tmp_path, "metadata", RUN_QUANTUM, block)
    ) as graph:
        found = graph.metadata(RUN_QUANTUM)
    assert found is not None
    assert (found[0], len(found)) == (None, 3)
    assert found[1] is not None
    section = found[1].metadata["t"]
    assert math.isnan(section.scalars["x"])  # type: ignore[arg-type]
    assert section.scalars["s"] == "null"
    assert math.isnan(section.arrays["a"][1])  # type: ignore[arg-type]
    assert found[2] is not None
    assert found[2].scalars == {"i": -math.inf, "n": 12}


def test_lenient_log_records_are_read(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    record = {
        "name": "n",
        "asctime": 1e9,
        "message": "m",
        "levelno": "20",
        "levelname": "INFO",
        "filename": "f",
    }
    record |= {"pathname": "p", "lineno": 5.0, "process": 1, "processName": "P", "MDC": {}}
    block = json.dumps({"attempts": [None, [], [record]]}).encode()
    with provenance_graph.ProvenanceGraph(with_block(root, tmp_path, "logs", RUN_QUANTUM, block)) as graph:
        found = graph.logs(RUN_QUANTUM)
    assert found is not None
    assert found[:2] == [None, []]
    assert found[2] is not None
    assert (found[2][0].levelno, found[2][0].lineno, found[2][0].funcName) == (20, 5, None)
    assert found[2][0].asctime.isoformat() == "2001-09-09T01:46:40+00:00"


BAD_QUANTA: dict[str, Any] = {
    "unknown task": {"task_label": "other"},
    "short data ID": {"data_coordinate": ["SampleCam"]},
    "data ID of objects": {"data_coordinate": [{}] * 6},
    "status": {"attempts": [{"status": 2}]},
    "status name": {"attempts": [{"status": "FAILED"}]},
    "caveats": {"attempts": [{"status": 1, "caveats": 128}]},
    "half a status": {"attempts": [{"status": 0.5}]},
    "exception": {"attempts": [{"status": -1, "exception": {"type_name": "E"}}]},
    "resource usage": {"attempts": [{"status": -1, "resource_usage": {"memory": 1}}]},
    "id": {"quantum_id": "first"},
    "id of input": {"inputs": {"ref": ["first"]}},
    "other id": {"quantum_id": RUN_QUANTUM[:-1] + "1"},
}


@pytest.mark.parametrize("name", BAD_QUANTA)
def test_a_quantum_that_is_none_is_refused(root: pathlib.Path, tmp_path: pathlib.Path, name: str) -> None:
    text = json.dumps(quantum_document(root, **BAD_QUANTA[name])).encode()
    path = with_block(root, tmp_path, "quanta", RUN_QUANTUM, text)
    with provenance_graph.ProvenanceGraph(path) as graph, pytest.raises(errors.FormatError) as caught:
        graph.quantum(RUN_QUANTUM)
    assert (caught.value.path, caught.value.member) == (path, "quanta.mb")


@pytest.mark.parametrize("component", ["quanta", "logs", "metadata"])
@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"attempts": {}}', b'{"attempts": [5]}', b'{"attempts": ["\xff"]}']
)
def test_a_block_that_is_none_is_refused(
    root: pathlib.Path, tmp_path: pathlib.Path, component: str, text: bytes
) -> None:
    path = with_block(root, tmp_path, component, RUN_QUANTUM, text)
    find = {"quanta": "quantum"}.get(component, component)
    with (
        provenance_graph.ProvenanceGraph(path) as graph,
        pytest.raises(errors.FormatError, match="block at") as caught,
    ):
        getattr(graph, find)(RUN_QUANTUM)
    assert caught.value.member == f"{component}.mb"


@pytest.mark.parametrize(
    "text",
    [
        b'{"attempts": [{"arrays": {"a": [1, "x"]}}]}',
        b'{"attempts": [{"arrays": {"a": [null, "x"]}}]}',
        b'{"attempts": [{"scalars": {"a": []}}]}',
    ],
)
def test_mixed_metadata_is_refused(root: pathlib.Path, tmp_path: pathlib.Path, text: bytes) -> None:
    path = with_block(root, tmp_path, "metadata", RUN_QUANTUM, text)
    with provenance_graph.ProvenanceGraph(path) as graph, pytest.raises(errors.FormatError, match="block at"):
        graph.metadata(RUN_QUANTUM)


@pytest.mark.parametrize(
    ("member", "reads"),
    [
        ("header.json.zst", []),
        ("pipeline_graph.json.zst", []),
        ("packages.json.zst", ["packages"]),
        ("init_quanta.json.zst", ["init_quanta"]),
        ("quanta.mb", ["quanta", "quantum"]),
        ("datasets.mb", ["datasets"]),
        ("logs.mb", ["logs"]),
        ("metadata.mb", ["metadata"]),
        ("nodes.addr", ["quantum", "logs", "metadata"]),
    ],
)
def test_what_is_missing_is_missed_only_when_it_is_read(
    root: pathlib.Path, tmp_path: pathlib.Path, member: str, reads: list[str]
) -> None:
    path = rewritten(root, tmp_path, {member: None})
    if not reads:
        with pytest.raises(errors.FormatError, match="missing"):
            provenance_graph.ProvenanceGraph(path)
        return
    with provenance_graph.ProvenanceGraph(path) as graph:
        for name in ("packages", "init_quanta", "quanta", "datasets", "quantum", "logs", "metadata"):
            arguments = (RUN_QUANTUM,) if name in ("quantum", "logs", "metadata") else ()
            if name in reads:
                with pytest.raises(errors.FormatError, match="missing") as caught:
                    list(getattr(graph, name)(*arguments))
                assert caught.value.member == member
            else:
                assert getattr(graph, name)(*arguments)


def test_a_member_that_is_cut_off_is_refused(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    payload = graph_files.members(root / "provenance.qg")["quanta.mb"]
    for size in (1, 7, 8, 100, len(payload) - 1):
        path = rewritten(root, tmp_path, {"quanta.mb": payload[:size]})
        with (
            provenance_graph.ProvenanceGraph(path) as graph,
            pytest.raises(errors.FormatError, match="cut off"),
        ):
            list(graph.quanta())
    path = rewritten(root, tmp_path, {"quanta.mb": payload + b"\0"})
    with provenance_graph.ProvenanceGraph(path) as graph, pytest.raises(errors.FormatError, match="cut off"):
        list(graph.quanta())


def read_all(path: str) -> None:
    with provenance_graph.ProvenanceGraph(path) as graph:
        graph.packages()
        graph.init_quanta()
        for dataset in list(graph.datasets()):
            graph.dataset(dataset.dataset_id)
        for quantum in list(graph.quanta()):
            graph.quantum(quantum.quantum_id)
            graph.logs(quantum.quantum_id)
            graph.metadata(quantum.quantum_id)


def test_damage_anywhere_is_an_error_that_names_the_file(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data, damaged = path.read_bytes(), tmp_path / "graph.qg"
    chance = random.Random(20260302)
    caught = []
    for place in chance.sample(range(len(data)), 80):
        changed = bytes([data[place] ^ chance.randrange(1, 256)])
        damaged.write_bytes(data[:place] + changed + data[place + 1 :])
        try:
            read_all(str(damaged))
        except errors.AggregatorError as exc:
            caught.append(str(exc))
    assert len(caught) > 40
    assert [text for text in caught if str(damaged) not in text] == []


def test_memory_does_not_grow_with_the_graph(
    root: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = graph_files.members(root / "provenance.qg")
    document, n, chunk = quantum_document(root), 5_000, 100_000
    monkeypatch.setattr(provenance_graph, "_CHUNK_SIZE", chunk)
    frame = graph_files.compress(document)
    payload = graph_files.join([frame])[0] * n
    # Nodes with ids of their own, the first of them real.
    ids = [
        bytes.fromhex(RUN_QUANTUM.replace("-", "")),
        *((i << 64 | 2**127).to_bytes(16, "big") for i in range(n)),
    ]
    table = graph_files.address_file(
        [(node, 0, [(0, 0), (0, len(frame) + 8), (0, 0), (0, 0)]) for node in ids], 8, 4
    )
    path = graph_files.pack(tmp_path / "graph.qg", {**members, "quanta.mb": payload, "nodes.addr": table})
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        tracemalloc.start()
        try:
            assert sum(1 for _ in graph.quanta()) == n
            walked = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            graph.quantum(RUN_QUANTUM)
            found = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert walked < 400_000 < len(payload) // 5
    assert found < 400_000 < len(table)


def test_a_quantum_loses_its_attempts_when_it_is_blocked() -> None:
    ids = ["01a200fd-f19c-7fa5-9790-61d1b9d59a8" + digit for digit in "012"]
    exception = task_metadata.ExceptionInfo("E", "ü", {"value": math.nan, "other": -math.inf})
    for attempts in ([], [nodes.Attempt(0, -1)], [nodes.Attempt(0, 1, 64, exception)]):
        coordinate = msgspec.Raw(b'["Cam",3]')
        quantum = nodes.Quantum(ids[0], "task", coordinate, {"in": [ids[1]]}, {"out": [ids[2]]}, attempts)
        document = nodes.encode_quantum(quantum)
        blocked = nodes.decode_quantum(nodes.without_attempts(document))
        assert (blocked.attempts, blocked.status) == ([], statuses.BLOCKED)
        assert (blocked.inputs, blocked.outputs) == (quantum.inputs, quantum.outputs)
        assert nodes.coordinate_values(blocked.data_coordinate) == ("Cam", 3)
    assert b'"value":NaN,"other":-Infinity' in document


def test_our_graph_holds_the_nodes_of_the_reference_s(tmp_path: pathlib.Path) -> None:
    root, output = graph_files.unpack_sample(tmp_path), tmp_path / "ours.qg"
    config = aggregator.AggregatorConfig(output_path=str(output), mock_storage_classes=True, dry_run=True)
    aggregator.aggregate_graph(str(root / "repo" / "predicted.qg"), str(root / "repo"), config)
    with (
        provenance_graph.ProvenanceGraph(str(output)) as ours,
        provenance_graph.ProvenanceGraph(str(root / "provenance.qg")) as theirs,
    ):
        for graph in (ours, theirs):
            assert [q.task_label for q in graph.init_quanta()] == [t.label for t in graph.pipeline.tasks]
        assert ours.init_quanta() == theirs.init_quanta()
        assert {q.quantum_id: q for q in ours.quanta()} == {q.quantum_id: q for q in theirs.quanta()}
        for dataset in ours.datasets():
            other = theirs.dataset(dataset.dataset_id)
            assert msgspec.structs.replace(
                dataset, consumers=sorted(dataset.consumers)
            ) == msgspec.structs.replace(other, consumers=sorted(other.consumers))
        for quantum in theirs.quanta():
            assert ours.logs(quantum.quantum_id) == theirs.logs(quantum.quantum_id)
    # All fields are written, those with default values too.
    content = graph_files.members(output)
    assert {tuple(block) for block in graph_files.blocks(content, "quanta")} == {
        nodes.Quantum.__struct_fields__
    }
    assert {frozenset(block) for block in graph_files.blocks(content, "datasets")} == {
        frozenset(nodes.Dataset.__struct_fields__)
    }

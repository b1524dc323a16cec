import json
import math
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import nodes, predicted, provenance_graph
from aggregator.workers.roles.scanning import outcome

import aggregator
from tests.helpers import graph_files

IDS = [f"01a200dc-a8c6-77a6-8839-7ca00bcb33{i:02d}" for i in range(10)]
QUANTUM_ID, LOG_ID, METADATA_ID, IMAGE_ID, TABLE_ID, INPUT_ID = IDS[:6]
TYPES = {"_log": LOG_ID, "_metadata": METADATA_ID, "image": IMAGE_ID, "table": TABLE_ID, "raw": INPUT_ID}


def predicted_document() -> dict[str, Any]:
    def dataset(connection: str) -> dict[str, Any]:
        coordinate = ["Cam", 1]
        name = f"clean_{connection.strip('_')}"
        return {
            "dataset_id": TYPES[connection],
            "dataset_type_name": name,
            "data_coordinate": coordinate,
            "run": "u/run",
        }

    return {
        "quantum_id": QUANTUM_ID,
        "task_label": "clean",
        "data_coordinate": ["Cam", 1],
        "inputs": {"raw": [dataset("raw")]},
        "outputs": {c: [dataset(c)] for c in ("image", "table", "_metadata", "_log")},
        "datastore_records": {},
    }


QUANTUM = msgspec.json.decode(json.dumps(predicted_document()).encode(), type=predicted.Quantum)

RECORD = {
    "name": "n",
    "asctime": "2026-11-22T01:26:34.412342Z",
    "message": "m",
    "levelno": 20,
    "levelname": "INFO",
    "filename": "f",
    "pathname": "p",
    "lineno": 5,
    "process": 77,
    "processName": "P",
    "MDC": {},
}
EXCEPTION = {"type_name": "ValueError", "message": "no", "metadata": {}}


def task_metadata(second: int = 0, outputs: list[str] | None = None, **scalars: Any) -> dict[str, Any]:
    """Return metadata of an attempt that began at a certain second."""
    arrays: dict[str, Any] = {
        f"{stage}Utc": [f"2026-11-22T01:{second:02d}:0{i}+00:00"]
        for i, stage in enumerate(("prep", "init", "start", "end"))
    }
    arrays |= {"startCpuTime": [1.0], "endCpuTime": [3.0], "endMaxResidentSetSize": [1000 + second]}
    if outputs is not None:
        arrays["outputs"] = outputs
    section = {"scalars": scalars, "arrays": arrays, "metadata": {}}
    return {"scalars": {}, "arrays": {}, "metadata": {"quantum": section}}


def log(extra: dict[str, Any] | None = None, n_records: int = 1) -> bytes:
    document = {"extended": True, "version": 2, "records": [RECORD] * n_records, **(extra or {})}
    return json.dumps(document, separators=(",", ":")).encode()


def dump(document: Any) -> bytes:
    return json.dumps(document).encode()


def previous(second: int, n_records: int = 2, **changes: Any) -> dict[str, Any]:
    plain = {
        "exception": EXCEPTION,
        "metadata": task_metadata(second, [IMAGE_ID]),
        "previous_process_quanta": [IDS[9]],
        "logs": [RECORD] * n_records,
        "previous_attempts": [],
    }
    return {**plain, **changes}


FAILED_EXTRA = {"exception": EXCEPTION, "metadata": task_metadata(30, [IMAGE_ID, TABLE_ID])}
SUCCESS = task_metadata(20, [IMAGE_ID], caveats=1)


@pytest.mark.parametrize(
    ("log_data", "metadata", "status", "caveats"),
    [
        (log(), dump(SUCCESS), statuses.SUCCESSFUL, 1),
        (None, dump(SUCCESS), statuses.ABORTED_SUCCESS, 1),
        (log(), None, statuses.FAILED, None),
        (log(FAILED_EXTRA), None, statuses.FAILED, None),
        (None, None, statuses.FAILED, None),
        (b"", dump(SUCCESS), statuses.SUCCESSFUL, 1),
        (b"", None, statuses.FAILED, None),
        (log(FAILED_EXTRA), dump(SUCCESS), statuses.SUCCESSFUL, 1),
    ],
)
def test_files_decide_the_status(
    log_data: bytes | None, metadata: bytes | None, status: int, caveats: int | None
) -> None:
    found = outcome.judge(QUANTUM, log_data, metadata)
    assert (found.status, found.attempts[-1].caveats, len(found.attempts)) == (status, caveats, 1)
    assert (found.logs[0] is None) == (log_data is None)
    if log_data is not None:
        assert json.loads(found.logs[0] or b"") == ([RECORD] if log_data else [])
    if metadata is not None:
        assert found.metadata[-1] == metadata
        assert found.listed == [IMAGE_ID]
    elif log_data == log(FAILED_EXTRA):
        assert json.loads(found.metadata[-1] or b"") == FAILED_EXTRA["metadata"]
        assert found.listed == [IMAGE_ID, TABLE_ID]
    else:
        assert (found.metadata, found.listed) == ([None], None)


def at(*times: str, **extra: Any) -> bytes:
    """Return a log with records of some times, of an attempt that says no more unless that is given."""
    records = [{**RECORD, "asctime": time} for time in times]
    return json.dumps(
        {"extended": True, "version": 2, "records": records, **extra}, separators=(",", ":")
    ).encode()


def streamed(*times: str, **extra: Any) -> bytes:
    lines = [json.dumps({**RECORD, "asctime": time}) for time in times]
    return "\n".join([*lines, "###EXTRA###", json.dumps(extra)]).encode()


BEFORE, FIRST, LAST, AFTER = (f"2026-11-22T01:{time}Z" for time in ("19:59.9", "20:00.1", "20:03.2", "20:05"))
NO_SECTION = {"scalars": {}, "arrays": {}, "metadata": {}}


@pytest.mark.parametrize(
    ("log_data", "metadata", "is_settled"),
    [
        (at(FIRST, LAST), SUCCESS, True),
        (at(BEFORE, LAST, exception=None, metadata=None), SUCCESS, True),
        (at(FIRST, AFTER, previous_attempts=[previous(1)]), SUCCESS, True),
        (json.dumps([{**RECORD, "asctime": FIRST}]).encode(), SUCCESS, True),
        (streamed(FIRST, LAST, metadata={}), SUCCESS, True),
        (at(FIRST[:-1], LAST[:-1]), SUCCESS, True),
        (at("2026-11-22T03:20:01+02:00"), SUCCESS, True),
        # The log of an attempt that failed is still there: it says so, or is from before.
        (at(FIRST, LAST, exception=EXCEPTION, metadata=None), SUCCESS, False),
        (at(FIRST, LAST, exception=None, metadata=task_metadata(20)), SUCCESS, False),
        (streamed(FIRST, LAST, exception=EXCEPTION, metadata={}), SUCCESS, False),
        (at(BEFORE, BEFORE), SUCCESS, False),
        (streamed(BEFORE), SUCCESS, False),
        (at("2026-11-22T03:19:59+02:00"), SUCCESS, False),
        # Some failures leave no word.
        (at(), SUCCESS, False),
        (b"", SUCCESS, False),
        # The log is of an attempt after a success that was repeated.
        (at(AFTER), SUCCESS, False),
        # There is only one of both.
        (None, SUCCESS, False),
        (at(FIRST, LAST), None, False),
        (at(FIRST, LAST), NO_SECTION, False),
    ],
)
def test_a_success_is_settled_if_its_log_and_metadata_are_of_one_attempt(
    log_data: bytes | None, metadata: dict[str, Any] | None, is_settled: bool
) -> None:
    found = outcome.judge(QUANTUM, log_data, None if metadata is None else dump(metadata))
    assert found.is_settled is is_settled


def test_earlier_attempts_come_first() -> None:
    earlier = [previous(1), previous(2, 0, exception=None, metadata=None), previous(3)]
    found = outcome.judge(
        QUANTUM, log({"previous_attempts": earlier, "previous_process_quanta": IDS[7:9]}), dump(SUCCESS)
    )
    assert [a.attempt for a in found.attempts] == [0, 1, 2, 3]
    assert [a.status for a in found.attempts] == [-1, -1, -1, 1]
    assert [a.exception is None for a in found.attempts] == [False, True, False, True]
    memory = [a.resource_usage and a.resource_usage.memory for a in found.attempts]
    assert memory == [1001.0, None, 1003.0, 1020.0]
    assert [a.previous_process_quanta for a in found.attempts] == [[IDS[9]]] * 3 + [IDS[7:9]]
    assert [a.caveats for a in found.attempts] == [None, None, None, 1]
    block = json.loads(b"".join(found.logs_block()))["attempts"]
    assert block == [[RECORD] * 2, [], [RECORD] * 2, [RECORD]]
    block = json.loads(b"".join(found.metadata_block()))["attempts"]
    assert block == [earlier[0]["metadata"], None, earlier[2]["metadata"], SUCCESS]


def test_earlier_attempts_within_others_come_before_them() -> None:
    inner = previous(1)
    found = outcome.judge(QUANTUM, log({"previous_attempts": [previous(2, previous_attempts=[inner])]}), None)
    memory = [a.resource_usage and a.resource_usage.memory for a in found.attempts]
    assert memory == [1001.0, 1002.0, None]
    assert [a.attempt for a in found.attempts] == [0, 1, 2]


def test_outputs_of_an_earlier_attempt_do_not_count() -> None:
    found = outcome.judge(QUANTUM, log({"previous_attempts": [previous(1)]}), None)
    assert (found.status, found.listed) == (statuses.FAILED, None)


def test_a_success_without_list_has_its_outputs_looked_for() -> None:
    assert outcome.judge(QUANTUM, log(), dump(task_metadata(1))).listed is None
    assert outcome.judge(QUANTUM, log(), dump(task_metadata(1, []))).listed == []
    assert outcome.judge(QUANTUM, log(), b"{}").listed is None
    # What a failed attempt listed is not the success's.
    assert outcome.judge(QUANTUM, log(FAILED_EXTRA), dump(task_metadata(1))).listed is None


def test_ids_are_written_in_their_usual_form() -> None:
    texts = [IMAGE_ID.upper(), TABLE_ID.replace("-", ""), f"{{{LOG_ID}}}"]
    found = outcome.judge(QUANTUM, log({"previous_process_quanta": texts}), dump(task_metadata(1, texts)))
    assert found.listed == [IMAGE_ID, TABLE_ID, LOG_ID]
    assert found.attempts[0].previous_process_quanta == [IMAGE_ID, TABLE_ID, LOG_ID]


NO_END = task_metadata(1)
del NO_END["metadata"]["quantum"]["arrays"]["endUtc"]
NO_START = task_metadata(1)
del NO_START["metadata"]["quantum"]["arrays"]["prepUtc"]

BAD_METADATA = {
    "empty": b"",
    "truncated": dump(SUCCESS)[:-5],
    "garbage": b"garbage",
    "not utf-8": b'{"scalars":{"a":"\xff"}}',
    "unknown caveats": dump(task_metadata(1, caveats=128)),
    "no end": dump(NO_END),
    "no start": dump(NO_START),
    "an output that is no id": dump(task_metadata(1, ["image"])),
    "null": dump({"metadata": {"a": None}}),
    "deep": b'{"metadata":{"a":' * 5000 + b"{}" + b"}}" * 5000,
}
BAD_LOGS = {
    "garbage": b"garbage",
    "truncated": log()[:-5],
    "not utf-8": log().replace(b'"m"', b'"\xff"'),
    "records in the last extra": log({"logs": [RECORD]}),
    "no end": log({"metadata": NO_END}),
    "no start": log({"metadata": NO_START}),
    "metadata that is none": log({"metadata": {"scalars": {"a": []}}}),
    "an output that is no id": log({"metadata": task_metadata(1, ["image"])}),
    "a quantum that is no id": log({"previous_process_quanta": ["clean"]}),
    "no end before": log({"previous_attempts": [previous(1, metadata=NO_END)]}),
    "no record before": log({"previous_attempts": [previous(1, logs=[{}])]}),
    "null records before": log({"previous_attempts": [previous(1, logs=None)]}),
}


@pytest.mark.parametrize("name", BAD_METADATA)
def test_metadata_that_is_none_is_refused(name: str) -> None:
    for log_data in (None, log(), log(FAILED_EXTRA)):
        with pytest.raises(outcome.MetadataError):
            outcome.judge(QUANTUM, log_data, BAD_METADATA[name])


@pytest.mark.parametrize("name", BAD_LOGS)
def test_a_log_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(outcome.LogError):
        outcome.judge(QUANTUM, BAD_LOGS[name], None)
    # A success's own metadata says what it put; what the log lists is not looked at.
    if name != "an output that is no id":
        with pytest.raises(outcome.LogError):
            outcome.judge(QUANTUM, BAD_LOGS[name], dump(SUCCESS))


def test_the_block_is_read_as_it_was_written() -> None:
    exception = {**EXCEPTION, "metadata": {"a": math.inf, "b": 1, "c": "x", "d": None, "e": math.nan}}
    extra = {"exception": exception, "metadata": task_metadata(1)}
    extra["metadata"]["metadata"]["quantum"]["arrays"]["endCpuTime"] = [math.nan]
    for log_data in (log(), log(FAILED_EXTRA), log(extra), log({"previous_attempts": [previous(1)]})):
        found = outcome.judge(QUANTUM, log_data, None)
        block = outcome.quantum_block(QUANTUM, found.attempts)
        assert b'"data_coordinate":["Cam",' in block
        quantum = nodes.decode_quantum(block)
        assert repr(quantum.attempts) == repr(found.attempts)
        assert (quantum.quantum_id, quantum.task_label) == (QUANTUM_ID, "clean")
        assert quantum.inputs == {"raw": [INPUT_ID]}
        assert quantum.outputs == {c: [TYPES[c]] for c in ("image", "table", "_metadata", "_log")}


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return graph_files.unpack_sample(tmp_path_factory.mktemp("sample")) / "repo"


RECORDS = graph_files.expected()["db"]["after_aggregate"]["records_in_run"]
"""Files of the sample's run by dataset id, as the reference found them."""


def sample_quanta(repo: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Return the quanta of the sample, as their blocks hold them."""
    blocks = graph_files.blocks(graph_files.members(repo / "predicted.qg"), "quantum_datasets")
    return {block["quantum_id"]: block for block in blocks}


def path_of(repo: pathlib.Path, quantum: dict[str, Any], connection: str) -> pathlib.Path | None:
    """Return the file of a quantum's only output of a connection, if there is one."""
    (dataset,) = quantum["outputs"][connection]
    found = RECORDS.get(dataset["dataset_id"])
    return None if found is None else repo / found["path"]


def content(repo: pathlib.Path, quantum: dict[str, Any], connection: str) -> bytes | None:
    path = path_of(repo, quantum, connection)
    return None if path is None else path.read_bytes()


def test_the_sample_is_judged_as_expected(repo: pathlib.Path) -> None:
    expected = graph_files.expected()["provenance"]["quanta"]
    for quantum_id, quantum in sample_quanta(repo).items():
        wanted = expected[quantum_id]
        if wanted["status"] == "BLOCKED":
            continue
        log_data, metadata = (content(repo, quantum, connection) for connection in ("_log", "_metadata"))
        decoded = msgspec.json.decode(dump(quantum), type=predicted.Quantum)
        found = outcome.judge(decoded, log_data, metadata)
        assert msgspec.to_builtins(found.attempts) == wanted["attempts"]
        assert [log is not None for log in found.logs] == [n is not None for n in wanted["n_logs"]]
        assert [m is not None for m in found.metadata] == wanted["has_metadata"]


def edit(path: pathlib.Path | None, outputs: list[str] | None) -> None:
    """Change the list of outputs in a metadata file."""
    assert path is not None
    document = json.loads(path.read_text())
    arrays = document["metadata"]["quantum"]["arrays"]
    arrays.pop("outputs", None)
    if outputs is not None:
        arrays["outputs"] = outputs
    path.write_text(json.dumps(document))


def first(quanta: dict[str, dict[str, Any]], label: str) -> Iterator[dict[str, Any]]:
    """Yield the successful quanta of a task that have an image."""
    for quantum in quanta.values():
        if quantum["task_label"] == label and quantum["outputs"]["image"][0]["dataset_id"] in RECORDS:
            yield quantum


def test_lists_and_files_decide_what_was_produced(tmp_path: pathlib.Path) -> None:
    repo = graph_files.unpack_sample(tmp_path) / "repo"
    quanta = first(sample_quanta(repo), "clean")
    wanted: dict[str, bool] = {}

    def image_and_table(quantum: dict[str, Any]) -> list[tuple[str, pathlib.Path]]:
        pairs = [
            (quantum["outputs"][c][0]["dataset_id"], path_of(repo, quantum, c)) for c in ("image", "table")
        ]
        return [(i, path) for i, path in pairs if path is not None]

    # Listed is produced, even if the file was deleted since.
    (image, image_path), (table, table_path) = image_and_table(quantum := next(quanta))
    image_path.unlink()
    wanted |= {image: True, table: True}
    # Not listed is not produced, even if there is a file.
    (image, image_path), (table, table_path) = image_and_table(quantum := next(quanta))
    edit(path_of(repo, quantum, "_metadata"), [table])
    assert image_path.exists()
    wanted |= {image: False, table: True}
    # Without a list, files count.
    (image, image_path), (table, table_path) = image_and_table(quantum := next(quanta))
    edit(path_of(repo, quantum, "_metadata"), None)
    table_path.unlink()
    wanted |= {image: True, table: False}
    # Of a failure, the list in the log counts.
    (image, image_path), (table, table_path) = image_and_table(quantum := next(quanta))
    move_metadata_into_log(repo, quantum, [table])
    wanted |= {image: False, table: True, quantum["outputs"]["_metadata"][0]["dataset_id"]: False}
    wanted |= {quantum["outputs"]["_log"][0]["dataset_id"]: True}
    # Without anything, files count.
    (image, image_path), (table, table_path) = image_and_table(quantum := next(quanta))
    for connection in ("_metadata", "_log"):
        path = path_of(repo, quantum, connection)
        assert path is not None
        path.unlink()
        wanted[quantum["outputs"][connection][0]["dataset_id"]] = False
    image_path.unlink()
    wanted |= {image: False, table: True}

    output = repo / "provenance.qg"
    config = aggregator.AggregatorConfig(output_path=str(output), mock_storage_classes=True, dry_run=True)
    aggregator.aggregate_graph(str(repo / "predicted.qg"), str(repo), config)
    with provenance_graph.ProvenanceGraph(str(output)) as graph:
        assert {i: graph.dataset(i).produced for i in wanted} == wanted


def move_metadata_into_log(repo: pathlib.Path, quantum: dict[str, Any], outputs: list[str]) -> None:
    """Make a success a failure whose metadata is in its log."""
    metadata, log_path = path_of(repo, quantum, "_metadata"), path_of(repo, quantum, "_log")
    assert metadata is not None
    assert log_path is not None
    edit(metadata, outputs)
    document = json.loads(log_path.read_text())
    document |= {"metadata": json.loads(metadata.read_text()), "exception": EXCEPTION}
    log_path.write_text(json.dumps(document, separators=(",", ":")))
    metadata.unlink()


def test_an_output_that_was_not_predicted_is_an_unreadable_file(tmp_path: pathlib.Path) -> None:
    repo = graph_files.unpack_sample(tmp_path) / "repo"
    quantum = next(first(sample_quanta(repo), "clean"))
    path = path_of(repo, quantum, "_metadata")
    edit(path, [str(uuid.UUID(int=5))])
    config = aggregator.AggregatorConfig(mock_storage_classes=True, dry_run=True)
    with pytest.raises(aggregator.AggregatorError, match="not predicted") as caught:
        aggregator.aggregate_graph(str(repo / "predicted.qg"), str(repo), config)
    assert str(path) in str(caught.value)

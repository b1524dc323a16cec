"""The reference comes to the same verdict on a quantum's files."""

import io
import itertools
import json
import math
import pathlib
from typing import Any

import msgspec
import pytest
from aggregator.schemas.graphs import predicted
from aggregator.workers.roles.scanning import outcome

from tests.unit.workers import test_outcome

repo = test_outcome.repo


def _read_log(kind: Any, data: bytes) -> Any:
    """Read a log as from a file, which is opened as text."""
    return kind.from_stream(io.TextIOWrapper(io.BytesIO(data), "utf-8"))


def reference_judge(document: bytes, log_data: bytes | None, metadata: bytes | None) -> Any:
    """Return what the reference makes of the files, as JSON values; nothing if it refuses them."""
    models = pytest.importorskip("lsst.pipe.base.quantum_graph._provenance")
    base = pytest.importorskip("lsst.pipe.base")
    logging = pytest.importorskip("lsst.daf.butler.logging")
    from lsst.pipe.base.quantum_graph import _predicted

    quantum = _predicted.PredictedQuantumDatasetsModel.model_validate_json(document)
    known = {d.dataset_id for datasets in quantum.outputs.values() for d in datasets}
    try:
        found = models.ProvenanceQuantumScanModels.from_metadata_and_logs(
            quantum,
            None if metadata is None else base.TaskMetadata.model_validate_json(metadata),
            None if log_data is None else _read_log(logging.ButlerLogRecords, log_data),
        )
        if not found.output_existence.keys() <= known:
            return None
    except (ValueError, AssertionError, LookupError, TypeError, RecursionError):
        return None
    listed = len(found.output_existence) == len(known)
    produced = {str(i) for i, exists in found.output_existence.items() if exists}
    attempts = [json.loads(attempt.model_dump_json()) for attempt in found.attempts]
    logs = None if found.logs is None else json.loads(found.logs.model_dump_json())
    return attempts, logs, found.metadata.model_dump(), listed, produced


def our_judge(document: bytes, log_data: bytes | None, metadata: bytes | None) -> Any:
    """Return what we make of the files, in the same form; blocks are read by the reference."""
    from lsst.pipe.base.quantum_graph import _provenance

    quantum = msgspec.json.decode(document, type=predicted.Quantum)
    log_dataset, metadata_dataset = outcome.special_outputs(quantum)
    known = {d.dataset_id for datasets in quantum.outputs.values() for d in datasets}
    try:
        found = outcome.judge(quantum, log_data, metadata)
    except (outcome.LogError, outcome.MetadataError):
        return None
    if not known.issuperset(found.listed or []):
        return None
    logs = _provenance.ProvenanceLogRecordsModel.model_validate_json(b"".join(found.logs_block()))
    blocks = _provenance.ProvenanceTaskMetadataModel.model_validate_json(b"".join(found.metadata_block()))
    block = _provenance.ProvenanceQuantumModel.model_validate_json(
        outcome.quantum_block(quantum, found.attempts)
    )
    attempts = [json.loads(attempt.model_dump_json()) for attempt in block.attempts]
    special = {log_dataset.dataset_id: log_data, metadata_dataset.dataset_id: metadata}
    produced = {*(found.listed or []), *(i for i, data in special.items() if data is not None)}
    return (
        attempts,
        json.loads(logs.model_dump_json()),
        blocks.model_dump(),
        found.listed is not None,
        produced,
    )


def assert_same_judgement(document: bytes, log_data: bytes | None, metadata: bytes | None) -> bool:
    """Compare with the reference; return whether the files were accepted."""
    theirs, ours = (judge(document, log_data, metadata) for judge in (reference_judge, our_judge))
    assert (ours is None) == (theirs is None), (log_data, metadata)
    if ours is None:
        return False
    # As text, so that NaN is equal to NaN.
    for one, other in zip(ours[:3], theirs[:3], strict=True):
        assert json.dumps(one) == json.dumps(other), (log_data, metadata)
    assert ours[3:] == theirs[3:], (log_data, metadata)
    return True


def failure_metadata(**scalars: Any) -> dict[str, Any]:
    document = test_outcome.task_metadata(1, [], caveats=67)
    values = {"scalars": {"badness": 12, "x": math.nan}, "arrays": {"a": [1]}, "metadata": {"m": {}}}
    failure = {"scalars": scalars, "metadata": {"metadata": values}}
    document["metadata"]["clean"] = {"metadata": {"failure": failure}}
    return document


def variants() -> tuple[list[bytes | None], list[bytes | None]]:
    """Return logs and metadata in many forms."""
    strange = "01a200dc-0000-77a6-8839-7ca00bcb3300"
    nan = test_outcome.task_metadata(1, [test_outcome.IMAGE_ID], caveats=4.0, nan=math.nan)
    no_stages = test_outcome.task_metadata(1, [])
    for name in ("initUtc", "startUtc", "startCpuTime"):
        del no_stages["metadata"]["quantum"]["arrays"][name]
    line = test_outcome.dump(test_outcome.RECORD)
    logs: list[bytes | None] = [
        None,
        b"",
        test_outcome.log(),
        test_outcome.log(n_records=0),
        b"[" + line + b"]",
        line + b"\n",
        line + b'\n###EXTRA###\n{"exception":null,"metadata":{}}',
        line + b"\n###EXTRA###\n" + test_outcome.dump({"exception": test_outcome.EXCEPTION}),
        test_outcome.log(test_outcome.FAILED_EXTRA),
        test_outcome.log({"exception": test_outcome.EXCEPTION}),
        test_outcome.log({"exception": test_outcome.EXCEPTION, "metadata": nan}),
        test_outcome.log({"metadata": {}}),
        test_outcome.log({"metadata": no_stages, "previous_process_quanta": test_outcome.IDS[7:]}),
        test_outcome.log(
            {"exception": test_outcome.EXCEPTION, "metadata": test_outcome.task_metadata(1, [strange])}
        ),
        test_outcome.log(
            {
                "previous_attempts": [
                    test_outcome.previous(1),
                    test_outcome.previous(2, exception=None, metadata=None),
                ]
            }
        ),
        test_outcome.log(
            {
                **test_outcome.FAILED_EXTRA,
                "previous_attempts": [test_outcome.previous(1), test_outcome.previous(2, 0)],
            }
        ),
        test_outcome.log(
            {"previous_attempts": [test_outcome.previous(2, previous_attempts=[test_outcome.previous(1)])]}
        ),
        test_outcome.log({"previous_attempts": [{}]}),
        test_outcome.log(
            {"previous_attempts": [test_outcome.previous(1, logs=[{**test_outcome.RECORD, "levelno": "20"}])]}
        ),
        *test_outcome.BAD_LOGS.values(),
    ]
    metadata: list[bytes | None] = [
        None,
        b"{}",
        test_outcome.dump(test_outcome.SUCCESS),
        test_outcome.dump(test_outcome.task_metadata(1)),
        test_outcome.dump(test_outcome.task_metadata(1, [])),
        test_outcome.dump(
            test_outcome.task_metadata(
                1,
                [test_outcome.IMAGE_ID, test_outcome.TABLE_ID, test_outcome.LOG_ID, test_outcome.METADATA_ID],
                caveats=0,
            )
        ),
        test_outcome.dump(test_outcome.task_metadata(1, [strange], caveats=0)),
        test_outcome.dump(test_outcome.task_metadata(1, caveats=-1)),
        test_outcome.dump(nan),
        test_outcome.dump(no_stages),
        test_outcome.dump(failure_metadata(type="E", message="m")),
        test_outcome.dump(failure_metadata(type="E")),
        test_outcome.dump(failure_metadata(type=1, message="m")),
        test_outcome.dump({"metadata": {"quantum": {}}}),
        test_outcome.dump({"metadata": {"clean": {}}}),
        test_outcome.dump({"scalars": {"x": 1}, "arrays": {"y": [1, 2.5, math.inf]}}),
        *test_outcome.BAD_METADATA.values(),
    ]
    return logs, metadata


def test_the_reference_judges_alike() -> None:
    document = test_outcome.dump(test_outcome.predicted_document())
    accepted = [assert_same_judgement(document, *pair) for pair in itertools.product(*variants())]
    assert 200 < sum(accepted) < len(accepted) - 200


def test_the_reference_judges_the_sample_alike(repo: pathlib.Path) -> None:
    n_accepted = 0
    for quantum in test_outcome.sample_quanta(repo).values():
        log_data, metadata = (
            test_outcome.content(repo, quantum, connection) for connection in ("_log", "_metadata")
        )
        for pair in itertools.product({log_data, None}, {metadata, None}):
            n_accepted += assert_same_judgement(test_outcome.dump(quantum), *pair)
    assert n_accepted > 60

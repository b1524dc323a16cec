"""The reference reads the same from the metadata of a task."""

import json
from typing import Any

import msgspec
import pytest
from aggregator.schemas.execution import attempt_metadata, task_metadata
from hypothesis import given

from tests.unit.schemas import test_task_metadata


def test_the_reference_takes_and_refuses_the_same() -> None:
    reference = pytest.importorskip("lsst.pipe.base").TaskMetadata
    for text in test_task_metadata.ACCEPTED:
        assert same_values(
            test_task_metadata.builtins(task_metadata.parse(text.encode())),
            reference.model_validate_json(text),
        )
    for data in [*map(str.encode, test_task_metadata.REJECTED), *test_task_metadata.REJECTED_BYTES]:
        with pytest.raises(ValueError, match=r"."):
            reference.model_validate_json(data)


def same_values(found: Any, theirs: Any) -> bool:
    """Compare with a model, which can hold 1.0 for 1 in a list with other floats."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(v) for key, v in value.items()}
        if isinstance(value, list):
            return [float(v) if type(v) is int else v for v in value]
        return value

    return test_task_metadata.same(plain(found), plain(theirs.model_dump()))


@given(test_task_metadata.documents)
def test_the_reference_reads_any_metadata_like_us(document: Any) -> None:
    reference = pytest.importorskip("lsst.pipe.base").TaskMetadata
    data = json.dumps(document).encode()
    assert same_values(
        test_task_metadata.builtins(task_metadata.parse(data)), reference.model_validate_json(data)
    )


def test_the_reference_derives_the_same_resource_usage() -> None:
    base = pytest.importorskip("lsst.pipe.base")
    resource_usage = pytest.importorskip("lsst.pipe.base.resource_usage")
    for changes, _ in test_task_metadata.USAGE:
        metadata = test_task_metadata.quantum(**changes)
        theirs = resource_usage.QuantumResourceUsage.from_task_metadata(
            base.TaskMetadata(**test_task_metadata.builtins(metadata))
        )
        found = attempt_metadata.resource_usage(metadata)
        assert found is not None
        assert msgspec.structs.asdict(found) == json.loads(theirs.model_dump_json()), changes


@pytest.mark.parametrize(("value", "bits"), test_task_metadata.CAVEATS)
def test_the_reference_finds_the_same_caveats(value: Any, bits: int | None) -> None:
    flags = pytest.importorskip("lsst.pipe.base").QuantumSuccessCaveats
    if bits is not None:
        assert flags(int(value[-1] if isinstance(value, list) else value)).value == bits

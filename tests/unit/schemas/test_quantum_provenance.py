"""Provenance of a quantum in today's form, and in that of 2022."""

from __future__ import annotations

import copy
import json
import uuid
from typing import Any

import pytest
from aggregator.schemas import datastore_records
from aggregator.schemas.execution import quantum_provenance
from aggregator.storage import errors

IDS = [uuid.UUID(int=number) for number in range(6)]


def _record(
    number: int, component: str | None = None, table: str = "records"
) -> datastore_records.FileRecord:
    path = f"run/{number}{component or ''}.json"
    return datastore_records.FileRecord(IDS[number], path, "a.B", "int", component, None, 3, table)


PROVENANCE = quantum_provenance.QuantumProvenance(
    frozenset(IDS[:3]),
    frozenset(IDS[:2]),
    frozenset(IDS[:1]),
    frozenset(IDS[3:]),
    frozenset(IDS[3:5]),
    {
        "a": frozenset({_record(3), _record(4, "x"), _record(4, "y")}),
        "b": frozenset({_record(4, table="others")}),
        "c": frozenset(),
    },
)


def test_round_trips() -> None:
    assert quantum_provenance.QuantumProvenance.from_json(PROVENANCE.to_json()) == PROVENANCE
    assert quantum_provenance.QuantumProvenance.from_json(PROVENANCE.to_json().encode()) == PROVENANCE
    single = quantum_provenance.QuantumProvenance(
        *(getattr(PROVENANCE, name) for name in ("predicted_inputs", "available_inputs", "actual_inputs")),
        PROVENANCE.predicted_outputs,
        PROVENANCE.actual_outputs,
        {"a": PROVENANCE.datastore_records["a"], "c": frozenset()},
    )
    document = json.loads(json.dumps(single.to_simple()))
    before = copy.deepcopy(document)
    assert quantum_provenance.QuantumProvenance.from_simple(document) == single
    assert document == before


def test_the_form_of_2022() -> None:
    document = PROVENANCE.to_simple()
    assert list(document) == [*quantum_provenance.SETS, "locations", "records"]
    assert document["actual_inputs"] == [f"urn:uuid:{IDS[0]}"]
    assert document["locations"] == {
        "a": [f"urn:uuid:{IDS[3]}", f"urn:uuid:{IDS[4]}"],
        "b": [f"urn:uuid:{IDS[4]}"],
        "c": [],
    }
    assert document["records"]["records"][0] == {
        "dataset_id": f"urn:uuid:{IDS[3]}",
        "formatter": "a.B",
        "path": "run/3.json",
        "storage_class": "int",
        "component": "__NULL_STRING__",
        "checksum": None,
        "file_size": 3,
        "__class__": "lsst.daf.butler.datastore.stored_file_info.StoredFileInfo",
    }
    assert [row["component"] for row in document["records"]["records"]] == ["__NULL_STRING__", "x", "y"]


def test_datastores_that_share_a_table_are_not_told_apart() -> None:
    shared = {"a": frozenset({_record(3)}), "b": frozenset({_record(3), _record(4)})}
    provenance = quantum_provenance.QuantumProvenance(
        frozenset(), frozenset(), frozenset(), frozenset(IDS[3:5]), frozenset(IDS[3:5]), shared
    )
    assert quantum_provenance.QuantumProvenance.from_simple(provenance.to_simple()) == provenance


def test_equal_provenance_has_equal_text() -> None:
    again = quantum_provenance.QuantumProvenance.from_json(PROVENANCE.to_json())
    assert again.to_json() == PROVENANCE.to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"predicted_inputs": 1}',
        PROVENANCE.to_json().replace(str(IDS[0]), "no id"),
        PROVENANCE.to_json().replace('"path"', '"paths"'),
        PROVENANCE.to_json()[:-3],
    ],
)
def test_other_documents_are_refused(text: str) -> None:
    with pytest.raises(errors.FormatError, match="somewhere"):
        quantum_provenance.QuantumProvenance.from_json(text, "somewhere")


@pytest.mark.parametrize(
    ("key", "value"),
    [("records", None), ("locations", {"a": ["x"]}), ("records", {"t": [{}]}), ("actual_inputs", 1)],
)
def test_other_documents_of_2022_are_refused(key: str, value: Any) -> None:
    document = {**PROVENANCE.to_simple(), key: value}
    with pytest.raises(errors.FormatError, match="somewhere"):
        quantum_provenance.QuantumProvenance.from_simple(document, "somewhere")

"""What one side puts, the other gets: objects of all storage classes that both know."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lsst.daf.butler")

import astropy.table
import astropy.units
import pandas
import pyarrow
from aggregator.schemas import datastore_records
from lsst.daf.butler.logging import ButlerLogRecord, ButlerLogRecords
from lsst.daf.butler.tests import MetricsExample
from lsst.pex.config import Config
from lsst.pipe.base import TaskMetadata
from lsst.utils.packages import Packages

from tests.helpers.oracle import butlers


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> butlers.Case:
    """Return a repository whose files are replaced by each test."""
    return butlers.make(tmp_path_factory.mktemp("formats") / "repo")


def _columns() -> dict[str, Any]:
    return {
        "x": np.arange(3.0),
        "i": np.array([1, -2, 3], dtype="i2"),
        "u": np.array([1, 2, 3], dtype="u4"),
        "b": np.array([True, False, True]),
        "s": np.array(["a", "bbé", ""]),
        "z": np.array([b"a", b"bb", b"ccc"]),
        "v": np.arange(6.0).reshape(3, 2),
        "w": np.arange(18, dtype="f4").reshape(3, 2, 3),
        "t": np.array(["2026-03-01T00:00:00", "2026-03-02T01:02:03", "1999-01-01"], dtype="datetime64[us]"),
        "n": np.array(["2026-03-01T00:00:00", "2026-03-02T01:02:03", "1999-01-01"], dtype="datetime64[ns]"),
        "e": np.array([1.5, 2.5, 3.5], dtype=">f8"),
    }


def _structured() -> Any:
    columns = _columns()
    array = np.zeros(3, dtype=[(name, each.dtype, each.shape[1:]) for name, each in columns.items()])
    for name, column in columns.items():
        array[name] = column
    return array


def _table() -> Any:
    table = astropy.table.Table(_columns(), meta={"note": "kept", "LSST.BUTLER.ID": "of the input"})
    table["x"].unit = astropy.units.m
    table["x"].description = "a length"
    return table


def _masked_table() -> Any:
    columns = {
        name: np.ma.MaskedArray(_columns()[name], mask=[False, True, False])
        for name in ("x", "i", "s", "b", "u")
    }
    return astropy.table.Table(columns)


def _frame() -> Any:
    frame = pandas.DataFrame({"x": [1.0, 2.0], "s": ["a", "bb"], "i": [1, 2]})
    return frame.set_index(pandas.Index([10, 11], name="number"))


def _log() -> ButlerLogRecords:
    record = {
        "name": "task", "asctime": "2026-03-01T00:00:00Z", "message": "é", "levelno": 20, "levelname": "INFO",
        "filename": "task.py", "pathname": "task.py", "lineno": 1, "process": 1, "processName": "Main",
        "MDC": {"LABEL": "task"},
    }  # fmt: skip
    return ButlerLogRecords.from_records([ButlerLogRecord.model_validate(record)])


OBJECTS: dict[str, list[Callable[[], Any]]] = {
    "one": [lambda: {"é": [1, 2.5, None, True], "b": {"c": "d"}, "a": "1"}, dict],
    "listing": [lambda: [1, "two", {"three": 3}], list],
    "integer": [lambda: 7],
    "array": [
        lambda: np.eye(3),
        lambda: np.arange(5, dtype=">i2"),
        lambda: np.array(["a", "bb"]),
        lambda: np.zeros(3, dtype=[("a", "i4"), ("b", "f8", 2)]),
        lambda: np.array(3.5),
        lambda: np.ma.MaskedArray([1.0, 2.0], mask=[True, False]),
        lambda: np.array([1, "two", [3]], dtype=object),
        lambda: np.asfortranarray(np.arange(6).reshape(2, 3)),
    ],
    "ecsv": [lambda: astropy.table.Table({"x": [1.0, 2.0], "s": ["a", "b c"]}, meta={"k": [1, 2]})],
    "quantities": [lambda: astropy.table.QTable({"x": [1.0, 2.0] * astropy.units.m})],
    "arrow": [lambda: pyarrow.table({"x": [1, 2, None], "s": ["a", None, "c"], "l": [[1], [], [2, 3]]})],
    "arrow_astropy": [_table, _masked_table, lambda: _table()[:0]],
    "arrow_numpy": [_structured, lambda: _structured()[:0]],
    "arrow_columns": [_columns],
    "frame": [_frame, lambda: pandas.DataFrame({"x": [1.5, None], "y": ["a", None]})],
}


EACH = [(name, number) for name, makers in OBJECTS.items() for number in range(len(makers))]


def _same(one: Any, other: Any) -> None:
    assert butlers.same(one, other), (one, other)


@pytest.mark.parametrize(("name", "number"), EACH)
def test_the_reference_gets_what_was_put(case: butlers.Case, name: str, number: int) -> None:
    ref, tested, reference = case.outputs[name], case.tested(), case.reference()
    reference.put(OBJECTS[name][number](), ref)
    expected = reference.get(ref)
    records = _records(reference, case, name)
    content = _read(reference.getURI(ref).ospath)
    os.unlink(reference.getURI(ref).ospath)

    value = OBJECTS[name][number]()
    tested.put(value, case.ref(ref))
    _same(value, OBJECTS[name][number]())
    _same(case.reference().get(ref), expected)
    _same(tested.get(case.ref(ref)), expected)
    provenance = tested.extract_provenance_data()
    (row,) = provenance.datastore_records["FileDatastore@<butlerRoot>"]
    (other,) = records
    same_but_bytes = {
        name: getattr(row, name) for name in ("formatter", "path", "storage_class", "component")
    }
    assert same_but_bytes == {name: getattr(other, name) for name in same_but_bytes}
    assert row.file_size == os.path.getsize(reference.getURI(ref).ospath)
    if name not in ("arrow_astropy", "frame"):
        assert _read(reference.getURI(ref).ospath) == content
        assert row == other


@pytest.mark.parametrize(("name", "number"), EACH)
def test_what_the_reference_puts_is_got(case: butlers.Case, name: str, number: int) -> None:
    ref, tested, reference = case.outputs[name], case.tested(), case.reference()
    reference.put(OBJECTS[name][number](), ref)
    _same(tested.get(case.ref(ref)), reference.get(ref))


def _read(path: str) -> bytes:
    return pathlib.Path(path).read_bytes()


def _records(reference: Any, case: butlers.Case, name: str) -> frozenset[datastore_records.FileRecord]:
    exported = reference._datastore.export_records([case.outputs[name]])
    document = {name: each.to_simple().model_dump(mode="json") for name, each in exported.items()}
    (rows,) = datastore_records.parse(document, "the reference").values()
    return rows


MODELS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "metadata": (
        lambda: TaskMetadata.from_dict({"a": 1, "b": [1.5, 2.5], "c": {"d": "e"}}),
        lambda value: json.loads(value.model_dump_json()),
    ),
    "log": (_log, lambda value: json.loads(value.to_json_data())),
    "config": (Config, lambda value: value.saveToString()),
    "versions": (lambda: Packages({"python": "3.11.2 (main)\n[GCC]", "numpy": "2"}), dict),
}
"""Objects of the reference, and the plain values that stand for them here."""


@pytest.mark.parametrize("name", MODELS)
def test_objects_of_the_reference(case: butlers.Case, name: str) -> None:
    make, plain = MODELS[name]
    ref, tested, reference = case.outputs[name], case.tested(), case.reference()
    reference.put(make(), ref)
    value = tested.get(case.ref(ref))
    expected = plain(make())
    if name == "log" and isinstance(expected, list):
        expected = {"records": expected}
    if name != "config":
        assert value == expected
    content = _read(reference.getURI(ref).ospath)
    # Both the object itself, and what was read, are written in the same form.
    for each in (make(), value):
        butler = case.tested()
        butler.put(each, case.ref(ref))
        if name == "config":
            assert _read(reference.getURI(ref).ospath).decode() == (
                each if isinstance(each, str) else plain(each)
            )
        else:
            assert plain(case.reference().get(ref)) == plain(make())
    if name == "versions":
        assert _read(reference.getURI(ref).ospath) == content


def test_task_metadata_as_a_mapping(case: butlers.Case) -> None:
    ref = case.outputs["metadata"]
    case.reference().put(MODELS["metadata"][0](), ref)
    expected = case.reference().get(ref, storageClass="StructuredDataDict")
    assert case.tested().get(case.ref(ref), storageClass="StructuredDataDict") == expected


TABLES = ("arrow", "arrow_astropy", "arrow_numpy", "arrow_columns", "frame")


@pytest.mark.parametrize("wanted", [butlers.STORAGE_CLASSES[name] for name in TABLES])
@pytest.mark.parametrize("name", TABLES)
def test_tables_of_other_kinds(case: butlers.Case, name: str, wanted: str) -> None:
    ref = case.outputs[name]
    value = OBJECTS[name][0]()
    if name == "arrow_astropy" and wanted == "DataFrame":
        value.remove_columns(["v", "w"])
    if name in ("arrow_numpy", "arrow_columns") and wanted == "DataFrame":
        pytest.skip("the reference makes no data frame of columns with several dimensions")
    case.reference().put(value, ref)
    expected = case.reference().get(ref, storageClass=wanted)
    _same(case.tested().get(case.ref(ref), storageClass=wanted), expected)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_put_as_another_kind(case: butlers.Case, name: str) -> None:
    ref = case.outputs[name]
    value = astropy.table.Table({"x": [1.0, 2.0], "s": ["a", "bb"]})
    case.reference().put(value, ref)
    expected = case.reference().get(ref)
    case.tested().put(value, case.ref(ref))
    _same(case.reference().get(ref), expected)


@pytest.mark.parametrize(
    "columns", ["x", ["s", "x"], "[xi]", ["*", "x"], ["nothing"], ["X"], ["x", "nothing*"]], ids=str
)
def test_some_columns(case: butlers.Case, columns: Any) -> None:
    ref = case.outputs["arrow_astropy"]
    case.reference().put(_table(), ref)
    parameters = {"columns": columns}
    try:
        expected = case.reference().get(ref, parameters=dict(parameters))
    except ValueError:
        with pytest.raises(ValueError, match="there is no column"):
            case.tested().get(case.ref(ref), parameters=parameters)
        return
    _same(case.tested().get(case.ref(ref), parameters=parameters), expected)


@pytest.mark.parametrize("name", TABLES)
def test_components_of_tables(case: butlers.Case, name: str) -> None:
    ref, butler = case.outputs[name], case.tested()
    case.reference().put(OBJECTS[name][0](), ref)
    whole = case.ref(ref)
    if name == "arrow":
        # The reference trips over a file whose schema tells nothing besides.
        assert butler.get(whole.makeComponentRef("rowcount")) == 3
    else:
        expected = case.reference().get(ref.makeComponentRef("rowcount"))
        assert butler.get(whole.makeComponentRef("rowcount")) == expected
    assert butler.get(whole.makeComponentRef("columns"), storageClass="ArrowColumnList") == list(
        case.reference().get(ref.makeComponentRef("columns"), storageClass="ArrowColumnList")
    )
    with pytest.raises(KeyError, match="no component 'nothing'"):
        butler.get(whole.makeComponentRef("nothing"))


def _parts() -> MetricsExample:
    return MetricsExample(summary={"a": 1}, output={"b": 2}, data=[1, 2, 3])


def test_components_in_files_of_their_own(case: butlers.Case) -> None:
    ref, tested, reference = case.outputs["parts"], case.tested(), case.reference()
    reference.put(_parts(), ref)
    expected = {"summary": {"a": 1}, "output": {"b": 2}, "data": [1, 2, 3]}
    assert tested.get(case.ref(ref)) == expected
    records = _records(reference, case, "parts")
    for value in (_parts(), expected):
        butler = case.tested()
        butler.put(value, case.ref(ref))
        assert butler.extract_provenance_data().datastore_records["FileDatastore@<butlerRoot>"] == records
        assert case.reference().get(ref) == _parts()
        component = case.ref(ref).makeComponentRef("data", "StructuredDataList")
        assert butler.get(component) == [1, 2, 3]
        with pytest.raises(RuntimeError, match="several files"):
            butler.getURI(case.ref(ref))
        uris = butler.getURIs(case.ref(ref))
        other = reference.getURIs(ref)
        assert uris.primaryURI is other.primaryURI is None
        assert uris.componentURIs == {name: str(uri) for name, uri in other.componentURIs.items()}

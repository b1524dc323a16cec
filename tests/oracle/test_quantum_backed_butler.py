"""The butler of a quantum keeps account of the same accesses in the same way, and leaves the same files."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import sqlite3
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("lsst.daf.butler")

import astropy.table
import pyarrow.parquet
from aggregator.butler import limited_butler, private_database, quantum_backed_butler
from aggregator.butler.formatting import dataset_provenance
from aggregator.schemas import datastore_records, zip_index
from aggregator.schemas.execution import quantum_provenance
from aggregator.storage import errors
from lsst.daf.butler import DatasetProvenance, QuantumProvenanceData
from lsst.daf.butler.datastores.file_datastore import retrieve_artifacts
from lsst.daf.butler.tests import MetricsExample

from tests.helpers.oracle import butlers

STORE = "FileDatastore@<butlerRoot>"


@pytest.fixture
def case(tmp_path: pathlib.Path) -> butlers.Case:
    return butlers.make(tmp_path / "repo")


SEQUENCES: dict[str, str] = {
    "nothing": "",
    "get": "get raw",
    "get, unused": "get raw, unused raw",
    "unused, get": "unused raw, get raw",
    "deferred": "deferred raw",
    "deferred, handle": "handle raw",
    "stored": "stored raw",
    "stored, get, put": "stored raw, get raw, put one",
    "put, get": "put one, get one",
    "get of what is not there": "get! one",
    "put, purge": "put one, purge one",
    "put, unstore": "put one, unstore one",
    "put, put": "put one, put! one",
    "put both": "put one, put two",
    "vanished, deferred, stored": "hide raw, deferred raw, stored raw",
    "vanished, get": "hide raw, get! raw",
    "stored, vanished, get": "stored raw, hide raw, get! raw",
}
"""Accesses of one quantum; those with an exclamation mark fail."""

ACTIONS: dict[str, Callable[[Any, Any], object]] = {
    "get": lambda butler, ref: butler.get(ref),
    "unused": lambda butler, ref: butler.markInputUnused(ref),
    "deferred": lambda butler, ref: butler.getDeferred(ref),
    "handle": lambda butler, ref: butler.getDeferred(ref).get(),
    "stored": lambda butler, ref: butler.stored(ref),
    "put": lambda butler, ref: butler.put({"v": 1}, ref),
    "purge": lambda butler, ref: butler.pruneDatasets([ref], purge=True, unstore=True),
    "unstore": lambda butler, ref: butler.pruneDatasets([ref], disassociate=False, unstore=True),
}


def _carry_out(sequence: str, butler: Any, refs: dict[str, Any], raw: pathlib.Path) -> None:
    """Make the accesses of a sequence; the input is where it was in the end."""
    hidden = raw.with_name("hidden")
    try:
        for step in filter(None, sequence.split(", ")):
            action, name = step.split()
            if action == "hide":
                raw.rename(hidden)
            elif action.endswith("!"):
                with pytest.raises(Exception, match=r"."):
                    ACTIONS[action[:-1]](butler, refs[name])
            else:
                ACTIONS[action](butler, refs[name])
    finally:
        if hidden.exists():
            hidden.rename(raw)


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return which of the two warnings are in the log, in order."""
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    kinds = {"Inputs ": "vanished", "Execution harness": "unchecked", "The execution harness": "unchecked"}
    return [kind for text in texts for begin, kind in kinds.items() if text.startswith(begin)]


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_same_accesses(case: butlers.Case, name: str, caplog: pytest.LogCaptureFixture) -> None:
    raw = pathlib.Path(case.reference().getURI(case.raw).ospath)
    theirs = {"raw": case.raw, "one": case.outputs["one"], "two": case.outputs["two"]}
    reference, tested = case.reference(), case.tested()
    _carry_out(SEQUENCES[name], reference, theirs, raw)
    caplog.clear()
    expected = reference.extract_provenance_data()
    warnings = _warnings(caplog)
    for output in ("one", "two"):
        pathlib.Path(reference.getURI(theirs[output], predict=True).ospath).unlink(missing_ok=True)

    _carry_out(SEQUENCES[name], tested, {name: case.ref(ref) for name, ref in theirs.items()}, raw)
    caplog.clear()
    provenance = tested.extract_provenance_data()
    assert _warnings(caplog) == warnings
    document = json.loads(provenance.to_json())
    assert butlers.canonical(document) == butlers.canonical(json.loads(expected.model_dump_json()))
    assert list(document) == list(json.loads(expected.model_dump_json()))
    # Each reads what the other has written.
    read = QuantumProvenanceData.direct(**document)
    assert read.predicted_inputs == expected.predicted_inputs
    assert quantum_provenance.QuantumProvenance.from_json(expected.model_dump_json()) == provenance
    assert quantum_provenance.QuantumProvenance.from_json(read.model_dump_json()) == provenance
    if name == "put, put":
        # Theirs has lost the file.
        assert tested.get(case.ref(case.outputs["one"])) == {"v": 1}
    assert _ordered(read) == _ordered(expected)


def _ordered(provenance: QuantumProvenanceData) -> QuantumProvenanceData:
    """Sort what the reference has as a list, though its order means nothing."""
    for records in provenance.datastore_records.values():
        records.dataset_ids.sort()
    return provenance


def test_equal_objects(case: butlers.Case) -> None:
    reference, tested = case.reference(), case.tested()
    for name, ref in case.outputs.items():
        if name in ("one", "two", "integer"):
            reference.put(3 if name == "integer" else {"v": name}, ref)
            tested.put(3 if name == "integer" else {"v": name}, case.ref(ref))
    reference.get(case.raw)
    tested.get(case.ref(case.raw))
    provenance = tested.extract_provenance_data()
    expected = reference.extract_provenance_data()
    for read in (
        QuantumProvenanceData.direct(**json.loads(provenance.to_json())),
        QuantumProvenanceData.model_validate_json(provenance.to_json()),
    ):
        assert _ordered(read) == _ordered(expected)
    assert quantum_provenance.QuantumProvenance.from_json(expected.model_dump_json()) == provenance


def test_predicted_records(case: butlers.Case) -> None:
    names = ["one", "parts", "arrow", "versions", "log"]
    refs = [case.outputs[name] for name in names]
    exported = case.reference().export_predicted_datastore_records(refs)
    document = {name: each.to_simple().model_dump(mode="json") for name, each in exported.items()}
    records = case.tested().export_predicted_datastore_records(map(case.ref, refs))
    assert records == datastore_records.parse(document, "the reference")
    elsewhere = butlers.output(case.butler, "elsewhere", "int", 1)
    with pytest.raises(ValueError, match="neither input nor output"):
        case.tested().export_predicted_datastore_records([case.ref(elsewhere)])


def _content(case: butlers.Case, name: str) -> bytes | None:
    path = pathlib.Path(case.reference().getURI(case.outputs[name], predict=True).ospath)
    return path.read_bytes() if path.exists() else None


def test_what_an_earlier_attempt_left(case: butlers.Case) -> None:
    one = case.ref(case.outputs["one"])
    case.tested().put({"attempt": 1}, one)
    left = _content(case, "one")
    for value, kind in (({"v": object()}, RuntimeError), ([1], TypeError), (object(), TypeError)):
        with pytest.raises(kind):
            case.tested().put(value, one)
        assert _content(case, "one") == left
    again = case.tested()
    again.put({"attempt": 2}, one)
    assert again.get(one) == {"attempt": 2}
    with pytest.raises(quantum_backed_butler.AlreadyPutError, match="written already"):
        again.put({"attempt": 3}, one)
    assert again.get(one) == {"attempt": 2}
    assert again.stored(one)
    again.pruneDatasets([one], purge=True, unstore=True)
    assert _content(case, "one") is None
    again.put({"attempt": 4}, one)
    assert again.get(one) == {"attempt": 4}
    directory = pathlib.Path(case.reference().getURI(case.outputs["one"]).ospath).parent
    assert len(list(directory.iterdir())) == 1


def test_a_component_is_missing(case: butlers.Case) -> None:
    parts = case.ref(case.outputs["parts"])
    butler = case.tested()
    butler.put({"summary": {"a": 1}, "output": {"b": 2}, "data": [3]}, parts)
    assert butler.stored(parts)
    assert case.tested().stored(parts)
    reference = case.reference()
    reference.put(MetricsExample(**butler.get(parts)), case.outputs["parts"])
    os.unlink(butler.getURIs(parts).componentURIs["output"].removeprefix("file://"))
    assert not reference.stored(case.outputs["parts"])
    # With records, and by the rules alone: the reference takes the half for the whole there.
    for each in (butler, case.tested()):
        assert not each.stored(parts)
        with pytest.raises(FileNotFoundError):
            each.get(parts)
        assert each.get(parts.makeComponentRef("data")) == [3]
        with pytest.raises(FileNotFoundError):
            each.get(parts.makeComponentRef("output"))


@pytest.mark.parametrize(
    ("data", "problem"), [({}, "has no component 'data'"), ({"data": 1}, "has to be of type list")]
)
def test_a_composite_is_written_as_a_whole_or_not_at_all(case: butlers.Case, data: Any, problem: str) -> None:
    butler, parts = case.tested(), case.ref(case.outputs["parts"])
    butler.put({"summary": {"a": 1}, "output": {"b": 2}, "data": [3]}, parts)
    again = case.tested()
    with pytest.raises((RuntimeError, TypeError), match=problem):
        again.put({"summary": {}, "output": {}, **data}, parts)
    assert again.get(parts) == {"summary": {"a": 1}, "output": {"b": 2}, "data": [3]}


def test_provenance_in_tables(case: butlers.Case) -> None:
    ref, two = case.outputs["arrow_astropy"], case.outputs["two"]
    reference, tested = case.reference(), case.tested()
    theirs = DatasetProvenance(quantum_id=case.raw.id)
    ours = dataset_provenance.DatasetProvenance(case.raw.id)
    for each in (case.raw, two, case.raw):
        theirs.add_input(each)
        ours.add_input(case.ref(each))
    theirs.add_extra_provenance(case.raw.id, {"note": 3, "id_of": two.id})
    ours.add_extra_provenance(case.raw.id, {"note": 3, "id_of": two.id})
    before = {"note": 1, **theirs.to_flat_dict(two, prefix="LSST.BUTLER", sep=".", simple_types=True)}
    reference.put(astropy.table.Table({"x": [1.0]}, meta=before), ref, provenance=theirs)
    expected = _header(case)
    table = astropy.table.Table({"x": [1.0]}, meta=before)
    tested.put(table, case.ref(ref), provenance=ours)
    assert _header(case) == expected
    assert b"LSST.BUTLER.INPUT.0.NOTE: 3" in expected
    # The caller's table is put somewhere else next.
    assert dict(table.meta) == before
    assert dict(reference.get(ref).meta) == dict(tested.get(case.ref(ref)).meta) == {}
    with pytest.raises(ValueError, match="has not been read"):
        ours.add_extra_provenance(ref.id, {"a": 1})
    with pytest.raises(ValueError, match="RuN"):
        ours.add_extra_provenance(case.raw.id, {"RuN": 1})


def _header(case: butlers.Case) -> bytes:
    path = case.reference().getURI(case.outputs["arrow_astropy"]).ospath
    header: bytes = pyarrow.parquet.read_schema(path).metadata[b"table_meta_yaml"]
    return header


def test_provenance_of_many_inputs(case: butlers.Case) -> None:
    theirs, ours = DatasetProvenance(), dataset_provenance.DatasetProvenance()
    for number in range(2001):
        ref = butlers.output(case.butler, f"type{number}", "int", 1)
        theirs.add_input(ref)
        ours.add_input(case.ref(ref))
        if number >= 1999:
            flat = theirs.to_flat_dict(
                case.raw, prefix="LSST.BUTLER", sep=".", simple_types=True, max_inputs=2000
            )
            assert list(ours.keys(case.ref(case.raw)).items()) == list(flat.items())


def test_uris(case: butlers.Case) -> None:
    reference, tested = case.reference(), case.tested()
    raw, one = case.ref(case.raw), case.ref(case.outputs["one"])
    assert tested.getURI(raw) == str(reference.getURI(case.raw))
    assert tested.getURI(one, predict=True) == str(reference.getURI(case.outputs["one"], predict=True))
    for butler, ref in ((tested, one), (reference, case.outputs["one"])):
        with pytest.raises(FileNotFoundError):
            butler.getURI(ref)
        with pytest.raises(FileNotFoundError):
            butler.get_many_uris([ref])
        assert butler.get_many_uris([ref], allow_missing=True) == {}
    assert tested.getURIs(raw) == limited_butler.DatasetURIs(str(reference.getURI(case.raw)), {})


def test_refusals(case: butlers.Case) -> None:
    reference, tested = case.reference(), case.tested(strict=True)
    foreign = butlers.output(case.butler, "foreign", "StructuredDataDict", 1)
    raw, one = case.ref(case.raw), case.ref(case.outputs["one"])
    reference.put({"v": 1}, case.outputs["one"])
    tested.put({"v": 1}, one)
    pairs: list[tuple[type[Exception], Callable[[Any, Any, Any, Any], object]]] = [
        (RuntimeError, lambda b, raw, one, other: b.put({"v": 1}, raw)),
        (RuntimeError, lambda b, raw, one, other: b.put({"v": 1}, other)),
        (KeyError, lambda b, raw, one, other: b.get(raw, parameters={"x": 1})),
        (KeyError, lambda b, raw, one, other: b.get(raw, storageClass="Nope")),
        (ValueError, lambda b, raw, one, other: b.get(raw, storageClass="NumpyArray")),
        (TypeError, lambda b, raw, one, other: b.pruneDatasets([one])),
        (TypeError, lambda b, raw, one, other: b.pruneDatasets([one], purge=True)),
        (TypeError, lambda b, raw, one, other: b.pruneDatasets([one], disassociate=False, purge=True)),
    ]
    for kind, call in pairs:
        with pytest.raises(kind):
            call(reference, case.raw, case.outputs["one"], foreign)
        with pytest.raises(kind):
            call(tested, raw, one, case.ref(foreign))
    # What the reference allows, and this does not.
    with pytest.raises(quantum_backed_butler.NotPredictedError):
        tested.get(case.ref(foreign))
    with pytest.raises(ValueError, match="is no output"):
        tested.pruneDatasets([raw], purge=True, unstore=True)
    with pytest.raises(Exception, match="no datastore accepts it"):
        tested.put({"v": 1}, case.ref(case.outputs["refused"]))
    assert tested.stored(raw)
    assert tested.get(one) == reference.get(case.outputs["one"])


def test_the_database_file(case: butlers.Case, tmp_path: pathlib.Path) -> None:
    paths = tmp_path / "theirs.sqlite3", tmp_path / "ours.sqlite3"
    refs = [case.outputs[name] for name in ("one", "integer", "parts")]
    values = [{"v": 1}, 2, {"summary": {}, "output": {}, "data": []}]
    with case.reference(filename=str(paths[0])) as reference:
        for ref, value in zip(refs[:2], values[:2], strict=True):
            reference.put(value, ref)
    with case.tested(filename=str(paths[1])) as tested:
        for ref, value in zip(refs[:2], values[:2], strict=True):
            tested.put(value, case.ref(ref))
    schemas, rows = zip(*map(_tables, paths), strict=True)
    assert schemas[1].pop("qga_provenance")
    rows[1].pop("qga_provenance")
    assert schemas[1] == schemas[0]
    assert rows[1] == rows[0]
    with pytest.raises(Exception, match="is there already"):
        case.tested(filename=str(paths[1]))
    with pytest.raises(Exception, match="is not the database"):
        private_database.read(str(paths[0]), case.files.dimensions)


def _tables(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return columns and indices of each table, and its rows."""
    connection = sqlite3.connect(path)
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = {
        name: (
            connection.execute(f"PRAGMA table_info({name})").fetchall(),
            sorted(row[1:] for row in connection.execute(f"PRAGMA index_list({name})")),
        )
        for name in names
    }
    rows = {name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall()) for name in names}
    connection.close()
    return columns, rows


def _index(path: pathlib.Path) -> dict[str, Any]:
    """Return an index, as the reference reads it, without what may differ."""
    index = retrieve_artifacts.ZipIndex.model_validate_json(path.read_bytes()).model_dump(mode="json")
    for name, each in index["artifact_map"].items():
        del each["info"]["checksum"]
        # The reference does not look at files of which it has no record.
        assert each["info"].pop("file_size") in (-1, (path.parent / name).stat().st_size)
    # Whether records are known of data IDs depends on where they come from.
    del index["refs"]["dimension_records"]
    return index


@pytest.mark.parametrize("preserve_path", [True, False])
def test_files_are_retrieved_with_the_same_index(
    case: butlers.Case, tmp_path: pathlib.Path, preserve_path: bool
) -> None:
    refs = [case.raw, case.outputs["one"], case.outputs["two"]]
    with case.tested() as tested:
        for ref in refs[1:]:
            tested.put({"v": 1}, case.ref(ref))
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    case.reference().retrieve_artifacts(refs, f"{theirs}/", transfer="copy", preserve_path=preserve_path)
    with case.tested() as tested:
        own = [case.ref(ref) for ref in refs]
        paths = tested.retrieve_artifacts(own, f"{ours}/", transfer="copy", preserve_path=preserve_path)
        assert _contents(ours) == _contents(theirs)
        assert sorted(paths) == sorted(str(ours / name) for name in _contents(ours))
        assert _index(ours / zip_index.NAME) == _index(theirs / zip_index.NAME)
        with pytest.raises(FileExistsError):
            tested.retrieve_artifacts(own, f"{ours}/", preserve_path=preserve_path)
        tested.retrieve_artifacts(own, f"{ours}/", preserve_path=preserve_path, overwrite=True)
        assert _contents(ours) == _contents(theirs)
        for wrong in (f"{tmp_path}/missing", "s3://bucket/x/"):
            with pytest.raises(ValueError, match="director"):
                tested.retrieve_artifacts(own, wrong)
        with pytest.raises(errors.RefusedError, match="a datastore"):
            tested.retrieve_artifacts(own, f"{case.root}/here/")
        with pytest.raises(ValueError, match="transfer must be one of"):
            tested.retrieve_artifacts(own, f"{tmp_path}/x/", transfer="move")
        with pytest.raises(FileNotFoundError):
            tested.retrieve_artifacts([case.ref(case.outputs["array"])], f"{tmp_path}/x/")
    assert not list(tmp_path.glob("x/*"))


def test_an_archive_is_that_of_the_reference_which_ingests_it(
    case: butlers.Case, tmp_path: pathlib.Path
) -> None:
    refs = [case.outputs["one"], case.outputs["two"]]
    with case.tested() as tested:
        for ref in refs:
            tested.put({"v": ref.datasetType.name}, case.ref(ref))
        path = tested.retrieve_artifacts_zip([case.ref(ref) for ref in refs], f"{tmp_path}/ours/")
        with pytest.raises(FileExistsError):
            tested.retrieve_artifacts_zip([case.ref(r) for r in refs], f"{tmp_path}/ours/", overwrite=False)
        with pytest.raises(ValueError, match="no datasets"):
            tested.retrieve_artifacts_zip([], f"{tmp_path}/ours/")
    theirs = case.reference().retrieve_artifacts_zip(refs, f"{tmp_path}/theirs/")
    assert [os.path.basename(path)] == os.listdir(tmp_path / "ours") == os.listdir(tmp_path / "theirs")
    with zipfile.ZipFile(path) as first, zipfile.ZipFile(theirs.ospath) as second:
        assert set(first.namelist()) == set(second.namelist())
        for name in set(first.namelist()) - {zip_index.NAME}:
            assert first.read(name) == second.read(name)
    other = butlers.make(tmp_path / "other")
    for ref in refs:
        other.butler.registry.registerDatasetType(ref.datasetType)
    other.butler.collections.register(butlers.RUN)
    other.butler.ingest_zip(path)
    assert [other.butler.get(ref) for ref in refs] == [{"v": ref.datasetType.name} for ref in refs]


def _contents(directory: pathlib.Path) -> dict[str, bytes]:
    """Return the files of a directory but for the index."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != zip_index.NAME
    }

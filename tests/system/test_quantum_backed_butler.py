"""The butler of a quantum on real storage: object stores, files of others, full disks, killed processes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from aggregator.butler import artifacts, dataset_refs, private_database, quantum, quantum_backed_butler
from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import datastore
from aggregator.butler.dimensions import records, universe
from aggregator.schemas import datastore_records
from aggregator.schemas.graphs import predicted
from aggregator.storage import errors, fault_points

from tests.helpers import kills, object_servers, samples

FILE = "lsst.daf.butler.datastores.fileDatastore.FileDatastore"
CHAIN = "lsst.daf.butler.datastores.chainedDatastore.ChainedDatastore"
UNIVERSE = {
    "version": 1,
    "namespace": "few",
    "skypix": {"common": "htm1", "htm": {"class": "lsst.sphgeom.HtmPixelization", "max_level": 1}},
    "elements": {
        "site": {"keys": [{"name": "name", "type": "string", "length": 16}], "governor": True},
        "plate": {"keys": [{"name": "id", "type": "int"}], "requires": ["site"]},
    },
    "topology": {},
}
TEMPLATE = "{run:/}/{datasetType}.{component:?}/{datasetType}_{component:?}_{site:?}_{plate:?}"


def repository(directory: pathlib.Path, datastore_section: Mapping[str, Any]) -> artifacts.Artifacts:
    """Return the files of a repository that has just been configured."""
    directory.mkdir(exist_ok=True)
    section = {"cls": FILE, "templates": {"default": TEMPLATE}, **datastore_section}
    document = {
        "datastore": section,
        "registry": {"db": "sqlite:///<butlerRoot>/gen3.sqlite3"},
        "storageClasses": {
            "Pair": {"components": {"left": "StructuredDataDict", "right": "StructuredDataDict"}}
        },
    }
    (directory / "butler.yaml").write_text(yaml.safe_dump(document))
    config = repository_config.load(directory)
    return artifacts.Artifacts(config, universe.Universe.from_config(UNIVERSE))


LOCAL = {"root": "<butlerRoot>", "composites": {"disassembled": {"Pair": True}}}


@pytest.fixture
def files(tmp_path: pathlib.Path) -> artifacts.Artifacts:
    return repository(tmp_path / "repo", LOCAL)


def ref(files: artifacts.Artifacts, name: str, storage_class: str, plate: int = 1) -> dataset_refs.DatasetRef:
    """Return the reference to a dataset, the same one each time."""
    group = files.dimensions.group(["plate"])
    kind = dataset_refs.DatasetType(name, group, storage_class)
    data_id = dataset_refs.DataId.make(group, {"site": "here", "plate": plate})
    return dataset_refs.DatasetRef(kind, data_id, "run/1", uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {plate}"))


def butler(
    files: artifacts.Artifacts,
    outputs: list[dataset_refs.DatasetRef],
    inputs: list[dataset_refs.DatasetRef] | None = None,
    **options: Any,
) -> quantum_backed_butler.QuantumBackedButler:
    """Return the butler of a quantum."""
    return quantum_backed_butler.QuantumBackedButler.from_predicted(
        files, [each.id for each in inputs or ()], [each.id for each in outputs], {}, **options
    )


@pytest.fixture(scope="module")
def server() -> Iterator[object_servers.S3Server]:
    with object_servers.running() as running:
        yield running


def test_an_object_store(
    server: object_servers.S3Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = server.new_bucket()
    files = repository(tmp_path / "repo", {**LOCAL, "root": f"s3://{bucket}/a b"})
    one, pair = ref(files, "one", "StructuredDataDict"), ref(files, "pair", "Pair")
    with butler(files, [one, pair]) as first:
        assert first.stored_many([one, pair]) == {one: False, pair: False}
        with pytest.raises(FileNotFoundError):
            first.get(one)
        first.put({"v": 1}, one)
        first.put({"left": {"a": 1}, "right": {"b": 2}}, pair)
        assert first.stored_many([one, pair]) == {one: True, pair: True}
        assert first.get(pair) == {"left": {"a": 1}, "right": {"b": 2}}
        assert first.getURI(one) == f"s3://{bucket}/a%20b/run/1/one/one_here_1.yaml"
        (row,) = first.extract_provenance_data().datastore_records[f"FileDatastore@s3://{bucket}/a b"] - {
            row
            for row in first.extract_provenance_data().datastore_records[f"FileDatastore@s3://{bucket}/a b"]
            if row.component
        }
        assert (row.path, row.file_size) == ("run/1/one/one_here_1.yaml", 5)
    # Another quantum reads it by its record, by an absolute URI, and by the rules.
    absolute = datastore_records.FileRecord(
        one.id, f"s3://{bucket}/a%20b/{row.path}", row.formatter, row.storage_class, None, None, 5, row.table
    )
    for known in ({}, {row.table: row}, {row.table: absolute}):
        given = {f"FileDatastore@s3://{bucket}/a b": frozenset(known.values())}
        with quantum_backed_butler.QuantumBackedButler.from_predicted(files, [one.id], [], given) as second:
            assert second.get(one) == {"v": 1}
            assert second.stored(one)
    with butler(files, [one, pair]) as third:
        third.pruneDatasets([one, pair], purge=True, unstore=True)
    assert server.keys(bucket) == []


def _directory_at(files: artifacts.Artifacts, each: dataset_refs.DatasetRef, component: str = "") -> None:
    """Put a directory where a file is to be."""
    with butler(files, [each]) as looking:
        uris = looking.getURIs(each, predict=True)
    uri = uris.componentURIs[component] if component else uris.primaryURI
    assert uri is not None
    path = pathlib.Path(uri.removeprefix("file://").removesuffix("#predicted"))
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)


def _paths(files: artifacts.Artifacts) -> list[str]:
    root = pathlib.Path(next(iter(files.datastores.values())).root)
    return sorted(str(p.relative_to(root)) for p in (root / "run").rglob("*") if not p.is_dir())


def test_something_else_is_in_the_way(files: artifacts.Artifacts) -> None:
    one = ref(files, "one", "StructuredDataDict")
    _directory_at(files, one)
    with butler(files, [one], [one]) as tried:
        with pytest.raises(errors.AggregatorError, match="can't write it"):
            tried.put({"v": 1}, one)
        # It is there, and can't be read; nobody may take it for missing.
        with pytest.raises(errors.FormatError, match="is a directory"):
            tried.get(one)
        provenance = tried.extract_provenance_data()
    assert not provenance.actual_outputs
    assert not provenance.available_inputs
    assert _paths(files) == []


def test_half_a_composite_is_not_left(files: artifacts.Artifacts) -> None:
    pair = ref(files, "pair", "Pair")
    with butler(files, [pair]) as first:
        first.put({"left": {"a": 1}, "right": {"b": 1}}, pair)
    _directory_at(files, pair, "right")
    with butler(files, [pair]) as tried:
        with pytest.raises(errors.AggregatorError, match="can't write it"):
            tried.put({"left": {"a": 2}, "right": {"b": 2}}, pair)
        assert not tried.extract_provenance_data().actual_outputs
    assert _paths(files) == []


def test_links_are_replaced_and_not_followed(files: artifacts.Artifacts, tmp_path: pathlib.Path) -> None:
    one, victim = ref(files, "one", "StructuredDataDict"), tmp_path / "victim"
    victim.write_text("of somebody else")
    with butler(files, [one]) as writing:
        path = pathlib.Path(writing.getURI(one, predict=True)[len("file://") : -len("#predicted")])
        path.parent.mkdir(parents=True)
        path.symlink_to(victim)
        writing.put({"v": 1}, one)
        assert not path.is_symlink()
        assert victim.read_text() == "of somebody else"


def test_the_size_of_a_file_has_changed(files: artifacts.Artifacts) -> None:
    one = ref(files, "one", "StructuredDataDict")
    with butler(files, [one]) as writing:
        writing.put({"v": 1}, one)
        path = pathlib.Path(writing.getURI(one).removeprefix("file://"))
        path.write_bytes(path.read_bytes() + b"w: 2\n")
        with pytest.raises(errors.FormatError, match="has 10 bytes; 5 were written"):
            writing.get(one)
        path.write_bytes(b"a: [")
    with butler(files, [], [one]) as reading:
        with pytest.raises(errors.FormatError, match="is no StructuredDataDict"):
            reading.get(one)
        assert not reading.extract_provenance_data().actual_inputs


def test_a_dataset_in_an_archive(files: artifacts.Artifacts, tmp_path: pathlib.Path) -> None:
    one = ref(files, "one", "StructuredDataDict")
    archive = tmp_path / "repo" / "zips" / "a.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("a b.yaml", "v: 1\n")
    [[predicted_file]] = files.predicted(one, "StructuredDataDict")
    record = dataclasses.replace(
        predicted_file.record, path="zips/a.zip#zip-path=a%20b.yaml", file_size=len("v: 1\n")
    )
    [[file]] = files.recorded([(predicted_file.datastore, record)])
    assert artifacts.are_there([file]) == [True]
    assert (file.read(), file.extension) == (b"v: 1\n", ".yaml")
    assert file.uri == f"file://{archive}#zip-path=a%20b.yaml"
    assert artifacts.delete([file]) == []
    for path, size, problem in (
        ("zips/a.zip#zip-path=b.yaml", 5, "b.yaml in it can't be read"),
        ("zips/a.zip#zip-path=a%20b.yaml", 6, "has 5 bytes; 6 were written"),
    ):
        other = dataclasses.replace(record, path=path, file_size=size)
        [[file]] = files.recorded([(predicted_file.datastore, other)])
        with pytest.raises(errors.FormatError, match=problem):
            file.read()
    archive.write_bytes(b"PK garbage")
    with pytest.raises(errors.FormatError, match="can't be read"):
        dataclasses.replace(file).read()
    archive.unlink()
    assert file.read() is None


def test_a_chain(tmp_path: pathlib.Path) -> None:
    children = [
        {
            "cls": FILE,
            "root": f"<butlerRoot>/{name}",
            "records": {"table": f"records_{name}"},
            "templates": {"default": TEMPLATE},
            **more,
        }
        for name, more in (("a", {"checksum": True}), ("b", {"constraints": {"reject": ["two"]}}))
    ]
    files = repository(tmp_path / "repo", {"cls": CHAIN, "datastores": children})
    one, two = ref(files, "one", "int"), ref(files, "two", "int")
    with butler(files, [one, two]) as writing:
        writing.put(1, one)
        writing.put(2, two)
        found = writing.extract_provenance_data().datastore_records
    a, b = (f"FileDatastore@<butlerRoot>/{name}" for name in "ab")
    assert {row.dataset_id for row in found[a]} == {one.id, two.id}
    assert {row.dataset_id for row in found[b]} == {one.id}
    assert {row.table for row in found[b]} == {"records_b"}
    assert all(len(row.checksum or "") == 128 for row in found[a])
    assert {row.checksum for row in found[b]} == {None}
    # One that has lost it does not hide the other.
    os.unlink(tmp_path / "repo" / "a" / next(row.path for row in found[a] if row.dataset_id == one.id))
    with quantum_backed_butler.QuantumBackedButler.from_predicted(files, [one.id], [], found) as reading:
        assert reading.stored(one)
        assert reading.get(one) == 1


def test_metrics_and_handles(files: artifacts.Artifacts) -> None:
    one = ref(files, "one", "StructuredDataDict")
    with butler(files, [one]) as working:
        handle = working.getDeferred(one)
        assert (handle.ref, handle.id, handle.dataId["plate"]) == (one, one.id, 1)
        with working.record_metrics() as outer:
            with pytest.raises(FileNotFoundError):
                handle.get()
            working.put({"v": [1]}, one)
            with working.record_metrics() as inner:
                assert handle.get() == {"v": [1]}
                assert handle.get(storageClass="StructuredDataDict") == {"v": [1]}
        assert (outer.n_get, outer.n_put, inner.n_get, inner.n_put) == (0, 1, 2, 0)
        assert inner.time_in_get > 0 < outer.time_in_put
        with pytest.raises(KeyError, match="no component 'x'"):
            handle.get(component="x")


SHIPPED = """
import sys
from tests.system import test_quantum_backed_butler as case
files = case.repository(case.pathlib.Path(sys.argv[1]), case.LOCAL)
one, two, raw = (case.ref(files, name, "StructuredDataDict") for name in ("one", "two", "raw"))
known = {"FileDatastore@<butlerRoot>": frozenset({
    case.datastore_records.FileRecord(raw.id, "raw.yaml", "a.B", "StructuredDataDict", None, None, -1,
                                      "file_datastore_records")})}
working = case.quantum_backed_butler.QuantumBackedButler.from_predicted(
    files, [raw.id], [one.id, two.id], known, filename=sys.argv[2])
working.get(raw)
working.put({"v": 1}, one)
working.put({"v": 2}, two)
provenance = working.extract_provenance_data()
working.close()
print(provenance.to_json())
"""


def _worker(tmp_path: pathlib.Path, stop_at: str = "", marker: pathlib.Path | None = None) -> Any:
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "raw.yaml").write_text("v: 0\n")
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    if stop_at:
        environment[fault_points.VARIABLE] = f"{stop_at}:{marker}"
    command = [sys.executable, "-c", SHIPPED, str(repo), str(tmp_path / "node.sqlite3")]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_database_is_shipped(tmp_path: pathlib.Path) -> None:
    with _worker(tmp_path) as running:
        printed, complaints = running.communicate(timeout=120)
    assert running.returncode == 0, complaints
    (tmp_path / "node.sqlite3").rename(tmp_path / "shipped.sqlite3")
    dimensions = universe.Universe.from_config(UNIVERSE)
    provenance = private_database.read(str(tmp_path / "shipped.sqlite3"), dimensions)
    assert provenance.to_json() + "\n" == printed
    assert len(provenance.datastore_records["FileDatastore@<butlerRoot>"]) == 2
    assert len(provenance.available_inputs) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["repo", "shipped.sqlite3"]
    with contextlib.closing(sqlite3.connect(tmp_path / "shipped.sqlite3")) as connection, connection:
        connection.execute("UPDATE qga_provenance SET dataset_id = 'x' WHERE kind = 'actual_inputs'")
    with pytest.raises(errors.FormatError, match="is damaged"):
        private_database.read(str(tmp_path / "shipped.sqlite3"), dimensions)
    (tmp_path / "text").write_text("no database at all, but long enough to be looked at")
    with pytest.raises(errors.RefusedError, match="text"):
        private_database.read(str(tmp_path / "text"), dimensions)


def test_a_killed_process_leaves_what_it_had_written(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    marker = tmp_path / "marker"
    with _worker(tmp_path, "write:2", marker) as running:
        os.kill(kills.wait_for(marker, running), signal.SIGKILL)
    files = repository(tmp_path / "repo", LOCAL)
    one, two = (ref(files, name, "StructuredDataDict") for name in ("one", "two"))
    provenance = private_database.read(str(tmp_path / "node.sqlite3"), files.dimensions)
    assert "has ended before the butler was closed" in caplog.text
    assert provenance.actual_outputs == {one.id}
    (row,) = provenance.datastore_records["FileDatastore@<butlerRoot>"]
    assert row.dataset_id == one.id
    with butler(files, [one, two]) as again:
        assert again.stored_many([one, two]) == {one: True, two: False}
        again.put({"v": 3}, two)
        assert again.get(two) == {"v": 3}


def test_the_quanta_of_a_graph(sample: samples.Sample) -> None:
    with predicted.PredictedGraph(str(sample.repo / "predicted.qg")) as graph:
        dimensions = universe.Universe.from_config(graph.pipeline.universe)
        init_quanta = graph.init_quanta()
        reader = quantum.QuantumReader(graph.pipeline, dimensions, init_quanta, graph.path)
        table = graph.address_table()
        blocks = [block for block, _ in graph.read_quanta(table.offsets[:, 0], table.sizes[:, 0])]
        quanta = [reader.quantum(block) for block in blocks] + [reader.init_quantum(q) for q in init_quanta]
        rows = list(graph.dimension_rows({"detector"}))
    config = repository_config.load(sample.repo)
    planning = datastore.Datastore(config, dimensions, mock_storage_classes=True)
    assert planning.stores
    records_table = records.RecordTable.build(dimensions, {"detector": {"full_name"}}, rows)
    files = artifacts.Artifacts(config, dimensions, records_table, mock_storage_classes=True)
    n_there = n_read = 0
    for each in quanta:
        with quantum_backed_butler.QuantumBackedButler.initialize(files, each) as opened:
            looks = opened.stored_many([*each.predicted_inputs(), *each.predicted_outputs()])
            n_there += sum(looks.values())
            for ref_, is_there in looks.items():
                path = opened.getURI(ref_, predict=True).removesuffix("#predicted")
                assert os.path.exists(path.removeprefix("file://")) == is_there
                if is_there:
                    assert opened.get(ref_) is not None
                    n_read += 1
    assert n_there == n_read > 50
    measure = next(each for each in quanta if each.init_inputs)
    assert {each.id for each in measure.predicted_inputs()} > {
        each.id for refs in measure.init_inputs.values() for each in refs
    }

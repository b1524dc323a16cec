"""Predicted files and records of datasets, against the sample and the reference."""

import json
import pathlib
import zipfile
from typing import Any

import pytest
import yaml
import zstandard
from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import datastore
from aggregator.butler.dimensions import records, universe
from aggregator.storage import errors

_FILE = "lsst.daf.butler.datastores.fileDatastore.FileDatastore"
_JSON = "lsst.daf.butler.formatters.json.JsonFormatter"


class Graph:
    """What the sample's predicted graph says of its outputs."""

    def __init__(self, path: pathlib.Path) -> None:
        with zipfile.ZipFile(path) as archive:
            member = {n: archive.read(n) for n in archive.namelist()}
        unpack = zstandard.ZstdDecompressor().decompress
        pipeline = json.loads(unpack(member["pipeline_graph.json.zst"]))
        self.universe = universe.Universe.from_config(pipeline["dimensions"])
        self.types = {n: (t["storage_class"], t["dimensions"]) for n, t in pipeline["dataset_types"].items()}
        self.types["packages"] = ("Packages", [])
        self.dimension_data = json.loads(unpack(member["dimension_data.json.zst"]))
        quanta = json.loads(unpack(member["init_quanta.json.zst"]))
        size, blocks = (
            json.loads(unpack(member["header.json.zst"]))["int_size"],
            member["quantum_datasets.mb"],
        )
        while blocks:
            length = int.from_bytes(blocks[:size], "big")
            quanta.append(json.loads(unpack(blocks[size : size + length])))
            blocks = blocks[size + length :]
        self.outputs = [d for q in quanta for ds in q["outputs"].values() for d in ds]

    def request(self, name: str) -> tuple[str, str, universe.Group, str | None]:
        storage_class, dimensions = self.types[name]
        group = self.universe.group(dimensions)
        return name, storage_class, group, "SampleCam" if "instrument" in group.names else None


def test_records_of_the_sample(sample: Any) -> None:
    graph = Graph(sample.repo / "predicted.qg")
    store = datastore.Datastore(
        repository_config.load(sample.repo), graph.universe, mock_storage_classes=True
    )
    needed = store.needed_attributes(graph.request(name) for name in graph.types)
    assert needed == {"detector": {"full_name"}}
    rows = [(element, row) for element, rows in graph.dimension_data.items() for row in rows]
    store.set_records(records.RecordTable.build(graph.universe, needed, rows))
    mine = {}
    for dataset in graph.outputs:
        (file,) = store.plan(*graph.request(dataset["dataset_type_name"])).files
        values, id_ = tuple(dataset["data_coordinate"]), dataset["dataset_id"]
        mine[id_] = {
            "path": file.path(values, dataset["run"], id_),
            "formatter": file.formatter,
            "storage_class": file.storage_class,
            "component": file.component,
            "checksum": None,
            "file_size": -1,
        }
        assert mine[id_]["path"].endswith(file.extension)
    expected = sample.expected["db"]["after_aggregate"]["records_in_run"]
    assert len(expected) == 61
    assert {id_: mine[id_] for id_ in expected} == expected
    (place,) = store.stores
    assert (place.name, place.root) == ("FileDatastore@<butlerRoot>", str(sample.repo))
    assert place.records_table == "file_datastore_records"


def _repository(directory: pathlib.Path, section: dict[str, Any], **others: Any) -> pathlib.Path:
    directory.mkdir(exist_ok=True)
    base = {"cls": _FILE, "root": "<butlerRoot>", "records": {"table": "file_datastore_records"}}
    (directory / "butler.yaml").write_text(yaml.safe_dump({"datastore": {**base, **section}, **others}))
    return directory


def _store(repo: pathlib.Path, graph: Graph, mocks: bool = False) -> datastore.Datastore:
    return datastore.Datastore(repository_config.load(repo), graph.universe, mocks)


@pytest.fixture
def graph(sample: Any) -> Graph:
    return Graph(sample.repo / "predicted.qg")


def test_plans_are_made_once(tmp_path: pathlib.Path, graph: Graph) -> None:
    store = _store(_repository(tmp_path / "r", {}), graph)
    request = ("a", "int", graph.universe.group(["visit"]), "Cam")
    assert store.plan(*request) is store.plan(*request)


def test_missing_formatter_names_the_dataset_type(tmp_path: pathlib.Path, graph: Graph) -> None:
    store = _store(_repository(tmp_path / "r", {}), graph)
    with pytest.raises(errors.RefusedError, match=r"Dataset type 'thing': no formatter .* thing, Mystery"):
        store.plan("thing", "Mystery", graph.universe.group([]), None)


def test_mocks_have_a_formatter_only_if_enabled(tmp_path: pathlib.Path, graph: Graph) -> None:
    repo, empty = _repository(tmp_path / "r", {}), graph.universe.group([])
    for request in (("thing", "_mock_Mystery", empty, None), ("_mock_thing", "Mystery", empty, None)):
        with pytest.raises(errors.RefusedError, match="no formatter"):
            _store(repo, graph).plan(*request)
        (file,) = _store(repo, graph, mocks=True).plan(*request).files
        assert (file.formatter, file.extension) == (_JSON, ".json")


def test_unknown_formatter_class_names_class_and_dataset_type(tmp_path: pathlib.Path, graph: Graph) -> None:
    store = _store(_repository(tmp_path / "r", {"formatters": {"thing": "my.own.Formatter"}}), graph)
    with pytest.raises(errors.RefusedError, match=r"'thing'.*my\.own\.Formatter.*entry point"):
        store.plan("thing", "int", graph.universe.group([]), None)
    assert store.plan("other", "int", graph.universe.group([]), None).files


@pytest.mark.parametrize("entry", [{"parameters": {}}, {"formatter": _JSON, "extra": 1}, 3])
def test_malformed_formatter_entry(tmp_path: pathlib.Path, graph: Graph, entry: Any) -> None:
    store = _store(_repository(tmp_path / "r", {"formatters": {"thing": entry}}), graph)
    with pytest.raises(errors.RefusedError, match=r"'thing'.*has to be a class name"):
        store.plan("thing", "int", graph.universe.group([]), None)


def test_write_parameters_choose_the_extension(tmp_path: pathlib.Path, graph: Graph) -> None:
    packages = "lsst.daf.butler.formatters.packages.PackagesFormatter"
    section = {
        "default": {packages: {"format": "json"}},
        "a": packages,
        "b": {"formatter": packages, "parameters": {"format": "pickle"}},
        "c": {"formatter": packages, "parameters": {"format": "xml"}},
    }
    store = _store(_repository(tmp_path / "r", {"formatters": section}), graph)
    empty = graph.universe.group([])
    assert store.plan("a", "X", empty, None).files[0].extension == ".json"
    assert store.plan("b", "X", empty, None).files[0].extension == ".pickle"
    assert store.plan("x", "Packages", empty, None).files[0].extension == ".yaml"
    with pytest.raises(errors.RefusedError, match=r"'c'.*'xml'"):
        store.plan("c", "X", empty, None)


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"templates": {"default": False}}, "no file template"),
        ({"templates": {"thing": "{run}"}}, "no dimension"),
        ({"templates": {"thing": 5}}, "has to be a string"),
        ({"composites": {"disassembled": {"thing": "yes"}}}, "true or false"),
    ],
)
def test_bad_sections_name_the_dataset_type(
    tmp_path: pathlib.Path, graph: Graph, section: dict[str, Any], problem: str
) -> None:
    store = _store(_repository(tmp_path / "r", section), graph)
    with pytest.raises(errors.RefusedError, match=f"Dataset type 'thing'.*{problem}"):
        store.plan("thing", "MaskedImageF", graph.universe.group([]), None)


def test_hierarchical_template_is_refused(tmp_path: pathlib.Path, graph: Graph) -> None:
    with pytest.raises(errors.RefusedError, match=r"'thing'.*dimension<value>"):
        _store(_repository(tmp_path / "r", {"templates": {"thing": {"a": "b"}}}), graph)


def test_record_table_finds_all_kinds_of_keys(graph: Graph) -> None:
    wanted = {"visit": {"name", "seq_num"}, "physical_filter": {"band"}, "instrument": {"detector_max"}}
    rows = [(element, row) for element, rows in graph.dimension_data.items() for row in rows]
    table = records.RecordTable.build(graph.universe, wanted, rows)
    table = records.RecordTable.unpack(table.pack())
    assert table.find("visit", ("SampleCam", 102)) == {"name": "v#102", "seq_num": 102}
    assert table.find("physical_filter", ("SampleCam", "Sample-G 1")) == {"band": "g"}
    assert table.find("instrument", ("SampleCam",)) == {"detector_max": 10}
    for element, key in [("visit", ("SampleCam", 1)), ("visit", ("X", 102)), ("detector", ("SampleCam", 1))]:
        assert table.find(element, key) is None


def test_record_table_is_small(graph: Graph) -> None:
    columns = graph.universe.record_columns("exposure")
    place, count = columns.index("obs_id"), 200_000

    def rows() -> Any:
        for i in range(count):
            row: list[Any] = [None] * len(columns)
            row[:2], row[place] = ["Cam", 2026030100000 + i], f"MC_O_20260301_{i:06d}"
            yield "exposure", row

    table = records.RecordTable.build(graph.universe, {"exposure": {"obs_id"}}, rows())
    assert len(table.pack()) < 50 * count
    assert table.find("exposure", ("Cam", 2026030100017)) == {"obs_id": "MC_O_20260301_000017"}


def test_record_row_of_wrong_length_is_an_error(graph: Graph) -> None:
    with pytest.raises(errors.AggregatorError, match="'detector' has 2 values"):
        records.RecordTable.build(graph.universe, {"detector": {"raft"}}, [("detector", ["Cam", 1])])


# Against the reference.

import json
import pathlib
import random
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from aggregator.schemas.graphs import addresses, predicted
from aggregator.storage import errors

from aggregator.aggregation import shards
from tests.helpers import graph_files

NAMES = ["predicted.qg", "predicted_dict.qg"]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return graph_files.unpack_sample(tmp_path_factory.mktemp("sample")) / "repo"


@pytest.fixture(params=NAMES)
def path(request: pytest.FixtureRequest, repo: pathlib.Path) -> pathlib.Path:
    found: pathlib.Path = repo / request.param
    return found


def plain(quantum: predicted.Quantum) -> Any:
    """Return a quantum as the value that its block holds."""
    return json.loads(msgspec.json.encode(quantum))


def edge_ids(graph: predicted.PredictedGraph) -> list[tuple[str, str]]:
    table = graph.address_table()
    texts = [addresses.dashed(digits) for digits in addresses.hex_digits(table.ids)]
    return sorted((texts[a], texts[b]) for a, b in graph.edges(table).tolist())


def test_a_graph_is_read_as_it_is(path: pathlib.Path) -> None:
    members = graph_files.members(path)
    blocks = graph_files.blocks(members, "quantum_datasets")
    with predicted.PredictedGraph(str(path)) as graph:
        table = graph.address_table()
        texts = [addresses.dashed(digits) for digits in addresses.hex_digits(table.ids)]
        assert texts == sorted(block["quantum_id"] for block in blocks)
        by_place = np.argsort(table.offsets[:, 0])
        for order in (by_place, by_place[::-1], by_place[::3]):
            found = list(graph.read_quanta(table.offsets[order, 0], table.sizes[order, 0]))
            wanted = [next(b for b in blocks if b["quantum_id"] == texts[row]) for row in order]
            assert [plain(quantum) for quantum, _ in found] == wanted
            assert [json.loads(document) for _, document in found] == wanted
        assert list(graph.read_quanta(table.offsets[:0, 0], table.sizes[:0, 0])) == []
        init_quanta = graph_files.single(members, "init_quanta")
        assert [plain(quantum) for quantum in graph.init_quanta()] == init_quanta
        edges = graph_files.single(members, "thin_graph")["edges"]
        assert edge_ids(graph) == sorted(map(tuple, edges))
        assert graph.header.n_quanta == len(blocks)
        assert json.loads(graph.header_json) == graph_files.single(members, "header")
        assert json.loads(graph.pipeline_json) == graph_files.single(members, "pipeline_graph")


def test_the_pipeline_is_in_order(path: pathlib.Path) -> None:
    document = graph_files.single(graph_files.members(path), "pipeline_graph")
    with predicted.PredictedGraph(str(path)) as graph:
        types = graph.pipeline.dataset_types
        assert [task.label for task in graph.pipeline.tasks] == [
            "clean",
            "measure",
            "stack",
            "summarize",
            "report",
        ]
        indices = [document["dataset_types"][t.name]["index"] for t in types[:-1]]
        assert indices == sorted(indices)
        assert len(indices) == len(document["dataset_types"])
        assert (types[-1].name, types[-1].storage_class, types[-1].dimensions) == ("packages", "Packages", ())
        assert {t.name for t in types if not t.is_produced} == {"raw", "refcat"}
        assert {task.label: task.log_type for task in graph.pipeline.tasks}["clean"] == "clean_log"
        assert graph.pipeline.universe == document["dimensions"]


def test_dimension_rows_of_the_wanted_elements_are_read(path: pathlib.Path) -> None:
    document = graph_files.single(graph_files.members(path), "dimension_data")
    with predicted.PredictedGraph(str(path)) as graph:
        for wanted in ({"visit", "day_obs", "skymap"}, set(document), set[str]()):
            found: dict[str, list[Any]] = {}
            for element, row in graph.dimension_rows(wanted):
                found.setdefault(element, []).append(row)
            assert found == {name: rows for name, rows in document.items() if name in wanted and rows}


def test_both_forms_of_a_graph_are_the_same_graph(repo: pathlib.Path) -> None:
    identities = set()
    for name in NAMES:
        with predicted.PredictedGraph(str(repo / name)) as graph:
            identities.add(graph.identity(graph.address_table()))
    assert len(identities) == 1


def rewritten(repo: pathlib.Path, tmp_path: pathlib.Path, changes: dict[str, Any]) -> str:
    """Return the path of a copy with other members; values are compressed."""
    members: dict[str, bytes | None] = dict(graph_files.members(repo / "predicted.qg"))
    for name, value in changes.items():
        members[name] = value if value is None or isinstance(value, bytes) else graph_files.compress(value)
    return str(graph_files.pack(tmp_path / "graph.qg", members))


def test_another_graph_has_another_identity(repo: pathlib.Path, tmp_path: pathlib.Path) -> None:
    members = graph_files.members(repo / "predicted.qg")
    header = graph_files.single(members, "header")
    init_quanta = graph_files.single(members, "init_quanta")
    table = members["quanta.addr"]
    changes: list[dict[str, Any]] = [
        {},
        {"header.json.zst": dict(reversed(header.items()))},
        {"header.json.zst": {**header, "timestamp": "2020-01-01T00:00:00"}},
        {
            "init_quanta.json.zst": [
                {**init_quanta[0], "quantum_id": init_quanta[1]["quantum_id"]},
                *init_quanta[1:],
            ]
        },
        {"quanta.addr": table[:17] + bytes([table[17] ^ 1]) + table[18:]},
    ]
    identities = []
    for change in changes:
        with predicted.PredictedGraph(rewritten(repo, tmp_path, change)) as graph:
            identities.append(graph.identity(graph.address_table()))
    # The order of keys is no difference.
    assert identities[0] == identities[1]
    assert len(set(identities)) == 4


def version_0(members: dict[str, bytes], order: list[int]) -> dict[str, Any]:
    """Return the members that make a graph one of version 0, with the quanta named by a permutation."""
    rows = [members["quanta.addr"][17 + i * 40 :][:40] for i in range(20)]
    names = {addresses.dashed(row[:16].hex()): order[i] for i, row in enumerate(rows)}
    renamed = b"".join(row[:16] + order[i].to_bytes(8, "big") + row[24:] for i, row in enumerate(rows))
    thin = graph_files.single(members, "thin_graph")
    for quanta in thin["quanta"].values():
        for quantum in quanta:
            quantum["quantum_index"] = names[quantum.pop("quantum_id")]
    thin["edges"] = [[names[a], names[b]] for a, b in thin["edges"]]
    return {
        "header.json.zst": {**graph_files.single(members, "header"), "version": 0},
        "quanta.addr": members["quanta.addr"][:17] + renamed,
        "thin_graph.json.zst": thin,
    }


def test_version_0_names_quanta_by_integers(repo: pathlib.Path, tmp_path: pathlib.Path) -> None:
    members = graph_files.members(repo / "predicted.qg")
    edges = sorted(map(tuple, graph_files.single(members, "thin_graph")["edges"]))
    for order in (
        list(range(20)),
        random.Random(1).sample(range(20), 20),
        random.Random(2).sample(range(999), 20),
    ):
        changes = version_0(members, order)
        with predicted.PredictedGraph(rewritten(repo, tmp_path, changes)) as graph:
            assert edge_ids(graph) == edges
        changes["thin_graph.json.zst"]["edges"].append([order[0], 1000])
        with (
            predicted.PredictedGraph(rewritten(repo, tmp_path, changes)) as graph,
            pytest.raises(errors.FormatError, match="thin_graph"),
        ):
            edge_ids(graph)


def test_blocks_in_any_order_are_scanned_in_a_topological_one(
    repo: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    members = graph_files.members(repo / "predicted.qg")
    frames = list(graph_files.frames(members["quantum_datasets.mb"]))[::-1]
    payload, places = graph_files.join(frames)
    ids = [graph_files.decompress(frame)["quantum_id"] for frame in frames]
    rows = sorted(zip(ids, places, strict=True))
    table = [(bytes.fromhex(i.replace("-", "")), n, [place]) for n, (i, place) in enumerate(rows)]
    changes = {"quantum_datasets.mb": payload, "quanta.addr": graph_files.address_file(table, 8, 1)}
    with predicted.PredictedGraph(rewritten(repo, tmp_path, changes)) as graph:
        found = graph.address_table()
        division = shards.divide(found, graph.edge_pieces(found), 7)
        edges = division.edges(0, len(division.producers))
        assert (edges[:, 0] < edges[:, 1]).all()
        scanned = [quantum.quantum_id for quantum, _ in graph.read_quanta(division.offsets, division.sizes)]
        assert sorted(scanned) == sorted(ids)
        assert scanned == [addresses.dashed(digits) for digits in addresses.hex_digits(division.ids)]


@pytest.mark.parametrize("int_size", [3, 4])
def test_integers_of_other_sizes_are_read(repo: pathlib.Path, tmp_path: pathlib.Path, int_size: int) -> None:
    members = graph_files.members(repo / "predicted.qg")
    frames = list(graph_files.frames(members["quantum_datasets.mb"]))
    payload, places = graph_files.join(frames, int_size)
    quanta = [graph_files.decompress(frame) for frame in frames]
    rows = sorted((q["quantum_id"], place) for q, place in zip(quanta, places, strict=True))
    table = [(bytes.fromhex(i.replace("-", "")), n, [place]) for n, (i, place) in enumerate(rows)]
    changes = {
        "header.json.zst": {**graph_files.single(members, "header"), "int_size": int_size},
        "quantum_datasets.mb": payload,
        "quanta.addr": graph_files.address_file(table, int_size, 1),
    }
    with predicted.PredictedGraph(rewritten(repo, tmp_path, changes)) as graph:
        found = graph.address_table()
        order = np.argsort(found.offsets[:, 0])
        read = graph.read_quanta(found.offsets[order, 0], found.sizes[order, 0])
        assert [plain(quantum) for quantum, _ in read] == quanta


def test_tables_that_disagree_are_refused(repo: pathlib.Path, tmp_path: pathlib.Path) -> None:
    members = graph_files.members(repo / "predicted.qg")
    header = graph_files.single(members, "header")
    for change, problem in [
        ({"header.json.zst": {**header, "int_size": 4}}, "int_size"),
        ({"header.json.zst": {**header, "n_quanta": 19}}, "20 quanta, the header says 19"),
    ]:
        with (
            predicted.PredictedGraph(rewritten(repo, tmp_path, change)) as graph,
            pytest.raises(errors.FormatError, match=problem),
        ):
            graph.address_table()


def test_an_edge_to_nowhere_is_refused(repo: pathlib.Path, tmp_path: pathlib.Path) -> None:
    thin = graph_files.single(graph_files.members(repo / "predicted.qg"), "thin_graph")
    for strange in ("0" * 8, "f" * 8):
        edges = [*thin["edges"], [thin["edges"][0][0], strange + thin["edges"][0][1][8:]]]
        with (
            predicted.PredictedGraph(
                rewritten(repo, tmp_path, {"thin_graph.json.zst": {**thin, "edges": edges}})
            ) as graph,
            pytest.raises(errors.FormatError, match="not in the graph"),
        ):
            edge_ids(graph)


def test_a_graph_without_quanta_is_read(repo: pathlib.Path, tmp_path: pathlib.Path) -> None:
    header = graph_files.single(graph_files.members(repo / "predicted.qg"), "header")
    changes = {
        "header.json.zst": {**header, "n_quanta": 0},
        "quantum_datasets.mb": b"",
        "quanta.addr": graph_files.address_file([], 8, 1),
        "thin_graph.json.zst": {"quanta": {}, "edges": []},
    }
    with predicted.PredictedGraph(rewritten(repo, tmp_path, changes)) as graph:
        table = graph.address_table()
        assert len(table.ids) == 0
        assert graph.edges(table).shape == (0, 2)
        assert list(graph.read_quanta(table.offsets[:, 0], table.sizes[:, 0])) == []


def read_all(path: str) -> None:
    with predicted.PredictedGraph(path) as graph:
        table = graph.address_table()
        order = np.argsort(table.offsets[:, 0])
        list(graph.read_quanta(table.offsets[order, 0], table.sizes[order, 0]))
        list(graph.read_quanta(table.offsets[:, 0], table.sizes[:, 0]))
        graph.init_quanta()
        graph.edges(table)
        list(graph.dimension_rows({"visit", "skymap"}))


@pytest.mark.parametrize("name", ["header", "pipeline_graph", "init_quanta"])
def test_documents_that_are_nested_too_deeply_are_damage(
    repo: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
    content = graph_files.members(repo / NAMES[0])
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    deep = b"[" + deep + b"]" if name == "init_quanta" else deep
    content[f"{name}.json.zst"] = zstandard.ZstdCompressor().compress(deep)
    graph_files.pack(tmp_path / "deep.qg", content)
    with pytest.raises(errors.FormatError, match=name):
        read_all(str(tmp_path / "deep.qg"))


def test_damage_anywhere_is_an_error_that_names_the_file(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data, damaged = path.read_bytes(), tmp_path / "graph.qg"
    chance = random.Random(20260301)
    caught = []
    for place in chance.sample(range(len(data)), 400):
        changed = bytes([data[place] ^ chance.randrange(1, 256)])
        damaged.write_bytes(data[:place] + changed + data[place + 1 :])
        try:
            read_all(str(damaged))
        except errors.AggregatorError as exc:
            caught.append(str(exc))
    # Dates and checksums of the archive, which nothing depends on, and values of free text are not noticed.
    assert len(caught) > 200
    assert [text for text in caught if str(damaged) not in text] == []

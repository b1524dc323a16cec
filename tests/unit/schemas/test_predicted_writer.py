"""Predicted graphs that are written in parts, and read again."""

from __future__ import annotations

import json
import pathlib
import uuid
import zipfile
from typing import Any

import numpy as np
import pytest
from aggregator.schemas.graphs import (
    addresses,
    blocks,
    container,
    predicted,
    predicted_documents,
    predicted_writer,
)

HEADER = {
    "graph_type": "predicted",
    "output_run": "r",
    "n_quanta": 3,
    "n_task_quanta": {"a": 2, "b": 1, "c": 0},
}
PIPELINE: dict[str, Any] = {"tasks": {}, "dataset_types": {}, "dimensions": {"version": 1}}
IDS = [uuid.UUID(int=n << 100) for n in (5, 3, 9)]
COORDINATES = ['["cam",1]', '["c\\"am",2]', "[]"]
ROWS = [("visit", ["cam", 1, None, [0, 5]]), ("visit", ["cam", 2, 0.5, None]), ("band", ["g"])]


def ids(*positions: int) -> addresses.Ids:
    return addresses.parse_ids([str(IDS[n]) for n in positions])


def quanta() -> Any:
    yield "a", ids(0), COORDINATES[:1]
    yield "a", ids(1), COORDINATES[1:2]
    yield "b", ids(2), COORDINATES[2:]
    yield "c", ids(), []


def edges() -> Any:
    yield ids(), ids()
    yield ids(0, 1), ids(2, 2)
    yield ids(0), ids(1)


def documents() -> list[bytes]:
    labels = ("a", "a", "b")
    texts = (
        {"quantum_id": str(i), "task_label": t, "inputs": {}, "outputs": {}}
        for i, t in zip(IDS, labels, strict=True)
    )
    return [json.dumps(text).encode() for text in texts]


def write(path: pathlib.Path, dictionary: bytes = b"", int_size: int = 8) -> None:
    frames = predicted_writer.Frames(dictionary, 3, int_size)
    framed = [frames(document) for document in documents()]
    with predicted_writer.PredictedWriter(str(path), dictionary, 3, int_size) as out:
        out.single("header", json.dumps({**HEADER, "int_size": int_size}).encode())
        out.single("pipeline_graph", json.dumps(PIPELINE).encode())
        out.thin_graph(quanta, edges)
        out.dimension_data(lambda: ROWS)
        out.single("init_quanta", b"[]")
        out.quanta(framed)
        out.addresses(ids(0, 1, 2), np.array([len(block) for block in framed]))


@pytest.mark.parametrize("int_size", [3, 8])
@pytest.mark.parametrize("with_dictionary", [False, True])
def test_what_was_written_is_read(tmp_path: pathlib.Path, int_size: int, *, with_dictionary: bool) -> None:
    samples = [json.dumps({"n": n, "text": str(n) * 50}).encode() for n in range(300)]
    dictionary = blocks.train_dictionary(samples, 2000) if with_dictionary else b""
    assert bool(dictionary) == with_dictionary
    path = tmp_path / "graph.qg"
    write(path, dictionary, int_size)
    with predicted.PredictedGraph(str(path)) as graph:
        table = graph.address_table()
        assert addresses.hex_digits(table.ids) == sorted(i.hex for i in IDS)
        found = [document for _, document in graph.read_quanta(table.offsets[:, 0], table.sizes[:, 0])]
        assert found == [documents()[n] for n in (1, 0, 2)]
        # Rows of the table of (5, 9), (3, 9), (5, 3).
        assert graph.edges(table).tolist() == [[1, 2], [0, 2], [1, 0]]
        assert list(graph.dimension_rows({"visit", "band"})) == ROWS
        assert graph.init_quanta() == []
    with container.Container(str(path)) as opened:
        thin = json.loads(opened.read_block("thin_graph"))
        assert (container.DICTIONARY in opened) == with_dictionary
    expected = [
        {"quantum_id": str(i), "data_coordinate": json.loads(c)}
        for i, c in zip(IDS, COORDINATES, strict=True)
    ]
    assert thin["quanta"] == {"a": expected[:2], "b": expected[2:], "c": []}
    assert len(thin["edges"]) == 3


def test_same_content_makes_the_same_bytes(tmp_path: pathlib.Path) -> None:
    for name in ("first", "second"):
        write(tmp_path / f"{name}.qg")
    assert (tmp_path / "first.qg").read_bytes() == (tmp_path / "second.qg").read_bytes()
    with zipfile.ZipFile(tmp_path / "first.qg") as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {1980}
        assert archive.testzip() is None


@pytest.mark.parametrize("found", [[], [("a", ids(), []), ("b", ids(), [])]])
def test_documents_of_nothing(found: list[Any]) -> None:
    text = b"".join(predicted_documents.thin_graph_pieces(lambda: found, list))
    assert json.loads(text) == {"quanta": {label: [] for label, _, _ in found}, "edges": []}
    assert predicted_documents.thin_graph_size(lambda: found, list) == len(text)
    assert json.loads(b"".join(predicted_documents.dimension_pieces(list))) == {}


def test_size_of_the_thin_graph() -> None:
    text = b"".join(predicted_documents.thin_graph_pieces(quanta, edges))
    assert predicted_documents.thin_graph_size(quanta, edges) == len(text)


@pytest.mark.parametrize("size", [3, 5])
def test_stream_of_another_size(tmp_path: pathlib.Path, size: int) -> None:
    path = tmp_path / "graph.qg"
    path.write_bytes(b"older")
    with (
        pytest.raises(ValueError, match="does not have the"),
        predicted_writer.PredictedWriter(str(path), b"", 3) as out,
    ):
        out.stream("thin_graph", size, [b"[1", b",2]"[:2]])
    # What was there stays, and nothing else.
    assert path.read_bytes() == b"older"
    assert [p.name for p in tmp_path.iterdir()] == ["graph.qg"]

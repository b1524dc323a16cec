"""The side index of a graph, and the cache that it lies in."""

from __future__ import annotations

import io
import os
import pathlib
from typing import Any

import numpy as np
import pytest
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import nodes, provenance_graph, quantum_index
from aggregator.storage import errors

import aggregator
from aggregator.reading import data_ids, index_cache
from tests.helpers import graph_files


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return graph_files.unpack_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def graph(root: pathlib.Path) -> Any:
    with provenance_graph.ProvenanceGraph(str(root / "provenance.qg")) as opened:
        yield opened


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "quantum-graph-aggregator"


def made(graph: provenance_graph.ProvenanceGraph, path: pathlib.Path) -> quantum_index.Index:
    with path.open("wb") as stream:
        quantum_index.build(graph, stream)
    return quantum_index.Index(path.open("rb"), str(path), graph.fingerprint)


@pytest.mark.parametrize("rows", [1, 3, 20, 1000])
def test_searches_find_what_a_walk_finds(
    graph: provenance_graph.ProvenanceGraph,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
) -> None:
    monkeypatch.setattr(quantum_index, "_GROUP_ROWS", rows)
    labels = [task.label for task in graph.pipeline.tasks]
    with made(graph, tmp_path / "index") as index:
        for task in (None, *range(len(labels))):
            for wanted in (None, frozenset({statuses.FAILED, statuses.BLOCKED})):
                for values in ({}, {0: "SampleCam"}, {2: 102}, {0: "other"}):
                    codes = {position: quantum_index.code(value) for position, value in values.items()}
                    if task is None and codes:
                        continue
                    found = [
                        graph.quantum_at(f.offset, f.size).quantum_id
                        for f in index.search(task, codes, wanted)
                    ]
                    assert found == [
                        q.quantum_id
                        for q in graph.quanta()
                        if (task is None or q.task_label == labels[task])
                        and (wanted is None or q.status in wanted)
                        and all(dict(enumerate(coordinate(q))).get(p) == v for p, v in values.items())
                    ]
        by_status, by_caveats = index.counts(len(labels))
    assert by_status.sum() == graph.header.n_quanta
    assert by_caveats.sum() == by_status[:, statuses.SUCCESSFUL - statuses.ABORTED].sum()


def coordinate(quantum: nodes.Quantum) -> tuple[int | str, ...]:
    return nodes.coordinate_values(quantum.data_coordinate)


def test_values_have_codes() -> None:
    for value in (0, -5, 2**63 - 1, -(2**63)):
        assert quantum_index.code(value) == value
    others = ["", "r", "ü", "r ", "5", 2**63, "0" * 500]
    assert len({quantum_index.code(value) for value in others}) == len(others)
    assert all(-(2**63) <= quantum_index.code(value) < 2**63 for value in others)


def test_damage_of_an_index_is_noticed(
    graph: provenance_graph.ProvenanceGraph, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "index"
    made(graph, path).close()
    data = path.read_bytes()

    def ask(content: bytes) -> list[Any]:
        path.write_bytes(content)
        with quantum_index.Index(path.open("rb"), str(path), graph.fingerprint) as index:
            counts = index.counts(len(graph.pipeline.tasks))
            found = [index.search(t, dict.fromkeys(range(3), 1), None) for t in range(5)]
            return [
                np.array(counts[0]).tolist(),
                [list(f) for f in found],
                list(index.search(None, {}, None)),
            ]

    right, caught = ask(data), []
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x55
        try:
            assert ask(bytes(changed)) == right
        except errors.FormatError as exc:
            caught.append(str(exc))
    # Only the magic number and columns that were not asked for may differ.
    assert len(caught) > len(data) * 0.6
    assert all(str(path) in text for text in caught)
    for size in (0, 5, 23, 24, len(data) // 2, len(data) - 1):
        with pytest.raises(errors.FormatError):
            ask(data[:size])


@pytest.mark.ordering("X1")
def test_an_index_of_another_graph_is_refused(
    graph: provenance_graph.ProvenanceGraph, root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    made(graph, tmp_path / "index").close()
    with (
        provenance_graph.ProvenanceGraph(str(root / "provenance_dict.qg")) as other,
        pytest.raises(errors.FormatError, match="another graph"),
    ):
        quantum_index.Index((tmp_path / "index").open("rb"), "index", other.fingerprint)


def test_the_fingerprint_is_of_the_content(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    members = graph_files.members(root / "provenance.qg")
    logs = bytearray(members["logs.mb"])
    logs[-1] ^= 1
    found = []
    for number, content in enumerate(
        (members, dict(reversed(members.items())), {**members, "logs.mb": bytes(logs)})
    ):
        path = graph_files.pack(tmp_path / f"{number}.qg", content)
        with provenance_graph.ProvenanceGraph(str(path)) as opened:
            found.append(opened.fingerprint)
    assert found[0] == found[1] != found[2]


def ask(path: pathlib.Path) -> int:
    with aggregator.Provenance(path) as asked:
        return sum(sum(by_status.values()) for by_status, _ in asked.counts().values())


@pytest.mark.ordering("X1")
def test_the_index_is_made_once_for_all_copies(
    root: pathlib.Path, tmp_path: pathlib.Path, cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    build = quantum_index.build
    monkeypatch.setattr(quantum_index, "build", lambda *a: (built.append(a), build(*a)))
    copy = tmp_path / "copy.qg"
    copy.write_bytes((root / "provenance.qg").read_bytes())
    for path in (root / "provenance.qg", copy):
        assert ask(path) == 20
    (index,) = cache.iterdir()
    assert (len(built), index.suffix) == (1, ".index")
    # Damaged, truncated, or what another version left: made again.
    for content in (b"", b"QGINDEX1", index.read_bytes()[:-1]):
        index.write_bytes(content)
        assert ask(copy) == 20
    assert len(built) == 4
    assert ask(copy) == 20
    assert len(built) == 4


def test_only_some_indices_are_kept(
    root: pathlib.Path, cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(parents=True)
    foreign = {"notes.txt", "1.index"}
    for age, name in enumerate([*(f"{age:032x}.index" for age in range(50)), *foreign]):
        path = cache / name
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    ask(root / "provenance.qg")
    left = {path.name for path in cache.iterdir()}
    assert {f"{age:032x}.index" for age in range(31)} < left
    # What has another name is somebody's.
    assert foreign < left
    assert len(left) == 32 + len(foreign)


@pytest.mark.parametrize("where", ["", "relative", "/proc/nothing", "a file"])
def test_without_a_place_for_it_the_index_is_temporary(
    root: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file) if where == "a file" else where)
    monkeypatch.setenv("HOME", str(file))
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    assert ask(root / "provenance.qg") == 20
    assert set(tmp_path.rglob("*")) == before


def test_a_full_disk_is_told(
    root: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quantum_index, "build", full)
    with pytest.raises(aggregator.AggregatorError, match="No space left"):
        ask(root / "provenance.qg")
    assert list(cache.iterdir()) == []


def test_a_damaged_graph_leaves_no_index(
    root: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    members = graph_files.members(root / "provenance.qg")
    path = graph_files.pack(tmp_path / "graph.qg", {**members, "quanta.mb": members["quanta.mb"][:-1]})
    with pytest.raises(aggregator.FormatError, match="cut off"):
        ask(path)
    assert list(cache.iterdir()) == []


def test_large_graphs_are_announced(
    root: pathlib.Path, cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(index_cache, "_ANNOUNCED", 20)
    with caplog.at_level("INFO"):
        ask(root / "provenance.qg")
        ask(root / "provenance.qg")
    assert [record.message for record in caplog.records if "Indexing the 20 quanta" in record.message] != []
    assert sum("Indexing" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("visit=102 AND detector=5", {"visit": "102", "detector": "5"}),
        (" visit = 102,detector==5 and band='r'", {"visit": "102", "detector": "5", "band": "r"}),
        ('physical_filter="Sample-R 1" And visit=1', {"physical_filter": "Sample-R 1", "visit": "1"}),
        ("group='it, and that' AND visit=-1", {"group": "it, and that", "visit": "-1"}),
        ("skymap=hsc_rings_v1,visit=1,visit=1", {"skymap": "hsc_rings_v1", "visit": "1"}),
        ("band=and AND visit=1", {"band": "and", "visit": "1"}),
    ],
)
def test_data_ids_are_understood(text: str, wanted: dict[str, str]) -> None:
    assert data_ids.parse(text) == wanted
    assert data_ids.parse(data_ids.text(wanted)) == wanted


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "visit", "visit=", "=1", "visit=1 AND", "visit=1,", "AND visit=1", "visit=1 detector=2"),
        *("visit>1", "visit=1 OR detector=2", "visit in (1, 2)", "visit='1", "visit=1 andx=2"),
        "visit=1,visit=2",
    ],
)
def test_other_texts_are_no_data_ids(text: str) -> None:
    with pytest.raises(aggregator.RefusedError, match=r"not understood|two values"):
        data_ids.parse(text)


def test_an_index_can_be_written_to_any_stream(graph: provenance_graph.ProvenanceGraph) -> None:
    stream = io.BytesIO()
    quantum_index.build(graph, stream)
    assert stream.getvalue().startswith(b"QGINDEX1")

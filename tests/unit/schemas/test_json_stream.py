import itertools
import json
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
from aggregator.schemas.graphs import addresses, json_stream
from hypothesis import given
from hypothesis import strategies as st

UUIDS = [uuid.UUID(int=i * 0x1234567_89ABCDEF_FEDCBA98_76543211 % 2**128) for i in range(1, 7)]
EDGES = [[str(UUIDS[a]), str(UUIDS[b])] for a, b in [(0, 1), (0, 2), (4, 5)]]
QUANTA = {
    "a": [{"quantum_id": str(u), "data_coordinate": ["in]str]ument", 3, '["edges": [[']} for u in UUIDS[:2]],
    "edges": [{"quantum_id": str(u), "data_coordinate": []} for u in UUIDS[2:]],
}


def ends(chunks: Iterable[bytes], integers: bool = False) -> list[list[Any]]:
    found: list[Any] = []
    for piece in json_stream.edge_pairs(iter(chunks), integers):
        if integers:
            found.extend(piece.tolist())
        else:
            found.extend(str(uuid.UUID(bytes=addresses.id_at(piece, i))) for i in range(len(piece)))
    return [found[i : i + 2] for i in range(0, len(found), 2)]


def cuts(data: bytes) -> Iterable[list[bytes]]:
    """Yield a document in one piece, in single bytes, and cut once at every place."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for i in range(1, len(data)):
        yield [data[:i], data[i:]]


FORMS = {
    "compact": {"separators": (",", ":")},
    "spaced": {"separators": (", ", ": ")},
    "indented": {"indent": 2},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("edges", [EDGES, EDGES[:1], []], ids=["three", "one", "none"])
@pytest.mark.parametrize("edges_first", [False, True])
@pytest.mark.parametrize("quanta", [QUANTA, {}, {"edges": []}, dict(reversed(QUANTA.items()))])
def test_edges_are_found_however_the_document_is_cut(
    form: str, edges: list[list[str]], edges_first: bool, quanta: dict[str, Any]
) -> None:
    parts = {"quanta": quanta, "edges": edges}
    if edges_first:
        parts = dict(reversed(parts.items()))
    data = json.dumps(parts, **FORMS[form]).encode()
    for chunks in cuts(data):
        assert ends(chunks) == edges, chunks


def test_edges_of_version_0_are_integers() -> None:
    edges = [[0, 10], [10, 211], [3, 4]]
    quanta = {"edges": [{"quantum_index": i, "data_coordinate": ["x", 5]} for i in range(3)]}
    for form in FORMS.values():
        data = json.dumps({"quanta": quanta, "edges": edges}, **form).encode()
        for chunks in cuts(data):
            assert ends(chunks, integers=True) == edges


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b'{"quanta":{}}',
        b'{"quanta":{},"edges":[',
        b'{"quanta":{},"edges":[["%s","%s"]' % (EDGES[0][0].encode(), EDGES[0][1].encode()),
        json.dumps({"quanta": {}, "edges": [EDGES[0][:1]]}).encode(),
        json.dumps({"quanta": {}, "edges": [[*EDGES[0], EDGES[1][0]], EDGES[1][1:]]}).encode(),
        json.dumps({"quanta": {}, "edges": [["no", "ids"]]}).encode(),
        json.dumps({"quanta": {}, "edges": [EDGES[0], [3, 4]]}).encode(),
        json.dumps({"quanta": {"edges": []}}).encode(),
    ],
)
def test_a_damaged_thin_graph_is_refused(document: bytes) -> None:
    for chunks in cuts(document):
        with pytest.raises(ValueError, match="edge"):
            ends(chunks)


ROWS = {
    "instrument": [["Cam", 1, None, "lsst.Cam"]],
    "empty": [],
    "visit": [["C[a]m", 102, 'quo"te', "back\\", 1.5e-3, True, None, "70171c", [1772372520, 17723725500]]],
    "day_obs": [["Cam", 1, [1, 2]], ["Cam", 2, None], ["Cam", 3, [4, 5]]],
    "nothing": [],
    'ke]y"[': [["{", "}", "],[", '["', "ü", '\\"]', "a:[", [0, 1]]],
}


def rows(chunks: Iterable[bytes]) -> list[tuple[str, list[Any]]]:
    return [(key, json.loads(row)) for key, row in json_stream.table_rows(iter(chunks))]


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_found_however_the_document_is_cut(form: str) -> None:
    data = json.dumps(ROWS, ensure_ascii=False, **FORMS[form]).encode()
    expected = [(key, row) for key, table in ROWS.items() for row in table]
    for chunks in cuts(data):
        assert rows(chunks) == expected, chunks


cells = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())


@given(
    st.dictionaries(
        st.text(), st.lists(st.lists(st.one_of(cells, st.lists(st.integers(), max_size=2)), min_size=1))
    ),
    st.lists(st.integers(1, 20), min_size=1),
    st.sampled_from(sorted(FORMS)),
    st.booleans(),
)
def test_any_rows_are_found(tables: dict[str, Any], steps: list[int], form: str, ascii_only: bool) -> None:
    data = json.dumps(tables, ensure_ascii=ascii_only, **FORMS[form]).encode("utf-8", "surrogatepass")
    chunks, begin = [], 0
    for step in itertools.cycle(steps):
        if begin >= len(data):
            break
        chunks.append(data[begin : begin + step])
        begin += step
    assert rows(chunks) == [(key, row) for key, table in tables.items() for row in table]


@pytest.mark.parametrize(
    "document",
    [
        b'{"visit":[["Cam",102',
        b'{"visit":[["Cam",[1,2]',
        b'{"visit":[["C[a]m',
        b'{"visit":[{"id":102}]}',
        b'{"visit":[[[[1,2]]]]}',
        b'{"visit":7}',
        b"visit",
    ],
)
def test_damaged_rows_are_refused(document: bytes) -> None:
    for chunks in cuts(document):
        with pytest.raises(ValueError, match="unexpected text"):
            rows(chunks)

import pathlib
import uuid

import numpy as np
import pytest
from aggregator.schemas.graphs import address_file, addresses, container
from aggregator.storage import errors
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import address_tables, graph_files

SIZES = [3, 4, 8]
IDS = st.one_of(
    st.binary(min_size=16, max_size=16),
    # Zero bytes at the end, which numpy takes off elements, and neighbours.
    st.integers(0, 255).map(lambda i: (i << 120).to_bytes(16, "big")),
    st.integers(0, 300).map(lambda i: i.to_bytes(16, "big")),
)


def as_ids(ids: list[bytes]) -> addresses.Ids:
    return np.frombuffer(b"".join(ids), dtype=addresses.ID_TYPE)


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, list[tuple[bytes, list[tuple[int, int]]]]]:
    int_size, columns = draw(st.sampled_from(SIZES)), draw(st.sampled_from([1, 4]))
    ids = sorted(draw(st.sets(IDS, max_size=30)))
    number = st.integers(0, 2 ** (8 * int_size - 1) - 1)
    pair = st.tuples(number, number)
    return int_size, columns, [(i, draw(st.lists(pair, min_size=columns, max_size=columns))) for i in ids]


@given(tables())
def test_rows_survive_a_round_trip(table: tuple[int, int, list[tuple[bytes, list[tuple[int, int]]]]]) -> None:
    int_size, columns, rows = table
    ids = as_ids([node for node, _ in rows])
    flat = [[value for pair in pairs for value in pair] for _, pairs in rows]
    places = np.array(flat, dtype=np.int64).reshape(len(rows), 2 * columns)
    data = addresses.encode_header(int_size, len(rows), columns)
    half = len(rows) // 2
    data += addresses.encode_rows(ids[:half], 0, places[:half], int_size)
    data += addresses.encode_rows(ids[half:], half, places[half:], int_size)
    plain = [(node, i, pairs) for i, (node, pairs) in enumerate(rows)]
    assert data == graph_files.address_file(plain, int_size, columns)

    parsed = address_tables.read(data, "nodes.addr", columns, int_size)
    assert parsed.int_size == int_size
    assert [addresses.id_at(parsed.ids, i) for i in range(len(rows))] == [node for node, _ in rows]
    assert parsed.index.tolist() == list(range(len(rows)))
    assert parsed.offsets.tolist() == [[offset for offset, _ in pairs] for _, pairs in rows]
    assert parsed.sizes.tolist() == [[size for _, size in pairs] for _, pairs in rows]


def test_numbers_that_do_not_fit_are_refused() -> None:
    places = np.array([[1 << 24, 5]], dtype=np.int64)
    with pytest.raises(ValueError, match="int_size"):
        addresses.encode_rows(as_ids([bytes(16)]), 0, places, 3)
    addresses.encode_rows(as_ids([bytes(16)]), 0, places - 1, 3)


def simple(ids: list[bytes], int_size: int = 8, columns: int = 1) -> bytes:
    return graph_files.address_file([(node, 0, [(1, 2)] * columns) for node in ids], int_size, columns)


def node(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not an address file"),
        (b"\0" * 17, "not an address file"),
        (b"\x09" + bytes(18), "not an address file"),
        (simple([node(1)])[:10], "not an address file"),
        (simple([node(1)], columns=4), "4 addresses"),
        (simple([node(1), node(2)])[:-1], "do not make 2 rows"),
        (simple([node(1), node(2)]) + b"\0", "do not make 2 rows"),
        (simple([node(2), node(1)]), "not sorted"),
        (simple([node(1), node(1)]), "not unique"),
    ],
)
def test_damage_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(errors.FormatError, match=problem) as caught:
        address_tables.read(data, "quanta.addr", 1, 8)
    assert (caught.value.path, caught.value.member) == ("graph.qg", "quanta.addr")


def test_ids_are_parsed_and_written() -> None:
    some = [uuid.UUID(int=0), uuid.uuid4(), uuid.UUID(int=255 << 120)]
    ids = addresses.parse_ids([str(some[0]), some[1].hex, str(some[2]).upper()])
    assert [addresses.id_at(ids, i) for i in range(3)] == [u.bytes for u in some]
    assert [addresses.dashed(d) for d in addresses.hex_digits(ids)] == [str(u) for u in some]
    assert len(addresses.parse_ids([])) == 0


@pytest.mark.parametrize(
    "texts",
    [["0" * 31], ["0" * 33], ["g" * 32], [""], ["0" * 31, "0" * 33], [str(uuid.UUID(int=5))[:-1] + "é"]],
)
def test_a_text_that_is_no_uuid_is_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        addresses.parse_ids(texts)


@pytest.mark.parametrize("int_size", SIZES)
@pytest.mark.parametrize("page_rows", [1, 2, 3, 7, 100])
def test_nodes_are_found_without_loading_the_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, int_size: int, page_rows: int
) -> None:
    ids = sorted(
        {node(i) for i in range(10, 20)} | {uuid.uuid5(uuid.NAMESPACE_URL, str(i)).bytes for i in range(30)}
    )
    rows = {n: [(4 * i, 1), (4 * i + 1, 2), (0, 0), (4 * i + 3, 4)] for i, n in enumerate(ids)}
    data = graph_files.address_file([(n, 0, pairs) for n, pairs in rows.items()], int_size, 4)
    path = graph_files.pack(tmp_path / "graph.qg", {"nodes.addr": data})
    monkeypatch.setattr(address_file, "_PAGE_SIZE", page_rows * addresses.row_size(int_size, 4))
    with container.Container(str(path)) as opened:
        table = address_file.AddressFile(opened, "nodes.addr", 4, int_size)
        assert {n: table.find(n) for n in ids} == rows
        for absent in (node(0), node(9), node(20), node(1 << 100), b"\xff" * 16):
            assert table.find(absent) is None


def test_an_empty_address_file_has_no_nodes(tmp_path: pathlib.Path) -> None:
    path = graph_files.pack(tmp_path / "graph.qg", {"nodes.addr": simple([], columns=4)})
    with container.Container(str(path)) as opened:
        assert address_file.AddressFile(opened, "nodes.addr", 4, 8).find(node(1)) is None


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "missing"),
        (b"", "not an address file"),
        (simple([node(1)], columns=1), "1 addresses"),
        (simple([node(1)], 4, 4), "int_size"),
        (simple([node(1)], 8, 4)[:-1], "do not make 1 rows"),
        (simple([node(2), node(1)], 8, 4), "not sorted"),
    ],
)
def test_damage_is_refused_in_look_ups(tmp_path: pathlib.Path, data: bytes | None, problem: str) -> None:
    path = graph_files.pack(tmp_path / "graph.qg", {"nodes.addr": data})
    with (
        container.Container(str(path)) as opened,
        pytest.raises(errors.FormatError, match=problem) as caught,
    ):
        address_file.AddressFile(opened, "nodes.addr", 4, 8).find(node(2))
    assert caught.value.member == "nodes.addr"

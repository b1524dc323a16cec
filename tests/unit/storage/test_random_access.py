"""Files that are read here and there."""

from __future__ import annotations

import os
import pathlib
import random
import zipfile

import numpy as np
import pytest
from aggregator.schemas.graphs import addresses, nodes, provenance_graph
from aggregator.storage import errors, local_files, local_store, opening, random_access, stores, testing

from tests.helpers import address_tables, graph_files


class CountingStore(testing.MemoryStore):
    """Counts what is read."""

    n_requests = n_bytes = 0

    def read_range(self, key: str, start: int, length: int, tag: bytes | None = None) -> bytes:
        data = super().read_range(key, start, length, tag)
        self.n_requests += 1
        self.n_bytes += len(data)
        return data


@pytest.mark.parametrize("size", [0, 1, 5000, 8192, 8193, 90_000, 3_000_000])
def test_it_reads_like_a_local_file(tmp_path: pathlib.Path, size: int) -> None:
    path, data = tmp_path / "file", os.urandom(size)
    path.write_bytes(data)
    chance = random.Random(size)
    store = testing.MemoryStore()
    store.write("file", data, overwrite=False)
    with random_access.LocalFile(str(path)) as local, random_access.StoredFile(store, "file") as stored:
        assert local.size == stored.size == size
        for _ in range(200):
            begin = chance.choice([0, size, max(0, size - 10), chance.randrange(size + 1)])
            length = chance.choice([0, 1, 100, 8192, 20_000, 400_000])
            assert local.read(begin, length) == stored.read(begin, length) == data[begin : begin + length]


def test_what_was_fetched_is_kept() -> None:
    store = CountingStore()
    store.write("file", os.urandom(1 << 20), overwrite=False)
    file = random_access.StoredFile(store, "file")
    file.read((1 << 20) - 22, 22)
    # The end serves what is read before it as well.
    file.read((1 << 20) - 65_558, 65_000)
    assert store.n_requests == 1
    file.read(0, 30)
    file.read(100, 1000)
    assert store.n_requests == 2
    assert store.n_bytes < 100_000


def test_memory_is_bounded() -> None:
    store = testing.MemoryStore()
    store.write("file", bytes(16 << 20), overwrite=False)
    file = random_access.StoredFile(store, "file")
    for begin in range(0, 16 << 20, 100_000):
        file.read(begin, 100_000)
    assert sum(map(len, file._kept.values())) <= 4 << 20


def test_another_object_in_its_place() -> None:
    store = testing.MemoryStore()
    store.write("file", b"x" * 500_000, overwrite=False)
    file = random_access.StoredFile(store, "file")
    assert file.read(0, 1) == b"x"
    store.write("file", b"y" * 500_000, overwrite=True)
    with pytest.raises(errors.MachineError, match="replaced"):
        file.read(100_000, 1)
    del store.objects["file"]
    with pytest.raises(errors.MachineError, match="replaced"):
        file.read(200_000, 300_000)


def test_access_that_is_denied_later() -> None:
    def deny(method: str, key: str) -> None:
        if method == "read_range":
            raise local_files.UnusableError("access is denied")

    store = testing.MemoryStore(trouble=deny)
    store.write("file", b"x", overwrite=False)
    with pytest.raises(errors.MachineError, match="memory://store/file: access is denied"):
        random_access.StoredFile(store, "file").read(0, 1)


def test_a_body_that_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    store = testing.MemoryStore()
    store.write("file", b"x" * 100, overwrite=False)
    file = random_access.StoredFile(store, "file")
    monkeypatch.setattr(testing.MemoryStore, "read_range", lambda *_: b"x" * 99)
    with pytest.raises(errors.MachineError, match="99 bytes instead of 100"):
        file.read(0, 100)


def test_a_missing_object() -> None:
    with pytest.raises(FileNotFoundError):
        random_access.StoredFile(testing.MemoryStore(), "missing")


class CountingFiles(local_store.LocalStore):
    """Counts what is read of files."""

    counts: list[int] = []  # noqa: RUF012

    def read_range(self, key: str, start: int, length: int, tag: bytes | None = None) -> bytes:
        data = super().read_range(key, start, length, tag)
        self.counts.append(len(data))
        return data


def test_little_is_fetched_of_a_large_graph(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 500 MB, 35 of them addresses, a quantum and everything about it takes less than 1 MB."""
    root = graph_files.unpack_sample(tmp_path)
    members = graph_files.members(root / "provenance.qg")
    path = tmp_path / "large.qg"
    n_bytes = 470_000_000
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            with archive.open(name, "w", force_zip64=True) as stream:
                stream.write(_with_more_rows(data) if name == nodes.ADDRESSES else data)
        # A hole in the file, which takes no room.
        archive.comment = b"read since then"
        assert archive.fp is not None
        archive.fp.seek(n_bytes, os.SEEK_CUR)
        archive.start_dir = archive.fp.tell()
    with provenance_graph.ProvenanceGraph(str(path)) as local:
        quanta = [quantum.quantum_id for quantum in local.quanta()][:3]
        expected = [(local.quantum(q), local.logs(q), local.metadata(q)) for q in quanta]

    def locate(location: str) -> tuple[stores.Store, str]:
        return CountingFiles(str(tmp_path)), location.rpartition("/")[2]

    monkeypatch.setattr(opening, "locate", locate)
    with provenance_graph.ProvenanceGraph("s3://bucket/large.qg") as remote:
        assert [(remote.quantum(q), remote.logs(q), remote.metadata(q)) for q in quanta] == expected
    assert path.stat().st_size > 500_000_000
    assert sum(CountingFiles.counts) < 1_000_000
    assert len(CountingFiles.counts) < 60


def _with_more_rows(data: bytes) -> bytes:
    table = address_tables.read(data, "", len(nodes.COMPONENTS), data[0])
    n_more = 400_000
    ids = np.unique(np.concatenate([table.ids, np.frombuffer(os.urandom(16 * n_more), addresses.ID_TYPE)]))
    places = np.zeros((len(ids), 2 * len(nodes.COMPONENTS)), dtype=np.int64)
    rows = np.searchsorted(ids, table.ids)
    places[rows, ::2], places[rows, 1::2] = table.offsets, table.sizes
    header = addresses.encode_header(table.int_size, len(ids), len(nodes.COMPONENTS))
    return header + addresses.encode_rows(ids, 0, places, table.int_size)

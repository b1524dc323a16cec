"""However large the logs of a shard are, no process holds them all."""

import itertools
import os
import pathlib
import random
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from aggregator.schemas.checkpoints import digest
from aggregator.schemas.graphs import blocks
from aggregator.storage import errors, spools
from aggregator.workers.roles.scanning import shard_builder
from hypothesis import given
from hypothesis import strategies as st

N_QUANTA, LOG_SIZE = 250, 200_000
IDENTITY = digest.Identity("graph", "settings", "dictionary")


def log(row: int) -> bytes:
    return random.Random(row).randbytes(LOG_SIZE + row)


def peak(work: Callable[[], object]) -> int:
    """Return the most memory that something needs."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def build(path: pathlib.Path) -> None:
    with shard_builder.ShardBuilder(blocks.Codec(b"", 3), 8, str(path)) as builder:
        for row in range(N_QUANTA):
            quantum_id = f"{row:032x}"
            builder.add_quantum(quantum_id, 0, 1, (b"quantum%d" % row, log(row), b""))
        head, sections = builder.encode(IDENTITY, 1)
        assert [p for p in path.parent.iterdir() if p != path] == []
        digest.write(str(path), head, sections)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("large") / "shard-000001.digest"
    build(path)
    return path


def test_a_large_digest_is_made_and_read_in_pieces(large: pathlib.Path) -> None:
    with digest.Digest(str(large), IDENTITY, 1) as opened:
        sizes = opened.column("quantum.log_size")
        assert sizes.tolist() == [LOG_SIZE + row for row in range(N_QUANTA)]
        begins = blocks.offsets(sizes).tolist()
        for row in (0, 1, 77, N_QUANTA - 1):
            assert opened.block("blocks.logs", begins[row], LOG_SIZE + row) == log(row)
        assert b"".join(opened.blocks("blocks.quanta")) == b"".join(b"quantum%d" % r for r in range(N_QUANTA))
        assert b"".join(opened.blocks("blocks.logs")) == b"".join(map(log, range(N_QUANTA)))
        assert b"".join(opened.blocks("blocks.metadata")) == b""
    assert os.listdir(large.parent) == [large.name]


def test_memory_does_not_grow_with_the_logs(large: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert os.path.getsize(large) > 50_000_000
    assert peak(lambda: build(tmp_path / large.name)) < 25_000_000
    with digest.Digest(str(large), IDENTITY, 1) as opened:
        assert peak(opened.verify) < 10_000_000
        assert peak(lambda: sum(map(len, opened.blocks("blocks.logs")))) < 10_000_000


def test_damage_in_any_piece_is_noticed(large: pathlib.Path, tmp_path: pathlib.Path) -> None:
    damaged = tmp_path / large.name
    damaged.write_bytes(large.read_bytes())
    with damaged.open("r+b") as stream:
        stream.seek(30_000_000)
        stream.write(bytes([stream.read(1)[0] ^ 1]))
    with digest.Digest(str(damaged), IDENTITY, 1) as opened:
        for check in (opened.verify, lambda: opened.verify_blocks("blocks.logs")):
            with pytest.raises(errors.FormatError, match="checksum"):
                check()
    os.truncate(damaged, 40_000_000)
    with (
        digest.Digest(str(damaged), IDENTITY, 1) as opened,
        pytest.raises(errors.FormatError, match="checksum"),
    ):
        opened.verify()


def test_no_room_for_a_spool_is_told_with_its_path(tmp_path: pathlib.Path) -> None:
    spool = spools.Spool(str(tmp_path / "missing" / "digest"))
    spool.append(bytes(1_000_000))
    with pytest.raises(errors.AggregatorError, match="missing/digest: can't write it"):
        spool.append(bytes(20_000_000))


@given(st.lists(st.integers(0, 6_000_000), max_size=30))
def test_groups_are_all_blocks_in_ranges_of_some_megabytes(sizes: list[int]) -> None:
    groups = blocks.groups(np.array(sizes, dtype=np.int64))
    assert [row for first, end in groups for row in range(first, end)] == list(range(len(sizes)))
    assert all(end == first for (_, end), (first, _) in itertools.pairwise(groups))
    assert all(end > first and sum(sizes[first : end - 1]) <= 1 << 22 for first, end in groups)

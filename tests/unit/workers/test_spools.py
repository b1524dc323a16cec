from __future__ import annotations

import pathlib

import pytest
from aggregator.schemas.checkpoints import digest
from aggregator.storage import spools


@pytest.mark.parametrize("n_pieces", [0, 1, 5, 40])
def test_content_is_the_same_in_memory_and_in_a_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, n_pieces: int
) -> None:
    monkeypatch.setattr(spools, "_MOST_IN_MEMORY", 1000)
    pieces = [bytes([number]) * (number * 7) for number in range(n_pieces)]
    spool = spools.Spool(str(tmp_path / "shard"))
    for piece in pieces:
        spool.append(piece)
    assert spool.finish() == digest.checksum(b"".join(pieces))
    assert spool.size == sum(map(len, pieces))
    assert b"".join(spool.content()) == b"".join(pieces)
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_memory_is_bounded(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spools, "_MOST_IN_MEMORY", 1000)
    spool = spools.Spool(str(tmp_path / "shard"))
    for _ in range(100):
        spool.append(bytes(100))
        assert len(spool._buffer) <= 1000
    spool.close()

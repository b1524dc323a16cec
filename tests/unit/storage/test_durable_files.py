"""Files appear complete or not at all, and under names that nobody else uses in the meantime."""

from __future__ import annotations

import os
import pathlib

import pytest
from aggregator.schemas.checkpoints import checkpoint
from aggregator.storage import durable_files, errors


@pytest.mark.ordering("W1")
def test_file_that_fails_leaves_the_older_one(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"older")

    def pieces() -> object:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(errors.AggregatorError, match="No space left"):
        durable_files.write_atomically(str(path), pieces())  # type: ignore[arg-type]
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.ordering("W2")
def test_temporary_names_are_not_shared(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "out.qg")
    names = {durable_files.temporary_name(path) for _ in range(100)}
    assert len(names) == 100
    assert {durable_files.final_name(name) for name in names} == {path}
    # Should two be the same all the same, the one that is there first is left alone.
    monkeypatch.setattr(durable_files.secrets, "token_hex", lambda n: "a" * 2 * n)
    other = pathlib.Path(durable_files.temporary_name(path))
    other.write_bytes(b"of another process")
    with pytest.raises(errors.AggregatorError, match="File exists"):
        durable_files.write_atomically(path, [b"ours"])
    assert other.read_bytes() == b"of another process"


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "x" * 240])
def test_name_that_leaves_no_room(tmp_path: pathlib.Path, name: str) -> None:
    durable_files.write_atomically(str(tmp_path / name), [b"content"])
    assert os.listdir(tmp_path) == [name]


def test_names_of_a_checkpoint() -> None:
    layout = checkpoint.Layout("/checkpoint")
    paths = [layout.lock, layout.ledger, layout.digest(7), layout.output_datasets(1234567)]
    for path in (*paths, layout.input_datasets(0), layout.unreadable):
        assert checkpoint.knows(os.path.basename(path))
        assert checkpoint.knows(os.path.basename(durable_files.temporary_name(path)))
    for name in ("thesis.tex", "predicted.qg", "ledger.txt", "ledger.1.tmp", "shard-1.digest", "lock"):
        assert not checkpoint.knows(name)


@pytest.mark.ordering("W1")
def test_rename_that_fails(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that is named is the one that was asked for; that nothing can be removed hides nothing."""

    def fail(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    monkeypatch.setattr(os, "rename", fail)
    monkeypatch.setattr(os, "unlink", fail)
    with pytest.raises(errors.AggregatorError, match=r"file: can't write it \(No space left"):
        durable_files.write_atomically(str(path), [b"content"])

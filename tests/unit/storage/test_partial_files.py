"""Files that a killed run has left outside of its checkpoint: they are removed, and nothing else."""

from __future__ import annotations

import os
import pathlib

import msgspec
import pytest
from aggregator.storage import partial_files


@pytest.fixture
def record(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "partial.jsonl"


def create(record: pathlib.Path, name: str = "out.qg") -> pathlib.Path:
    """Make a file and do not finish it."""
    with partial_files.create(str(record), str(record.with_name(name))) as stream:
        stream.write(b"half of it")
        return pathlib.Path(stream.name)


def entries(record: pathlib.Path) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in record.read_bytes().splitlines()]


def test_what_was_left_is_removed(record: pathlib.Path) -> None:
    paths = [create(record) for _ in range(2)]
    assert len(set(paths)) == 2
    assert [entry["inode"] != 0 for entry in entries(record)] == [False, True] * 2
    partial_files.remove(str(record))
    assert os.listdir(record.parent) == []
    partial_files.remove(str(record))


def test_a_file_that_was_not_noted_any_more_is_removed_if_it_is_empty(record: pathlib.Path) -> None:
    path = create(record)
    first = record.read_bytes().splitlines(keepends=True)[0]
    record.write_bytes(first)
    path.write_bytes(b"")
    partial_files.remove(str(record))
    assert os.listdir(record.parent) == []


@pytest.mark.parametrize("what", ["another file", "content", "directory", "link"])
def test_what_is_somebody_elses_is_left_and_told(
    record: pathlib.Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    path = create(record)
    if what == "content":
        # Only its name was noted.
        record.write_bytes(record.read_bytes().splitlines(keepends=True)[0])
    else:
        path.rename(record.with_name("away"))
    if what == "another file":
        path.touch()
    elif what == "directory":
        path.mkdir()
    elif what == "link":
        path.symlink_to("away")
    partial_files.remove(str(record))
    assert os.path.lexists(path)
    assert f"{path}: is not removed, as it is not the file that a run has left there" in caplog.text
    # It is told again, until somebody has looked after it.
    assert record.exists()


def test_only_temporary_names_are_removed(record: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    thesis = record.with_name("thesis")
    thesis.write_text("x")
    status = thesis.stat()
    entry = {"path": msgspec.to_builtins(str(thesis).encode()), "device": status.st_dev}
    record.write_bytes(msgspec.json.encode({**entry, "inode": status.st_ino}) + b"\n")
    partial_files.remove(str(record))
    assert thesis.exists()
    assert "is not removed" in caplog.text


def test_lines_that_are_cut_off_tell_of_nothing(record: pathlib.Path) -> None:
    path = create(record)
    with record.open("ab") as stream:
        stream.write(b'{"path":"\xff"}\n[]\n{"path":"L3')
    partial_files.remove(str(record))
    assert not path.exists()
    assert not record.exists()


def test_what_cannot_be_removed_is_told(
    record: pathlib.Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = create(record)

    def refuse(name: str) -> None:
        raise PermissionError(13, "Permission denied", name)

    with monkeypatch.context() as patch:
        patch.setattr(partial_files.os, "unlink", refuse)
        partial_files.remove(str(record))
    assert f"{path}: can't remove what a run has left (Permission denied)" in caplog.text
    assert record.exists()
    partial_files.remove(str(record))
    assert os.listdir(record.parent) == []


def test_nothing_is_left_if_it_cannot_be_noted(record: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = partial_files._append, []

    def append(name: str, entry: partial_files._Entry) -> None:
        calls.append(entry)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(name, entry)

    monkeypatch.setattr(partial_files, "_append", append)
    with pytest.raises(OSError, match="No space left"):
        partial_files.create(str(record), str(record.with_name("out.qg")))
    assert os.listdir(record.parent) == [record.name]

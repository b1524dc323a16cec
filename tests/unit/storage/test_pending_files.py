"""Files that get their names together, or not at all."""

from __future__ import annotations

import os
import pathlib

import pytest
from aggregator.storage import errors, pending_files


def pending(path: pathlib.Path, *, replaces: bool = False) -> pending_files.PendingFile:
    made = pending_files.PendingFile(str(path), replaces=replaces, look=lambda: None)
    made.write([b"new"])
    return made


def names(directory: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_nothing_has_its_name_before_the_commit(tmp_path: pathlib.Path) -> None:
    made = pending(tmp_path / "a" / "b" / "file")
    assert not (tmp_path / "a/b/file").exists()
    made.commit()
    made.close()
    assert (tmp_path / "a/b/file").read_bytes() == b"new"
    assert names(tmp_path) == ["a", "a/b", "a/b/file"]


@pytest.mark.parametrize("commits", [False, True])
def test_rollback_leaves_nothing(tmp_path: pathlib.Path, commits: bool) -> None:
    made = pending(tmp_path / "a" / "b" / "file")
    if commits:
        made.commit()
    made.rollback()
    assert names(tmp_path) == []


def test_rollback_keeps_directories_that_others_use(tmp_path: pathlib.Path) -> None:
    made = pending(tmp_path / "a" / "file")
    (tmp_path / "a" / "other").touch()
    made.rollback()
    assert names(tmp_path) == ["a", "a/other"]


def test_what_is_there_is_not_replaced(tmp_path: pathlib.Path) -> None:
    made = pending(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(errors.RefusedError, match="is there already"):
        made.commit()
    made.rollback()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.ordering("P5")
@pytest.mark.parametrize("links", [True, False])
def test_what_was_replaced_comes_back(
    tmp_path: pathlib.Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "no links here")

        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "file").write_bytes(b"old")
    inode = (tmp_path / "file").stat().st_ino
    renames: list[str] = []
    rename = os.rename

    def seen(old: str, new: str) -> None:
        """Note what goes away from the place: nothing, at any time."""
        renames.append(old)
        rename(old, new)

    monkeypatch.setattr(os, "rename", seen)
    made = pending(tmp_path / "file", replaces=True)
    made.commit()
    assert (tmp_path / "file").read_bytes() == b"new"
    made.rollback()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert not links or (tmp_path / "file").stat().st_ino == inode
    assert str(tmp_path / "file") not in renames
    assert names(tmp_path) == ["file"]


def test_nothing_of_what_was_replaced_stays(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    made = pending(tmp_path / "file", replaces=True)
    made.commit()
    made.close()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == ["file"]
    made.rollback()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_rollback_leaves_what_another_process_has_put_there_since(tmp_path: pathlib.Path) -> None:
    made = pending(tmp_path / "file")
    made.commit()
    (tmp_path / "other").write_bytes(b"other")
    os.rename(tmp_path / "other", tmp_path / "file")
    made.rollback()
    assert (tmp_path / "file").read_bytes() == b"other"


def test_two_write_the_same(tmp_path: pathlib.Path) -> None:
    first, second = pending(tmp_path / "a" / "file"), pending(tmp_path / "a" / "file")
    first.commit()
    with pytest.raises(errors.RefusedError):
        second.commit()
    second.rollback()
    first.close()
    assert names(tmp_path) == ["a", "a/file"]


def test_no_room(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    made = pending_files.PendingFile(str(tmp_path / "file" / "below"), replaces=False, look=lambda: None)
    with pytest.raises(errors.AggregatorError, match="can't write it"):
        made.write([b"new"])
    made.rollback()
    assert names(tmp_path) == ["file"]


def test_what_killed_processes_have_left_is_removed(tmp_path: pathlib.Path) -> None:
    """What somebody is at stays, and so does what has other names."""
    for name in ("file.0123456789ab.pending", "file.0123456789ab.tmp", "file.pending"):
        (tmp_path / name).write_bytes(b"left")
    made = pending(tmp_path / "file")
    before = names(tmp_path)
    pending_files.remove_abandoned(str(tmp_path))
    assert set(before) - set(names(tmp_path)) == {"file.0123456789ab.pending"}
    made.commit()
    made.close()
    assert names(tmp_path) == ["file", "file.0123456789ab.tmp", "file.pending"]
    pending_files.remove_abandoned(str(tmp_path / "none"))

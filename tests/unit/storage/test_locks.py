"""Locks of files: whose they are, what takes their place, and what is left when somebody moves them."""

from __future__ import annotations

import errno
import fcntl
import os
import pathlib
from typing import Any

import pytest
from aggregator.storage import errors, leases, locks, mounts


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "lock"
    path.touch()
    return path


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.0)


def take(path: pathlib.Path) -> locks.Lock:
    return locks.take(str(path), os.open(path, os.O_RDWR), "Wait for it.")


def failing(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(locks.fcntl, name, fail)


def n_open() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_who_holds_a_lock_is_told(path: pathlib.Path) -> None:
    assert locks.holder(str(path)) == ""
    with take(path) as held:
        # It has not said so yet.
        assert locks.holder(str(path)) == "another process"
        held.sign()
        assert f"process {os.getpid()} on " in locks.holder(str(path))
        before = n_open()
        with pytest.raises(errors.InUseError, match=rf"in use by process {os.getpid()} on .*Wait for it\."):
            take(path)
        assert n_open() == before
    assert locks.holder(str(path)) == ""
    assert path.read_bytes() == b""


@pytest.mark.parametrize("content", [b"\xff", b"[]", b'{"pid":"x"}'])
def test_a_holder_that_has_written_something_else_is_somebody(path: pathlib.Path, content: bytes) -> None:
    with take(path):
        path.write_bytes(content)
        assert locks.holder(str(path)) == "another process"


def test_nobody_holds_what_cannot_be_opened_or_locked(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert locks.holder(str(path.with_name("missing"))) == ""
    failing(monkeypatch, "flock", errno.ENOLCK)
    assert locks.holder(str(path)) == ""


def test_a_file_that_cannot_be_locked_is_no_missing_feature(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "flock", errno.EIO)
    before = n_open()
    with pytest.raises(errors.AggregatorError, match=r"can't lock it \(Input/output error\)"):
        take(path)
    assert n_open() == before
    assert os.listdir(path.parent) == ["lock"]


def test_a_lease_that_cannot_be_written_is_an_error(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "flock", errno.ENOSYS)

    def refuse(*_: Any) -> leases.Lease:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(leases, "take", refuse)
    with pytest.raises(errors.AggregatorError, match=r"can't write a lease beside it \(Permission denied\)"):
        take(path)


@pytest.mark.parametrize("option", ["nolock", "local_lock=all", "local_lock=flock", "localflock"])
def test_a_lease_where_other_hosts_do_not_see_locks(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, option: str
) -> None:
    monkeypatch.setattr(mounts, "_options", lambda _: {"rw", option})
    with take(path) as held:
        assert held.claim is not None
        assert pathlib.Path(held.claim.path).exists()
        assert f"process {os.getpid()} on " in locks.holder(str(path))
    assert "as it is mounted, other hosts do not see them" in caplog.text
    assert os.listdir(path.parent) == ["lock"]


@pytest.mark.parametrize(("option", "missing"), [("local_lock=posix", True), ("local_lock=flock", False)])
def test_locks_of_parts_of_files_are_another_matter(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, option: str, missing: bool
) -> None:
    monkeypatch.setattr(mounts, "_options", lambda _: {option})
    assert locks.has_record_locks(str(tmp_path)) != missing
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "there"), [(errno.ENOLCK, False), (errno.EOPNOTSUPP, False), (errno.EAGAIN, True)]
)
def test_whether_parts_can_be_locked_is_tried(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, code: int, there: bool
) -> None:
    assert locks.has_record_locks(str(tmp_path))
    assert locks.has_record_locks(str(tmp_path / "missing"))
    failing(monkeypatch, "lockf", code)
    assert locks.has_record_locks(str(tmp_path)) == there
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("what", ["removed", "replaced", "moved"])
def test_what_was_locked_has_to_stay_where_it_is(path: pathlib.Path, what: str) -> None:
    with take(path) as held:
        ownership = held.ownership(str(path))
        locks.check(ownership)
        path.rename(path.with_name("away"))
        if what == "removed":
            path.with_name("away").unlink()
        elif what == "replaced":
            path.touch()
        with pytest.raises(errors.AggregatorError, match="was moved or removed while this process"):
            locks.check(ownership)


def test_what_cannot_be_looked_at_is_not_taken_for_removed(path: pathlib.Path) -> None:
    with take(path) as held:
        ownership = held.ownership(str(path / "below a file"))
        with pytest.raises(errors.MachineError, match="Not a directory"):
            locks.check(ownership)


def test_a_lock_of_a_process_lasts_as_long_as_its_descriptor(path: pathlib.Path) -> None:
    held = take(path)
    copy = os.dup(held.descriptor)
    held.release()
    with open(path) as stream, pytest.raises(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(copy)
    take(path).release()


LINES = [
    "22 28 0:21 / /proc rw,relatime - proc proc rw",
    "31 28 {number} / / rw,relatime shared:1 - nfs4 server:/a rw,vers=4.2,local_lock={kind}",
    "32 28 7:77 / /other rw - nfs server:/b rw,nolock",
]


@pytest.mark.parametrize("kind", ["none", "flock", "posix", "all"])
def test_options_of_mounts(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    device = os.stat(tmp_path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    table = tmp_path / "mountinfo"
    table.write_text("\n".join(line.format(number=number, kind=kind) for line in LINES))
    monkeypatch.setattr(mounts, "_TABLE", str(table))
    assert mounts.has_local_locks(str(tmp_path)) == (kind in ("flock", "all"))
    assert mounts.has_local_record_locks(str(tmp_path)) == (kind in ("posix", "all"))


def test_mounts_that_are_not_told_have_no_options(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("short line\n" + LINES[2])
    for name in (str(table), str(tmp_path / "missing")):
        monkeypatch.setattr(mounts, "_TABLE", name)
        assert not mounts.has_local_locks(str(tmp_path))
        assert not mounts.has_local_record_locks(str(tmp_path / "missing"))

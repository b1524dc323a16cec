"""Leases: files that say who works on something, where a file system has no locks (docs/design.md, Locks).

A lease of `SUBJECT` is the file `SUBJECT.NNNNNN.lease`, which can be made by one process only. Its number is
the next after those that are there, and whoever made it removes those before; so one that was taken over is
gone. A shared lease is `SUBJECT.TOKEN.lease`: many may have one, as long as nobody has the other kind.
The holder renews it. On its own host it also leaves a trace in the kernel, which its workers inherit.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterable

import msgspec
from aggregator.storage import durable_files, errors, local_files, machine_trouble

RENEWAL_SECONDS = 20.0
"""Time between renewals."""

STALE_SECONDS = 300.0
"""A lease of another host that was not renewed for so long can be taken over."""

_ATTEMPTS = 20
_NAME = re.compile(r".*\.\d{6,}\.lease")
_NUMBERED = re.compile(r"\.\d{6,}\.lease")
_SHARED = re.compile(r"\.[0-9a-f]{16}x\.lease")


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lease or a lock."""

    host: str
    """Name of the host."""
    process: int
    """Process id there."""
    since: str
    """When it was taken, UTC."""
    system: str = ""
    """What the kernel is known by in which the trace is; empty if there is none."""
    token: str = ""
    """Name of the trace; no other lease has the same."""
    renewed: str = ""
    """When it was renewed, UTC, by the clock of the host."""

    @property
    def text(self) -> str:
        """Who it is, for people."""
        return f"process {self.process} on {self.host}, since {self.since}"


class Claim(msgspec.Struct, frozen=True):
    """What a process needs to see whether a lease is still held."""

    path: str
    """File of the lease."""
    token: str
    """Token of its holder."""


class Lease:
    """A lease that this process holds, and renews until it is released.

    Parameters
    ----------
    path
        Its file.

    Raises
    ------
    FileExistsError
        If somebody has it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._trace = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        token = secrets.token_hex(8)
        try:
            self._trace.bind(_address(token))
            self._holder = msgspec.structs.replace(this_process(), system=system(), token=token)
        except OSError:
            self._holder = msgspec.structs.replace(this_process(), token=token)
        self._is_released = threading.Event()
        with durable_files.writing(path):
            self._write()
        threading.Thread(target=self._renew, name="lease", daemon=True).start()

    @property
    def descriptor(self) -> int:
        """Descriptor of the trace: as long as a process has it, the lease is in use."""
        return self._trace.fileno()

    @property
    def claim(self) -> Claim:
        """What shows others whether it is still held."""
        return Claim(self.path, self._holder.token)

    def _write(self) -> None:
        # The time has the same length each time, so that readers never see a part.
        os.pwrite(self._fd, msgspec.json.encode(msgspec.structs.replace(self._holder, renewed=_now())), 0)

    def _renew(self) -> None:
        while not self._is_released.wait(RENEWAL_SECONDS):
            # What can't be renewed now may be renewed the next time.
            with contextlib.suppress(OSError):
                self._write()

    def release(self) -> None:
        """Give it back, unless somebody has taken it over."""
        self._is_released.set()
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self.path), os.fstat(self._fd)):
                os.unlink(self.path)
        os.close(self._fd)
        self._trace.close()


def take(subject: str, advice: str) -> Lease:
    """Take a lease, over from its holder if that is gone.

    Parameters
    ----------
    subject
        Path of what it is for; it need not exist.
    advice
        What to do if another process has it, for the message.

    Raises
    ------
    InUseError
        If its holder may live.
    FileNotFoundError
        If its directory is gone.
    OSError
        If the lease can't be written.
    """
    for _ in range(_ATTEMPTS):
        before = _paths(subject)
        judged = _states(before)
        if before and (living := _first_living(before, _file_time(subject))):
            raise errors.InUseError(f"{subject}: in use by {living}. {advice}")
        number = int(before[-1].split(".")[-2]) + 1 if before else 1
        try:
            lease = Lease(f"{subject}.{number:06d}.lease")
        except FileExistsError:
            continue
        if _states(path for path in _paths(subject) if path != lease.path) - judged:
            # Somebody has begun anew, or is back.
            lease.release()
            time.sleep(secrets.randbelow(100) / 1000)
            continue
        # Whoever shares it looks for this one after having made its own.
        shared = _paths(subject, _SHARED)
        if shared and (living := _first_living(shared, _file_time(subject))):
            lease.release()
            raise errors.InUseError(f"{subject}: in use by {living}. {advice}")
        for path in (*before, *shared):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        return lease
    raise errors.InUseError(f"{subject}: wanted by several processes at once. {advice}")


def take_shared(subject: str, advice: str) -> Lease:
    """Take a lease that others may share; parameters and errors are those of `take`."""
    lease = Lease(f"{subject}.{secrets.token_hex(8)}x.lease")
    try:
        there = _paths(subject)
        if there and (living := _first_living(there, _file_time(subject))):
            raise errors.InUseError(f"{subject}: in use by {living}. {advice}")
    except BaseException:
        lease.release()
        raise
    return lease


def holder(subject: str, *, shared: bool = False) -> str:
    """Return who holds a lease and may live; empty if nobody does. Nothing is changed.

    Parameters
    ----------
    subject
        Path of what it is for.
    shared
        Whether those count, too, who share it.
    """
    paths = _paths(subject) + (_paths(subject, _SHARED) if shared else [])
    return _first_living(paths, time.time()) if paths else ""


def check(claim: Claim | None) -> None:
    """Make sure that a lease is still held; nothing is no lease.

    Raises
    ------
    AggregatorError
        If somebody has taken it over.
    """
    if claim is None:
        return
    lease = _read(claim.path)
    if lease is None or lease.token != claim.token:
        others = _paths(claim.path.rsplit(".", 2)[0])
        lease = _read(others[-1]) if others else None
        who = f" by {lease.text}" if lease else ""
        raise errors.AggregatorError(
            f"{claim.path}: the lease was taken over{who}, because this process showed no sign of life for "
            f"{STALE_SECONDS:g} s. Wait until the other one has finished, and run the same command again."
        )


def is_lease(name: str) -> bool:
    """Return whether a file name is that of a lease."""
    return _NAME.fullmatch(name) is not None


def this_process() -> Holder:
    """Return this process as a holder, without a trace."""
    return Holder(socket.gethostname(), os.getpid(), _now())


def system() -> str:
    """Return what this kernel, and the part of it that traces are seen in, is known by; empty if unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return f"{stream.read().strip()} {os.readlink('/proc/self/ns/net')}"
    except OSError:
        return ""


def _now() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _address(token: str) -> str:
    return f"\0quantum-graph-aggregator-{token}"


def _paths(subject: str, ending: re.Pattern[str] = _NUMBERED) -> list[str]:
    """Return the leases of a subject, the one that counts last.

    Parameters
    ----------
    subject
        Path of what they are for.
    ending
        What follows it in their names.

    Raises
    ------
    MachineError
        If the machine is in trouble: then nobody knows.
    """
    directory, name = os.path.split(subject)
    try:
        names = machine_trouble.attempt(directory, os.listdir, directory or ".")
    except (FileNotFoundError, NotADirectoryError):
        return []
    leases = [each for each in names if each.startswith(name) and ending.fullmatch(each, len(name))]
    return [os.path.join(directory, each) for each in sorted(leases, key=lambda each: (len(each), each))]


def _states(paths: Iterable[str]) -> set[tuple[str, int, int]]:
    """Return what changes when a lease is made or renewed."""
    result = set()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path)
            result.add((path, status.st_ino, status.st_mtime_ns))
    return result


def _read(path: str) -> Holder | None:
    try:
        return msgspec.json.decode(local_files.read(path), type=Holder)
    except (OSError, local_files.UnusableError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _file_time(subject: str) -> float:
    """Return the time by the clock that the file system gives files: hosts may disagree."""
    path = durable_files.temporary_name(subject)
    with open(path, "xb") as stream:
        now = os.fstat(stream.fileno()).st_mtime
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return now


def _first_living(paths: list[str], now: float) -> str:
    """Return a holder that may live, of several: one that gives way to another is there for a moment, too."""
    return next(filter(None, (_living(path, now) for path in paths)), "")


def _living(path: str, now: float) -> str:
    """Return the holder of a lease if it may live."""
    lease = _read(path)
    if lease is not None and lease.system and lease.system == system():
        return lease.text if _has_trace(lease.token) else ""
    try:
        age = now - os.stat(path).st_mtime
    except FileNotFoundError:
        return ""
    if age > STALE_SECONDS:
        return ""
    who = lease.text if lease else "a process that has just come"
    return (
        f"{who}, renewed {max(0, age):.0f} s ago; it can be taken over when it is not renewed for "
        f"{STALE_SECONDS:g} s"
    )


def _has_trace(token: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_address(token))
        except ConnectionRefusedError:
            return False
    return True

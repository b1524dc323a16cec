"""The store whose objects are files below a directory: nobody else opens, looks at or removes these."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from aggregator.storage import (
    durable_files,
    errors,
    fault_points,
    in_flight,
    leases,
    local_files,
    local_transfers,
    locks,
    machine_trouble,
    stores,
)

_TAG = struct.Struct("<qqQQ")
"""Size, modification time in ns, device and inode of a file."""

_HALF = 1 << 63

_SETTLED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR)
"""Errors of removing a directory that has something in it, is gone, or is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class LocalStore(stores.Store):
    """A directory."""

    root: str
    """Its absolute path."""

    within: str = ""
    """A directory above it, below which it is made if it is missing; empty if it must not be made."""

    has_directories = True
    has_links = True
    deleted_at_once = 128

    def check_writeable(self) -> None:
        """Refuse a directory that is missing, or that nothing can be written in."""
        if not local_files.is_directory(self.root or "/") or not local_files.is_writeable(self.root or "/"):
            raise errors.RefusedError(f"{self.root}: can't write there; the output's directory must exist")

    def location(self, key: str) -> str:
        """Return the path of a file."""
        return f"{self.root}/{key}"

    def key_of(self, location: str) -> str | None:
        """Return the path of a file from the root on, if that is what its path begins with."""
        return os.path.relpath(location, self.root or "/") if location.startswith(f"{self.root}/") else None

    def read(self, key: str, admit: Callable[[int], None] | None = None) -> stores.Content | None:
        """Return the content of a regular file."""
        path = f"{self.root}/{key}"
        try:
            fd, status = local_files.open_with_status(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            if admit is not None:
                admit(status.st_size)
            return stores.Content(local_files.read_all(fd, status.st_size, path), mark_of(status))
        finally:
            os.close(fd)

    def read_range(self, key: str, start: int, length: int, tag: bytes | None = None) -> bytes:
        """Return bytes of a regular file."""
        path = f"{self.root}/{key}"
        try:
            fd, status = local_files.open_with_status(path)
        except NotADirectoryError as exc:
            raise FileNotFoundError(*exc.args) from exc
        try:
            if tag is not None and mark_of(status).tag != tag:
                raise stores.ChangedError(path)
            return machine_trouble.watched(path, durable_files.read_range, fd, start, length)
        except OSError as exc:
            raise local_files.UnusableError(f"can't read it ({exc.strerror})") from exc
        finally:
            os.close(fd)

    def mark(self, key: str) -> stores.Mark | None:
        """Return what is known of a file or directory, links followed."""
        return self._mark(key, set())

    def _mark(self, key: str, ways: set[str]) -> stores.Mark | None:
        status = local_files.status(f"{self.root}/{key}", ways)
        if status is None:
            return None
        if not stat.S_ISDIR(status.st_mode):
            local_files.check_regular(status)
        return mark_of(status)

    def is_same(self, before: bytes, now: bytes) -> bool:
        """Return whether size and time are the same, and the inode, if it is on the same device."""
        if before == now:
            return True
        if not len(before) == len(now) == _TAG.size:
            return False
        *content, device, _ = _TAG.unpack(before)
        *content_now, device_now, _ = _TAG.unpack(now)
        return content == content_now and device != device_now

    def list(self, prefix: str) -> Iterator[tuple[str, stores.Mark]]:
        """Yield the files of a tree; links are followed, but not to directories that they lie in."""
        yield from self._list(prefix, frozenset())

    def _list(self, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, stores.Mark]]:
        path = f"{self.root}/{prefix}"
        status = local_files.status(path)
        if status is None or (status.st_dev, status.st_ino) in above:
            return
        for name, is_directory in _entries(path):
            if is_directory:
                yield from self._list(prefix + name, above | {(status.st_dev, status.st_ino)})
            elif (mark := self.mark(prefix + name)) is not None:
                yield prefix + name, mark

    def directory_tags(self, directories: Collection[str]) -> dict[str, bytes]:
        """Return the tags of directories, which change when something comes, goes, or is put in its place.

        Those that are missing have none. Files that are written to where they are change nothing.
        """
        looks = dict(zip(directories, self.marks(directories), strict=True))
        return {key: look.tag if isinstance(look, stores.Mark) else b"" for key, look in looks.items()}

    def write(self, key: str, data: bytes, *, overwrite: bool, durable: bool = False) -> None:
        """Write a file under another name, and rename it; directories below the root are made if need be."""
        path = f"{self.root}/{key}"
        temporary = durable_files.temporary_name(path)
        made: list[str] = []
        try:
            stream = open(temporary, "xb", buffering=0)  # noqa: SIM115
        except FileNotFoundError:
            if self.root and not local_files.is_taken(self.within or self.root):
                # Its file system is gone: another directory must not take its place.
                raise
            made = _missing_directories(path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            stream = open(temporary, "xb", buffering=0)  # noqa: SIM115
        try:
            with stream:
                left = memoryview(data)
                while left:
                    left = left[stream.write(left) :]
                if durable:
                    os.fsync(stream.fileno())
            fault_points.reached("write")
            if overwrite:
                os.rename(temporary, path)
            else:
                durable_files.rename_new(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        for directory in (path, *made) if durable else ():
            durable_files.sync_directory(os.path.dirname(directory))

    def delete_many(self, keys: Iterable[str], unchanged_since: int | None = None) -> stores.Deletion:
        """Remove files, each right after the look at it."""
        done = stores.Deletion()
        for key in keys:
            path = f"{self.root}/{key}"
            try:
                if unchanged_since is not None:
                    status = os.stat(path)
                    if max(status.st_mtime_ns, status.st_ctime_ns) > unchanged_since:
                        done.changed.append(key)
                        continue
                os.unlink(path)
                done.n_deleted += 1
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as exc:
                done.failures.append(f"{path} ({exc.strerror})")
        fault_points.reached("unlinked")
        return done

    def remove_directories(self, directories: Iterable[str]) -> Sequence[str]:
        """Try to remove each; `prune` tells of those that can't be."""
        return [directory for directory in directories if _remove(f"{self.root}/{directory}")[0]]

    def prune(self, directory: str, tick: Callable[[], None]) -> stores.Pruning:
        """Remove a tree as far as it is empty, level by level."""
        levels, n_left, n_removed = [[f"{self.root}/{directory}"]], 0, 0
        stuck: list[str] = []
        with in_flight.Requests() as requests:
            while levels[-1]:
                tick()
                below = []
                for directories, n_there, refused in requests.map(_look, levels[-1]):
                    below += directories
                    n_left += n_there
                    stuck += refused
                levels.append(below)
            for level in reversed(levels):
                tick()
                for n_gone, refused in requests.map(_remove, level):
                    n_removed += n_gone
                    stuck += refused
        return stores.Pruning(n_removed, n_left, stuck)

    def identity(self) -> tuple[str, int, int]:
        """Return path, device and inode of the root."""
        return identity(self.root)

    def place(self, key: str) -> tuple[str, ...]:
        """Return the path without links."""
        return (os.path.realpath(f"{self.root}/{key}"),)

    def workplace(self, key: str, directory: str) -> str:
        """Return the path itself: what is beside it can be renamed."""
        return f"{self.root}/{key}"

    def publish(self, source: str, key: str, look: Callable[[], object]) -> None:
        """Rename a file."""
        path = f"{self.root}/{key}"
        look()
        os.rename(source, path)
        fault_points.reached("renamed")
        durable_files.sync_directory(os.path.dirname(path))

    def check_adoption(self, source: str, key: str, mode: str) -> None:
        """Refuse hard links to other file systems."""
        if mode != "hardlink":
            return
        target = existing = f"{self.root}/{key}"
        while not local_files.is_there(existing):
            existing = os.path.dirname(existing)
        if os.stat(existing).st_dev != os.stat(source).st_dev:
            raise errors.RefusedError(
                f"{source}: can't be hard-linked to {target}, which is on another file system."
            )

    def adopt(
        self, source: str, key: str, mode: str, tick: Callable[[], None], look: Callable[[], object]
    ) -> None:
        """Give a file its place by links, renaming or copying."""
        local_transfers.place(source, f"{self.root}/{key}", mode, tick, look)

    def origin(self, key: str) -> str | None:
        """Return where a file was moved from, where the file system keeps that."""
        return local_transfers.origin(f"{self.root}/{key}")

    def make_durable(self, key: str) -> None:
        """Sync a file, and the directories that lead to it from the root."""
        local_transfers.make_durable(f"{self.root}/{key}", self.root)

    @contextlib.contextmanager
    def lock(self, key: str, advice: str) -> Iterator[leases.Claim | None]:
        """Lock the directory of a file; it is made if it is missing."""
        path = f"{self.root}/{key}"
        directory = os.path.dirname(path)
        os.makedirs(directory, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with locks.take(path, fd, advice) as lock:
            yield lock.claim


def _missing_directories(path: str) -> list[str]:
    """Return the directories that a file needs, and that are not there, the innermost first."""
    missing = []
    directory = os.path.dirname(path)
    while directory != os.path.dirname(directory) and not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    return missing


def identity(path: str) -> tuple[str, int, int]:
    """Return a path without links, and device and inode of what is there, zeros if nothing is."""
    place = os.path.realpath(path)
    try:
        status = os.stat(path)
    except OSError:
        return place, 0, 0
    return place, status.st_dev, status.st_ino


def mark_of(status: os.stat_result) -> stores.Mark:
    """Return what the status of a file tells."""
    size, modified = status.st_size, status.st_mtime_ns
    time = modified
    if not -_HALF <= time < _HALF:
        # There is room for 64 bits: times far off wrap around.
        time = (time + _HALF) % (2 * _HALF) - _HALF
    tag = _TAG.pack(size, time, status.st_dev, status.st_ino)
    return stores.Mark(size, modified, max(modified, status.st_ctime_ns), tag)


def _entries(path: str) -> list[tuple[str, bool]]:
    """Return names and whether they are directories (then they end with a slash), in the order of bytes."""

    def scan() -> list[tuple[str, bool]]:
        with os.scandir(path) as entries:
            return [(f"{e.name}/", True) if e.is_dir() else (e.name, False) for e in entries]

    try:
        entries = machine_trouble.attempt(path, scan)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        # Nobody knows what is in there.
        raise errors.MachineError(path, exc.strerror or str(exc)) from exc
    return sorted(entries, key=lambda entry: os.fsencode(entry[0]))


def _look(path: str) -> tuple[list[str], int, list[str]]:
    """Return directories in a directory, the number of other entries, and why nobody can look for any."""
    directories, n_files = [], 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                else:
                    n_files += 1
    except (FileNotFoundError, NotADirectoryError):
        # One that is not there, or is none, needs no removal.
        pass
    except OSError as exc:
        return directories, n_files, [f"{path}: can't look into it ({exc.strerror})"]
    return directories, n_files, []


def _remove(path: str) -> tuple[int, list[str]]:
    """Remove a directory if it is empty; return how many that were, and why the system refuses it."""
    try:
        os.rmdir(path)
    except OSError as exc:
        # What has something in it, or is gone, is as it shall be.
        return 0, [] if exc.errno in _SETTLED else [f"{path}: can't remove it ({exc.strerror})"]
    return 1, []

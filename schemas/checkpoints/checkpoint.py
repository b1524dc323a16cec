"""The layout of a checkpoint directory (docs/operations.md, Checkpoint)."""

import os
import re
import stat
from collections.abc import Iterable, Iterator

from aggregator.storage import durable_files, errors, leases, local_files, machine_trouble

_FILES = frozenset(
    (
        "aggregation.lock",
        "dictionary",
        "edges",
        "last-run.json",
        "ledger",
        "manifest.json",
        "partial.jsonl",
        "records",
        "unreadable.jsonl",
    )
)
ASIDE = ".old"
"""End of the names of files that are set aside."""

SHARED = ("manifest.json", "dictionary", "records", "edges", "ledger")
"""Files that are set aside for those of a run with other ones, the manifest first."""

_ASIDE = frozenset(f"{name}{ASIDE}" for name in SHARED)
_DIGEST = re.compile(r"shard-(\d{6,})\.digest")
_NUMBERED = re.compile(r"shard-\d{6,}\.(digest|datasets)|inputs-\d{5,}\.part|predicted-[0-9a-f]{32}\.qg")
_EXCHANGE = re.compile(r"scan-([0-9a-f]{12})\.(?:kit|exchange)")


def knows(name: str) -> bool:
    """Return whether a file name is one of a checkpoint's, be it a temporary one."""
    final = durable_files.final_name(name)
    patterns = (_NUMBERED, _EXCHANGE)
    return (
        final in _FILES | _ASIDE
        or any(pattern.fullmatch(final) for pattern in patterns)
        or leases.is_lease(final)
    )


def is_late_digest(name: str) -> bool:
    """Return whether a file name is that of a digest before it gets its place."""
    final = durable_files.final_name(name)
    return final != name and _DIGEST.fullmatch(final) is not None


def is_graph_copy(name: str) -> bool:
    """Return whether a file name of a checkpoint is that of a copy of a predicted graph."""
    return name.startswith("predicted-")


def check_files(directory: str) -> None:
    """Refuse a checkpoint that has something else than a file under the name of one of its files.

    It would be waited for without end, or lead elsewhere, or could not be replaced.

    Raises
    ------
    RefusedError
        If so; nothing has been changed.
    OSError
        If nobody can look into the directory.
    MachineError
        If the machine is in trouble.
    """
    for name in machine_trouble.attempt(directory, os.listdir, directory):
        path = os.path.join(directory, name)
        if not knows(name):
            continue
        try:
            status = machine_trouble.attempt(path, os.lstat, path)
        except FileNotFoundError:
            # A run that goes on has removed it.
            continue
        if not stat.S_ISREG(status.st_mode):
            raise errors.RefusedError(
                f"{path}: is {local_files.kind(status)}, where a checkpoint has a file; nothing was changed. "
                "Move it away, and run the same command again: what is missing then is made again."
            )


class Layout:
    """Names of everything in a checkpoint directory.

    Parameters
    ----------
    directory
        Path of the checkpoint.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def _path(self, name: str) -> str:
        if not knows(name):
            raise ValueError(f"{name} is no name of a checkpoint's file")
        return os.path.join(self.directory, name)

    def digest(self, shard: int) -> str:
        """Return the path of a shard's digest."""
        return self._path(f"shard-{shard:06d}.digest")

    def kit(self, generation: str) -> str:
        """Return the path of what scanners on other hosts need, for the time of a run with some."""
        return self._path(f"scan-{generation}.kit")

    def exchange(self, generation: str) -> str:
        """Return the path of what tells where an exchange is that is not here, for the same time."""
        return self._path(f"scan-{generation}.exchange")

    def generations(self) -> set[str]:
        """Return the generations of exchanges that were not closed."""
        names = machine_trouble.attempt(self.directory, os.listdir, self.directory)
        return {match[1] for match in map(_EXCHANGE.fullmatch, names) if match}

    def shards(self) -> list[int]:
        """Return the numbers of the shards that have digests, ascending."""
        names = machine_trouble.attempt(self.directory, os.listdir, self.directory)
        return sorted(int(match[1]) for match in map(_DIGEST.fullmatch, names) if match)

    @property
    def dictionary(self) -> str:
        """Compression dictionary: its raw bytes, empty for none."""
        return self._path("dictionary")

    @property
    def records(self) -> str:
        """Attributes of dimension records that file templates name."""
        return self._path("records")

    @property
    def edges(self) -> str:
        """Edges between the graph's quanta: pairs of int32, rows of its address table."""
        return self._path("edges")

    @property
    def manifest(self) -> str:
        """What the checkpoint belongs to, and the sizes of its shards (JSON)."""
        return self._path("manifest.json")

    @property
    def ledger(self) -> str:
        """Which digests the database took in."""
        return self._path("ledger")

    @property
    def last_run(self) -> str:
        """How the checkpoint was used last (JSON)."""
        return self._path("last-run.json")

    @property
    def unreadable(self) -> str:
        """Files that could not be read (JSON lines)."""
        return self._path("unreadable.jsonl")

    @property
    def partial_files(self) -> str:
        """Files that are being written elsewhere (JSON lines)."""
        return self._path("partial.jsonl")

    @property
    def lock(self) -> str:
        """First file of a checkpoint, which makes the directory one; locked while a process works on it."""
        return self._path("aggregation.lock")

    def graph_copy(self, fingerprint: str) -> str:
        """Return the path of the copy of a predicted graph that is on another host."""
        return self._path(f"predicted-{fingerprint}.qg")

    def output_datasets(self, shard: int) -> str:
        """Return the path of the part of the graph's dataset section that holds a shard's outputs."""
        return self._path(f"shard-{shard:06d}.datasets")

    def input_datasets(self, number: int) -> str:
        """Return the path of a part with overall inputs, for the time of writing a graph."""
        return self._path(f"inputs-{number:05d}.part")

    def read_dictionary(self) -> bytes:
        """Return the dictionary."""
        return local_files.read_part(self.dictionary)

    def read_records(self) -> bytes:
        """Return the packed record attributes."""
        return local_files.read_part(self.records)

    def read_edges(self) -> Iterator[bytes]:
        """Yield the edges in pieces of some megabytes.

        Raises
        ------
        FormatError
            If the file is missing, or can't be read.
        MachineError
            If the machine is in trouble.
        """
        return local_files.read_pieces(self.edges)

    def write_dictionary(self, data: bytes) -> None:
        """Store the dictionary."""
        durable_files.write_atomically(self.dictionary, [data])

    def write_records(self, data: bytes) -> None:
        """Store the packed record attributes."""
        durable_files.write_atomically(self.records, [data])

    def write_edges(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Store the edges."""
        durable_files.write_atomically(self.edges, pieces)

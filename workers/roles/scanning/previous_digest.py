"""What an earlier digest of a shard still tells, and what has to be scanned again (design.md, Checkpoint)."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from aggregator.schemas import messages
from aggregator.schemas.checkpoints import digest
from aggregator.schemas.execution import statuses as status_codes
from aggregator.schemas.graphs import addresses, blocks
from aggregator.schemas.jobs import stories
from aggregator.storage import errors, local_files
from aggregator.workers.roles.scanning import execution_files, shard_builder

STORY = "story:"
"""What the name of a quantum's story begins with, among those of files that were looked at."""

_REPORTED = ("quantum.id", "quantum.status", "quantum.task")


class PreviousDigest:
    """An earlier digest of a shard, verified, and read as far as needed.

    Parameters
    ----------
    opened
        The digest, which stays open as long as this is used.
    identity
        What a digest belongs to now. If the repository was in another place, or was another one, all files
        are looked at, and everything is copied.
    verify
        Whether also settled quanta are to be looked at.
    job_stories
        What records of jobs tell of quanta now.
    """

    def __init__(
        self, opened: digest.Digest, identity: digest.Identity, verify: bool, job_stories: stories.Stories
    ) -> None:
        opened.verify()
        self._digest = opened
        self.is_from_elsewhere = opened.identity != identity
        self._quanta: npt.NDArray[Any] = np.zeros(0, dtype=np.int64)
        self._looks: list[tuple[int, str, bytes]] = []
        self._tags: dict[int, bytes] = {}
        self._stories = job_stories
        self._has_other_story: list[int] = []
        verify = verify or self.is_from_elsewhere
        self.columns = {name: opened.column(name) for name in _REPORTED}
        self._settled: npt.NDArray[np.bool_] = (opened.column("quantum.settled") != 0) & (not verify)
        self._lists: dict[str, list[Any]] = {}
        self._rows: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}

    def unsettled(self) -> list[str]:
        """Return the names of the files that have to be looked at again, for `unchanged`."""
        if self._settled.all():
            # Then there is nothing to look at, which is the usual case.
            return []
        self._quanta = self._digest.column("looked.quantum")
        paths, tags = self._digest.values("looked.paths"), self._digest.values("looked.tags")
        rows = np.flatnonzero((self._is_readable() & ~self._settled)[self._quanta]).tolist()
        story_rows = [row for row in rows if paths[row].startswith(STORY)]
        self._has_other_story = [
            row for row in story_rows if self._stories.tag(paths[row].removeprefix(STORY)) != tags[row]
        ]
        self._looks = [(row, paths[row], tags[row]) for row in rows if not paths[row].startswith(STORY)]
        return [path for _, path, _ in self._looks]

    def _is_readable(self) -> npt.NDArray[np.bool_]:
        readable: npt.NDArray[np.bool_] = self.columns["quantum.status"] != digest.UNREADABLE
        return readable

    def unchanged(
        self, files: execution_files.ExecutionFiles, current: Iterable[bytes]
    ) -> npt.NDArray[np.bool_]:
        """Return which quanta are as they were.

        Parameters
        ----------
        files
            Knows which tags are the same.
        current
            Tags that the files of `unsettled` have now.
        """
        keep = self._is_readable()
        keep[self._quanta[self._has_other_story]] = False
        for (row, path, before), tag in zip(self._looks, current, strict=True):
            if not files.is_same(path, before, tag):
                keep[self._quanta[row]] = False
            elif tag != before:
                self._tags[row] = tag
        return keep

    def load(self) -> None:
        """Read everything but blocks, which is needed to copy what has not changed."""
        self.columns = {name: self._digest.column(name) for name in digest.COLUMNS}
        self._lists = {name: self._digest.values(name) for name in digest.LISTS}
        for row, tag in self._tags.items():
            self._lists["looked.tags"][row] = tag

    def report(self, shard: int) -> messages.ShardScanned:
        """Return the report on a shard of which nothing has changed."""
        statuses = self.columns["quantum.status"]
        return messages.ShardScanned(
            shard=shard,
            checksum=self._digest.checksum,
            statuses=statuses.tobytes(),
            tasks=self.columns["quantum.task"].tobytes(),
            problems=[],
            n_reused=len(statuses) if shard else 0,
            discarded="",
            absent=self._absent(statuses),
        )

    def _absent(self, statuses: npt.NDArray[np.int8]) -> bytes:
        if not (statuses == status_codes.FAILED).any():
            return bytes(len(statuses))
        flags, owners = (self._digest.column(f"dataset.{name}") for name in ("flags", "quantum"))
        return digest.absent(statuses, flags, owners).tobytes()

    def _of(self, table: str, owner: str, row: int) -> list[int]:
        """Return the rows of a table that belong to a row of another."""
        if table not in self._rows:
            owners = self.columns[f"{table}.{owner}"]
            order = np.argsort(owners, kind="stable")
            self._rows[table] = order, owners[order]
        order, ordered = self._rows[table]
        begin, end = np.searchsorted(ordered, [row, row + 1])
        rows: list[int] = order[begin:end].tolist()
        return rows

    def _id(self, table: str, row: int) -> str:
        return addresses.id_at(self.columns[f"{table}.id"], row).hex()

    def copy_inputs(self, builder: shard_builder.ShardBuilder) -> None:
        """Copy what is known of inputs; it comes from the graph and does not change."""
        numbers = zip(
            *(self.columns[f"input.{c}"].tolist() for c in ("type", "coordinate", "run")), strict=True
        )
        for row, (kind, coordinate, run) in enumerate(numbers):
            text, name = self._lists["coordinates"][coordinate], self._lists["runs"][run]
            builder.add_input(self._id("input", row), kind, text, name)

    def copy(self, row: int, builder: shard_builder.ShardBuilder) -> None:
        """Copy everything about one quantum."""
        columns, lists = self.columns, self._lists
        for dataset in self._of("dataset", "quantum", row):
            coordinate = builder.coordinate(lists["coordinates"][columns["dataset.coordinate"][dataset]])
            kind, flags = int(columns["dataset.type"][dataset]), int(columns["dataset.flags"][dataset])
            builder.add_dataset(self._id("dataset", dataset), kind, coordinate, flags)
            for file in self._of("file", "dataset", dataset):
                store, formatter, storage_class, component = lists["file.kinds"][columns["file.kind"][file]]
                builder.add_file(store, formatter, storage_class, component, lists["file.paths"][file])
        builder.add_edges([self._id("edge", edge) for edge in self._of("edge", "quantum", row)])
        for look in self._of("looked", "quantum", row):
            builder.add_looked(lists["looked.paths"][look], lists["looked.tags"][look])
        framed = tuple(
            self._block(section, size, row)
            for section, size in zip(digest.BLOCKS, digest.BLOCK_SIZES, strict=True)
        )
        status, task = int(columns["quantum.status"][row]), int(columns["quantum.task"][row])
        is_settled = bool(columns["quantum.settled"][row])
        builder.add_quantum(
            self._id("quantum", row), task, status, (framed[0], framed[1], framed[2]), is_settled
        )

    def _block(self, section: str, column: str, row: int) -> bytes:
        sizes = self.columns[column]
        if section not in self._rows:
            self._rows[section] = blocks.offsets(sizes), sizes
        offsets, _ = self._rows[section]
        return self._digest.block(section, int(offsets[row]), int(sizes[row])) if sizes[row] else b""


@contextlib.contextmanager
def open_previous(
    path: str,
    identity: digest.Identity,
    shard: int,
    ids: bytes,
    verify: bool,
    job_stories: stories.Stories,
) -> Iterator[tuple[PreviousDigest | None, str]]:
    """Yield the earlier digest of a shard, if there is one that fits; otherwise why it does not.

    Parameters
    ----------
    path
        Where it would be.
    identity, shard
        What it must belong to.
    ids
        Ids of the shard's quanta, 16 bytes each; empty for the shard of init quanta.
    verify, job_stories
        As for `PreviousDigest`.
    """
    with contextlib.ExitStack() as stack:
        previous, discarded = None, ""
        if local_files.exists(path):
            try:
                opened = stack.enter_context(digest.Digest(path, identity, shard, elsewhere=True))
                previous = PreviousDigest(opened, identity, verify, job_stories)
                if ids and previous.columns["quantum.id"].tobytes() != ids:
                    previous, discarded = None, f"{path}: holds other quanta"
            except errors.FormatError as exc:
                discarded = str(exc)
        yield previous, discarded

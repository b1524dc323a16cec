"""What the digests of a checkpoint tell of a campaign, and which files may still change it."""

import dataclasses
import os

import numpy as np
import numpy.typing as npt

from aggregator.aggregation import shards
from aggregator.following import campaign_state
from aggregator.schemas.checkpoints import checkpoint, digest, manifest
from aggregator.workers.roles.scanning import previous_digest


@dataclasses.dataclass(frozen=True, slots=True)
class _Shard:
    """What one digest tells."""

    file: tuple[int, int, int]
    """Inode, time and size of the digest."""

    statuses: npt.NDArray[np.int8]
    absent: campaign_state.Flags
    settled: campaign_state.Flags
    directories: frozenset[tuple[int, str]]
    """Where files of quanta that are not settled are, or would be: numbers of stores, keys of directories."""
    marked: list[tuple[str, bytes]]
    """Names and tags of such files that were there."""


class CampaignSurvey:
    """What is known of a campaign; digests are read again when they have been replaced.

    Parameters
    ----------
    layout
        The checkpoint.
    division
        The shards.
    """

    def __init__(self, layout: checkpoint.Layout, division: shards.Shards) -> None:
        self._layout = layout
        self._division = division
        self._shards: dict[int, _Shard] = {}
        self.trained_share = 1.0
        """Share of some quanta all over the graph that had left something when its dictionary was trained."""
        self.directories: dict[int, list[str]] = {}
        """Keys of directories in which files may come or be replaced, by number of the store."""
        self.marked: list[tuple[str, bytes]] = []
        """Names and tags of files that may be written to where they are."""

    def read(self) -> campaign_state.CampaignState:
        """Read what is new, and return how far the campaign is.

        Raises
        ------
        FormatError
            If a digest is missing or damaged.
        """
        document = manifest.read(self._layout.manifest)
        self.trained_share, identity = document.trained_share, document.identity
        for shard in range(self._division.n_shards):
            path = self._layout.digest(shard)
            kept = self._shards.get(shard)
            if kept is None or kept.file != _file(path):
                self._shards[shard] = _read(path, identity, shard)
        self._note_files()
        regular = [self._shards[shard] for shard in range(1, self._division.n_shards)]
        none = np.zeros(0, dtype=bool)
        return campaign_state.count(
            np.concatenate([none.astype(np.int8), *(each.statuses for each in regular)]),
            np.concatenate([none, *(each.absent for each in regular)]),
            np.concatenate([none, *(each.settled for each in regular)]),
            self._division.producers,
            self._division.starts,
            self._division.size,
        )

    def _note_files(self) -> None:
        """Note what may still change: looks are many, and there are few changes."""
        everywhere: set[tuple[int, str]] = set()
        everywhere.update(*(each.directories for each in self._shards.values()))
        self.directories = {}
        for store, key in sorted(everywhere):
            self.directories.setdefault(store, []).append(key)
        self.marked = [file for each in self._shards.values() for file in each.marked]


def _file(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: str, identity: digest.Identity, shard: int) -> _Shard:
    with digest.Digest(path, identity, shard) as opened:
        file = _file(path)
        statuses, settled = opened.column("quantum.status"), opened.column("quantum.settled") != 0
        absent = digest.absent(statuses, opened.column("dataset.flags"), opened.column("dataset.quantum"))
        directories: set[tuple[int, str]] = set()
        marked = []
        if not settled.all():
            paths, tags = opened.values("looked.paths"), opened.values("looked.tags")
            for row in np.flatnonzero(~settled[opened.column("looked.quantum")]).tolist():
                if paths[row].startswith(previous_digest.STORY):
                    continue
                directories.add(_directory(paths[row]))
                if tags[row] != digest.MISSING:
                    marked.append((paths[row], tags[row]))
    return _Shard(file, statuses, absent, settled, frozenset(directories), marked)


def _directory(name: str) -> tuple[int, str]:
    """Return in which store a file is, and the key of its directory."""
    store, _, key = name.partition(":")
    return int(store), key.rpartition("/")[0]

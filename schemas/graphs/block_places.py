"""Members of a graph that is written, and where blocks have come to in them."""

import dataclasses
import zipfile
from collections.abc import Sequence
from typing import IO

import numpy as np
from aggregator.schemas.graphs import addresses, blocks


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Where the blocks of a component were, and are."""

    old: addresses.Integers
    """Where each began, in order, shape (n,)."""

    sizes: addresses.Integers
    """Size of each now, in bytes, shape (n,)."""

    def moved(
        self, offsets: addresses.Integers, sizes: addresses.Integers
    ) -> tuple[addresses.Integers, addresses.Integers]:
        """Return offsets and sizes now; absent blocks, of size 0, stay absent."""
        if not len(self.old):
            return np.zeros_like(offsets), np.zeros_like(sizes)
        rows = np.minimum(np.searchsorted(self.old, offsets), len(self.old) - 1)
        is_there = sizes > 0
        return (
            np.where(is_there, blocks.offsets(self.sizes)[rows], 0),
            np.where(is_there, self.sizes[rows], 0),
        )


def moved(
    offsets: addresses.Integers, sizes: addresses.Integers, places: Sequence[Places | None]
) -> addresses.Integers:
    """Return the addresses of nodes as they are now, offset and size by turns.

    Parameters
    ----------
    offsets, sizes
        Their addresses as they were, shape (n, components).
    places
        Where the blocks of each component are; nothing if they are where they were.

    Returns
    -------
    columns
        Shape (n, 2 * components).
    """
    columns = np.empty((len(offsets), 2 * len(places)), dtype=np.int64)
    for component, place in enumerate(places):
        pair = offsets[:, component], sizes[:, component]
        columns[:, 2 * component], columns[:, 2 * component + 1] = (
            pair if place is None else place.moved(*pair)
        )
    return columns


def member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Return a member of an archive, open for writing."""
    # A bare description has a fixed date.
    return archive.open(zipfile.ZipInfo(name), "w", force_zip64=True)


def put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Write a member of an archive."""
    with member(archive, name) as out:
        out.write(content)

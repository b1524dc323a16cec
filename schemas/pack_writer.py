"""Writes packs (transfer.md section 9); what is in them is in `packs`."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Iterable
from typing import Any, Final, Self

import msgspec
import zstandard
from aggregator.schemas import packs
from aggregator.storage import durable_files, fault_points

_ROWS_AT_ONCE: Final = 2_000


class Writer:
    """Writes one pack, which appears complete and synced when it is finished, or not at all.

    Parameters
    ----------
    path
        Where the pack goes.
    look
        Called right before it gets its name; what it raises prevents that.
    """

    def __init__(self, path: str, look: Callable[[], object]) -> None:
        self._path = path
        self._look = look
        self._temporary = durable_files.temporary_name(path)
        self._members: dict[str, packs.Member] = {}
        with durable_files.writing(path):
            self._archive = zipfile.ZipFile(self._temporary, "x", zipfile.ZIP_STORED)
        self._is_finished = False
        self.size = 0
        """Bytes of the payload."""

    def __enter__(self) -> Self:
        self._write(packs.MARK, [packs.VERSION])
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            if not self._is_finished:
                self._archive.close()
        with contextlib.suppress(OSError):
            os.unlink(self._temporary)

    def _write(self, name: str, pieces: Iterable[bytes]) -> packs.Member:
        digest, size = packs.new_digest(), 0
        with (
            durable_files.writing(self._path),
            self._archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as out,
        ):
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                out.write(piece)
        return packs.Member(size, packs.checksum(digest))

    def add_file(self, name: str, pieces: Iterable[bytes]) -> packs.Member:
        """Add a file of the payload; return its size and checksum."""
        member = self._write(packs.PAYLOAD + name, pieces)
        self.size += member.size
        fault_points.reached("packed")
        return member

    def add(self, name: str, pieces: Iterable[bytes]) -> None:
        """Add a member that the manifest vouches for."""
        self._members[name] = self._write(name, pieces)

    def add_table(self, name: str, rows: Iterable[Any], rows_at_once: int = _ROWS_AT_ONCE) -> None:
        """Add a table, in batches of so many rows."""
        batch: list[Any] = []
        number = 0
        for row in rows:
            batch.append(row)
            if len(batch) == rows_at_once:
                self._add_batch(name, number, batch)
                batch, number = [], number + 1
        if batch:
            self._add_batch(name, number, batch)

    def _add_batch(self, name: str, number: int, rows: list[Any]) -> None:
        content = zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(rows))
        self.add(f"{name}.{number}.msgpack.zst", [content])

    def finish(self, manifest: packs.Manifest) -> None:
        """Add the manifest, and give the pack its name.

        Raises
        ------
        AggregatorError
            If it can't be written, or something else has come to its place.
        """
        whole = msgspec.structs.replace(manifest, members=self._members)
        self._write(packs.MANIFEST, [msgspec.msgpack.encode(whole)])
        with durable_files.writing(self._path):
            self._archive.close()
            self._is_finished = True
            durable_files.sync(self._temporary)
            fault_points.reached("rename.pack")
            self._look()
            os.rename(self._temporary, self._path)
            durable_files.sync_directory(os.path.dirname(self._path) or ".")

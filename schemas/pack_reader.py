"""Reads packs, without trust in whoever has written them (transfer.md section 9).

Names of members are of a few forms and never paths, sizes are bounded before memory is taken, and who unpacks
decides where files go.
"""

from __future__ import annotations

import contextlib
import re
import threading
import zipfile
from collections.abc import Iterator
from typing import IO, Final, Self, TypeVar, cast

import msgspec
import zstandard
from aggregator.schemas import packs
from aggregator.storage import errors, local_files, opening

_TABLE: Final = re.compile(rf"({packs.INPUTS}|{packs.QUANTA}|{packs.BATCHES})\.([0-9]{{1,6}})\.msgpack\.zst")

_LARGEST: Final = 1 << 28
"""Bytes of a decompressed batch, or of the manifest, at most."""

_PIECE: Final = 1 << 20
_ENCRYPTED: Final = 0x1

Row = TypeVar("Row")


def is_begin(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is a pack."""
    return head.startswith(b"PK\x03\x04") and head[30:].startswith(packs.MARK.encode())


class Pack:
    """A pack, opened for reading, by several threads if need be.

    Parameters
    ----------
    path
        The pack.

    Raises
    ------
    RefusedError
        If it is missing, none, cut off, of a newer version, or not made as packs are.
    FormatError
        If its manifest is damaged.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._file = opening.open_file(path)
        except (OSError, local_files.UnusableError) as exc:
            raise errors.RefusedError(f"{path}: can't open the pack ({local_files.reason(exc)}).") from exc
        try:
            self._archive = self._opened()
            self._infos = self._checked()
            self._check_version()
            self.manifest = self._read_manifest()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def fingerprint(self) -> str:
        """Checksum of the manifest, which vouches for all of the pack."""
        return self._fingerprint

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _opened(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(cast(IO[bytes], self._file.stream()))
        except errors.MachineError:
            raise
        except Exception as exc:
            # It tells of damage with errors of many kinds, down to struct.error.
            raise errors.RefusedError(
                f"{self.path}: no pack, or it is cut off ({exc}); copy it again."
            ) from exc

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        infos: dict[str, zipfile.ZipInfo] = {}
        for info in self._archive.infolist():
            is_plain = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & _ENCRYPTED
            if not is_plain or info.compress_size != info.file_size:
                raise self._foreign(f"member {info.filename!r} is compressed or encrypted")
            if info.filename in infos:
                raise self._foreign(f"member {info.filename!r} is there twice")
            if not _is_name(info.filename):
                raise self._foreign(f"a member is called {info.filename!r}")
            infos[info.filename] = info
        if packs.MARK not in infos or packs.MANIFEST not in infos:
            raise self._foreign("it has no manifest")
        if sum(info.file_size for info in infos.values()) > self._file.size:
            raise self._foreign("its members are larger than itself")
        return infos

    def _foreign(self, problem: str) -> errors.RefusedError:
        return errors.RefusedError(f"{self.path}: this is no pack that `aggregator` has made ({problem}).")

    def _check_version(self) -> None:
        version = self._read(packs.MARK, 16)
        if version != packs.VERSION:
            raise errors.RefusedError(
                f"{self.path}: the pack is of version {version.decode(errors='replace')!r}, this program "
                f"knows version {packs.VERSION.decode()}. Use the program that it is from."
            )

    def _read_manifest(self) -> packs.Manifest:
        content = self._read(packs.MANIFEST, _LARGEST)
        digest = packs.new_digest()
        digest.update(content)
        self._fingerprint = packs.checksum(digest)
        try:
            manifest = msgspec.msgpack.decode(content, type=packs.Manifest)
        except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
            raise self._damage(packs.MANIFEST, str(exc)) from exc
        own = {packs.MARK, packs.MANIFEST}
        there = {name for name in self._infos if not name.startswith(packs.PAYLOAD)} - own
        if there != manifest.members.keys():
            odd = sorted(there ^ manifest.members.keys())[0]
            raise self._damage(odd, "is not as the manifest says, there or not")
        return manifest

    def _damage(self, member: str, problem: str) -> errors.FormatError:
        return errors.FormatError(self.path, member, f"{problem}; make the pack again, or copy it again")

    def _pieces(self, name: str) -> Iterator[bytes]:
        try:
            with self._opened_member(name) as stream:
                while piece := stream.read(_PIECE):
                    yield piece
        except errors.MachineError:
            raise
        except Exception as exc:
            raise self._damage(name, f"is damaged ({exc})") from exc

    @contextlib.contextmanager
    def _opened_member(self, name: str) -> Iterator[IO[bytes]]:
        # The archive counts its open members, which threads must not do at once; they may read at once.
        with self._lock:
            stream = self._archive.open(self._infos[name])
        try:
            yield stream
        finally:
            with self._lock:
                stream.close()

    def _read(self, name: str, largest: int) -> bytes:
        if self._infos[name].file_size > largest:
            raise self._damage(name, f"has more than {largest} bytes")
        return b"".join(self._pieces(name))

    def pieces(self, name: str, expected: packs.Member) -> Iterator[bytes]:
        """Yield the content of a member.

        Raises
        ------
        FormatError
            If it is missing or of another size, or at the end if it has another checksum: what was made of it
            until then must not be used.
        """
        if name not in self._infos:
            raise self._damage(name, "is missing")
        if self._infos[name].file_size != expected.size:
            raise self._damage(name, f"has not the {expected.size} bytes that it was made with")
        digest, size = packs.new_digest(), 0
        for piece in self._pieces(name):
            digest.update(piece)
            size += len(piece)
            yield piece
        if (size, packs.checksum(digest)) != (expected.size, expected.checksum):
            raise self._damage(name, "has another checksum than it was made with")

    def graph(self) -> Iterator[bytes]:
        """Yield the graph of a job, as `pieces` does."""
        if packs.GRAPH not in self.manifest.members:
            raise self._damage(packs.GRAPH, "is missing")
        return self.pieces(packs.GRAPH, self.manifest.members[packs.GRAPH])

    def file(self, name: str, size: int, checksum: str) -> Iterator[bytes]:
        """Yield a file of the payload, as `pieces` does."""
        return self.pieces(packs.PAYLOAD + name, packs.Member(size, checksum))

    def has_file(self, name: str) -> bool:
        """Return whether a file is in the payload."""
        return packs.PAYLOAD + name in self._infos

    def table(self, name: str, kind: type[Row]) -> Iterator[Row]:
        """Yield the rows of a table.

        Parameters
        ----------
        name
            Name of the table.
        kind
            What each row is.

        Raises
        ------
        FormatError
            If it is damaged.
        """
        batches = [member for member in self.manifest.members if member.startswith(f"{name}.")]
        for member in sorted(batches, key=lambda each: int(each.split(".")[1])):
            content = self._decompressed(member)
            try:
                rows = msgspec.msgpack.decode(content, type=list[kind])  # type: ignore[valid-type]
            except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
                raise self._damage(member, str(exc)) from exc
            yield from rows

    def _decompressed(self, member: str) -> bytes:
        if self._infos[member].file_size > _LARGEST:
            raise self._damage(member, f"has more than {_LARGEST} bytes")
        content = b"".join(self.pieces(member, self.manifest.members[member]))
        try:
            size = zstandard.frame_content_size(content)
            if not 0 <= size <= _LARGEST:
                raise self._damage(member, f"says that it holds {size} bytes, at most {_LARGEST} are allowed")
            return zstandard.ZstdDecompressor().decompress(content, max_output_size=_LARGEST)
        except zstandard.ZstdError as exc:
            raise self._damage(member, f"is damaged ({exc})") from exc


def _is_name(name: str) -> bool:
    if name.startswith(packs.PAYLOAD):
        return packs.is_flat_name(name.removeprefix(packs.PAYLOAD))
    return name in (packs.MARK, packs.MANIFEST, packs.GRAPH) or _TABLE.fullmatch(name) is not None

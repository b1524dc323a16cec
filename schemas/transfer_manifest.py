"""Manifests: which files another system has to bring where, a JSON document a line (transfer.md 7.6)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import IO, Final

import msgspec
import zstandard
from aggregator.storage import errors, local_files

VERSION: Final = 1
"""Raised when a field changes its meaning or goes."""

COMPRESSED: Final = ".zst"
"""End of the names of manifests that are compressed."""

_LONGEST: Final = 1 << 26
"""Bytes of a line, at most: that of a file which a million datasets share."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """First line of a manifest."""

    manifest: int = VERSION
    """Version of the format."""

    source: str
    """Configuration of the repository that the files are in."""

    destination: str
    """Configuration of the repository that they go to."""

    created: str
    """When the transfer began: ISO 8601, UTC."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, rename={"origin": "from", "target": "to"}):
    """A file, and the records that are to be made of it."""

    ids: tuple[str, ...]
    """Datasets that it is of, 32 hexadecimal digits each."""

    run: str
    """RUN collection of these datasets."""

    origin: str
    """Where the file is: an absolute path, or a URI."""

    target: str
    """Where it has to be: an absolute path, or a URI."""

    path: str
    """The same relative to the datastore's root, as the records will have it."""

    size: int | None
    """Bytes, if they are known."""

    checksum: str | None
    """Checksum that the source has recorded."""

    datastore: str
    """Name of the datastore that it goes to."""

    formatter: str
    """Qualified name of the formatter class."""

    storage_class: str
    """Storage class of what it holds."""

    component: str | None = None
    """Component that it holds; null if it holds whole datasets."""


_decoder = msgspec.json.Decoder(Entry)


def opened_for_writing(stream: IO[bytes], path: str) -> IO[bytes]:
    """Return what writes a manifest to a stream, compressed if its name says so."""
    if path.endswith(COMPRESSED):
        return zstandard.ZstdCompressor(level=3).stream_writer(stream, closefd=False)
    return stream


def encode(line: Head | Entry) -> bytes:
    """Return a line of a manifest."""
    return msgspec.json.encode(line) + b"\n"


class Manifest:
    """A manifest, opened.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FormatError
        If it can't be read, or is no manifest of a version that is known.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._lines = self._open()
            first = next(self._lines, b"")
        except (OSError, local_files.UnusableError) as exc:
            raise errors.FormatError(path, "", f"can't read it ({local_files.reason(exc)})") from exc
        self.head = self._decode_head(first)
        """Its first line."""

    def _open(self) -> Iterator[bytes]:
        descriptor = local_files.open_file(self.path)
        stream: IO[bytes] = open(descriptor, "rb")  # noqa: SIM115  (closed with the generator)
        return self._read(stream)

    def _read(self, stream: IO[bytes]) -> Iterator[bytes]:
        with stream:
            lines = stream
            if self.path.endswith(COMPRESSED):
                reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
                lines = io.BufferedReader(reader)
            try:
                while line := lines.readline(_LONGEST):
                    if not line.endswith(b"\n"):
                        raise errors.FormatError(
                            self.path, "", "is cut off, or has a line too long; make it again"
                        )
                    yield line
            except zstandard.ZstdError as exc:
                raise errors.FormatError(self.path, "", f"{exc}; make it again") from exc

    def _decode_head(self, line: bytes) -> Head:
        try:
            head = msgspec.json.decode(line, type=Head)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise errors.FormatError(self.path, "line 1", f"is no manifest: {exc}") from exc
        if head.manifest != VERSION:
            raise errors.FormatError(
                self.path, "line 1", f"has version {head.manifest}; this program knows {VERSION}"
            )
        return head

    def entries(self) -> Iterator[Entry]:
        """Iterate over the files, once.

        Raises
        ------
        FormatError
            If a line is none.
        """
        for number, line in enumerate(self._lines, 2):
            try:
                yield _decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
                raise errors.FormatError(self.path, f"line {number}", str(exc)) from exc


def grouped(entries: Sequence[tuple[str, Entry]]) -> list[Entry]:
    """Return entries, one for all datasets that share file and record, sorted by target.

    Parameters
    ----------
    entries
        Id of each dataset, with the entry that its file would have; ids of that don't count.
    """
    ids: dict[Entry, list[str]] = {}
    for dataset_id, entry in entries:
        ids.setdefault(msgspec.structs.replace(entry, ids=()), []).append(dataset_id)
    return sorted(
        (msgspec.structs.replace(entry, ids=tuple(some)) for entry, some in ids.items()),
        key=lambda entry: (entry.target, entry.ids),
    )

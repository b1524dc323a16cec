"""Manifests: which files another system has to bring where (transfer.md section 7.6).

A manifest has a JSON document a line, or is a table (CSV) that begins with the head, after a ``#``.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, Final, Self

import msgspec
import zstandard
from aggregator.storage import durable_files, errors, local_files

VERSION: Final = 1
"""Raised when a field changes its meaning or goes."""

FORMATS: Final = ("jsonl", "csv")
"""Forms of a manifest, the default first; also the ends of their names."""

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

    files: int = 0
    """Number of entries that follow: one that lacks some was cut off."""


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


_PIECE: Final = 1 << 20
"""Bytes that are copied together."""

_decoder = msgspec.json.Decoder(Entry)

_COMMENT: Final = b"# "
"""Before the head of a table."""

_COLUMNS: Final = (
    *("from", "to", "size", "checksum", "path", "run", "datastore", "formatter", "storage_class"),
    *("component", "ids"),
)
"""Columns of a table: simple movers need the first two; ids have spaces between them."""


class Writer:
    """Writes a manifest; a context manager. What is not published leaves nothing behind.

    Parameters
    ----------
    path
        The file; it is compressed if its name says so.
    head
        The head, but for the number of entries.
    form
        One of `FORMATS`.

    Raises
    ------
    AggregatorError
        If it can't be written; also from the methods.
    """

    def __init__(self, path: str, head: Head, form: str = FORMATS[0]) -> None:
        self._path, self._head, self._is_table = path, head, form == "csv"
        self._body: IO[bytes]
        self._stream: IO[bytes]
        self.n_files = 0
        """Entries until now."""

    def __enter__(self) -> Self:
        with durable_files.writing(self._path):
            # How many there are comes first, and is known in the end.
            self._body = tempfile.TemporaryFile(dir=os.path.dirname(self._path) or ".")
            self._stream = _compressing(self._path, self._body)
        return self

    def add(self, entry: Entry) -> None:
        """Add an entry."""
        with durable_files.writing(self._path):
            self._stream.write(_row(entry) if self._is_table else msgspec.json.encode(entry) + b"\n")
        self.n_files += 1

    def publish(self) -> None:
        """Let the manifest appear, complete and synced."""
        head = encoded(self._path, self._head, self.n_files, is_table=self._is_table)
        with durable_files.writing(self._path):
            if self._stream is not self._body:
                self._stream.close()
            self._body.seek(0)
            pieces = iter(lambda: self._body.read(_PIECE), b"")
            durable_files.write_atomically(self._path, itertools.chain([head], pieces))
            durable_files.sync_directory(os.path.dirname(self._path) or ".")

    def __exit__(self, *exc: object) -> None:
        self._body.close()


def encoded(
    path: str, head: Head, n_files: int, entries: Iterable[Entry] = (), *, is_table: bool = False
) -> bytes:
    """Return the begin of a manifest, or a short one as a whole.

    Parameters
    ----------
    path
        Where it goes; it is compressed if its name says so.
    head
        The head, but for the number of entries.
    n_files
        The number of entries that it will have.
    entries
        The first ones.
    is_table
        Whether it is a table.
    """
    content = io.BytesIO()
    stream = _compressing(path, content)
    line = msgspec.json.encode(msgspec.structs.replace(head, files=n_files)) + b"\n"
    stream.write(_COMMENT + line + _line(_COLUMNS) if is_table else line)
    for entry in entries:
        stream.write(_row(entry) if is_table else msgspec.json.encode(entry) + b"\n")
    if stream is not content:
        stream.close()
    return content.getvalue()


def _compressing(path: str, stream: IO[bytes]) -> IO[bytes]:
    """Return what writes a manifest to a stream."""
    if path.endswith(COMPRESSED):
        return zstandard.ZstdCompressor(level=3).stream_writer(stream, closefd=False)
    return stream


def _row(entry: Entry) -> bytes:
    values = msgspec.to_builtins(entry)
    return _line([" ".join(entry.ids) if name == "ids" else values[name] for name in _COLUMNS])


def _line(values: Sequence[Any]) -> bytes:
    """Return a line of a table; nothing is an empty text."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue().encode()


def _entry(values: Sequence[str]) -> Entry:
    """Return what a line of a table tells.

    Raises
    ------
    ValueError
        If it is none.
    """
    row: dict[str, Any] = dict(zip(_COLUMNS, values, strict=True))
    for name in ("checksum", "component", "size"):
        row[name] = row[name] or None
    row["size"] = row["size"] and int(row["size"])
    row["ids"] = row["ids"].split()
    return msgspec.convert(row, Entry)


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
            raise errors.RefusedError(
                f"{path}: can't read it ({local_files.reason(exc)}). Give the manifest of a transfer."
            ) from exc
        self.form = "csv" if first.startswith(_COMMENT) else "jsonl"
        """One of `FORMATS`."""
        self.head = self._decode_head(first.removeprefix(_COMMENT))
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
            raise errors.RefusedError(
                f"{self.path}: is no manifest of a transfer ({exc}). Give one that subset has written."
            ) from exc
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
        number = 0
        for entry in self._rows() if self.form == "csv" else self._documents():
            number += 1
            yield entry
        if number != self.head.files:
            raise errors.FormatError(
                self.path, "", f"has {number} of {self.head.files} files; it was cut off, so make it again"
            )

    def _documents(self) -> Iterator[Entry]:
        for number, line in enumerate(self._lines, 2):
            try:
                yield _decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
                raise errors.FormatError(self.path, f"line {number}", str(exc)) from exc

    def _rows(self) -> Iterator[Entry]:
        csv.field_size_limit(max(_LONGEST, csv.field_size_limit()))
        reader = csv.reader(line.decode() for line in self._lines)
        try:
            if tuple(next(reader, ())) != _COLUMNS:
                raise errors.FormatError(self.path, "line 2", "has other columns than a manifest")
            for row in reader:
                yield _entry(row)
        except (ValueError, csv.Error, msgspec.MsgspecError) as exc:
            raise errors.FormatError(self.path, f"line {reader.line_num + 1}", str(exc)) from exc


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

"""The `.qg` container: a zip archive of stored members (quantum-graph-format.md section 1)."""

import hashlib
import io
import pathlib
import struct
import urllib.parse
import zipfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any, Self, cast

from aggregator.schemas.graphs import blocks
from aggregator.storage import errors, local_files, opening, random_access, uris

DICTIONARY = "compression_dict"
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_SIGNATURE = b"PK\x03\x04"


def local_path(uri: str) -> str:
    """Return the path of a local file given as path or `file:` URI.

    Raises
    ------
    RefusedError
        If the URI is remote.
    """
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme == "file":
        return local_files.named(urllib.parse.unquote(parts.path))
    if parts.scheme and "://" in uri:
        if uris.is_remote(uri):
            uris.parse(uri)
        raise errors.RefusedError(f"{uri}: only local files can be used here")
    return local_files.named(uri)


def single(name: str) -> str:
    """Return the member name of a single-block component."""
    return f"{name}.json.zst"


class Container:
    """A `.qg` file opened for reading at any place, without a shared file position.

    Parameters
    ----------
    path
        Path or remote URI of the file.

    Raises
    ------
    RefusedError
        If the file is missing or no zip archive.
    """

    fingerprint: str
    """Hash of all members' names, sizes and checksums: the same for every copy, another for other content."""

    file: random_access.RandomAccess
    """The file itself."""

    comment: bytes
    """Comment of the archive, which has no meaning for others."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.file = opening.open_file(path)
        except OSError as exc:
            raise errors.RefusedError(f"{path}: can't open the graph ({exc.strerror})") from exc
        except local_files.UnusableError as exc:
            raise errors.RefusedError(f"{path}: can't open the graph: {exc}") from exc
        try:
            self._members = self._find_members()
        except BaseException:
            self.file.close()
            raise
        self._begins: dict[str, int] = {}
        self._codec: blocks.Codec | None = None
        self._inflated: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _find_members(self) -> dict[str, tuple[int, int]]:
        """Return (offset of the local header, size) of each member; offset -1 if it must be inflated."""
        try:
            with self._archive() as archive:
                self.comment = archive.comment
                members = sorted((i.filename, i.file_size, i.CRC) for i in archive.infolist())
                self.fingerprint = hashlib.blake2b(repr(members).encode(), digest_size=16).hexdigest()
                return {info.filename: _place(info) for info in archive.infolist()}
        except errors.MachineError:
            raise
        except Exception as exc:
            # It tells of damage with errors of many kinds, down to struct.error.
            raise errors.RefusedError(
                f"{self.path}: not a quantum graph file, or truncated ({exc}); copy or build it again"
            ) from exc

    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(cast(IO[bytes], self.file.stream()))

    def _begin(self, member: str, header: int) -> int:
        """Return where the content of a stored member begins, which its local header tells."""
        if member not in self._begins:
            local = self.file.read(header, _LOCAL_HEADER.size)
            if len(local) < _LOCAL_HEADER.size:
                raise errors.FormatError(self.path, member, "file is truncated")
            signature, n_name, n_extra = _LOCAL_HEADER.unpack(local)
            if signature != _LOCAL_SIGNATURE:
                raise errors.FormatError(self.path, member, "local header is damaged")
            self._begins[member] = header + _LOCAL_HEADER.size + n_name + n_extra
        return self._begins[member]

    def __contains__(self, member: str) -> bool:
        return member in self._members

    def size(self, member: str) -> int:
        """Return the size of a member in bytes."""
        return self._find(member)[1]

    def _find(self, member: str) -> tuple[int, int]:
        try:
            return self._members[member]
        except KeyError:
            raise errors.FormatError(self.path, member, "member is missing") from None

    def read(self, member: str, offset: int = 0, size: int | None = None) -> bytes:
        """Return bytes of a member.

        Parameters
        ----------
        member
            Name in the archive.
        offset, size
            Range in the member, in bytes; all of it by default.

        Raises
        ------
        FormatError
            If the member is missing, or shorter than asked for.
        """
        header, total = self._find(member)
        size = total - offset if size is None else size
        if not 0 <= offset <= offset + size <= total:
            problem = f"has {total} bytes, {size} at {offset} are needed"
            raise errors.FormatError(self.path, member, problem)
        if header < 0:
            return self._inflate(member)[offset : offset + size]
        data = self.file.read(self._begin(member, header) + offset, size)
        if len(data) < size:
            raise errors.FormatError(self.path, member, "file is truncated")
        return data

    def _inflate(self, member: str) -> bytes:
        """Return a member that the archive holds compressed; kept, since it can't be read in part."""
        if member not in self._inflated:
            try:
                with self._archive() as archive:
                    self._inflated[member] = archive.read(member)
            except errors.MachineError:
                raise
            except Exception as exc:
                raise errors.FormatError(self.path, member, f"damaged ({exc})") from exc
        return self._inflated[member]

    @property
    def codec(self) -> blocks.Codec:
        """Codec with the dictionary of this file; every block needs it, the header too."""
        if self._codec is None:
            dictionary = self.read(DICTIONARY) if DICTIONARY in self else b""
            try:
                self._codec = blocks.Codec(dictionary, 3)
            except Exception as exc:
                raise errors.FormatError(self.path, DICTIONARY, f"damaged dictionary ({exc})") from exc
        return self._codec

    def read_block(self, name: str) -> bytes:
        """Return the JSON document of a single-block component."""
        member = single(name)
        try:
            return self.codec.decompress(self.read(member))
        except ValueError as exc:
            raise errors.FormatError(self.path, member, str(exc)) from exc

    def stream_block(self, name: str) -> Iterator[bytes]:
        """Yield the JSON document of a single-block component in pieces."""
        member = single(name)
        try:
            with io.BufferedReader(_Member(self, member)) as stream:
                yield from self.codec.stream(stream)
        except ValueError as exc:
            raise errors.FormatError(self.path, member, str(exc)) from exc


class _Member(io.RawIOBase):
    """A member as a stream: no more than a part is in memory, unless the archive has it compressed."""

    def __init__(self, source: Container, member: str) -> None:
        self._source = source
        self._member = member
        self._position = 0
        self._size = source.size(member)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        n = min(len(view), self._size - self._position)
        view[:n] = self._source.read(self._member, self._position, n)
        self._position += n
        return n


def _place(info: zipfile.ZipInfo) -> tuple[int, int]:
    is_stored = info.compress_type == zipfile.ZIP_STORED
    return info.header_offset if is_stored else -1, info.file_size


def graph_path(uri: str) -> str:
    """Return the local path or remote URI of a graph, refusing names that are not of this format."""
    path = uris.normal(uri) if uris.is_remote(uri) else local_path(uri)
    if pathlib.PurePath(path).suffix != ".qg":
        raise errors.RefusedError(f"{path}: a quantum graph file must have the extension .qg")
    return path

"""Files on their way into packs and out of them."""

from __future__ import annotations

import datetime
import importlib.metadata
import operator
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from aggregator.butler import artifacts
from aggregator.schemas import output_kinds, output_paths, pack_reader, packs, transfer_manifest
from aggregator.storage import durable_files, errors, local_files, opening, random_access, stores, uris

_SMALL: Final = 1 << 22
"""Bytes of a file that is in memory on its way."""


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Refuse an argument that is none of what there is to choose from."""
    if value not in choices:
        raise errors.RefusedError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")


def local(path: str | os.PathLike[str], what: str) -> str:
    """Return the absolute path of what has to be on this host.

    Raises
    ------
    RefusedError
        If it is remote.
    """
    text = os.fspath(path)
    if uris.scheme(text):
        raise errors.RefusedError(f"{text}: {what} has to be on this host; give a path, and copy it then.")
    return os.path.abspath(text)


def check_pack(path: str, protection: output_paths.Protection, *, is_new: bool = False) -> None:
    """Refuse a path where no pack can be written, or where there is something if it has to be new.

    Raises
    ------
    RefusedError
        If so; says why.
    """
    output_paths.check(path, output_kinds.Kind.PACK, protection)
    directory = os.path.dirname(path)
    if not local_files.is_directory(directory):
        raise errors.RefusedError(f"{path}: its directory does not exist. Choose another path.")
    output_paths.check_writeable(directory)
    if is_new and local_files.is_taken(path):
        raise errors.RefusedError(f"{path}: is there already, and is not replaced. Choose another path.")


def manifest_output(
    path: str | os.PathLike[str] | None, payload: str | None
) -> tuple[output_paths.Output | None, str]:
    """Return where a manifest goes, if one is wanted, and where files are: with one, they are not in the
    pack.

    Raises
    ------
    RefusedError
        If the manifest can't be written there, or there is no such payload.
    """
    if payload is not None:
        check_choice("payload", payload, packs.PAYLOADS)
    if path is None:
        return None, payload or "files"
    return output_paths.Output(os.fspath(path), output_kinds.Kind.TRANSFER_MANIFEST), payload or "none"


def write_manifest(
    output: output_paths.Output, source: str, entries: Iterable[transfer_manifest.Entry]
) -> None:
    """Write a manifest of files that others bring; where to is for them to say.

    Raises
    ------
    AggregatorError
        If it can't be written.
    """
    head = transfer_manifest.Head(source=source, destination="", created=now())
    ordered = sorted(entries, key=operator.attrgetter("path"))
    output.write(transfer_manifest.encoded(output.path, head, len(ordered), ordered))


def program() -> str:
    """Return what packs tell of who made them."""
    return f"aggregator {importlib.metadata.version('quantum-graph-aggregator')}"


def now() -> str:
    """Return the time as packs have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def pieces(store: stores.Store, key: str) -> Iterator[bytes]:
    """Yield the content of a file in pieces.

    Raises
    ------
    FormatError
        If it is missing, or can't be read.
    MachineError
        If the machine is in trouble, or it is replaced meanwhile.
    """
    location = store.location(key)
    if not uris.is_remote(location):
        yield from local_files.read_pieces(location)
        return
    try:
        with opening.open_file(location) as file:
            yield from random_access.pieces(file)
    except (OSError, local_files.UnusableError) as exc:
        raise errors.FormatError(location, "", f"can't read it ({local_files.reason(exc)})") from exc


def check_size(artifact: artifacts.Artifact, size: int, expected: int) -> None:
    """Raise an error if a file had another size when it was read than when it was found."""
    if size != expected:
        location = artifact.store.location(artifact.key)
        raise errors.MachineError(location, f"had {expected} bytes, and {size} when it was read")


def put(store: stores.Store, key: str, size: int, content: Iterable[bytes], *, overwrite: bool) -> None:
    """Make a file of a pack one of a repository: complete and durable, or not at all.

    Parameters
    ----------
    store, key
        Where it goes.
    size
        Bytes.
    content
        The content; what it raises at its end prevents that it is used.
    overwrite
        Whether what is there is to be replaced.

    Raises
    ------
    TakenError
        If something is there that is not to be replaced.
    AggregatorError
        If it can't be written.
    """
    location = store.location(key)

    def look() -> None:
        if not overwrite and store.mark(key) is not None:
            raise artifacts.TakenError(location)

    with durable_files.writing(location):
        if size <= _SMALL:
            try:
                store.write(key, b"".join(content), overwrite=overwrite, durable=True)
            except FileExistsError:
                raise artifacts.TakenError(location) from None
        elif uris.is_remote(location):
            with tempfile.TemporaryDirectory() as directory:
                path = os.path.join(directory, "file")
                durable_files.write_atomically(path, content, sync=False)
                store.adopt(path, key, "copy", lambda: None, look)
        else:
            os.makedirs(os.path.dirname(location), exist_ok=True)
            durable_files.write_atomically(location, content, look)
            store.make_durable(key)


def checksum(content: Iterable[bytes]) -> str:
    """Return the checksum of a file as packs have it."""
    return packs.member(content).checksum


class Source:
    """Where the files of a pack are: in it, or in a directory to which another system has brought them.

    Parameters
    ----------
    pack
        The pack.
    staged
        The directory, if there is one.
    """

    def __init__(self, pack: pack_reader.Pack, staged: str | None) -> None:
        self.pack = pack
        self._staged = staged

    def place(self, name: str) -> str | None:
        """Return where a file is that is not in the pack; nothing if it has not come yet."""
        if self._staged is None or not packs.is_flat_name(name):
            return None
        path = os.path.join(self._staged, name)
        return path if local_files.exists(path) else None

    def has(self, name: str) -> bool:
        """Return whether a file is anywhere."""
        return self.pack.has_file(name) or self.place(name) is not None

    def pieces(self, name: str, size: int, expected: str) -> Iterator[bytes]:
        """Yield the content of a file.

        Raises
        ------
        AggregatorError
            If it is nowhere, or at the end if it is not the file that it was.
        """
        path = None if self.pack.has_file(name) else self.place(name)
        if path is None:
            yield from self.pack.file(name, size, expected)
            return
        digest = packs.new_digest()
        for piece in local_files.read_pieces(path):
            digest.update(piece)
            yield piece
        if packs.checksum(digest) != expected:
            raise errors.AggregatorError(f"{path}: is not the file that it was. Bring it again.")

"""Packs: what a job on a host of its own needs of a repository, or has left for it (transfer.md section 9).

A pack is a zip archive of stored members. The first is a mark with the version of the format, the last a
manifest with size and checksum of all others but the payload; rows about each file of the payload have those.
So whatever is cut off, changed or added shows. Tables are rows in batches: MessagePack, compressed with
Zstandard.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec
from aggregator.schemas import bundle

MARK: Final = "aggregator-pack"
"""Name of the first member."""

GRAPH: Final = "graph.qg"
"""Name of the member that is the predicted graph of a job."""

INPUTS, QUANTA, BATCHES = "inputs", "quanta", "bundle"
"""Names of tables: `InputFile`, `PackedQuantum`, `bundle.Batch`."""

VERSION: Final = b"1"
"""Content of the mark."""

MANIFEST: Final = "manifest.msgpack"
"""Name of the last member."""

PAYLOAD: Final = "files/"
"""Begin of the names of files."""

PAYLOADS: Final = ("files", "none")
"""Whether files are in a pack."""

FORMATS: Final = ("pack", "butler-yaml", "butler-zip")
"""How what a job needs is written: as a pack, or as the middleware imports it."""

_FLAT_NAME: Final = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:-[A-Za-z0-9_]+)?(?:\.[A-Za-z0-9]+){0,4}"
)
"""Names of files of the payload: the dataset's id, a component, and an extension."""

_DIGEST_SIZE: Final = 32


class Origin(msgspec.Struct, frozen=True):
    """The graph that a pack is of."""

    identity: str
    """Hash that all files of the same graph share, and no other graph has."""

    location: str
    """Path or URI of the graph."""

    run: str
    """Its output run."""

    repository: str
    """Configuration of the repository that it is for."""


class InputFile(msgspec.Struct, frozen=True, array_like=True):
    """A file that the quanta of a job need."""

    name: str
    """Flat name: in the payload, or where another system brings it."""

    datastore: str
    """Name of its datastore."""

    path: str
    """Where it belongs on the node: relative to the datastore's root."""

    origin: str
    """Path or URI of the file in the repository."""

    size: int
    """Bytes."""

    checksum: str
    """Of its content (see `checksum`); empty if it is not in the payload."""

    dataset_ids: tuple[str, ...]
    """Datasets that are in it, with dashes."""

    is_init_output: bool = False
    """Whether it is an output of an init quantum of the graph."""


class OutputFile(msgspec.Struct, frozen=True, array_like=True):
    """A file that a quantum has left."""

    name: str
    """Flat name: in the payload, or where another system brings it."""

    dataset_id: str
    """Its dataset, with dashes."""

    component: str | None
    """Component that it holds; nothing if it holds the whole dataset."""

    formatter: str
    """Qualified name of the formatter class."""

    size: int
    """Bytes."""

    checksum: str
    """Of its content (see `checksum`)."""


class PackedQuantum(msgspec.Struct, frozen=True, array_like=True):
    """What became of a quantum."""

    id: str
    """Its id, with dashes; that of an init quantum, if it is one."""

    status: int
    """Status of its last attempt (`statuses`); `NOT_ATTEMPTED` or `INIT`."""

    files: tuple[OutputFile, ...]
    """Its files in the pack: the log last, the metadata before it."""


NOT_ATTEMPTED: Final = 100
INIT: Final = 101
"""Statuses of quanta that have left neither log nor metadata, and of init quanta."""


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A member that is not of the payload."""

    size: int
    """Bytes."""

    checksum: str
    """Checksum."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a pack is."""

    kind: Literal["job", "results"]
    """Whether it is what a job needs, or what it has left."""

    origin: Origin
    """The graph that it is of."""

    made_by: str
    """Program and version."""

    created: str
    """When it was made: ISO 8601, UTC."""

    n_quanta: int
    """Quanta that it is about."""

    payload: str
    """Whether the files are in the pack, or come by another way (`PAYLOADS`)."""

    head: bundle.Head | None = None
    """Universe and datastores; of a job."""

    storage_classes: dict[str, Any] = {}
    """Section ``storageClasses`` of the repository's configuration; of a job."""

    members: dict[str, Member] = {}
    """All members but mark, manifest and payload."""


def checksum(digest: hashlib.blake2b) -> str:
    """Return a checksum as packs have it."""
    return f"blake2b:{digest.hexdigest()}"


def new_digest() -> hashlib.blake2b:
    """Return what makes checksums."""
    return hashlib.blake2b(digest_size=_DIGEST_SIZE)


def member(content: Iterable[bytes]) -> Member:
    """Return size and checksum of a file."""
    digest, size = new_digest(), 0
    for piece in content:
        digest.update(piece)
        size += len(piece)
    return Member(size, checksum(digest))


def flat_name(dataset_id: str, component: str | None, path: str) -> str:
    """Return the name of a file that any mover can cope with.

    Parameters
    ----------
    dataset_id
        Id of (one of) its datasets, with dashes.
    component
        Component that it holds, if it is one of several.
    path
        Its path in a repository, whose extension it keeps unless that is odd.
    """
    stem = f"{dataset_id}-{component}" if component else dataset_id
    base, period, extension = path.rpartition("/")[2].partition(".")
    name = f"{stem}.{extension}" if base and period else stem
    return name if is_flat_name(name) else stem


def is_flat_name(name: str) -> bool:
    """Return whether a name is one that `flat_name` makes: one that leads nowhere else."""
    return _FLAT_NAME.fullmatch(name) is not None

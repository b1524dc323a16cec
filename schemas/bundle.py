"""What goes from one repository to another: a head and a stream of typed batches (transfer.md section 7.1).

A repository, a pack file or another tool's export produces a bundle; a repository, a pack file or a count
consumes it; selection, renaming and renewal of ids are generators from batches to batches in between. No
batch grows with the bundle, so nobody needs memory for more than a few of them.

Batches come in the order of the members of `Batch`: what a batch refers to has come before it. An empty batch
has no meaning and is left out. All structs can be encoded by msgspec, and decoded as a `Batch`, which tells
by a tag what it is.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec
from aggregator.storage import uris

DATASETS_AT_ONCE: Final = 10_000
"""Datasets, associations or records in one batch, at most."""

Value = int | str
"""Value of a dimension in a data ID."""

MEMBER: Final = ("zip-path=", "unzip=")
"""Begins of a fragment that names the member of an archive."""


class Datastore(msgspec.Struct, frozen=True):
    """A file datastore that file records of a bundle refer to."""

    name: str
    """Its name, as in the records."""

    root: str
    """Where its files are now: an absolute path, or a URI. Empty if a bundle comes without files."""

    config: dict[str, Any]
    """Its effective configuration: ``templates``, ``formatters``, ``composites``, ``constraints``."""


class Head(msgspec.Struct, frozen=True):
    """What all batches of a bundle depend on."""

    source: str
    """Where the bundle is from, for messages and reports."""

    universe: dict[str, Any]
    """Configuration of the dimension universe, as in ``config:dimensions.json`` of a repository."""

    datastores: tuple[Datastore, ...]
    """Datastores in order; a chain is flattened."""

    storage_classes: dict[str, dict[str, str]] = {}
    """Components of storage classes, by name: name of the component to its storage class."""


class DatasetType(NamedTuple):
    """A dataset type."""

    name: str
    """Its name."""

    storage_class: str
    """Name of its storage class."""

    dimensions: tuple[str, ...]
    """Its required dimensions, in universe order: those of the values of data IDs."""

    is_calibration: bool
    """Whether its datasets can have validity ranges."""


class Collection(NamedTuple):
    """A collection without its content."""

    name: str
    """Its name."""

    type: Literal["RUN", "TAGGED", "CHAINED", "CALIBRATION"]
    """Its type."""

    doc: str | None
    """What it is for."""


class Dataset(NamedTuple):
    """A dataset of a RUN collection that the batch names."""

    id: str
    """Its id, 32 lowercase hexadecimal digits."""

    dataset_type: str
    """Name of its type, which came before."""

    values: tuple[Value, ...]
    """Values of the required dimensions of the type, in its order."""

    ingest_date: int | None
    """When it was ingested where it is from, nanoseconds TAI; not carried over."""


class FileRecord(NamedTuple):
    """A datastore's record of a file of a dataset; one dataset may have several, many may share a file."""

    dataset_id: str
    """Id of the dataset."""

    datastore: str
    """Name of the datastore, which is in the head."""

    path: str
    """As recorded: relative to the root, absolute, or a URI; with ``#zip-path=`` if it is in an archive."""

    formatter: str
    """Qualified name of the formatter class."""

    storage_class: str
    """Storage class of what the file holds."""

    component: str | None
    """Component that it holds; nothing if it holds the whole dataset."""

    checksum: str | None
    """Checksum, if one was recorded."""

    size: int
    """Size in bytes; negative if it was not recorded."""


class Association(NamedTuple):
    """A dataset in a TAGGED or CALIBRATION collection that the batch names."""

    dataset_id: str
    """Id of the dataset, which came before."""

    dataset_type: str
    """Name of its type."""

    values: tuple[Value, ...]
    """Values of the required dimensions of the type."""

    timespan: tuple[int, int] | None
    """Validity, half-open, nanoseconds TAI, unbounded ends as 0 and the largest time; only in CALIBRATION."""

    ingest_date: int | None = None
    """When the dataset was ingested where it is from, like that of a `Dataset`."""


class DatasetTypes(msgspec.Struct, frozen=True, tag=True):
    """Dataset types, sorted by name."""

    rows: Sequence[DatasetType]
    """The dataset types."""


class Collections(msgspec.Struct, frozen=True, tag=True):
    """Collections, sorted by name; their content comes later."""

    rows: Sequence[Collection]
    """The collections."""


class DimensionRecords(msgspec.Struct, frozen=True, tag=True):
    """Records of one dimension element; elements come in universe order."""

    element: str
    """Name of the element."""

    columns: tuple[str, ...]
    """Names of the columns, as `Universe.record_columns` has them, keys first."""

    rows: Sequence[tuple[Any, ...]]
    """Values by column, sorted by key: regions and hashes as bytes, a timespan as begin and end."""

    overlaps: Sequence[tuple[Any, ...]] = ()
    """Sky pixels of these records: system, level, values of the element's required dimensions, index."""


class Graph(msgspec.Struct, frozen=True, tag=True):
    """A quantum graph file that comes along.

    A provenance graph is also the file of its ``run_provenance`` dataset, and of all datasets that it backs:
    their records have its path. It is named here, before them, since who renames or renews has to rewrite it;
    who takes the bundle brings a file at this datastore and path from this location.
    """

    kind: Literal["predicted", "provenance"]
    """Which kind of graph."""

    run: str
    """Output run of the graph."""

    location: str
    """Where the file is now: an absolute path, or a URI."""

    datastore: str = ""
    """Datastore of the records that refer to it; empty for a predicted graph."""

    path: str = ""
    """Path in these records."""

    dataset_id: str | None = None
    """Id of the ``run_provenance`` dataset."""


class Datasets(msgspec.Struct, frozen=True, tag=True):
    """Datasets of one RUN collection, sorted by id, with the records of all their files.

    Batches of a run follow each other, in the order of ids; a ``run_provenance`` dataset is in the last one
    of its run, since nothing can be ingested into a run whose graph is in place.
    """

    run: str
    """Name of the collection."""

    rows: Sequence[Dataset]
    """The datasets."""

    files: Sequence[FileRecord] = ()
    """Records of their files, sorted by dataset; none for a dataset that only its row is wanted of."""

    is_renamed: bool = False
    """Whether run or ids were others where the files are from: then paths come from the destination's
    templates, and that of a graph for all that it backs. Until then records have the paths of the source."""


class Associations(msgspec.Struct, frozen=True, tag=True):
    """Members of one TAGGED or CALIBRATION collection, sorted by dataset id."""

    collection: str
    """Name of the collection."""

    rows: Sequence[Association]
    """The members."""


class Chain(msgspec.Struct, frozen=True, tag=True):
    """Children of a CHAINED collection; chains that are children come first."""

    name: str
    """Name of the chain."""

    children: tuple[str, ...]
    """Names of its children in search order; some may be neither in the bundle nor where it goes."""


Batch = (
    DatasetTypes | Collections | DimensionRecords | Graph | Datasets | Associations | Chain
)  # fmt: skip
"""A batch; the order of the members is that of the stream."""


class Producer(Protocol):
    """What a bundle comes from."""

    @property
    def head(self) -> Head:
        """What all batches depend on."""

    def batches(self) -> Iterator[Batch]:
        """Iterate over the bundle from its beginning.

        It can be called several times, and gives the same bundle each time: once for all checks, and once
        more to transfer it. A source that changes meanwhile gives what it has; so checks are made again where
        rows are written.

        Raises
        ------
        AggregatorError
            If the source can't be read.
        """


class Consumer(Protocol):
    """What takes a bundle."""

    def begin(self, head: Head) -> None:
        """Get ready for a bundle.

        Raises
        ------
        RefusedError
            If nothing of it could be taken; nothing is changed then.
        """

    def take(self, batch: Batch) -> None:
        """Take the next batch; when this returns, it is done with, durably.

        Raises
        ------
        AggregatorError
            If it can't be taken. What was taken before stays, and taking the same again does no harm.
        """

    def finish(self) -> None:
        """Do what needs all batches to have been taken, such as the removal of what was moved."""


def transfer(producer: Producer, consumer: Consumer, batches: Iterator[Batch] | None = None) -> None:
    """Bring a bundle from a producer to a consumer.

    Parameters
    ----------
    producer
        Where it is from.
    consumer
        Where it goes.
    batches
        The batches, transformed; by default as the producer has them.
    """
    consumer.begin(producer.head)
    for batch in producer.batches() if batches is None else batches:
        consumer.take(batch)
    consumer.finish()


def location(head: Head, record: FileRecord) -> str:
    """Return where a file of a bundle is now: an absolute path, or a URI; that of the archive for a member.

    Parameters
    ----------
    head
        The head of the bundle.
    record
        The record of the file.
    """
    path = file_path(record.path)
    if uris.scheme(path) == "file":
        return urllib.parse.unquote(path.partition("://")[2])
    if uris.is_absolute(path):
        return path
    root = next(each.root for each in head.datastores if each.name == record.datastore)
    return uris.join(root, path) if uris.is_remote(root) else os.path.join(root, path)


def archive_member(path: str) -> str:
    """Return the member of an archive that the path of a record names; empty if it names none."""
    fragment = path[len(file_path(path)) + 1 :]
    return urllib.parse.unquote(fragment.partition("=")[2])


def file_path(path: str) -> str:
    """Return the path of a record without the member of an archive that it may name."""
    # Otherwise a `#` belongs to the path.
    file, separator, fragment = path.rpartition("#")
    return file if separator and fragment.startswith(MEMBER) else path

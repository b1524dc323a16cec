"""What is ingested at once, and what came of it (butler-repository.md section 7)."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from aggregator.butler.registry import dataset_type_rows
from aggregator.schemas import datastore_records

Value: TypeAlias = int | str
"""Value of a dimension."""

Dataset: TypeAlias = tuple[str, dataset_type_rows.DatasetTypeRow, tuple[Value, ...]]
"""Id (32 lowercase hexadecimal digits), dataset type, and values of the type's required dimensions."""

File: TypeAlias = tuple[str, str, str, str, str, str, str | None]
"""Records table, datastore name, dataset id, path, formatter, storage class, component or `None`.

The path is relative to the datastore's root."""

FileKey: TypeAlias = tuple[str, str, str | None]
"""Records table, dataset id and component of a file."""

Measure: TypeAlias = tuple[str | None, int]
"""Checksum of a file, if there is one, and its size in bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Datasets of one RUN collection with their files; plain tuples, because there are many."""

    datasets: Sequence[Dataset]
    """The datasets, in any order."""

    files: Sequence[File]
    """Files of these datasets, in any order; a dataset may have several or none."""

    file_size: int = datastore_records.UNKNOWN_SIZE
    """Size in bytes of each file that has no measure."""

    measures: Mapping[FileKey, Measure] = dataclasses.field(default_factory=dict)
    """What is known of files whose content was looked at."""


class ConflictKind(enum.Enum):
    """Why a dataset can't be ingested."""

    ID = "id"
    """The id is that of another dataset."""

    DATA_ID = "data_id"
    """The run has a dataset of the same type and data ID, under another id."""

    DIMENSION = "dimension"
    """A dimension record that the data ID refers to is missing."""

    RECORD = "record"
    """A file record for the id exists already, although the dataset does not."""


@dataclasses.dataclass(frozen=True, slots=True)
class Conflict:
    """A dataset that was not ingested because the repository contradicts it."""

    kind: ConflictKind
    """Why."""

    dataset_id: str
    """Id of the dataset, 32 hexadecimal digits."""

    dataset_type: str
    """Name of its type."""

    data_id: tuple[tuple[str, Value], ...]
    """Required dimensions and their values."""

    reason: str
    """The same for the user, with the names and values of what it contradicts."""

    other_id: str | None = None
    """Id of the dataset that has the data ID."""

    def __str__(self) -> str:
        data_id = ", ".join(f"{name}={value!r}" for name, value in self.data_id)
        return f"{self.dataset_type} {{{data_id}}} with id {self.dataset_id}: {self.reason}"


@dataclasses.dataclass(frozen=True, slots=True)
class IngestResult:
    """What came of a batch; the numbers add up to the datasets offered."""

    n_ingested: int
    """Datasets written."""

    n_skipped: int
    """Datasets left alone because they are in the run already."""

    conflicts: tuple[Conflict, ...]
    """Datasets that could not be written, sorted by id."""


def conflict(dataset: Dataset, kind: ConflictKind, reason: str, other_id: str | None = None) -> Conflict:
    """Make a conflict from a dataset of the batch."""
    dataset_id, dataset_type, values = dataset
    data_id = tuple(zip(dataset_type.required, values, strict=True))
    return Conflict(kind, dataset_id, dataset_type.name, data_id, reason, other_id)

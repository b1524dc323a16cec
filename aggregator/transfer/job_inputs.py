"""What the quanta of a job need of a repository: files, and records that tell a node where these are."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from aggregator.butler import artifacts
from aggregator.execution import graph_context
from aggregator.schemas import bundle, datastore_records, packs, transfer_manifest
from aggregator.schemas.graphs import pipeline, predicted
from aggregator.storage import errors, stores
from aggregator.transfer import node_layout

_AT_ONCE: Final = 2000
"""Datasets whose files are looked for together."""


class _Reason(enum.Enum):
    """Why a job is given a dataset."""

    RECORDED = enum.auto()
    """It is an overall input of the graph, which has a record of it."""

    EARLIER = enum.auto()
    """Another quantum was to make it."""

    INIT_OUTPUT = enum.auto()
    """The run has it before its first quantum."""

    LOG = enum.auto()
    """It tells of earlier attempts at a quantum of the job."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Request:
    """A dataset whose files are to be found."""

    dataset: predicted.Dataset
    """The dataset."""

    reason: _Reason
    """What it is for."""

    candidates: list[list[artifacts.Artifact]]
    """Its files by datastore; one datastore that has all of them is enough."""


@dataclasses.dataclass(slots=True)
class File:
    """A file that a job needs."""

    artifact: artifacts.Artifact
    """Where it is in the repository."""

    path: str
    """Where it is to be on the node, relative to the root of its datastore."""

    name: str
    """Its flat name."""

    size: int
    """Bytes."""

    run: str
    """RUN collection of its datasets."""

    is_init_output: bool
    """Whether it is an output of an init quantum."""

    dataset_ids: list[str] = dataclasses.field(default_factory=list)
    """Datasets that are in it."""

    def packed(self, checksum: str) -> packs.InputFile:
        """Return what a pack tells of it, given the checksum of its content."""
        return packs.InputFile(
            self.name, self.artifact.datastore, self.path, self.artifact.store.location(self.artifact.key),
            self.size, checksum, tuple(self.dataset_ids), self.is_init_output,
        )  # fmt: skip

    def listed(self) -> transfer_manifest.Entry:
        """Return what a manifest tells of it."""
        record = self.artifact.record
        return transfer_manifest.Entry(
            ids=tuple(each.replace("-", "") for each in self.dataset_ids), run=self.run,
            origin=self.artifact.store.location(self.artifact.key), target="", path=self.name, size=self.size,
            checksum=record.checksum, datastore=self.artifact.datastore, formatter=record.formatter,
            storage_class=record.storage_class, component=record.component,
        )  # fmt: skip


class JobInputs:
    """Finds the files that the quanta of a job need.

    Parameters
    ----------
    context
        Graph and repository.
    """

    def __init__(self, context: graph_context.GraphContext) -> None:
        self._context = context
        self._made: set[str] = set()
        self._seen: set[str] = set()
        self._records: dict[str, list[tuple[str, datastore_records.FileRecord]]] = {}
        self._files: dict[tuple[str, str], File] = {}
        self._placed: dict[str, list[bundle.FileRecord]] = {}
        self.made: dict[str, tuple[predicted.Dataset, list[bundle.FileRecord]]] = {}
        """Datasets that quanta of the run have made, by their 32 digits, with the records that they will have
        in the repository: its database may not know them yet."""
        self.needed_ids: list[str] = []
        """Ids of the datasets that quanta read, with or without dashes."""
        self.n_absent = 0
        """Datasets that quanta which are none of the job were to make, and have not made."""

    @property
    def files(self) -> list[File]:
        """The files, each once."""
        return list(self._files.values())

    @property
    def n_init_outputs(self) -> int:
        """Number of init outputs that are there."""
        return sum(file.is_init_output for file in self._files.values())

    def find(self, blocks: Callable[[], Iterable[predicted.Quantum]]) -> None:
        """Find all files.

        Parameters
        ----------
        blocks
            Gives the quanta, each time from the start.

        Raises
        ------
        RefusedError
            If a file is missing that the graph has a record of, or lies where no node could have it.
        AggregatorError
            If one can't be looked at.
        """
        for quantum in blocks():
            self._made.update(dataset.dataset_id for dataset in _all(quantum.outputs))
        requests = itertools.chain(
            itertools.chain.from_iterable(map(self._of_init_quantum, self._context.init_blocks)),
            itertools.chain.from_iterable(map(self._of_quantum, blocks())),
        )
        while portion := list(itertools.islice(requests, _AT_ONCE)):
            self._take(portion)

    def _of_init_quantum(self, quantum: predicted.Quantum) -> Iterator[_Request]:
        yield from self._recorded(quantum)
        for dataset in _all(quantum.outputs):
            if self._is_new(dataset):
                yield _Request(dataset, _Reason.INIT_OUTPUT, self._predicted(dataset))

    def _of_quantum(self, quantum: predicted.Quantum) -> Iterator[_Request]:
        yield from self._recorded(quantum)
        for dataset in _all(quantum.inputs):
            if dataset.dataset_id in self._made or not self._is_new(dataset):
                continue
            if dataset.run != self._context.graph.header.output_run:
                raise errors.RefusedError(
                    f"{self._context.graph.path}: has no datastore record of input {dataset.dataset_id} "
                    f"({dataset.dataset_type_name}), so nobody knows where its file is. Build the graph "
                    "again with records of its inputs."
                )
            yield _Request(dataset, _Reason.EARLIER, self._predicted(dataset))
        for dataset in quantum.outputs.get(pipeline.LOG_CONNECTION, ()):
            yield _Request(dataset, _Reason.LOG, self._predicted(dataset))

    def _is_new(self, dataset: predicted.Dataset) -> bool:
        is_new = dataset.dataset_id not in self._seen
        self._seen.add(dataset.dataset_id)
        return is_new

    def _predicted(self, dataset: predicted.Dataset) -> list[list[artifacts.Artifact]]:
        ref = self._context.ref(dataset)
        return self._context.files.predicted(ref, ref.datasetType.storage_class)

    def _recorded(self, quantum: predicted.Quantum) -> Iterator[_Request]:
        """Yield the inputs that a quantum has records of."""
        parsed = datastore_records.parse(quantum.datastore_records, self._context.graph.path)
        rows: dict[uuid.UUID, list[tuple[str, datastore_records.FileRecord]]] = {}
        for name, records in parsed.items():
            # In order, so that equal packs have equal bytes.
            for record in sorted(records, key=lambda each: (each.dataset_id.hex, each.component or "")):
                rows.setdefault(record.dataset_id, []).append((name, record))
        for dataset in _all(quantum.inputs):
            recorded = rows.get(uuid.UUID(dataset.dataset_id))
            if recorded is not None and self._is_new(dataset):
                yield _Request(dataset, _Reason.RECORDED, self._context.files.recorded(recorded))

    def _take(self, requests: Sequence[_Request]) -> None:
        """Look for the files of some datasets."""
        every = [_whole(file) for request in requests for files in request.candidates for file in files]
        looks = iter(artifacts.marks(every))
        for request in requests:
            marks = [[next(looks) for _ in files] for files in request.candidates]
            chosen = next((i for i, each in enumerate(marks) if each and None not in each), None)
            if chosen is not None:
                for artifact, mark in zip(request.candidates[chosen], marks[chosen], strict=True):
                    assert mark is not None
                    self._add(request, artifact, mark)
            elif request.reason is _Reason.RECORDED:
                raise errors.RefusedError(self._absence(request))
            elif request.reason is _Reason.EARLIER:
                self.n_absent += 1

    def _absence(self, request: _Request) -> str:
        places = [file.store.location(file.key) for files in request.candidates for file in files]
        where = places[0] if places else "none of the repository's datastores has it"
        return (
            f"Input {request.dataset.dataset_id} ({request.dataset.dataset_type_name}) is missing: "
            f"{where}. Nothing was packed. Put the file back, or build the graph again."
        )

    def _add(self, request: _Request, artifact: artifacts.Artifact, mark: stores.Mark) -> None:
        """Note a file, and the record that a node needs of it."""
        record, dataset_id = artifact.record, request.dataset.dataset_id
        whole = bundle.file_path(record.path)
        # Of what is in an archive, a record has the size of its own.
        is_whole = whole == record.path
        if is_whole and 0 <= record.file_size != mark.size:
            raise errors.RefusedError(
                f"{artifact.store.location(artifact.key)}: has {mark.size} bytes, its record says "
                f"{record.file_size}. It is not what the graph was built with; put the right file back."
            )
        file = self._files.get((artifact.datastore, whole))
        if file is None:
            name = packs.flat_name(dataset_id, record.component, whole)
            path = node_layout.input_path(whole, name)
            is_init_output = request.reason is _Reason.INIT_OUTPUT
            run = request.dataset.run
            file = File(_whole(artifact), path, name, mark.size, run, is_init_output)
            self._files[artifact.datastore, whole] = file
        if dataset_id not in file.dataset_ids[-1:]:
            file.dataset_ids.append(dataset_id)
        placed = dataclasses.replace(
            record,
            path=file.path + record.path.removeprefix(whole),
            file_size=mark.size if is_whole else record.file_size,
        )
        self._placed.setdefault(uuid.UUID(dataset_id).hex, []).append(_in_bundle(artifact.datastore, placed))
        if request.reason is not _Reason.LOG and dataset_id not in self.needed_ids[-1:]:
            self.needed_ids.append(dataset_id)
        if request.reason in (_Reason.EARLIER, _Reason.INIT_OUTPUT):
            own = dataclasses.replace(record, file_size=placed.file_size)
            _, records = self.made.setdefault(uuid.UUID(dataset_id).hex, (request.dataset, []))
            records.append(_in_bundle(artifact.datastore, own))
        if request.reason in (_Reason.RECORDED, _Reason.EARLIER):
            self._records.setdefault(dataset_id, []).append((artifact.datastore, placed))

    @property
    def dataset_ids(self) -> list[str]:
        """Ids of the datasets that are in the files, with or without dashes."""
        return list(self._placed)

    def file_records(self, dataset_id: str) -> list[bundle.FileRecord]:
        """Return the records of a dataset's files on the node, by its 32 digits."""
        return self._placed.get(dataset_id, [])

    def records(self, quantum: predicted.Quantum) -> dict[str, Any]:
        """Return the datastore records that a quantum has on the node, regular or init."""
        by_store: dict[str, set[datastore_records.FileRecord]] = {}
        for dataset in _all(quantum.inputs):
            for name, record in self._records.get(dataset.dataset_id, ()):
                by_store.setdefault(name, set()).add(record)
        return datastore_records.document({name: frozenset(rows) for name, rows in by_store.items()})


def _in_bundle(datastore: str, record: datastore_records.FileRecord) -> bundle.FileRecord:
    return bundle.FileRecord(
        record.dataset_id.hex, datastore, record.path, record.formatter, record.storage_class,
        record.component, record.checksum, record.file_size,
    )  # fmt: skip


def _whole(artifact: artifacts.Artifact) -> artifacts.Artifact:
    """Return the file itself that a dataset is in, be it an archive."""
    return dataclasses.replace(artifact, member="")


def _all(datasets: dict[str, list[predicted.Dataset]]) -> Iterable[predicted.Dataset]:
    return itertools.chain.from_iterable(datasets.values())

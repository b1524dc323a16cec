"""Makes what packs have brought datasets of a repository, for graphs that nobody aggregates."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Mapping
from typing import Self

import msgspec

from aggregator.butler import artifacts, dataset_refs, provenance_transfer
from aggregator.butler import quantum as quantum_module
from aggregator.butler.registry import registry
from aggregator.butler.transfers import renaming
from aggregator.execution import graph_context
from aggregator.schemas import datastore_records, packs
from aggregator.schemas.execution import quantum_provenance
from aggregator.schemas.graphs import predicted
from aggregator.storage import errors
from aggregator.transfer import result_summaries
from aggregator.workers.roles.ingesting import registrations

_Sizes = Mapping[tuple[uuid.UUID, str | None], int]
"""Bytes of files, by dataset and component."""


class DeliveredRows:
    """The database that what is delivered goes to.

    Parameters
    ----------
    context
        Graph and repository.
    done
        What was done.
    register_dataset_types
        Whether dataset types are registered that the repository does not know.
    names
        New names of RUN collections; files keep the places that the graph predicts.
    """

    def __init__(
        self,
        context: graph_context.GraphContext,
        done: result_summaries.DeliverSummary,
        register_dataset_types: bool,
        names: renaming.Renaming,
    ) -> None:
        self._context = context
        self._done = done
        self._registers = register_dataset_types
        self._names = names
        self._target = registry.open_repository(context.config, writeable=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._target.close()

    def add(self, rows: Iterable[tuple[packs.PackedQuantum, predicted.Quantum]]) -> None:
        """Ingest the outputs of quanta, and the init outputs of the run; what is there already is skipped.

        Parameters
        ----------
        rows
            What packs tell of quanta, and these.

        Raises
        ------
        AggregatorError
            If a dataset type is not registered, the database contradicts datasets, or it fails.
        """
        header, pipeline = self._context.graph.header, self._context.graph.pipeline
        header = msgspec.structs.replace(header, output_run=self._names.name(header.output_run))
        registrations.register(
            self._target, header, pipeline, dataset_types=self._registers, output_chain=False
        )
        quanta = [self._context.init_quantum(block) for block in self._context.init_blocks]
        sizes = list(map(self._there, quanta))
        for row, block in rows:
            quanta.append(self._context.quantum(block))
            sizes.append({(uuid.UUID(file.dataset_id), file.component): file.size for file in row.files})
        transfer = provenance_transfer.collect_and_transfer(
            self._target,
            self._context.files,
            map(self._renamed, quanta),
            map(self._provenance, quanta, sizes),
        )
        self._done.n_ingested += transfer.n_ingested
        self._done.n_skipped += transfer.n_skipped
        if transfer.conflicts:
            raise errors.ConflictError(
                f"{self._context.config.path}: the database contradicts {len(transfer.conflicts)} "
                f"datasets, the first is {transfer.conflicts[0]}. All others are in it, and all files are "
                "in their places."
            )

    def _renamed(self, quantum: quantum_module.Quantum) -> quantum_module.Quantum:
        """Return a quantum whose outputs are in the collections that they get into."""
        outputs = {
            name: tuple(dataclasses.replace(ref, run=self._names.name(ref.run)) for ref in refs)
            for name, refs in quantum.outputs.items()
        }
        return dataclasses.replace(quantum, outputs=outputs)

    def _there(self, quantum: quantum_module.Quantum) -> _Sizes:
        """Return the sizes of the outputs of an init quantum that are there."""
        files = [file for ref in quantum.predicted_outputs() for file in self._files(ref)]
        marks = zip(files, artifacts.marks(files), strict=True)
        return {
            (file.record.dataset_id, file.record.component): mark.size
            for file, mark in marks
            if mark is not None
        }

    def _files(self, ref: dataset_refs.DatasetRef) -> list[artifacts.Artifact]:
        stored = self._context.dataset_types.get(ref.datasetType.parent, ref.datasetType.storage_class)
        return [file for files in self._context.files.predicted(ref, stored) for file in files]

    def _provenance(
        self, quantum: quantum_module.Quantum, sizes: _Sizes
    ) -> quantum_provenance.QuantumProvenance:
        """Return what a quantum has written, as its executor would tell it."""
        written = {dataset_id for dataset_id, _ in sizes}
        records: dict[str, set[datastore_records.FileRecord]] = {}
        for ref in quantum.predicted_outputs():
            if ref.id not in written:
                continue
            for file in self._files(ref):
                size = sizes.get((ref.id, file.record.component), datastore_records.UNKNOWN_SIZE)
                record = dataclasses.replace(file.record, file_size=size)
                records.setdefault(file.datastore, set()).add(record)
        return quantum_provenance.QuantumProvenance(
            predicted_inputs=frozenset(ref.id for ref in quantum.predicted_inputs()),
            available_inputs=frozenset(),
            actual_inputs=frozenset(),
            predicted_outputs=frozenset(ref.id for ref in quantum.predicted_outputs()),
            actual_outputs=frozenset(written),
            datastore_records={name: frozenset(rows) for name, rows in records.items()},
        )

"""From what quanta have left of their accesses to datasets of a repository, many quanta at once."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from aggregator.butler import artifacts, dataset_refs
from aggregator.butler import quantum as quantum_module
from aggregator.butler.registry import batch, dataset_type_rows, registry
from aggregator.schemas import datastore_records
from aggregator.schemas.execution import quantum_provenance

DATASETS_AT_ONCE: Final = 10_000
"""Datasets in one transaction."""

Output = tuple[dataset_refs.DatasetRef, list[artifacts.Artifact]]
"""A dataset that a quantum has written, with its files."""


@dataclasses.dataclass(frozen=True, slots=True)
class Transfer:
    """What came of the outputs of quanta."""

    n_ingested: int = 0
    """Datasets that are new in the repository."""

    n_skipped: int = 0
    """Datasets that were there already."""

    missing: tuple[dataset_refs.DatasetRef, ...] = ()
    """Datasets that are left out because files of them are gone."""

    conflicts: tuple[batch.Conflict, ...] = ()
    """Datasets that are left out because the repository contradicts them."""


def collect_and_transfer(
    target: registry.Registry,
    files: artifacts.Artifacts,
    quanta: Iterable[quantum_module.Quantum],
    provenance: Iterable[quantum_provenance.QuantumProvenance],
    *,
    check_files: bool = True,
) -> Transfer:
    """Make the outputs of quanta datasets of a repository.

    Each transaction has all rows of up to `DATASETS_AT_ONCE` datasets, or none. What is there already is
    skipped, so that the same can be done again.

    Parameters
    ----------
    target
        The repository's database, with the RUN collections and dataset types registered.
    files
        Where its files are.
    quanta
        The quanta, which can be a single-pass iterator.
    provenance
        What each of them has left, in the same order.
    check_files
        Whether to look for the files, and leave datasets out that have lost one.

    Returns
    -------
    transfer
        What came of them.

    Raises
    ------
    ValueError
        If there are not as many quanta as provenance, or one does not belong to the other. What came before
        it may be in the repository.
    AggregatorError
        If a run or dataset type is not registered, or the database fails.
    """
    transfer = Transfer()
    for outputs in _portions(_outputs(files, quanta, provenance)):
        transfer = _add(transfer, target, files, outputs, check_files=check_files)
    return transfer


def _outputs(
    files: artifacts.Artifacts,
    quanta: Iterable[quantum_module.Quantum],
    provenance: Iterable[quantum_provenance.QuantumProvenance],
) -> Iterator[Output]:
    for quantum, each in zip(quanta, provenance, strict=True):
        refs = {ref.id: ref for ref in quantum.predicted_outputs()}
        if refs.keys() != each.predicted_outputs:
            raise ValueError(f"the provenance given for quantum {quantum.id} is that of another one")
        rows: dict[uuid.UUID, list[tuple[str, datastore_records.FileRecord]]] = {}
        for name, records in each.datastore_records.items():
            for record in records:
                rows.setdefault(record.dataset_id, []).append((name, record))
        for dataset_id in sorted(each.actual_outputs):
            stores = files.recorded(rows.get(dataset_id, ()))
            yield refs[dataset_id], [file for store in stores for file in store]


def _portions(outputs: Iterable[Output]) -> Iterator[list[Output]]:
    """Yield the outputs of one run, up to the most that are taken at once."""
    by_run: dict[str, list[Output]] = {}
    for output in outputs:
        pending = by_run.setdefault(output[0].run, [])
        pending.append(output)
        if len(pending) == DATASETS_AT_ONCE:
            yield by_run.pop(output[0].run)
    yield from by_run.values()


def _add(
    transfer: Transfer,
    target: registry.Registry,
    files: artifacts.Artifacts,
    outputs: Sequence[Output],
    *,
    check_files: bool,
) -> Transfer:
    present, missing = _divided(outputs) if check_files else (outputs, [])
    rows = target.dataset_types.rows({ref.datasetType.name for ref, _ in outputs})
    result = target.datasets.ingest(outputs[0][0].run, _batch(present, rows, files))
    return Transfer(
        transfer.n_ingested + result.n_ingested,
        transfer.n_skipped + result.n_skipped,
        (*transfer.missing, *missing),
        (*transfer.conflicts, *result.conflicts),
    )


def _divided(outputs: Sequence[Output]) -> tuple[list[Output], list[dataset_refs.DatasetRef]]:
    """Return the outputs that have all of their files, and the others."""
    there = iter(artifacts.are_there([file for _, each in outputs for file in each]))
    present, missing = [], []
    for ref, each in outputs:
        looks = [next(there) for _ in each]
        if looks and all(looks):
            present.append((ref, each))
        else:
            missing.append(ref)
    return present, missing


def _batch(
    outputs: Iterable[Output],
    rows: Mapping[str, dataset_type_rows.DatasetTypeRow],
    files: artifacts.Artifacts,
) -> batch.Batch:
    datasets: list[batch.Dataset] = []
    places: list[batch.File] = []
    measures: dict[batch.FileKey, batch.Measure] = {}
    for ref, each in outputs:
        row = rows[ref.datasetType.name]
        datasets.append((ref.id.hex, row, tuple(ref.dataId[name] for name in row.required)))
        for file in each:
            record, table = file.record, files.datastores[file.datastore].records_table
            place = (record.path, record.formatter, record.storage_class, record.component)
            places.append((table, file.datastore, ref.id.hex, *place))
            measures[table, ref.id.hex, record.component] = record.checksum, record.file_size
    return batch.Batch(datasets, places, measures=measures)

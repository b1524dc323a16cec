"""The butler of one quantum: it needs no repository database, and keeps account of what is read and written.

Inputs and outputs are those that the graph predicts. Files lie where the configuration of the repository puts
them, so that they can be found, and ingested, when the quantum has ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from aggregator.butler import (
    accesses,
    artifacts,
    dataset_contents,
    dataset_refs,
    limited_butler,
    private_database,
    retrieved_files,
    stored_datasets,
)
from aggregator.butler import quantum as quantum_module
from aggregator.butler.formatting import dataset_provenance
from aggregator.schemas import datastore_records as records_module
from aggregator.schemas.execution import quantum_provenance
from aggregator.storage import errors

_log = logging.getLogger(__name__)


class NotPredictedError(errors.AggregatorError, RuntimeError):
    """The quantum is not to read or write this dataset."""


class AlreadyPutError(errors.AggregatorError, RuntimeError):
    """The quantum has written this dataset already."""


class QuantumBackedButler(limited_butler.LimitedButler):
    """The butler of one quantum, for one thread.

    `initialize` and `from_predicted` make it.

    Parameters
    ----------
    files
        Where files of datasets are.
    predicted_inputs
        Ids of datasets that can be read.
    predicted_outputs
        Ids of datasets that can be written.
    database
        Where records of files are kept.
    dataset_types
        Storage classes in the repository, by name of the dataset type, where they differ from those that the
        quantum uses.
    strict
        Whether to refuse to read datasets that the quantum neither reads nor writes according to the graph.
    unpickle
        Whether pickles of any objects may be read and written. They can do anything when they are read.
    """

    def __init__(
        self,
        files: artifacts.Artifacts,
        predicted_inputs: Iterable[uuid.UUID],
        predicted_outputs: Iterable[uuid.UUID],
        database: private_database.PrivateDatabase,
        *,
        dataset_types: Mapping[str, str] | None = None,
        strict: bool = True,
        unpickle: bool = False,
    ) -> None:
        self.dimensions = files.dimensions
        self._artifacts = files
        contents = dataset_contents.Contents(files.storage_classes, unpickle=unpickle)
        self._datasets = stored_datasets.StoredDatasets(files, database, contents, dataset_types or {})
        self._database = database
        self._accesses = accesses.Accesses(predicted_inputs, predicted_outputs, database)
        self.replaces = True
        """Whether `put` replaces files that are there."""
        self.taken: list[dataset_refs.DatasetRef] = []
        """Datasets that could not be put, since another process has."""
        self._strict = strict
        self._metrics = limited_butler.ButlerMetrics()

    @classmethod
    def initialize(
        cls,
        files: artifacts.Artifacts,
        quantum: quantum_module.Quantum,
        *,
        filename: str | None = None,
        dataset_types: Mapping[str, str] | None = None,
        strict: bool = True,
        unpickle: bool = False,
    ) -> Self:
        """Return the butler of a quantum.

        Parameters
        ----------
        files
            Where files of datasets are.
        quantum
            The quantum.
        filename
            SQLite file for its records and for what is read and written, which is made; by default all that
            is kept in memory.
        dataset_types, strict, unpickle
            As for the class.

        Raises
        ------
        RefusedError
            If there is a file of that name already.
        """
        return cls.from_predicted(
            files,
            [ref.id for ref in quantum.predicted_inputs()],
            [ref.id for ref in quantum.predicted_outputs()],
            quantum.datastore_records,
            filename=filename,
            dataset_types=dataset_types,
            strict=strict,
            unpickle=unpickle,
        )

    @classmethod
    def from_predicted(
        cls,
        files: artifacts.Artifacts,
        predicted_inputs: Iterable[uuid.UUID],
        predicted_outputs: Iterable[uuid.UUID],
        datastore_records: records_module.Records,
        *,
        filename: str | None = None,
        dataset_types: Mapping[str, str] | None = None,
        strict: bool = True,
        unpickle: bool = False,
    ) -> Self:
        """Return the butler for some inputs and outputs.

        Parameters
        ----------
        files
            Where files of datasets are.
        predicted_inputs
            Ids of datasets that can be read.
        predicted_outputs
            Ids of datasets that can be written.
        datastore_records
            Records of inputs; files of others are looked for where the configuration puts them.
        filename, dataset_types, strict, unpickle
            As for `initialize`.

        Raises
        ------
        RefusedError
            If there is a file of that name already.
        """
        tables = {name: config.records_table for name, config in files.datastores.items()}
        database = private_database.PrivateDatabase(filename, files.dimensions, tables)
        rows = [(name, row) for name, each in datastore_records.items() for row in each]
        # What is known of other datastores is of no use here.
        database.insert([(name, row) for name, row in rows if tables.get(name) == row.table])
        return cls(
            files,
            predicted_inputs,
            predicted_outputs,
            database,
            dataset_types=dataset_types,
            strict=strict,
            unpickle=unpickle,
        )

    def close(self) -> None:
        """Close the database; its file, if it has one, is complete then."""
        self._database.close()

    def isWriteable(self) -> bool:
        """Return that datasets can be written."""
        return True

    def get_datastore_names(self) -> tuple[str, ...]:
        """Return the names of the datastores."""
        return tuple(self._artifacts.datastores)

    def get_datastore_roots(self) -> dict[str, str]:
        """Return where the files of each datastore are, by its name."""
        return {name: config.root for name, config in self._artifacts.datastores.items()}

    def get(
        self,
        ref: dataset_refs.DatasetRef,
        /,
        *,
        parameters: Mapping[str, Any] | None = None,
        storageClass: str | None = None,
    ) -> Any:
        """Read a dataset; see `LimitedButler.get`.

        Raises
        ------
        NotPredictedError
            If it is neither input nor output of the quantum.
        """
        self._check_membership(ref)
        target = ref.datasetType.storage_class if storageClass is None else storageClass
        self._check_storage_class(target)
        try:
            with self._metrics.getting():
                value = self._datasets.read(ref, dict(parameters or {}), target)
        except FileNotFoundError:
            self._accesses.note_missing(ref.id)
            raise
        self._accesses.note_read(ref.id)
        return value

    def getDeferred(
        self,
        ref: dataset_refs.DatasetRef,
        /,
        *,
        parameters: Mapping[str, Any] | None = None,
        storageClass: str | None = None,
    ) -> limited_butler.DeferredDatasetHandle:
        """Return a handle by which a dataset can be read later, and count it as used; see `LimitedButler`."""
        self._accesses.note_handle(ref.id)
        return super().getDeferred(ref, parameters=parameters, storageClass=storageClass)

    def put(
        self,
        obj: Any,
        ref: dataset_refs.DatasetRef,
        /,
        *,
        provenance: dataset_provenance.DatasetProvenance | None = None,
    ) -> dataset_refs.DatasetRef:
        """Write a dataset; see `LimitedButler.put`. Files of an earlier attempt are replaced by default.

        Raises
        ------
        TakenError
            If there is a file that is not to be replaced.
        NotPredictedError
            If it is no output of the quantum.
        AlreadyPutError
            If it has been written by this butler; what was written stays.
        """
        if not self._accesses.is_in(accesses.PREDICTED_OUTPUTS, ref.id) or ref.isComponent():
            raise NotPredictedError(f"{ref}: is no output of the quantum, so it can't be written.")
        if self._database.rows([ref.id]):
            raise AlreadyPutError(f"{ref}: is written already; a quantum writes each output once.")
        with self._metrics.putting():
            notes = provenance or dataset_provenance.DatasetProvenance()
            try:
                rows = self._datasets.write(obj, ref, notes, overwrite=self.replaces)
            except artifacts.TakenError:
                self.taken.append(ref)
                raise
            self._accesses.note_written(ref.id)
            try:
                self._database.insert(rows)
            except BaseException:
                self._accesses.note_purged([ref.id])
                raise
        return ref

    def stored_many(self, refs: Iterable[dataset_refs.DatasetRef]) -> dict[dataset_refs.DatasetRef, bool]:
        """Return for each of many datasets whether its files are there, all of them."""
        looks = {ref: bool(files) for ref, files in self._datasets.present(refs).items()}
        self._accesses.note_looks((ref.id, is_there) for ref, is_there in looks.items())
        return looks

    def remove_parts(self, refs: Iterable[dataset_refs.DatasetRef]) -> None:
        """Remove the files of outputs that are not there as a whole.

        Raises
        ------
        AggregatorError
            If some can't be deleted.
        """
        self._datasets.remove(self._datasets.parts(refs))

    def get_many_uris(
        self, refs: Iterable[dataset_refs.DatasetRef], predict: bool = False, allow_missing: bool = False
    ) -> dict[dataset_refs.DatasetRef, limited_butler.DatasetURIs]:
        """Return where the files of many datasets are; see `LimitedButler.get_many_uris`."""
        result = {}
        for ref, files in self._datasets.present(refs).items():
            if files:
                result[ref] = _uris(files, "")
            elif predict:
                result[ref] = _uris(next(iter(self._datasets.predicted(ref)), []), "#predicted")
            elif not allow_missing:
                raise FileNotFoundError(f"{ref}: has no files.")
        return result

    def retrieve_artifacts(
        self,
        refs: Iterable[dataset_refs.DatasetRef],
        destination: str,
        transfer: str = "auto",
        preserve_path: bool = True,
        overwrite: bool = False,
    ) -> list[str]:
        """Bring the files of datasets to a local directory; see `retrieved_files.retrieve`.

        Parameters
        ----------
        refs
            The datasets, no components of some.
        destination
            The directory, with a slash at its end if it does not exist.
        transfer
            How: "auto", "copy", "link", "hardlink", "symlink" or "relsymlink".
        preserve_path
            Whether their paths are those in the datastore.
        overwrite
            Whether to replace files that are there.

        Returns
        -------
        paths
            Where the files are.
        """
        place = retrieved_files.directory(destination, self.get_datastore_roots().values())
        indexed = retrieved_files.retrieve(
            self._whole(refs),
            place,
            self.dimensions,
            mode=transfer,
            preserve_path=preserve_path,
            overwrite=overwrite,
        )
        return [os.path.join(place, name) for name in indexed]

    def retrieve_artifacts_zip(
        self, refs: Iterable[dataset_refs.DatasetRef], destination: str, overwrite: bool = True
    ) -> str:
        """Write an archive of the files of datasets into a local directory, and return its path.

        Parameters
        ----------
        refs
            The datasets, at least one, no components of some.
        destination
            The directory, with a slash at its end if it does not exist.
        overwrite
            Whether to replace an archive of the same files.
        """
        files = self._whole(refs)
        if not files:
            raise ValueError("there are no datasets to make an archive of")
        place = retrieved_files.directory(destination, self.get_datastore_roots().values())
        return retrieved_files.archive(files, place, self.dimensions, overwrite=overwrite)

    def _whole(
        self, refs: Iterable[dataset_refs.DatasetRef]
    ) -> dict[dataset_refs.DatasetRef, list[artifacts.Artifact]]:
        """Return the files of datasets that are there as a whole."""
        chosen = list(refs)
        for ref in chosen:
            self._check_membership(ref)
            if ref.isComponent():
                raise ValueError(f"{ref}: files of a component alone are not retrieved")
        files = self._datasets.present(chosen)
        for ref, each in files.items():
            if not each:
                raise FileNotFoundError(f"{ref}: has no files.")
        return files

    def markInputUnused(self, ref: dataset_refs.DatasetRef) -> None:
        """Note that a dataset was read, or a handle made for it, and nothing depends on it."""
        self._accesses.note_unused(ref.id)

    def pruneDatasets(
        self,
        refs: Iterable[dataset_refs.DatasetRef],
        *,
        disassociate: bool = True,
        unstore: bool = False,
        tags: Iterable[str] = (),
        purge: bool = False,
    ) -> None:
        """Remove datasets; see `LimitedButler.pruneDatasets`. Inputs are never removed."""
        if purge and not (disassociate and unstore):
            raise TypeError("purge=True needs disassociate=True and unstore=True")
        if disassociate and not purge:
            raise TypeError("disassociate=True needs purge=True: there are no collections to take it out of")
        outputs = list(refs)
        for ref in outputs:
            if ref.isComponent():
                raise ValueError(f"{ref}: a component can't be removed")
            is_output = self._accesses.is_in(accesses.PREDICTED_OUTPUTS, ref.id)
            if self._accesses.is_in(accesses.PREDICTED_INPUTS, ref.id) or (self._strict and not is_output):
                raise ValueError(f"{ref}: is no output of the quantum, so it is not removed")
        if unstore:
            self._datasets.remove(outputs)
            self._database.delete([ref.id for ref in outputs])
        if purge:
            self._accesses.note_purged(ref.id for ref in outputs)

    @contextlib.contextmanager
    def record_metrics(self) -> Iterator[limited_butler.ButlerMetrics]:
        """Count what is done with datasets in a ``with`` statement."""
        before, self._metrics = self._metrics, limited_butler.ButlerMetrics()
        try:
            yield self._metrics
        finally:
            self._metrics = before

    def extract_provenance_data(self) -> quantum_provenance.QuantumProvenance:
        """Return what was read and written, with records of the files that were written.

        Warnings in the log tell if inputs were not looked for, or turned out to be missing.
        """
        self._accesses.settle()
        rows = self._database.rows(self._accesses[accesses.ACTUAL_OUTPUTS])
        return quantum_provenance.QuantumProvenance(
            **{kind: self._accesses[kind] for kind in quantum_provenance.SETS},
            datastore_records=private_database.by_datastore(self._artifacts.datastores, rows),
        )

    def export_predicted_datastore_records(
        self, refs: Iterable[dataset_refs.DatasetRef]
    ) -> dict[str, frozenset[records_module.FileRecord]]:
        """Return the records that datasets are going to have, by datastore; sizes are unknown.

        Raises
        ------
        ValueError
            If one is neither input nor output of the quantum.
        """
        rows = []
        for ref in refs:
            if not self._is_member(ref):
                raise ValueError(f"{ref}: is neither input nor output of the quantum")
            rows += [
                (file.datastore, file.record) for files in self._datasets.predicted(ref) for file in files
            ]
        return private_database.by_datastore(self._artifacts.datastores, rows)

    def _is_member(self, ref: dataset_refs.DatasetRef) -> bool:
        kinds = accesses.PREDICTED_INPUTS, accesses.PREDICTED_OUTPUTS
        return any(self._accesses.is_in(kind, ref.id) for kind in kinds)

    def _check_membership(self, ref: dataset_refs.DatasetRef) -> None:
        if self._strict and not self._is_member(ref):
            raise NotPredictedError(f"{ref}: is neither input nor output of the quantum.")

    def _check_storage_class(self, name: str) -> None:
        if name != dataset_refs.AS_STORED and not self._artifacts.has_storage_class(name):
            raise KeyError(f"there is no storage class {name!r}")


def _uris(files: list[artifacts.Artifact], ending: str) -> limited_butler.DatasetURIs:
    uris = {file.record.component: file.uri + ending for file in files}
    primary = uris.pop(None, None)
    return limited_butler.DatasetURIs(primary, {str(name): uri for name, uri in uris.items()})

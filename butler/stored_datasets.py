"""Datasets in their files: looked for, read, written and removed by references."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from aggregator.butler import artifacts, dataset_contents, dataset_refs, private_database
from aggregator.butler.formatting import dataset_provenance
from aggregator.storage import errors


class StoredDatasets:
    """The datasets that one quantum reads and writes.

    Parameters
    ----------
    files
        Where files of datasets are.
    database
        Records of files. Datasets without any are looked for where the configuration puts them.
    contents
        From objects to contents of files, and back.
    storage_classes
        Storage classes in the repository, by name of the dataset type, where references have others.
    """

    def __init__(
        self,
        files: artifacts.Artifacts,
        database: private_database.PrivateDatabase,
        contents: dataset_contents.Contents,
        storage_classes: Mapping[str, str],
    ) -> None:
        self._artifacts = files
        self._database = database
        self._contents = contents
        self._storage_classes = storage_classes
        self._predictions: dict[dataset_refs.DatasetRef, list[list[artifacts.Artifact]]] = {}

    def predicted(self, ref: dataset_refs.DatasetRef) -> list[list[artifacts.Artifact]]:
        """Return the files that a dataset is predicted to have, by datastore."""
        # Outputs are looked for before they are written.
        files = self._predictions.get(ref)
        if files is None:
            files = self._predictions[ref] = self._artifacts.predicted(ref, self._storage_class(ref))
        return files

    def present(
        self, refs: Iterable[dataset_refs.DatasetRef]
    ) -> dict[dataset_refs.DatasetRef, list[artifacts.Artifact]]:
        """Return the files of datasets in the first datastore that has all of them; none if no one has."""
        files = self._files(refs)
        looks = iter(artifacts.are_there(_flat(files.values())))
        present: dict[dataset_refs.DatasetRef, list[artifacts.Artifact]] = {}
        for ref, stores in files.items():
            by_store = [[next(looks) for _ in each] for each in stores]
            whole = [each for each, look in zip(stores, by_store, strict=True) if all(look)]
            present[ref] = whole[0] if whole else []
        return present

    def read(self, ref: dataset_refs.DatasetRef, parameters: Mapping[str, Any], target: str) -> Any:
        """Return a dataset, or a component of it.

        Parameters
        ----------
        ref
            Which.
        parameters
            Which part of it, or how.
        target
            Storage class to have it as.

        Raises
        ------
        FileNotFoundError
            If no datastore has all of its files.
        """
        component = ref.datasetType.component
        for files in self._files([ref])[ref]:
            part = [file for file in files if component and file.record.component == component]
            contents = [(file, data) for file in part or files if (data := file.read()) is not None]
            if contents and len(contents) == len(part or files):
                return self._contents.decode(contents, component, parameters, target)
        raise FileNotFoundError(f"{ref}: has no files.")

    def parts(self, refs: Iterable[dataset_refs.DatasetRef]) -> list[dataset_refs.DatasetRef]:
        """Return those of some datasets that are made of several files."""
        return [ref for ref in refs if len(_flat([self.predicted(ref)])) > 1]

    def write(
        self,
        obj: Any,
        ref: dataset_refs.DatasetRef,
        provenance: dataset_provenance.DatasetProvenance,
        *,
        overwrite: bool,
    ) -> list[private_database.Row]:
        """Write a dataset, all of it or nothing, and return the records of its files.

        Parameters
        ----------
        obj
            The object.
        ref
            The dataset.
        provenance
            What went into it.
        overwrite
            Whether to replace files that are there.

        Raises
        ------
        RefusedError
            If no datastore accepts it.
        TakenError
            If a file is there that is not to be replaced.
        AggregatorError
            If it can't be written.
        """
        files = [file for each in self.predicted(ref) for file in each]
        if not files:
            raise errors.RefusedError(f"{ref}: no datastore accepts it; see 'constraints' in butler.yaml.")
        # All of it, before the first file is touched.
        contents = self._contents.encode(obj, self._storage_class(ref), files, provenance.keys(ref))
        complete: list[artifacts.Artifact] = []
        try:
            for file, data in zip(files, contents, strict=True):
                checksum = self._artifacts.datastores[file.datastore].checksum
                complete.append(file.write(data, checksum=checksum, overwrite=overwrite))
        except artifacts.TakenError:
            # What is there may be another's.
            raise
        except BaseException:
            # With what is left of an earlier attempt, a part would look like the whole.
            artifacts.delete(complete)
            raise
        return [(file.datastore, file.record) for file in complete]

    def remove(self, refs: Iterable[dataset_refs.DatasetRef]) -> None:
        """Delete the files of datasets.

        Raises
        ------
        AggregatorError
            If some can't be deleted.
        """
        if failures := artifacts.delete(_flat(self._files(refs).values())):
            raise errors.AggregatorError(f"Can't delete files of datasets: {'; '.join(failures)}.")

    def _storage_class(self, ref: dataset_refs.DatasetRef) -> str:
        """Return the storage class that a dataset is stored with."""
        kind = ref.datasetType
        whole = kind.parent_storage_class if ref.isComponent() else kind.storage_class
        return self._storage_classes.get(kind.parent, whole)

    def _files(
        self, refs: Iterable[dataset_refs.DatasetRef]
    ) -> dict[dataset_refs.DatasetRef, list[list[artifacts.Artifact]]]:
        """Return the files of datasets by datastore: those in records, or else those that are predicted."""
        all_refs = list(refs)
        rows: dict[uuid.UUID, list[private_database.Row]] = {}
        for row in self._database.rows([ref.id for ref in all_refs]):
            rows.setdefault(row[1].dataset_id, []).append(row)
        return {
            ref: self._artifacts.recorded(rows[ref.id]) if ref.id in rows else self.predicted(ref)
            for ref in all_refs
        }


def _flat(files: Iterable[list[list[artifacts.Artifact]]]) -> list[artifacts.Artifact]:
    return [file for stores in files for each in stores for file in each]

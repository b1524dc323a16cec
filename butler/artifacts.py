"""Files of datasets in the datastores of a repository: where they are, and how they are reached."""

from __future__ import annotations

import dataclasses
import hashlib
import os.path
import urllib.parse
import zipfile
from collections.abc import Iterable, Sequence
from typing import IO, Final, cast

from aggregator.butler import dataset_refs
from aggregator.butler.configuration import repository_config
from aggregator.butler.datastores import datastore, formatters
from aggregator.butler.dimensions import records, universe
from aggregator.schemas import bundle, datastore_records
from aggregator.storage import durable_files, errors, fault_points, local_files, opening, stores, uris

CHECKSUM_SIZE: Final = 64
"""Bytes of the BLAKE2b digest that the reference records."""


class TakenError(errors.AggregatorError):
    """Another process has written a file in the meantime.

    Parameters
    ----------
    location
        The file.
    """

    def __init__(self, location: str) -> None:
        super().__init__(f"{location}: another process has written it in the meantime; it stays as it is.")


@dataclasses.dataclass(frozen=True, slots=True)
class Artifact:
    """A file of a dataset, be it there or not."""

    store: stores.Store
    """Where it is, or would be."""

    key: str
    """Which of the store's objects it is."""

    datastore: str
    """Name of the datastore."""

    record: datastore_records.FileRecord
    """Its record; of a predicted file size and checksum are unknown."""

    is_recorded: bool
    """Whether the record was made when the file was written."""

    member: str = ""
    """Member of the archive that the file is, if the dataset is in one."""

    @property
    def extension(self) -> str:
        """Extension of its name, with the dot."""
        return os.path.splitext(self.member or self.key)[1]

    @property
    def uri(self) -> str:
        """Its URI."""
        location = self.store.location(self.key)
        whole = location if uris.scheme(location) else f"file://{urllib.parse.quote(location)}"
        return f"{whole}#zip-path={urllib.parse.quote(self.member)}" if self.member else whole

    def read(self) -> bytes | None:
        """Return its content; nothing if it is certainly not there.

        Raises
        ------
        FormatError
            If it can't be read, or has not the size that it was written with.
        MachineError
            If the machine is in trouble.
        """
        if self.member:
            return self._read_member()
        try:
            content = self.store.read(self.key)
        except local_files.UnusableError as exc:
            raise self.problem(str(exc)) from exc
        if content is None:
            return None
        self._check_size(len(content.data))
        return content.data

    def _check_size(self, size: int) -> None:
        expected = self.record.file_size
        if 0 <= expected != size:
            raise self.problem(f"has {size} bytes; {expected} were written")

    def _read_member(self) -> bytes | None:
        """Return the content of a member of an archive; nothing if the archive is certainly not there."""
        try:
            if self.store.mark(self.key) is None:
                return None
            with opening.open_file(self.store.location(self.key)) as file:
                archive = zipfile.ZipFile(cast(IO[bytes], file.stream()))
                # Before it takes memory.
                self._check_size(archive.getinfo(self.member).file_size)
                return archive.read(self.member)
        except errors.AggregatorError:
            raise
        except Exception as exc:
            # Archives tell of damage with errors of many kinds, down to struct.error.
            raise self.problem(f"{self.member} in it can't be read ({exc})") from exc

    def write(self, data: bytes, *, checksum: bool, overwrite: bool = True) -> Artifact:
        """Write it, synced and in one step; what was there is replaced then, and stays if that fails.

        Parameters
        ----------
        data
            Its content.
        checksum
            Whether to record a checksum.
        overwrite
            Whether to replace what is there, if that is something else.

        Returns
        -------
        artifact
            The file with its record.

        Raises
        ------
        TakenError
            If something is there that is not to be replaced.
        AggregatorError
            If it can't be written.
        """
        with durable_files.writing(self.store.location(self.key)):
            try:
                self.store.write(self.key, data, overwrite=overwrite, durable=True)
            except FileExistsError:
                # A server may have taken it at the first try, and told so at the second one.
                if overwrite or (there := self.read()) is None or there != data:
                    raise TakenError(self.store.location(self.key)) from None
        fault_points.reached("written")
        digest = hashlib.blake2b(data, digest_size=CHECKSUM_SIZE).hexdigest() if checksum else None
        record = dataclasses.replace(self.record, file_size=len(data), checksum=digest)
        return Artifact(self.store, self.key, self.datastore, record, is_recorded=True)

    def problem(self, text: str) -> errors.FormatError:
        """Return the error for what is wrong with it."""
        return errors.FormatError(self.store.location(self.key), "", text)


class Artifacts:
    """Files of datasets in the datastores of a repository; can be shared by butlers of many quanta.

    Parameters
    ----------
    config
        The repository's configuration.
    dimensions
        Dimensions of the data IDs.
    dimension_records
        Records of dimensions that names of files depend on.
    mock_storage_classes
        Whether there are mock storage classes (``_mock_...``).
    """

    def __init__(
        self,
        config: repository_config.RepositoryConfig,
        dimensions: universe.Universe,
        dimension_records: records.RecordTable | None = None,
        *,
        mock_storage_classes: bool = False,
    ) -> None:
        self.dimensions = dimensions
        self.storage_classes = config.storage_classes
        self._mocks = mock_storage_classes
        self._plans = datastore.Datastore(config, dimensions, mock_storage_classes)
        if dimension_records is not None:
            self._plans.set_records(dimension_records)
        self.datastores = {each.name: each for each in config.datastores}
        self._stores = {each.name: each.files for each in config.datastores}

    def has_storage_class(self, name: str) -> bool:
        """Return whether the configuration has a storage class of a name."""
        mocks = formatters.MOCK_PREFIX if self._mocks else ""
        return name in self.storage_classes or bool(mocks and name.startswith(mocks))

    def predicted(self, ref: dataset_refs.DatasetRef, storage_class: str) -> list[list[Artifact]]:
        """Return the files that a dataset is predicted to have, by datastore.

        Parameters
        ----------
        ref
            The dataset, or a component of it.
        storage_class
            Storage class that it is stored with.

        Raises
        ------
        RefusedError
            If the configuration has no place for it.
        """
        group, values = ref.dataId.dimensions, ref.dataId.coordinate
        instrument = ref.dataId.get("instrument")
        plan = self._plans.plan(
            ref.datasetType.parent, storage_class, group, None if instrument is None else str(instrument)
        )
        files: dict[str, list[Artifact]] = {}
        for planned in plan.files:
            place = self._plans.stores[planned.store]
            record = datastore_records.FileRecord(
                dataset_id=ref.id,
                path=planned.path(values, ref.run, str(ref.id)),
                formatter=planned.formatter,
                storage_class=planned.storage_class,
                component=None if planned.component == datastore_records.NO_COMPONENT else planned.component,
                checksum=None,
                file_size=datastore_records.UNKNOWN_SIZE,
                table=place.records_table,
            )
            artifact = Artifact(self._stores[place.name], record.path, place.name, record, is_recorded=False)
            files.setdefault(place.name, []).append(artifact)
        return list(files.values())

    def recorded(self, rows: Iterable[tuple[str, datastore_records.FileRecord]]) -> list[list[Artifact]]:
        """Return the files that records tell of, by datastore.

        Parameters
        ----------
        rows
            Name of the datastore, and record.
        """
        files: dict[str, list[Artifact]] = {}
        for name, record in rows:
            if name in self._stores:
                store, key = _place(self._stores[name], bundle.file_path(record.path))
                member = bundle.archive_member(record.path)
                files.setdefault(name, []).append(Artifact(store, key, name, record, True, member))
        return list(files.values())


def marks(artifacts: Sequence[Artifact]) -> list[stores.Mark | None]:
    """Return for each file what is known of it, nothing if it is not there; many at a time where that takes
    long.

    Raises
    ------
    FormatError
        If something else is in the place of one.
    MachineError
        If the machine is in trouble.
    """
    by_store: dict[str, list[int]] = {}
    for index, artifact in enumerate(artifacts):
        by_store.setdefault(artifact.store.root, []).append(index)
    there: list[stores.Mark | None] = [None] * len(artifacts)
    for indices in by_store.values():
        store = artifacts[indices[0]].store
        for index, look in zip(indices, store.marks(artifacts[i].key for i in indices), strict=True):
            if isinstance(look, local_files.UnusableError):
                raise artifacts[index].problem(str(look))
            there[index] = look
    return there


def are_there(artifacts: Sequence[Artifact]) -> list[bool]:
    """Return for each file whether it is there; raises as `marks`."""
    return [mark is not None for mark in marks(artifacts)]


def _place(store: stores.Store, path: str) -> tuple[stores.Store, str]:
    """Return the store and key of what a record's path leads to."""
    scheme = uris.scheme(path)
    if not scheme and not path.startswith("/"):
        return store, path
    if scheme in ("", "file"):
        whole = urllib.parse.unquote(path.partition("://")[2].partition("/")[2]) if scheme else path
        return opening.open_store(""), whole.lstrip("/")
    root = uris.parse(path)
    user = f"{root.user}@" if root.user else ""
    return opening.open_store(f"{root.scheme}://{user}{root.authority}"), root.prefix


def delete(artifacts: Iterable[Artifact]) -> list[str]:
    """Delete files, none of which has to be there; return where that failed, with the reason.

    Archives stay: others may have datasets in them.
    """
    by_store: dict[str, list[Artifact]] = {}
    for artifact in artifacts:
        if artifact.member:
            continue
        by_store.setdefault(artifact.store.root, []).append(artifact)
    return [
        failure
        for each in by_store.values()
        for failure in each[0].store.delete_many([artifact.key for artifact in each]).failures
    ]

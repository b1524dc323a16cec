"""What a task needs of a butler: reading and writing datasets by references, without queries.

Methods are called as in the Rubin middleware, so that a task need not know whose butler it is given.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from aggregator.butler import dataset_refs
from aggregator.butler.dimensions import universe
from aggregator.butler.formatting import dataset_provenance


class DatasetURIs(NamedTuple):
    """Where the files of a dataset are."""

    primaryURI: str | None
    """URI of the only file; nothing if components have files of their own."""

    componentURIs: dict[str, str]
    """URI of each component that has a file of its own."""


@dataclasses.dataclass(slots=True)
class ButlerMetrics:
    """What was done with datasets."""

    n_get: int = 0
    """Datasets read."""

    n_put: int = 0
    """Datasets written."""

    time_in_get: float = 0.0
    """Seconds that reading took."""

    time_in_put: float = 0.0
    """Seconds that writing took."""

    @contextlib.contextmanager
    def getting(self) -> Iterator[None]:
        """Count a dataset that is read."""
        start = time.perf_counter()
        yield
        self.n_get += 1
        self.time_in_get += time.perf_counter() - start

    @contextlib.contextmanager
    def putting(self) -> Iterator[None]:
        """Count a dataset that is written."""
        start = time.perf_counter()
        yield
        self.n_put += 1
        self.time_in_put += time.perf_counter() - start


class LimitedButler(abc.ABC):
    """A butler that knows datasets by their references alone."""

    dimensions: universe.Universe
    """Dimensions of data IDs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abc.abstractmethod
    def close(self) -> None:
        """Give back what it holds; it can't be used any more."""

    @abc.abstractmethod
    def isWriteable(self) -> bool:
        """Return whether datasets can be written."""

    @abc.abstractmethod
    def get(
        self,
        ref: dataset_refs.DatasetRef,
        /,
        *,
        parameters: Mapping[str, Any] | None = None,
        storageClass: str | None = None,
    ) -> Any:
        """Read a dataset.

        Parameters
        ----------
        ref
            The dataset, or a component of it.
        parameters
            Which part of it, or how, as its storage class allows.
        storageClass
            Name of the storage class to have it as; by default that of the reference.

        Returns
        -------
        dataset
            The object.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        KeyError
            If there is no such parameter, storage class or component.
        ValueError
            If it can't be had as this storage class.
        """

    def getDeferred(
        self,
        ref: dataset_refs.DatasetRef,
        /,
        *,
        parameters: Mapping[str, Any] | None = None,
        storageClass: str | None = None,
    ) -> DeferredDatasetHandle:
        """Return a handle by which a dataset can be read later; parameters as for `get`."""
        return DeferredDatasetHandle(self, ref, dict(parameters or {}), storageClass)

    @abc.abstractmethod
    def put(
        self,
        obj: Any,
        ref: dataset_refs.DatasetRef,
        /,
        *,
        provenance: dataset_provenance.DatasetProvenance | None = None,
    ) -> dataset_refs.DatasetRef:
        """Write a dataset: all of it or nothing.

        Parameters
        ----------
        obj
            The object, which is left as it is.
        ref
            The dataset.
        provenance
            What went into it, noted in files that have a place for that.

        Returns
        -------
        ref
            The dataset.

        Raises
        ------
        TypeError
            If the object is not of a type that the storage class allows.
        AggregatorError
            If it can't be written.
        """

    def stored(self, ref: dataset_refs.DatasetRef) -> bool:
        """Return whether the files of a dataset are there, all of them."""
        return self.stored_many([ref])[ref]

    @abc.abstractmethod
    def stored_many(self, refs: Iterable[dataset_refs.DatasetRef]) -> dict[dataset_refs.DatasetRef, bool]:
        """Return for each of many datasets whether its files are there, all of them."""

    def getURI(self, ref: dataset_refs.DatasetRef, /, *, predict: bool = False) -> str:
        """Return where the file of a dataset is.

        Parameters
        ----------
        ref
            The dataset.
        predict
            Whether to return where it would be if it is not there; such a URI ends with ``#predicted``.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        RuntimeError
            If it has several files.
        """
        primary, components = self.getURIs(ref, predict=predict)
        if primary is None:
            raise RuntimeError(f"{ref} has several files, of components {', '.join(components)}")
        return primary

    def getURIs(self, ref: dataset_refs.DatasetRef, /, *, predict: bool = False) -> DatasetURIs:
        """Return where the files of a dataset are; parameters as for `getURI`."""
        return self.get_many_uris([ref], predict=predict)[ref]

    @abc.abstractmethod
    def get_many_uris(
        self, refs: Iterable[dataset_refs.DatasetRef], predict: bool = False, allow_missing: bool = False
    ) -> dict[dataset_refs.DatasetRef, DatasetURIs]:
        """Return where the files of many datasets are.

        Parameters
        ----------
        refs
            The datasets.
        predict
            Whether to return where they would be if they are not there.
        allow_missing
            Whether to leave out those that are not there.

        Raises
        ------
        FileNotFoundError
            If one is not there.
        """

    def markInputUnused(self, ref: dataset_refs.DatasetRef) -> None:  # noqa: B027  (not all take notes)
        """Note that a dataset was read, or a handle made for it, and nothing depends on it."""

    @abc.abstractmethod
    def pruneDatasets(
        self,
        refs: Iterable[dataset_refs.DatasetRef],
        *,
        disassociate: bool = True,
        unstore: bool = False,
        tags: Iterable[str] = (),
        purge: bool = False,
    ) -> None:
        """Remove datasets.

        Parameters
        ----------
        refs
            The datasets.
        disassociate
            Has to be false, unless they are purged: there are no collections.
        unstore
            Whether to delete their files.
        tags
            Ignored: there are no collections.
        purge
            Whether to forget them, as if they had never been written; needs the first two.

        Raises
        ------
        TypeError
            If the arguments do not fit together.
        ValueError
            If one is a component, or no output of the quantum.
        """

    @abc.abstractmethod
    def get_datastore_names(self) -> tuple[str, ...]:
        """Return the names of the datastores."""

    @abc.abstractmethod
    def get_datastore_roots(self) -> dict[str, str]:
        """Return where the files of each datastore are, by its name."""

    @abc.abstractmethod
    def record_metrics(self) -> contextlib.AbstractContextManager[ButlerMetrics]:
        """Count what is done with datasets in a ``with`` statement."""


@dataclasses.dataclass(frozen=True, slots=True)
class DeferredDatasetHandle:
    """A dataset that is read when it is needed."""

    butler: LimitedButler
    """Reads it."""

    ref: dataset_refs.DatasetRef
    """The dataset."""

    parameters: Mapping[str, Any]
    """Which part of it, or how."""

    storageClass: str | None
    """Storage class to have it as; nothing for that of the reference."""

    @property
    def dataId(self) -> dataset_refs.DataId:
        """Data ID of the dataset."""
        return self.ref.dataId

    @property
    def id(self) -> uuid.UUID:
        """Id of the dataset."""
        return self.ref.id

    def get(
        self,
        *,
        component: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        storageClass: str | None = None,
    ) -> Any:
        """Read the dataset, or a component of it; see `LimitedButler.get`.

        Parameters
        ----------
        component
            The component.
        parameters
            Parameters besides those of the handle.
        storageClass
            Storage class in place of that of the handle.
        """
        ref = self.ref if component is None else self.ref.makeComponentRef(component)
        handle_class = self.storageClass if component is None else None
        merged = {**self.parameters, **(parameters or {})}
        return self.butler.get(ref, parameters=merged, storageClass=storageClass or handle_class)

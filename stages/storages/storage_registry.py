"""All storages by name, and what a run of stages has open for them."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from aggregator.schemas import output_paths
from aggregator.stages import persistence, property_sets
from aggregator.stages.formatters import item_formatter, type_registry
from aggregator.stages.policies import policy as policy_module
from aggregator.stages.storages import content, file_storages, row_storages, row_transactions
from aggregator.storage import errors, local_files

_FILES: Final[Mapping[str, type[file_storages.FileStorage]]] = {
    "FitsStorage": file_storages.FitsStorage,
    "BoostStorage": file_storages.BoostStorage,
    "XmlStorage": file_storages.XmlStorage,
    "PafStorage": file_storages.PafStorage,
    "PickleStorage": file_storages.PickleStorage,
}
_ROWS: Final[Mapping[str, type[row_storages.DbStorage]]] = {
    "DbStorage": row_storages.DbStorage,
    "DbTsvStorage": row_storages.DbTsvStorage,
}
NAMES: Final = (*_FILES, *_ROWS)
"""Names of all storages."""


def is_file(name: str) -> bool:
    """Return whether the storage of a name is files."""
    return name in _FILES


class StorageRegistry:
    """Makes storages and formatters; a `persistence.Backend`.

    Parameters
    ----------
    protection
        What must not be written.
    keeps
        Whether files and rows that are there already stay, unless they are to be overwritten; otherwise they
        are an error.
    """

    def __init__(self, protection: output_paths.Protection, *, keeps: bool = False) -> None:
        self._protection = protection
        self._keeps = keeps
        self._databases = row_transactions.RowDatabases()
        self._visited: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close databases."""
        self._databases.close()

    def storage(
        self, place: persistence.Place, settings: policy_module.Policy, *, writes: bool
    ) -> content.ContentStorage:
        """Return a storage that has not started; see `persistence.Backend`."""
        if place.storage in _ROWS:
            if writes and (directory := settings.get("TempPath", "")):
                output_paths.check_directory(directory, self._protection)
                if not local_files.is_directory(directory):
                    raise policy_module.complaint(
                        settings.origin_of("TempPath"),
                        settings.full_name("TempPath"),
                        f"{directory} is no directory.",
                    )
            return _ROWS[place.storage](
                place.storage, place.location, settings, self._databases, keeps=self._keeps
            )
        kind = _FILES.get(place.storage)
        if kind is None:
            raise policy_module.complaint(
                place.origin, "storage", f"there is no {place.storage!r}; there are {', '.join(NAMES)}."
            )
        arguments = place.storage, place.location, settings, self._protection, self._visited
        return kind(*arguments, writes=writes, keeps=self._keeps)

    def formatter(
        self,
        type_name: str,
        python_type: type[Any] | None,
        place: persistence.Place,
        settings: policy_module.Policy,
    ) -> persistence.Formatter:
        """Return the formatter of a type for a storage; see `persistence.Backend`."""
        kind = _FILES.get(place.storage) or _ROWS[place.storage]
        try:
            return type_registry.choose(type_name, python_type, place.storage, kind.form, settings)
        except errors.RefusedError as exc:
            raise errors.RefusedError(f"{place.origin}: {exc}") from exc

    def is_there(
        self,
        place: persistence.Place,
        settings: policy_module.Policy,
        formatter_settings: policy_module.Policy,
        data: property_sets.PropertySet,
    ) -> bool:
        """Return whether an item is in a storage, and stays: a file, or rows with what is known of their key.

        Parameters
        ----------
        place
            The storage.
        settings, formatter_settings
            Parts of the policy ``persistence`` for the storage and for the formatter.
        data
            The additional data.

        Raises
        ------
        RefusedError
            If there can't be such a storage; or rows are in a table that is missing or has no key.
        AggregatorError
            If nobody knows.
        """
        storage = self.storage(place, settings, writes=False)
        if isinstance(storage, row_storages.DbStorage):
            is_there = storage.has(item_formatter.requested(data, formatter_settings))
        else:
            assert isinstance(storage, file_storages.FileStorage)
            is_there = storage.is_there()
        return is_there and not settings.get("overwrite", False)

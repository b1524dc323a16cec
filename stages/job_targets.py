"""Where jobs write their items, and whether two of them write in one place.

What is there stays as it is, so that of two who write in one place one would be lost without a word.
"""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any, Final

from aggregator.butler.configuration import sqlite_urls
from aggregator.stages import job_identities, job_reports, persistence, property_sets
from aggregator.stages.formatters import item_formatter
from aggregator.stages.policies import policy as policy_module
from aggregator.stages.storages import row_storages, storage_registry
from aggregator.storage import uris

_UNIT: Final = re.compile(r"#\d+\Z")
"""Number of a unit of a FITS file, where it is read."""


class Targets:
    """Makes targets of what policies name.

    Parameters
    ----------
    storages
        The storages.
    settings
        The policy ``persistence``.
    """

    def __init__(self, storages: storage_registry.StorageRegistry, settings: policy_module.Policy) -> None:
        self._storages = storages
        self._settings = settings
        self._directories: dict[str, str] = {}
        self._keys: dict[tuple[str, str, str], tuple[str, ...]] = {}

    def of_place(
        self,
        name: str,
        place: persistence.Place,
        formatter: policy_module.Policy,
        data: property_sets.PropertySet,
    ) -> job_reports.Target | None:
        """Return a file, or the key of rows; nothing if no part of the key is known before there are rows.

        Parameters
        ----------
        name
            The item.
        place
            The storage.
        formatter
            Settings of the formatter.
        data
            The additional data.

        Raises
        ------
        AggregatorError
            If rows go to a table that can't be looked at.
        """
        if storage_registry.is_file(place.storage):
            return job_reports.Target(name, ("file", self.path(place)), place.location, str(place.origin))
        request = item_formatter.requested(data, formatter)
        columns = self._key(place, request.table)
        known = {column: value for column, value in request.where if column in columns}
        if not known:
            return None
        path = sqlite_urls.path(place.location)
        database = place.location if path is None else self._real(os.path.abspath(path))
        key = ("rows", database, request.table, *sorted(known.items()))
        values = ", ".join(f"{column}={value!r}" for column, value in known.items())
        shown = f"table {request.table!r} with {values}"
        return job_reports.Target(name, key, shown, str(place.origin))

    def path(self, place: persistence.Place) -> str:
        """Return the path of a file, which is the same whatever links lead to its directory."""
        return self._real(uris.absolute(_UNIT.sub("", place.location)))

    def _key(self, place: persistence.Place, table: str) -> tuple[str, ...]:
        """Return the columns of the key of a table."""
        identity = place.storage, place.location, table
        if identity not in self._keys:
            storage = self._storages.storage(place, self._settings.part(place.storage), writes=False)
            assert isinstance(storage, row_storages.DbStorage)
            self._keys[identity] = storage.key(table)
        return self._keys[identity]

    def _real(self, path: str) -> str:
        """Return a path whose directory is the same whatever links lead to it."""
        directory, name = os.path.split(path)
        if directory not in self._directories:
            self._directories[directory] = os.path.realpath(directory)
        return os.path.join(self._directories[directory], name)


def of_dataset(name: str, key: tuple[Any, ...], origin: policy_module.Origin) -> job_reports.Target:
    """Return the dataset that an item is.

    Parameters
    ----------
    name
        The item.
    key
        What tells it from other datasets of the repository: its type and values.
    origin
        Where the policy says so.
    """
    return job_reports.Target(name, ("dataset", *key), f"dataset {' '.join(map(str, key))}", str(origin))


class Writers:
    """Who writes where."""

    def __init__(self) -> None:
        self._writers: dict[tuple[Any, ...], tuple[job_identities.Identity, str]] = {}

    def problem(self, target: job_reports.Target, identity: job_identities.Identity) -> str:
        """Note who writes to a target, and return what is wrong if that was noted of another; else ""."""
        writer = identity, target.item
        other, item = self._writers.setdefault(target.key, writer)
        if self._writers[target.key] is writer:
            return ""
        who = f"{target.origin}: {target.item}.location: {target.shown} is where"
        if other == identity:
            both = f"items {item} and {target.item}" if item != target.item else f"two storages of {item}"
            return f"{who} {both} write; give each another one."
        return (
            f"{who} two jobs write, {other} and {identity}; put more of their values into the location, or "
            "the key."
        )

    def checked(self, report: job_reports.Report) -> job_reports.Report:
        """Return what became of a job, which has failed if another one has written in the same place."""
        problems = [self.problem(target, report.identity) for target in report.targets]
        if not any(problems):
            return report
        problem = next(filter(None, problems))
        return dataclasses.replace(report, fate=job_reports.Fate.FAILED, problem=problem)

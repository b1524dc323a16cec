"""The output items of jobs: where they go, and whether they are there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aggregator.butler.configuration import sqlite_urls
from aggregator.stages import (
    additional_data,
    butlers,
    clipboards,
    item_places,
    job_clipboards,
    job_identities,
    job_policies,
    job_reports,
    job_targets,
    persistence,
    policy_items,
    property_sets,
    repository_butler,
)
from aggregator.stages.policies import policy as policy_module
from aggregator.stages.storages import file_storages, storage_registry
from aggregator.storage import errors


class JobOutputs:
    """The output items of jobs.

    Parameters
    ----------
    policy
        The policy.
    surroundings
        Makes clipboards of jobs.
    storages
        The storages.
    butler
        Writes items that say which dataset they are, if there is one.
    """

    def __init__(
        self,
        policy: job_policies.JobPolicy,
        surroundings: job_clipboards.JobClipboards,
        storages: storage_registry.StorageRegistry,
        butler: repository_butler.RepositoryButler | None,
    ) -> None:
        self._inputs, self._policy = policy.inputs, policy.outputs
        self._clipboards = surroundings
        self._storages = storages
        self._butler = butler
        self._settings = policy.outputs.part("parameters.persistence")
        self._targets = job_targets.Targets(storages, self._settings)
        self._names = policy_items.names(policy.outputs, "outputItems")

    def are_there(self, identity: job_identities.Identity) -> bool:
        """Return whether all items are there; false if only input items tell where they are.

        Raises
        ------
        AggregatorError
            If there can't be such items, or nobody knows.
        """
        return all(self._is_there(name, identity) for name in self._names)

    def rehearse(self, identity: job_identities.Identity, *, is_elsewhere: bool) -> None:
        """Look at the items of a job without reading or writing them.

        Parameters
        ----------
        identity
            The job.
        is_elsewhere
            Whether jobs are done in other places than this process and its copies.

        Raises
        ------
        AggregatorError
            If they can't be written.
        """
        sources = self._sources(identity)
        for name in self._names:
            if (data := self._data(name, identity)) is not None and not self._is_dataset(name):
                for place in item_places.of_item(self._item(name), data):
                    self._check_location(place, sources, is_elsewhere)
                    self._check_storage(place, self._item(name))
        for name in self._names:
            if not self._is_there(name, identity) and self._butler is not None and self._is_dataset(name):
                self._butler.check_run()

    def _check_location(self, place: persistence.Place, sources: set[str], is_elsewhere: bool) -> None:
        """Refuse what means another place elsewhere, or is a file that is read."""
        is_file = storage_registry.is_file(place.storage)
        path = place.location if is_file else sqlite_urls.path(place.location)
        problem = ""
        if is_elsewhere and path is not None and not os.path.isabs(path):
            problem = "means another place on another host; give an absolute path."
        elif is_file and self._targets.path(place) in sources:
            problem = "is what the job reads; write somewhere else."
        if problem:
            raise policy_module.complaint(place.origin, "location", f"{place.location} {problem}")

    def _check_storage(self, place: persistence.Place, item: policy_module.Policy) -> None:
        """Refuse what a storage can't write, or can't write there."""
        storage = self._storages.storage(place, self._settings.part(place.storage), writes=True)
        if isinstance(storage, file_storages.FileStorage):
            storage.check()
        if type_name := item.get("type", ""):
            self._storages.formatter(type_name, None, place, self._formatter_settings(item))

    def _sources(self, identity: job_identities.Identity) -> set[str]:
        """Return the files that a job reads, as far as the identity tells them."""
        data = property_sets.PropertySet(self._clipboards.predefined(identity))
        places: list[persistence.Place] = []
        for name in policy_items.names(self._inputs, "inputItems"):
            item = policy_items.settings(self._inputs, "inputItems", name)
            if "storagePolicy" in item:
                with contextlib.suppress(errors.RefusedError):
                    places += item_places.of_item(item, data)
        return {self._targets.path(place) for place in places if storage_registry.is_file(place.storage)}

    def targets(self, identity: job_identities.Identity) -> Iterator[job_reports.Target]:
        """Yield where a job writes, as far as its identity tells that.

        Raises
        ------
        RefusedError
            If a location can't be made.
        AggregatorError
            If a database can't be used.
        """
        for name in self._names:
            if self._butler is not None and self._is_dataset(name):
                key = self._butler.key(*self._dataset(name, identity))
                item = self._item(name)
                yield job_targets.of_dataset(name, key, item.origin_of("datasetId"))
            elif (data := self._data(name, identity)) is not None:
                for place, target in self._item_targets(name, data):
                    if target is None:
                        raise _untold(name, place)
                    yield target

    def late_targets(
        self, names: Iterable[str], clipboard: clipboards.Clipboard, predefined: Mapping[str, Any]
    ) -> Iterator[job_reports.Target]:
        """Yield where items were written, if only input items have told that."""
        for name in names:
            if not self._is_dataset(name) and not self._is_known_before():
                data = additional_data.collect(self._policy, clipboard, predefined)
                pairs = self._item_targets(name, self._completed(data, name, clipboard))
                yield from (target for _, target in pairs if target is not None)

    def _item_targets(
        self, name: str, data: property_sets.PropertySet
    ) -> Iterator[tuple[persistence.Place, job_reports.Target | None]]:
        """Yield the storages of an item with its targets there; nothing for rows that could be anybody's."""
        item = self._item(name)
        for place in item_places.of_item(item, data):
            yield place, self._targets.of_place(name, place, self._formatter_settings(item), data)

    def _is_there(self, name: str, identity: job_identities.Identity) -> bool:
        if self._butler is not None and self._is_dataset(name):
            return self._butler.is_written(*self._dataset(name, identity))
        data = self._data(name, identity)
        if data is None:
            return False
        item = self._item(name)
        return all(
            self._storages.is_there(
                place, self._settings.part(place.storage), self._formatter_settings(item), data
            )
            for place in item_places.of_item(item, data)
        )

    def _item(self, name: str) -> policy_module.Policy:
        return policy_items.settings(self._policy, "outputItems", name)

    def _formatter_settings(self, item: policy_module.Policy) -> policy_module.Policy:
        return self._settings.part(f"Formatter.{item.get('type', '') or 'none'}")

    def _is_dataset(self, name: str) -> bool:
        """Return whether a butler writes an item."""
        return self._butler is not None and "datasetId" in self._item(name)

    def _dataset(self, name: str, identity: job_identities.Identity) -> tuple[str, dict[str, Any]]:
        """Return dataset type and ids of an item."""
        item = self._item(name)
        ids = butlers.ids(self._policy, item, self._clipboards.clipboard(identity))
        return policy_items.dataset_type(item), ids

    def _is_known_before(self) -> bool:
        """Return whether a job's identity tells all additional data, without any input item."""
        pairs = self._policy.array("parameters.additionalData", str)
        return {pair.partition("=")[2].strip().partition(".")[0] for pair in pairs} <= self._clipboards.keys

    def _data(self, name: str, identity: job_identities.Identity) -> property_sets.PropertySet | None:
        """Return the additional data of an item; nothing if parts of it come from input items."""
        if not self._is_known_before():
            return None
        clipboard = self._clipboards.clipboard(identity)
        data = additional_data.collect(self._policy, clipboard, self._clipboards.predefined(identity))
        return self._completed(data, name, clipboard)

    def _completed(
        self, data: property_sets.PropertySet, name: str, clipboard: clipboards.Clipboard
    ) -> property_sets.PropertySet:
        """Add what only one item has to additional data."""
        data["itemName"] = name
        if "datasetId" in (item := self._item(name)):
            data.update(butlers.ids(self._policy, item, clipboard))
        return data


def _untold(name: str, place: persistence.Place) -> errors.RefusedError:
    """Return the error for rows that could be any job's."""
    return policy_module.complaint(
        place.origin,
        f"{name}.location",
        f"{place.location}: no column of the table's key has a value of the data ID, so that nobody can tell "
        "whose rows are there; put some into the key and KeyList.",
    )

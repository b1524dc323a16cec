"""Writing of output items from a clipboard, by three methods (stages.md section 8)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from aggregator.stages import (
    additional_data,
    butlers,
    clipboards,
    dataset_specifiers,
    item_places,
    persistence,
    policy_items,
    property_sets,
)
from aggregator.stages.policies import policy as policy_module
from aggregator.storage import errors

_log = logging.getLogger(__name__)


class ItemWriter:
    """Writes the output items of a policy.

    Parameters
    ----------
    policy
        Policy of the stage.
    objects
        Writes to storages.
    butler
        Writes items that say which dataset they are, if there is one.
    """

    def __init__(
        self,
        policy: policy_module.Policy,
        objects: persistence.Persistence,
        butler: butlers.Butler | None = None,
    ) -> None:
        self._policy = policy
        self._objects = objects
        self._butler = butler

    def write(self, clipboard: clipboards.Clipboard, predefined: Mapping[str, Any]) -> list[str]:
        """Write all items that are on a clipboard, in their order.

        Parameters
        ----------
        clipboard
            The clipboard; it gets a list of the datasets that were written.
        predefined
            Additional data that is there for every stage.

        Returns
        -------
        names
            Items that were written.

        Raises
        ------
        RefusedError
            If the policy does not fit, or something is not on the clipboard; nothing was written then.
        AggregatorError
            If an item can't be written; those before it are.
        """
        names = policy_items.names(self._policy, "outputItems")
        if not names:
            _log.warning("%s: No outputItems found.", self._policy.origin)
            return []
        data = additional_data.collect(self._policy, clipboard, predefined)
        written: list[str] = []
        try:
            for name in names:
                item = policy_items.settings(self._policy, "outputItems", name)
                if clipboard.contains(name):
                    data["itemName"] = name
                    self._write(item, clipboard, data)
                    written.append(name)
                elif item.get("required", False):
                    raise policy_module.complaint(item.origin, item.name, f"Missing output item: {name}.")
        except errors.RefusedError as exc:
            if written:
                raise exc.as_failure() from exc
            raise
        if not written:
            _log.warning("%s: No items were output.", self._policy.origin)
        return written

    def _write(
        self, item: policy_module.Policy, clipboard: clipboards.Clipboard, common: property_sets.PropertySet
    ) -> None:
        """Write an item; locations of its storages become additional data of later items."""
        name, data = common["itemName"], common.copy()
        datasets, dataset = self._datasets(clipboard), self._dataset(item, clipboard)
        if dataset is not None:
            data.update(dataset.ids)
        if dataset is not None and self._butler is not None:
            _log.info("persisting %s as %s", name, dataset)
            self._butler.put(clipboard.get(name), dataset.type, dataset.ids)
        else:
            places = []
            for place in item_places.of_item(item, data):
                for each in (common, data):
                    each[f"StorageLocation.{place.storage}"] = place.location
                places.append(place)
                _log.info("persisting %s to %s", name, place.location)
            self._objects.persist(clipboard.get(name), item.get("type", ""), places, data)
        if dataset is not None:
            datasets.append(dataset)
            clipboard.put(self._datasets_key(), datasets)

    def _dataset(
        self, item: policy_module.Policy, clipboard: clipboards.Clipboard
    ) -> dataset_specifiers.Dataset | None:
        """Return which dataset an item is, if the policy says so; the identity of the job counts most."""
        if "datasetId" not in item:
            return None
        dataset_type = policy_items.dataset_type(item)
        ids = butlers.ids(self._policy, item, clipboard)
        return dataset_specifiers.Dataset(dataset_type, ids)

    def _datasets_key(self) -> str:
        return self._policy.get("outputKeys.outputDatasets", "outputDatasets")

    def _datasets(self, clipboard: clipboards.Clipboard) -> list[dataset_specifiers.Dataset]:
        """Return the list of datasets on the clipboard, or a new one."""
        key = self._datasets_key()
        datasets = clipboard.get(key, [])
        if not isinstance(datasets, list):
            text = f"{key!r} on the clipboard is a {type(datasets).__name__}, and no list of datasets."
            raise policy_module.complaint(
                self._policy.origin_of("outputKeys.outputDatasets"), "outputKeys.outputDatasets", text
            )
        return datasets

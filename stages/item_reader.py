"""Reading of input items onto a clipboard, by three methods (stages.md section 7)."""

from __future__ import annotations

import functools
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aggregator.execution import task_classes
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
from aggregator.storage import errors, opening, uris

_log = logging.getLogger(__name__)

_FIRST_WAIT: Final = 0.5
_LONGER: Final = 1.2
_HDU: Final = re.compile(r"#\d+\Z")


class ItemReader:
    """Reads the input items of a policy.

    Parameters
    ----------
    policy
        Policy of the stage.
    objects
        Reads from storages.
    butler
        Reads all items instead, if there is one.
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

    def read(self, clipboard: clipboards.Clipboard, predefined: Mapping[str, Any]) -> None:
        """Put all items on a clipboard, in their order.

        Parameters
        ----------
        clipboard
            The clipboard, which has what items and locations refer to.
        predefined
            Additional data that is there for every stage.

        Raises
        ------
        RefusedError
            If the policy does not fit, or something is not on the clipboard; names file and line.
        AggregatorError
            If an item can't be read.
        """
        names = policy_items.names(self._policy, "inputItems")
        if not names:
            _log.warning("%s: No inputItems found.", self._policy.origin)
            return
        data = property_sets.PropertySet()
        if self._butler is None:
            data = additional_data.collect(self._policy, clipboard, predefined)
        for name in names:
            item = policy_items.settings(self._policy, "inputItems", name)
            data["itemName"] = name
            if self._butler is not None:
                self._get(self._butler, name, item, clipboard)
            elif "datasetType" in item:
                clipboard.put(name, self._read_datasets(item, clipboard, data))
            else:
                clipboard.put(name, self._read(item, list(item_places.of_item(item, data)), data))

    def _read(
        self, item: policy_module.Policy, places: list[persistence.Place], data: property_sets.PropertySet
    ) -> Any:
        """Return an object that storages have."""
        type_name = item.required("type", str)
        origin, class_name = item.origin_of("pythonType"), item.required("pythonType", str)
        python_type = task_classes.imported(class_name, f"{origin}: {item.full_name('pythonType')}")
        if not isinstance(python_type, type):
            raise policy_module.complaint(origin, item.full_name("pythonType"), f"{class_name} is no class.")
        for place in places:
            _wait_for_file(place.location, _timeout(item))
            _log.info("loading %s from %s", data["itemName"], place.location)
        result = self._objects.retrieve(type_name, python_type, places, data)
        if not isinstance(result, python_type):
            text = f"{places[0].location} has a {type(result).__name__}, and no {class_name}."
            raise policy_module.complaint(origin, item.full_name("pythonType"), text)
        return result

    def _read_datasets(
        self, item: policy_module.Policy, clipboard: clipboards.Clipboard, data: property_sets.PropertySet
    ) -> Any:
        """Return the object of the only dataset of a type, or a list if there is another number of them."""
        results = []
        for dataset in self._datasets(item, clipboard):
            with_ids = data.copy()
            with_ids.update(dataset.ids)
            results.append(self._read(item, [item_places.place(item, with_ids)], with_ids))
        return results[0] if len(results) == 1 else results

    def _datasets(
        self, item: policy_module.Policy, clipboard: clipboards.Clipboard
    ) -> list[dataset_specifiers.Dataset]:
        """Return the datasets of an item's type that the clipboard lists."""
        key = self._policy.get("inputKeys.inputDatasets", "inputDatasets")
        datasets = clipboard.get(key)
        if not isinstance(datasets, list | tuple) or not all(
            isinstance(each, dataset_specifiers.Dataset) for each in datasets
        ):
            text = f"needs a list of datasets, {key!r}, on the clipboard; there is none."
            raise policy_module.complaint(item.origin_of("datasetType"), item.full_name("datasetType"), text)
        dataset_type = item.required("datasetType", str)
        return [each for each in datasets if each.type == dataset_type]

    def _get(
        self,
        butler: butlers.Butler,
        name: str,
        item: policy_module.Policy,
        clipboard: clipboards.Clipboard,
    ) -> None:
        """Put an item on the clipboard that a butler has: one dataset, or a list of them."""
        dataset_type = item.required("datasetType", str)
        timeout = _timeout(item)
        results = []
        for ids in self._ids(name, item, clipboard):
            if _wait(functools.partial(butler.is_there, dataset_type, ids), timeout):
                _log.info("loading %s of type %s with keys %s", name, dataset_type, ids)
                results.append(butler.get(dataset_type, ids))
            elif item.get("required", True):
                waited = f" for {timeout:g} s" if timeout else ""
                text = f"there is no {dataset_type} with {dict(ids)}{waited}, which item {name} needs."
                raise errors.AggregatorError(f"{item.origin}: {item.name}: {text}")
        if results:
            clipboard.put(name, results[0] if len(results) == 1 else results)
        else:
            clipboard.remove(name)

    def _ids(
        self, name: str, item: policy_module.Policy, clipboard: clipboards.Clipboard
    ) -> list[Mapping[str, Any]]:
        """Return the ids of an item's datasets."""
        if item.get("datasetId.fromInputDatasets", False):
            if datasets := self._datasets(item, clipboard):
                return [each.ids for each in datasets]
            text = f"No input datasets of type {item.required('datasetType', str)} for item {name}."
            raise policy_module.complaint(item.origin_of("datasetId"), item.full_name("datasetId"), text)
        ids = {**butlers.identity_ids(self._policy, item, clipboard), **butlers.set_ids(item)}
        if not ids:
            text = "has to have fromInputDatasets: true, fromJobIdentity, or set."
            raise policy_module.complaint(item.origin_of("datasetId"), item.full_name("datasetId"), text)
        return [ids]


def _timeout(item: policy_module.Policy) -> float:
    """Return for how many seconds an item is waited for; ints are fine, too."""
    values = [each.value for each in item.elements("timeout")]
    value = values[-1] if values else 0
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        text = "has to be a number of seconds, 0 or more."
        raise policy_module.complaint(item.origin_of("timeout"), item.full_name("timeout"), text)
    return float(value)


def _wait_for_file(location: str, timeout: float) -> None:
    """Wait until there is a file, if that is to be waited for; databases are there, or not."""
    if not timeout or uris.scheme(location).partition("+")[0] in ("sqlite", "postgresql"):
        return
    path = _HDU.sub("", location)
    if not _wait(functools.partial(opening.is_there, path), timeout):
        raise errors.AggregatorError(f"{path}: was not there for {timeout:g} s. Try again later.")


def _wait(is_there: Callable[[], bool], seconds: float) -> bool:
    """Return whether something is there, at last after some seconds; looks come ever more rarely."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_WAIT
    while not is_there():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause *= _LONGER
    return True

"""Where an item of a policy is: its storages and their locations (stages.md sections 7 and 8)."""

from __future__ import annotations

from collections.abc import Iterator

from aggregator.stages import locations, persistence, property_sets
from aggregator.stages.policies import policy as policy_module
from aggregator.storage import errors


def of_item(item: policy_module.Policy, data: property_sets.PropertySet) -> Iterator[persistence.Place]:
    """Yield the storages of an item: all of its policies ``storagePolicy``.

    Parameters
    ----------
    item
        The policy of the item.
    data
        Values for locations; what is added between two storages counts for the next one.

    Raises
    ------
    RefusedError
        If there are none, or a location can't be made.
    """
    storages = item.array("storagePolicy", policy_module.Policy)
    if not storages:
        raise policy_module.complaint(item.origin, item.full_name("storagePolicy"), "is missing.")
    for each in storages:
        yield place(each, data)


def place(storage: policy_module.Policy, data: property_sets.PropertySet) -> persistence.Place:
    """Return the storage that ``storage`` and ``location`` of a policy tell of; errors as for `of_item`."""
    name, text = storage.required("storage", str), storage.required("location", str)
    origin = storage.origin_of("location")
    try:
        location = locations.expand(text, data)
    except errors.RefusedError as exc:
        raise policy_module.complaint(origin, storage.full_name("location"), str(exc)) from exc
    problem = ""
    if "\0" in location:
        problem = "has a null character."
    elif location.startswith("~"):
        problem = "begins with '~', which only a shell replaces; write the whole path (or './~...')."
    if problem:
        raise policy_module.complaint(origin, storage.full_name("location"), f"{location!r} {problem}")
    return persistence.Place(name, location, origin)

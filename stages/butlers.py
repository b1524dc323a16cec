"""What stages need of a butler, and which dataset of it an item is (stages.md sections 7 to 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from aggregator.stages import clipboards, policy_items
from aggregator.stages.policies import policy as policy_module


class Butler(Protocol):
    """Reads and writes datasets by their types and ids."""

    def is_there(self, dataset_type: str, ids: Mapping[str, Any]) -> bool:
        """Return whether there is such a dataset; raises AggregatorError if nobody knows."""

    def get(self, dataset_type: str, ids: Mapping[str, Any]) -> Any:
        """Return a dataset that is there, in the form that it is used in."""

    def put(self, item: Any, dataset_type: str, ids: Mapping[str, Any]) -> None:
        """Write a dataset that is not there yet."""

    def close(self) -> None:
        """Give back what it holds."""


def identity_ids(
    policy: policy_module.Policy, item: policy_module.Policy, clipboard: clipboards.Clipboard
) -> dict[str, Any]:
    """Return the ids that a dataset has from the identity of the job.

    Parameters
    ----------
    policy
        Policy of the stage; ``inputKeys.jobIdentity`` names the identity on the clipboard.
    item
        Policy of the item.
    clipboard
        Has the identity.

    Raises
    ------
    RefusedError
        If there is no identity, or a key is not in it.
    """
    keys = policy_items.keys(item)
    if not keys:
        return {}
    name = policy.get("inputKeys.jobIdentity", "jobIdentity")
    identity = clipboard.get(name)
    origin, full_name = item.origin_of("datasetId"), item.full_name("datasetId")
    if not isinstance(identity, Mapping):
        text = f"needs the identity of the job, a mapping {name!r} on the clipboard; it is not there."
        raise policy_module.complaint(origin, full_name, text)
    if missing := [key for key in keys if key not in identity]:
        text = f"there is no {missing[0]!r} in the identity of the job, {name!r}, for this item."
        raise policy_module.complaint(origin, full_name, text)
    return {key: identity[key] for key in keys}


def set_ids(item: policy_module.Policy) -> dict[str, Any]:
    """Return the ids that a policy says itself."""
    values = item.part("datasetId").part("set")
    return {name: values.elements(name)[-1].value for name in values.names()}


def ids(
    policy: policy_module.Policy, item: policy_module.Policy, clipboard: clipboards.Clipboard
) -> dict[str, Any]:
    """Return all ids of an output dataset, of which the identity of the job counts most."""
    return {**set_ids(item), **identity_ids(policy, item, clipboard)}

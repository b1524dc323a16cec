"""Items of a policy, and which of them are datasets of a repository (stages.md sections 7 and 11)."""

from __future__ import annotations

import dataclasses
from typing import Final

from aggregator.stages.policies import policy as policy_module

OF_IDENTITY: Final = ("fromJobIdentity", "fromClipboard")
"""Names, today's and that of 2010, of the keys that a dataset has from the identity of the job."""

OF_INPUTS: Final = "fromInputDatasets"


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetItem:
    """An item that is a dataset of a repository, or several."""

    name: str
    """Name of the item."""

    dataset_type: str
    """Name of the dataset type."""

    storage_class: str
    """Storage class in which a task has it; "" if the policy says nothing."""

    keys: tuple[str, ...]
    """Data ID keys of a dataset."""

    is_multiple: bool
    """Whether a job has any number of them."""

    is_required: bool
    """Whether a job needs it."""


def names(policy: policy_module.Policy, group: str) -> list[str]:
    """Return the names of all items, in their order.

    Parameters
    ----------
    policy
        The policy.
    group
        ``inputItems`` or ``outputItems``.
    """
    return policy.part(f"parameters.{group}").names()


def settings(policy: policy_module.Policy, group: str, name: str) -> policy_module.Policy:
    """Return what a policy says of an item."""
    return policy.part(f"parameters.{group}").required(name, policy_module.Policy)


def keys(item: policy_module.Policy) -> tuple[str, ...]:
    """Return the data ID keys of an item's datasets.

    Raises
    ------
    RefusedError
        If they are given twice, under both names.
    """
    given = [name for name in OF_IDENTITY if f"datasetId.{name}" in item]
    if len(given) > 1:
        raise policy_module.complaint(
            item.origin,
            item.full_name("datasetId"),
            f"{given[0]} and {given[1]} mean the same; leave one out.",
        )
    return tuple(item.array(f"datasetId.{given[0]}", str)) if given else ()


def dataset_type(item: policy_module.Policy) -> str:
    """Return the dataset type of an item, which may stand beside its ids or among them."""
    return item.get("datasetId.datasetType", "") or item.required("datasetType", str)


def dataset(policy: policy_module.Policy, group: str, name: str) -> DatasetItem:
    """Return an item that is a dataset.

    Parameters
    ----------
    policy, group
        As for `names`.
    name
        Name of the item.

    Raises
    ------
    RefusedError
        If it is none, or does not say which one.
    """
    item = settings(policy, group, name)
    is_multiple = item.get(f"datasetId.{OF_INPUTS}", False)
    identity = keys(item)
    if not is_multiple and not identity and "datasetId" not in item:
        raise policy_module.complaint(
            item.origin, item.full_name("datasetId"), "is missing; it says which dataset the item is."
        )
    return DatasetItem(
        name,
        dataset_type(item),
        item.get("storageClass", ""),
        identity,
        is_multiple,
        item.get("required", group == "inputItems"),
    )


def job_keys(policy: policy_module.Policy) -> tuple[str, ...]:
    """Return the keys of the identity of a job: all that its items have of it, each once."""
    result: dict[str, None] = {}
    for group in ("inputItems", "outputItems"):
        for name in names(policy, group):
            item = settings(policy, group, name)
            if not item.get(f"datasetId.{OF_INPUTS}", False):
                result.update(dict.fromkeys(keys(item)))
    return tuple(result)

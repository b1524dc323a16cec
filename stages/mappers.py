"""Mappers: from names and ids of policies to dataset types and data IDs (stages.md section 9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from aggregator.execution import task_classes
from aggregator.stages import locations
from aggregator.stages.policies import policy as policy_module
from aggregator.storage import errors

_RENAMED: Final = {"ccd": "detector", "filter": "band"}
"""Keys that were called otherwise."""


class Mapper(Protocol):
    """What a class has to have that a policy names; it is called with ``mapperPolicy``."""

    def map(self, dataset_type: str, ids: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """Return dataset type and data ID in the repository."""

    def standardize(self, dataset_type: str, item: Any, data_id: Mapping[str, Any]) -> Any:
        """Return what is used in place of an object that was read."""


class DefaultMapper:
    """Takes dataset types as they are, and gives some keys the names of dimensions.

    Parameters
    ----------
    policy
        Texts by key in a policy ``keys``: names of dimensions.
    """

    def __init__(self, policy: policy_module.Policy) -> None:
        self._keys = _renamed(policy)

    def map(self, dataset_type: str, ids: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """Return the same dataset type, and the ids with names of dimensions."""
        return dataset_type, {self._keys.get(key, key): value for key, value in ids.items()}

    def standardize(self, dataset_type: str, item: Any, data_id: Mapping[str, Any]) -> Any:
        """Return the object as it is."""
        return item


def _renamed(policy: policy_module.Policy) -> dict[str, str]:
    keys = policy.part("keys")
    return {**_RENAMED, **{name: keys.required(name, str) for name in keys.names()}}


def dimensions(policy: policy_module.Policy, keys: Iterable[str]) -> dict[str, str]:
    """Return the names of dimensions by the names that keys have in a policy.

    Parameters
    ----------
    policy
        A policy of a stage, whose ``parameters.butler.mapperPolicy.keys`` may have names.
    keys
        The keys.
    """
    renamed = _renamed(_expanded(policy.part("parameters.butler.mapperPolicy")))
    return {key: renamed.get(key, key) for key in keys}


def of_policy(policy: policy_module.Policy) -> Mapper:
    """Return the mapper that a policy ``butler`` names: ``mapperName``, with ``mapperPolicy``.

    Raises
    ------
    RefusedError
        If it can't be imported or made.
    """
    settings = _expanded(policy.part("mapperPolicy"))
    name = policy.get("mapperName", "")
    if not name:
        return DefaultMapper(settings)
    place = f"{policy.origin_of('mapperName')}: {policy.full_name('mapperName')} {name}"
    mapper_class = task_classes.imported(name, place)
    try:
        mapper: Mapper = mapper_class(settings)
    except errors.AggregatorError:
        raise
    except Exception as exc:
        raise errors.RefusedError(f"{place}: can't be made ({type(exc).__name__}: {exc}).") from exc
    return mapper


def _expanded(policy: policy_module.Policy) -> policy_module.Policy:
    """Return a policy with values of the location map in its texts."""
    result = policy_module.Policy(policy.origin, policy.name, policy.depth)
    for name in policy.names():
        for each in policy.elements(name):
            if isinstance(each.value, policy_module.Policy):
                result.inner(name, each.origin).fill(_expanded(each.value))
                continue
            value = locations.expand(each.value, {}) if isinstance(each.value, str) else each.value
            result.add(name, value, each.origin)
    return result

"""Storages of stages as tests use them: policies from text, places, additional data."""

from __future__ import annotations

from typing import Any

from aggregator.schemas import output_paths
from aggregator.stages import persistence, property_sets
from aggregator.stages.policies import policy as policy_module
from aggregator.stages.policies import yaml_policies
from aggregator.stages.storages import storage_registry


def policy(text: str) -> policy_module.Policy:
    """Return a policy from YAML."""
    made = policy_module.Policy(policy_module.Origin("policy.yaml"))
    yaml_policies.parse(text, made)
    return made


def place(storage: str, location: Any) -> persistence.Place:
    """Return a storage's place, named in line 3."""
    return persistence.Place(storage, str(location), policy_module.Origin("policy.yaml", 3))


class Storages:
    """Writes and reads items, with settings in YAML.

    Parameters
    ----------
    protection
        What must not be written.
    keeps
        Whether what is there stays.
    """

    def __init__(self, protection: output_paths.Protection | None = None, *, keeps: bool = False) -> None:
        self.registry = storage_registry.StorageRegistry(protection or output_paths.Protection(), keeps=keeps)

    def write(
        self, item: Any, *places: persistence.Place, type_name: str = "", settings: str = "{}", **data: Any
    ) -> None:
        """Write an item."""
        self._persistence(settings).persist(item, type_name, places, _data(data))

    def read(
        self,
        *places: persistence.Place,
        type_name: str = "",
        python_type: type[Any] | None = None,
        settings: str = "{}",
        **data: Any,
    ) -> Any:
        """Read an item."""
        return self._persistence(settings).retrieve(type_name, python_type, places, _data(data))

    def is_there(
        self, where: persistence.Place, *, type_name: str = "", settings: str = "{}", **data: Any
    ) -> bool:
        """Return whether an item is in a storage."""
        given = policy(settings)
        return self.registry.is_there(
            where, given.part(where.storage), given.part(f"Formatter.{type_name}"), _data(data)
        )

    def _persistence(self, settings: str) -> persistence.Persistence:
        return persistence.Persistence(self.registry, policy(settings))


def _data(values: dict[str, Any]) -> property_sets.PropertySet:
    return property_sets.PropertySet({"itemName": "quality", **values})

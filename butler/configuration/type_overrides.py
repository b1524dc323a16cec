"""Dataset types that a repository's configuration shows under another name or storage class.

Implements ``registry: managers: datasets: config: overrides`` (butler-repository.md section 1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from aggregator.storage import errors

_WHERE: Final = "registry: managers: datasets"


@dataclasses.dataclass(frozen=True, slots=True)
class Overrides:
    """How names and storage classes here differ from those in the database."""

    stored: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Name in the database of each dataset type that has another one here."""

    storage_classes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Storage class to be used, by name in the database."""

    def stored_name(self, name: str) -> str | None:
        """Return the name in the database; nothing if the dataset type of this name has another one here."""
        if name in self.stored:
            return self.stored[name]
        return None if name in self.stored.values() else name

    def concern(self, name: str) -> bool:
        """Return whether something else is made of a name, be it one here or in the database."""
        return name in self.stored or name in self.stored.values() or name in self.storage_classes

    def storage_class(self, stored_name: str, stored: str) -> str:
        """Return the storage class of a dataset type, given what the database has."""
        return self.storage_classes.get(stored_name, stored)

    def obstacle(self, name: str) -> str | None:
        """Return why a dataset type can't be registered; nothing if it can."""
        stored = self.stored_name(name)
        if stored is None:
            return f"its name is one that the configuration replaces ('{_WHERE}: config: overrides: {name}')"
        if stored in self.storage_classes:
            return (
                f"the configuration replaces its storage class ('{_WHERE}: config: overrides: {stored}'), so "
                "nobody knows which one the database should have"
            )
        return None


NONE: Final = Overrides()
"""All names and storage classes are those in the database."""


def parse(managers: Any, path: str) -> Overrides:
    """Return the overrides of a configuration.

    Parameters
    ----------
    managers
        Its section ``registry: managers``, if any.
    path
        Its file, for messages.

    Raises
    ------
    RefusedError
        Raised if the part about datasets has anything that is not known, or contradicts itself.
    """
    section = managers.get("datasets") if isinstance(managers, Mapping) else None
    if section is None or isinstance(section, str):
        return NONE
    section = _mapping(section, _WHERE, path, ("cls", "config", "schema_version"))
    config = _mapping(section.get("config"), f"{_WHERE}: config", path, ("overrides",))
    where = f"{_WHERE}: config: overrides"
    stored: dict[str, str] = {}
    classes: dict[str, str] = {}
    for name, entry in _mapping(config.get("overrides"), where, path).items():
        entry = _mapping(entry, f"{where}: {name}", path, ("rename", "storageClass"))
        for key, value in entry.items():
            if value is not None and not (isinstance(value, str) and value):
                raise errors.RefusedError(
                    f"{path}: '{where}: {name}: {key}' is {value!r}; it has to be a name."
                )
        if entry.get("storageClass") is not None:
            classes[name] = entry["storageClass"]
        new = entry.get("rename")
        if new == name or new in stored:
            taken = "itself" if new == name else f"the name that {stored[new]} has"
            raise errors.RefusedError(f"{path}: '{where}' renames {name} to {taken}.")
        if new is not None:
            stored[new] = name
    return Overrides(stored, classes)


def _mapping(value: Any, where: str, path: str, keys: tuple[str, ...] | None = None) -> Mapping[str, Any]:
    """Return a section, empty if it is not there."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise errors.RefusedError(f"{path}: '{where}' has to be a mapping.")
    if unknown := [str(key) for key in value if not isinstance(key, str) or (keys and key not in keys)]:
        raise errors.RefusedError(
            f"{path}: '{where}' has {', '.join(unknown)}, which this version does not know. Datasets "
            "might go where nobody looks for them: use a version that knows it, or take it out."
        )
    return value

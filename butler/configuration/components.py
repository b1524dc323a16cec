"""Components of storage classes, each of which is a storage class of its own."""

from collections.abc import Mapping
from typing import Any

from aggregator.storage import errors


def of_storage_classes(section: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the components of each storage class by name, with those that it inherits.

    Parameters
    ----------
    section
        The section ``storageClasses``.

    Raises
    ------
    RefusedError
        If storage classes inherit from each other.
    """
    done: dict[str, dict[str, str]] = {}

    def resolve(name: str, heirs: tuple[str, ...]) -> dict[str, str]:
        if name in heirs:
            raise errors.RefusedError(f"Storage classes {' and '.join(heirs)} inherit from each other.")
        if name not in done:
            entry = section.get(name) or {}
            base = entry.get("inheritsFrom")
            inherited = resolve(base, (*heirs, name)) if base else {}
            done[name] = {**inherited, **(entry.get("components") or {})}
        return done[name]

    for name in section:
        resolve(name, ())
    return done

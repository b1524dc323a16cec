"""Lookup keys: how a section of the datastore configuration says which datasets an entry is for.

Templates, formatters, composites and constraints share them (butler-repository.md section 9.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from aggregator.butler.dimensions import universe as universe_module
from aggregator.storage import errors

DEFAULT: Final = "default"
"""Name of the entry that is no lookup key but holds a default."""

_SECTION: Final = re.compile(r"([a-z_]+)<(.*)>$")


class Key(NamedTuple):
    """A lookup key; two keys match when they are equal."""

    name: str | tuple[str, ...]
    """A dataset type name, a storage class name, or all dimensions of a conformed group."""

    section: tuple[str, str] | None = None
    """Dimension and value of the section that the key stands in, e.g. ``("instrument", "HSC")``."""


def candidates(
    dataset_type: str,
    group: universe_module.Group,
    storage_classes: Iterable[str],
    instrument: str | None = None,
) -> tuple[Key, ...]:
    """Return the keys that fit a dataset, the strongest first.

    Parameters
    ----------
    dataset_type
        Name of the dataset type, of the form ``parent.component`` for a component.
    group
        Its dimensions.
    storage_classes
        Its storage class; for a component the component's, then the parent's.
    instrument
        Value of the instrument in the data ID, if it has one.
    """
    parent, dot, _ = dataset_type.partition(".")
    names: list[str | tuple[str, ...]] = [dataset_type]
    if dot:
        names.append(parent)
    if group.names:
        names.append(group.names)
    names.extend(storage_classes)
    plain = tuple(Key(name) for name in names)
    if instrument is None:
        return plain
    return tuple(Key(name, ("instrument", instrument)) for name in names) + plain


def parse_mapping(
    section: Mapping[str, Any], universe: universe_module.Universe, values_are_mappings: bool = False
) -> dict[Key, Any]:
    """Return the entries of a configuration section by lookup key; of equal keys the last one counts.

    Parameters
    ----------
    section
        Part of the configuration, e.g. ``datastore.templates``.
    universe
        Dimensions, to conform keys of the form ``a+b``.
    values_are_mappings
        Whether an entry may be a mapping without being an ``instrument<NAME>`` section.

    Raises
    ------
    aggregator.storage.errors.RefusedError
        An entry is a mapping where none is allowed, or a key is no string.
    """
    entries: dict[Key, Any] = {}
    for name, value in section.items():
        key = _parse(name, universe, None)
        inner = _section(name) if isinstance(value, Mapping) else None
        if inner is not None:
            entries.update((_parse(n, universe, inner), v) for n, v in value.items())
        elif isinstance(value, Mapping) and not values_are_mappings:
            raise errors.RefusedError(
                f"Datastore configuration: {name!r} is a mapping, but not of the form 'dimension<value>'."
            )
        else:
            entries[key] = value
    return entries


def parse_list(section: Iterable[Any], universe: universe_module.Universe) -> frozenset[Key]:
    """Return the lookup keys of a list, as in ``constraints``.

    Parameters
    ----------
    section
        Names, or mappings of one ``instrument<NAME>`` to a list of names.
    universe
        Dimensions, to conform keys of the form ``a+b``.

    Raises
    ------
    aggregator.storage.errors.RefusedError
        A mapping in the list is malformed.
    """
    return frozenset(_parse_entries(section, universe))


def _parse_entries(section: Iterable[Any], universe: universe_module.Universe) -> Iterator[Key]:
    for entry in section:
        if not isinstance(entry, Mapping):
            yield _parse(entry, universe, None)
            continue
        inner = _section(next(iter(entry))) if len(entry) == 1 else None
        if inner is None:
            raise errors.RefusedError(
                f"Datastore configuration: list entry {dict(entry)!r} is not of the form "
                "'dimension<value>': [...]."
            )
        for name in next(iter(entry.values())):
            yield _parse(name, universe, inner)


def _section(name: str) -> tuple[str, str] | None:
    match = _SECTION.match(name)
    return (match.group(1), match.group(2)) if match else None


def _parse(name: Any, universe: universe_module.Universe, section: tuple[str, str] | None) -> Key:
    if not isinstance(name, str):
        raise errors.RefusedError(f"Datastore configuration: lookup key {name!r} is not a string; quote it.")
    if "+" not in name:
        return Key(name, section)
    dimensions = [part for part in name.split("+") if part]
    if not all(d in universe and universe.element(d).key for d in dimensions):
        # Written for another universe: as the reference does, an ordinary name that nothing is called by.
        return Key(name, section)
    return Key(universe.group(dimensions).names, section)

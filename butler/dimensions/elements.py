"""Elements of the dimension universe, read from its configuration (butler-repository.md section 2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

_MAX_LEVELS: Final = {
    "HtmPixelization": 24,
    "HealpixPixelization": 17,
    "Mq3cPixelization": 30,
    "Q3cPixelization": 30,
}
"""Deepest level of each pixelization, for systems that leave ``max_level`` out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column of a dimension record (butler-repository.md section 2)."""

    name: str
    """Name of the column."""

    type: str
    """Type as spelled in the configuration: int, string, float, bool, hash, datetime, region, timespan."""

    length: int | None = None
    """Longest string that fits, for strings."""


@dataclasses.dataclass(frozen=True, slots=True)
class Element:
    """A dimension, or a relation between dimensions that has records of its own."""

    name: str
    """Name, unique in the universe."""

    required: tuple[str, ...]
    """Dimensions that identify a record, in universe order, ending with the element if it is a dimension."""

    implied: tuple[str, ...]
    """Dimensions that a record determines directly, in universe order."""

    key: Column | None
    """Primary key column; `None` if the element is no dimension."""

    columns: tuple[Column, ...]
    """Columns of a row of dimension data in order (quantum-graph-format.md section 6.3)."""

    has_table: bool
    """Whether the repository's database has a table for it."""

    governor: bool = False
    """Whether it is a governor dimension."""

    skypix: bool = False
    """Whether it is a pixelization of the sky."""

    alternates: tuple[str, ...] = ()
    """Columns that identify a record as well as its own key does."""

    spatial: str | None = None
    """Family of the elements with regions that it belongs to."""

    always_joined: bool = False
    """Whether its records say which of its dimensions belong together, although it is no dimension."""

    union_of: str | None = None
    """Element whose values for this dimension are all that there are, if it has no table."""

    populated_by: str | None = None
    """Dimension whose records come with those of this relation, which tell more about it."""


class Reader:
    """Reads a configuration of any version from 0 to 8.

    Parameters
    ----------
    config
        The parsed JSON.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.entries: Mapping[str, Any] = config["elements"]
        skypix = config["skypix"]
        self.common_skypix: str | None = skypix.get("common")
        self.systems = {k: v for k, v in skypix.items() if k not in ("common", "systems")}
        self.systems.update(skypix.get("systems") or {})
        topology = config.get("topology") or {}
        self.families = {space: topology.get(space) or {} for space in ("spatial", "temporal")}
        self.elements: dict[str, Element] = {}

    def read(self) -> list[Element]:
        """Return all elements in universe order; `KeyError` or `ValueError` if that is impossible."""
        todo = self._dependencies()
        while todo:
            ready = sorted(name for name, needs in todo.items() if needs.isdisjoint(todo))
            if not ready:
                raise ValueError(f"a circle or gap among {sorted(todo)}")
            for name in ready:
                del todo[name]
                if name in self.systems:
                    self._add_system(name)
                elif name in self.entries:
                    self._add_element(name)
        return list(self.elements.values())

    def _dependencies(self) -> dict[str, set[str]]:
        """Return what must come before each node; topological families take part in the order."""
        todo: dict[str, set[str]] = {name: set() for name in self.systems}
        for name, entry in self.entries.items():
            todo[name] = {*(entry.get("requires") or ()), *(entry.get("implies") or ())}
        for families in self.families.values():
            todo.update((family, set(members)) for family, members in families.items())
        return todo

    def _add_system(self, system: str) -> None:
        entry = self.systems[system]
        deepest = entry.get("max_level")
        if deepest is None:
            deepest = _MAX_LEVELS[entry["class"].rpartition(".")[2]]
        for level in range(entry.get("min_level", 1), deepest + 1):
            name = f"{system}{level}"
            key = Column("id", "int")
            self.elements[name] = Element(name, (name,), (), key, (key,), has_table=False, skypix=True)

    def _add_element(self, name: str) -> None:
        entry = self.entries[name]
        keys = [_column(key) for key in entry.get("keys") or ()]
        governor = bool(entry.get("governor"))
        needs = set() if governor else {r for n in entry.get("requires") or () for r in self._required(n)}
        given = set() if governor else set(entry.get("implies") or ())
        before = [n for n, element in self.elements.items() if element.key is not None]
        others = tuple(n for n in before if n in needs)
        implied = tuple(n for n in before if n in given)
        columns = [self._key_column(n) for n in others] + keys[:1]
        columns += [self._key_column(n) for n in implied] + keys[1:]
        columns += [_column(column) for column in entry.get("metadata") or ()]
        columns += [
            Column(*pair)
            for space, pair in (("spatial", ("region", "region")), ("temporal", ("timespan", "timespan")))
            if any(name in members for members in self.families[space].values())
        ]
        target = _view_target(entry)
        self.elements[name] = Element(
            name=name,
            required=(*others, name) if keys else others,
            implied=implied,
            key=keys[0] if keys else None,
            columns=tuple(columns),
            has_table=target is None,
            governor=governor,
            alternates=tuple(key.name for key in keys[1:]),
            spatial=next((f for f, members in self.families["spatial"].items() if name in members), None),
            always_joined=_always_joined(entry),
            union_of=target,
            populated_by=entry.get("populated_by"),
        )

    def _required(self, name: str) -> tuple[str, ...]:
        return self.elements[name].required

    def _key_column(self, name: str) -> Column:
        key = self.elements[name].key
        if key is None:
            raise ValueError(f"{name} has no key")
        return Column(name, key.type, key.length)


def _column(entry: Mapping[str, Any]) -> Column:
    return Column(entry["name"], entry["type"], entry.get("length"))


def _always_joined(entry: Mapping[str, Any]) -> bool:
    """Return whether an element takes part in every query; old versions say so under ``storage``."""
    return bool(entry.get("always_join") or (entry.get("storage") or {}).get("always_join"))


def _view_target(entry: Mapping[str, Any]) -> str | None:
    """Return the dimension whose values define this one; old versions say so under ``storage``."""
    storage = entry.get("storage") or {}
    storage = storage.get("nested") or storage
    target: str | None = entry.get("implied_union_target") or storage.get("view_of")
    return target

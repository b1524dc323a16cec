"""Dimensions: which exist, how they depend on each other, and in which order their values come.

The rules are those of butler-repository.md section 2; the configuration is the JSON document that a
repository and every pipeline graph carry.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from aggregator.butler.dimensions import elements
from aggregator.storage import errors


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Group:
    """A closed set of dimensions: with each one, all that it requires or implies.

    Groups of one universe are equal when their names are.
    """

    names: tuple[str, ...]
    """All dimensions in universe order."""

    required: tuple[str, ...]
    """Dimensions that no other of the group implies: the columns of a tag table."""

    implied: tuple[str, ...]
    """The other dimensions."""

    keys: tuple[str, ...]
    """Order of the values of a full data ID: required, then implied."""

    elements: tuple[str, ...]
    """Elements whose required dimensions are all in the group, in universe order."""

    governors: tuple[str, ...]
    """Governor dimensions of the group, in universe order."""

    skypix: str | None
    """The only sky pixelization dimension, or `None` if there is none or more than one."""

    def __eq__(self, other: object) -> bool:
        """Compare by names."""
        return isinstance(other, Group) and other.names == self.names

    def __hash__(self) -> int:
        """Hash by names."""
        return hash(self.names)


class Universe:
    """All dimensions of a repository or pipeline graph (butler-repository.md section 2).

    Parameters
    ----------
    version
        Version number of the configuration.
    namespace
        Name of the family of configurations.
    members
        Elements in universe order.
    common_skypix
        Pixelization that relates all regions to each other.
    """

    def __init__(
        self,
        version: int,
        namespace: str,
        members: Iterable[elements.Element],
        common_skypix: str | None = None,
    ) -> None:
        self._elements = {element.name: element for element in members}
        self._groups: dict[frozenset[str], Group] = {}
        self.version = version
        self.namespace = namespace
        self.common_skypix = common_skypix
        self.elements = tuple(self._elements)
        self.dimensions = tuple(n for n, element in self._elements.items() if element.key is not None)
        self.skypix = frozenset(n for n, element in self._elements.items() if element.skypix)
        self.governors = tuple(n for n, element in self._elements.items() if element.governor)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Universe:
        """Build a universe from its configuration, of any version from 0 to 8.

        Parameters
        ----------
        config
            The parsed JSON (``config:dimensions.json`` of a repository, ``dimensions`` of a pipeline graph).

        Raises
        ------
        aggregator.storage.errors.AggregatorError
            The configuration is incomplete, or its elements depend on each other in a circle.
        """
        try:
            reader = elements.Reader(config)
            namespace = config.get("namespace", "daf_butler")
            return cls(config.get("version", 0), namespace, reader.read(), reader.common_skypix)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise errors.AggregatorError(
                f"The dimension configuration can't be used: {error!r} is missing or malformed. "
                "Check that the graph and the repository were written by a supported version."
            ) from error

    def __contains__(self, name: object) -> bool:
        """Return whether there is an element of this name."""
        return name in self._elements

    def element(self, name: str) -> elements.Element:
        """Return an element by its name; a `KeyError` means that it does not exist."""
        return self._elements[name]

    def required(self, name: str) -> tuple[str, ...]:
        """Return the dimensions that identify a record, ending with the dimension itself."""
        return self._elements[name].required

    def implied(self, name: str) -> tuple[str, ...]:
        """Return the dimensions that an element implies directly."""
        return self._elements[name].implied

    def has_table(self, name: str) -> bool:
        """Return whether the database has a table for an element."""
        return self._elements[name].has_table

    def primary_key(self, name: str) -> str:
        """Return the name of a dimension's own key column, ``id`` or ``name`` as a rule."""
        return self.key(name).name

    def column_type(self, name: str) -> tuple[str, int | None]:
        """Return type and length (`None` unless a string) of a dimension's own key column."""
        key = self.key(name)
        return key.type, key.length

    def record_columns(self, name: str) -> tuple[str, ...]:
        """Return the field names of a row of dimension data (quantum-graph-format.md section 6.3).

        They are the attributes of the record too: an element's own key has its column name (``id``),
        other dimensions have their own names.
        """
        return tuple(column.name for column in self._elements[name].columns)

    def governor(self, name: str) -> str:
        """Return the governor dimension that an element with regions belongs to.

        Raises
        ------
        aggregator.storage.errors.RefusedError
            There is none, or more than one.
        """
        element = self._elements[name]
        governors = self.group((*element.required, *element.implied)).governors
        if len(governors) != 1:
            raise errors.RefusedError(
                f"Dimension universe {self.namespace} version {self.version}: {name!r} has regions, so "
                f"it has to depend on one governor dimension; it depends on {len(governors)}."
            )
        return governors[0]

    def group(self, names: Iterable[str]) -> Group:
        """Return the smallest group with the given dimensions.

        Parameters
        ----------
        names
            Dimensions in any order; what they require and imply is added.

        Raises
        ------
        aggregator.storage.errors.AggregatorError
            A name is not a dimension of this universe.
        """
        key = frozenset(names)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = self._conform(key)
        return group

    def key(self, name: str) -> elements.Column:
        """Return a dimension's own key column; a `KeyError` means that it is none."""
        key = self._elements[name].key
        if key is None:
            raise KeyError(name)
        return key

    def _conform(self, start: frozenset[str]) -> Group:
        todo, members = set(start), set[str]()
        while todo:
            name = todo.pop()
            element = self._elements.get(name)
            if element is None or element.key is None:
                raise errors.AggregatorError(
                    f"Dimension {name!r} does not exist in dimension universe "
                    f"{self.namespace} version {self.version}; graph and repository do not fit together."
                )
            members.add(name)
            todo.update(element.required, element.implied)
            todo -= members
        names = tuple(n for n in self.dimensions if n in members)
        determined = {i for n in names for i in self._elements[n].implied}
        required = tuple(n for n in names if n not in determined)
        implied = tuple(n for n in names if n in determined)
        pixels = [n for n in names if n in self.skypix]
        return Group(
            names=names,
            required=required,
            implied=implied,
            keys=required + implied,
            elements=tuple(n for n, e in self._elements.items() if members.issuperset(e.required)),
            governors=tuple(n for n in self.governors if n in members),
            skypix=pixels[0] if len(pixels) == 1 else None,
        )

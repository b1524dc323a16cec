"""A policy: named values in the order of its file, each of which knows its line (stages.md section 2).

A name has one value or an array of several, all of one kind: bool, int, double, string, or policy. An array
of one value and a value are the same; of an array that is read as a value the last one counts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Final, TypeVar, Union

from aggregator.storage import errors

Scalar = bool | int | float | str
Value = Union[bool, int, float, str, "Policy", "Include"]
Kind = TypeVar("Kind", bool, int, float, str, "Policy")

DEPTH_LIMIT: Final = 100
"""How many policies may be inside of each other."""

_NAME: Final = re.compile(r"\w+(?:\.\w+)*\Z")


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Where something was read."""

    file: str
    """Path or URI of the file, or what else it is from."""

    line: int = 0
    """Line, from 1; 0 if there are no lines."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclasses.dataclass(frozen=True, slots=True)
class Include:
    """A file that stands for a policy, and was not read yet."""

    path: str
    """Its path, relative to the file that names it, or URI."""


NOWHERE: Final = Origin("policy")
"""Origin of what was read from no file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Element:
    """One value with its origin."""

    value: Value
    """The value."""

    origin: Origin
    """Where it was read."""


def kind(value: Value) -> str:
    """Return the name of a value's type: ``bool``, ``int``, ``double``, ``string`` or ``policy``."""
    if isinstance(value, Policy | Include):
        return "policy"
    return {bool: "bool", int: "int", float: "double", str: "string"}[type(value)]


def complaint(origin: Origin, name: str, problem: str) -> errors.RefusedError:
    """Return the error for a value that can't be used.

    Parameters
    ----------
    origin
        Where it was read.
    name
        Its full name.
    problem
        What is wrong, and what to do.
    """
    return errors.RefusedError(f"{origin}: {name}: {problem}")


class Policy:
    """A policy, or a part of one.

    Parameters
    ----------
    origin
        Where it begins.
    name
        Full name of the part, for messages.
    depth
        How many policies it is in.
    """

    __slots__ = ("_elements", "depth", "name", "origin")

    def __init__(self, origin: Origin = NOWHERE, name: str = "", depth: int = 0) -> None:
        self.origin = origin
        self.name = name
        self.depth = depth
        self._elements: dict[str, list[Element]] = {}

    def __eq__(self, other: object) -> bool:
        """Return whether both have the same names and values of the same kinds, in the same order."""
        if not isinstance(other, Policy):
            return NotImplemented
        return _content(self) == _content(other)

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, path: str) -> bool:
        return bool(self.elements(path))

    def __repr__(self) -> str:
        return f"Policy({_content(self)!r})"

    def full_name(self, path: str) -> str:
        """Return the name of a value from the top."""
        return f"{self.name}.{path}" if self.name else path

    def names(self) -> list[str]:
        """Return the names at the top of this policy, in their order."""
        return list(self._elements)

    def add(self, path: str, value: Value, origin: Origin = NOWHERE) -> None:
        """Add a value; one of the same name becomes an array, together with this.

        Parameters
        ----------
        path
            Its name. Parts before its dots name policies, which are made if they are not there.
        value
            The value. A policy has to be one that `inner` has made for this name.
        origin
            Where it was read.

        Raises
        ------
        RefusedError
            If it is no name, has values of another kind, or too many policies are inside of each other.
        """
        owner, last = self._owner(path, origin)
        values = owner._elements.get(last, [])
        if values and kind(values[0].value) != kind(value):
            text = f"a {kind(value)} can't follow the {kind(values[0].value)} of {values[0].origin}."
            raise complaint(origin, owner.full_name(last), text)
        owner._elements.setdefault(last, []).append(Element(value, origin))

    def inner(self, path: str, origin: Origin = NOWHERE) -> Policy:
        """Add a policy inside of this one, and return it; parameters and errors as for `add`."""
        result = self._new(path, origin)
        self.add(path, result, origin)
        return result

    def _new(self, path: str, origin: Origin) -> Policy:
        depth = self.depth + path.count(".") + 1
        if depth > DEPTH_LIMIT:
            raise complaint(origin, path[:40], f"more than {DEPTH_LIMIT} policies are inside of each other.")
        return Policy(origin, self.full_name(path), depth)

    def elements(self, path: str) -> list[Element]:
        """Return the values of a name, which may have dots; none if there is no such name."""
        policy = self
        *above, last = path.split(".")
        for part in above:
            values = policy._elements.get(part)
            if not values or not isinstance(inner := values[-1].value, Policy):
                return []
            policy = inner
        return policy._elements.get(last, [])

    def origin_of(self, path: str) -> Origin:
        """Return where the last value of a name was read; where the policy begins if there is none."""
        elements = self.elements(path)
        return elements[-1].origin if elements else self.origin

    def array(self, path: str, as_kind: type[Kind]) -> list[Kind]:
        """Return the values of a name.

        Parameters
        ----------
        path
            The name, which may have dots.
        as_kind
            ``bool``, ``int``, ``float``, ``str`` or `Policy`.

        Returns
        -------
        values
            The values; none if there is no such name.

        Raises
        ------
        RefusedError
            If they are of another kind.
        """
        elements = self.elements(path)
        for each in elements:
            if isinstance(each.value, Include):
                raise complaint(each.origin, self.full_name(path), f"{each.value.path} was not read.")
            if type(each.value) is not as_kind:
                name = "policy" if as_kind is Policy else kind(as_kind())
                text = f"has to be a {name}, and is a {kind(each.value)}."
                raise complaint(each.origin, self.full_name(path), text)
        return [each.value for each in elements]  # type: ignore[misc]

    def get(self, path: str, default: Kind) -> Kind:
        """Return the last value of a name, of the kind of the default, or this; errors as for `array`."""
        values = self.array(path, type(default))
        return values[-1] if values else default

    def required(self, path: str, as_kind: type[Kind]) -> Kind:
        """Return the last value of a name; parameters and errors as for `array`, and if there is none."""
        values = self.array(path, as_kind)
        if not values:
            raise complaint(self.origin, self.full_name(path), "is missing.")
        return values[-1]

    def part(self, path: str) -> Policy:
        """Return the policy of a name, the last one; an empty one if there is none. Errors as for `array`."""
        return self.get(path, Policy(self.origin, self.full_name(path), self.depth + 1))

    def fill(self, other: Policy) -> None:
        """Add what another policy has and this one has not; so also in policies that both have."""
        for name in other.names():
            given = other.elements(name)
            for each in self._elements.get(name, []):
                if isinstance(each.value, Policy) and isinstance(given[-1].value, Policy):
                    each.value.fill(given[-1].value)
            if name not in self:
                for each in given:
                    self.copy(name, each)

    def copy(self, name: str, element: Element) -> None:
        """Add a value of another policy."""
        if isinstance(element.value, Policy):
            self.inner(name, element.origin).fill(element.value)
        else:
            self.add(name, element.value, element.origin)

    def load(self, read: Callable[[Include, Origin, Policy], None]) -> None:
        """Put policies in the place of files that stand for them, everywhere in this policy.

        Parameters
        ----------
        read
            Reads a file into a policy that is empty; given what names the file, and where.
        """
        for name, elements in self._elements.items():
            for number, each in enumerate(elements):
                if isinstance(each.value, Include):
                    inner = self._new(name, each.origin)
                    read(each.value, each.origin, inner)
                    elements[number] = Element(inner, each.origin)
                elif isinstance(each.value, Policy):
                    each.value.load(read)

    def _owner(self, path: str, origin: Origin) -> tuple[Policy, str]:
        """Return the policy to which a value belongs, and its name there; makes those that are missing."""
        if not _NAME.match(path):
            shown = repr(path if len(path) < 80 else path[:77] + "...")
            text = "is no name: it has to be letters, digits and underscores, with single dots between parts."
            raise complaint(origin, shown, text)
        policy = self
        *above, last = path.split(".")
        for part in above:
            elements = policy._elements.get(part)
            if not elements:
                policy = policy.inner(part, origin)
            elif isinstance(inner := elements[-1].value, Policy):
                policy = inner
            else:
                raise complaint(
                    origin, policy.full_name(part), f"is a {kind(elements[-1].value)} and no policy."
                )
        return policy, last


def _content(policy: Policy) -> list[tuple[str, list[tuple[str, object]]]]:
    return [
        (
            name,
            [
                (kind(each.value), _content(each.value) if isinstance(each.value, Policy) else each.value)
                for each in policy.elements(name)
            ],
        )
        for name in policy.names()
    ]

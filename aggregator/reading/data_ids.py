"""Data IDs as users give them, and as graphs store them (quantum-graph-format.md section 5.1)."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aggregator.reading import tables
from aggregator.storage import errors

if TYPE_CHECKING:
    from aggregator.butler.dimensions import universe

Value = int | str
Constraint = dict[str, Value]
"""Part of a data ID: values of some dimensions."""

_TERM = re.compile(r"""\s*([A-Za-z_]\w*)\s*==?\s*('[^']*'|"[^"]*"|[^\s,'"=]+)\s*""")
_SEPARATOR = re.compile(r"(?i:,|and\b)")


def parse(text: str) -> dict[str, str]:
    """Return the values in a text like ``visit=102 AND detector=5``; commas will do, too.

    Raises
    ------
    RefusedError
        If it is no such text.
    """
    result: dict[str, str] = {}
    place, complete = 0, False
    while term := _TERM.match(text, place):
        name, value = term.groups()
        value = value[1:-1] if value[0] in "'\"" else value
        if result.setdefault(name, value) != value:
            raise errors.RefusedError(f"data ID {text!r}: it has two values for {name}")
        place, complete = term.end(), True
        separator = _SEPARATOR.match(text, place)
        if separator is None:
            break
        place, complete = separator.end(), False
    if place < len(text) or not complete:
        raise errors.RefusedError(
            f"data ID {text!r} is not understood{f' from {text[place:]!r} on' if place else ''}; "
            'write it like "visit=102 AND detector=5", with quotes around values with spaces'
        )
    return result


class DataIds:
    """Names and types of the values in the data IDs of one graph.

    Parameters
    ----------
    dimensions
        The graph's dimension universe.
    """

    def __init__(self, dimensions: "universe.Universe") -> None:
        self._universe = dimensions

    def keys(self, dimensions: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the values of a full data ID, in order."""
        return self._universe.group(dimensions).keys

    def name(self, dimensions: tuple[str, ...], values: tuple[Value, ...]) -> dict[str, Value]:
        """Return a full data ID with names."""
        return dict(zip(self.keys(dimensions), values, strict=True))

    def required(self, dimensions: tuple[str, ...]) -> tuple[str, ...]:
        """Return the dimensions that make a data ID unique."""
        return self._universe.group(dimensions).required

    def columns(self, dimensions: tuple[str, ...]) -> tables.Columns:
        """Return the columns of full data IDs."""
        return {name: "integer" if self._is_integer(name) else "category" for name in self.keys(dimensions)}

    def constraint(self, what: str, dimensions: tuple[str, ...], given: Mapping[str, Any]) -> Constraint:
        """Return part of a data ID with values of the right types.

        Parameters
        ----------
        what
            What has the data ID, for messages.
        dimensions
            Its dimensions.
        given
            Values by dimension; texts are converted.

        Raises
        ------
        RefusedError
            If a dimension is not one of these, or a value is of another type.
        """
        keys = self.keys(dimensions)
        result: Constraint = {}
        for name, value in given.items():
            if name not in keys:
                choices = f"its dimensions are {', '.join(keys)}" if keys else "it has no dimensions"
                raise errors.RefusedError(f"{what} has no dimension {name!r}; {choices}")
            result[name] = self._convert(name, value)
        return result

    def _is_integer(self, name: str) -> bool:
        return self._universe.column_type(name)[0] == "int"

    def _convert(self, name: str, value: Any) -> Value:
        if not self._is_integer(name):
            return str(value)
        try:
            return int(value)
        except (TypeError, ValueError):
            raise errors.RefusedError(f"{name}={value}: values of {name} are integers") from None


def text(data_id: Mapping[str, Value]) -> str:
    """Return a data ID as one line, in the form that `parse` takes."""
    return ", ".join(
        f"{name}={value!r}" if " " in str(value) else f"{name}={value}" for name, value in data_id.items()
    )

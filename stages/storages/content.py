"""What storages take and give: content of a few forms, into which formatters turn objects."""

from __future__ import annotations

import abc
import dataclasses
import enum
from collections.abc import Sequence
from typing import Any, ClassVar

from aggregator.stages import persistence


class Form(enum.Enum):
    """Forms of content."""

    VALUES = "values"
    """Plain values: None, booleans, numbers, texts, bytes, arrays, and lists and mappings of them."""

    UNITS = "units"
    """What Astropy writes as FITS: an ``HDUList``, or what becomes one. Units are read."""

    ROWS = "rows"
    """A list of mappings from columns to values."""

    POLICY = "policy"
    """A policy."""

    OBJECT = "object"
    """The object itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class Units:
    """What is read of a FITS file."""

    units: Any
    """All units, an ``HDUList``."""

    number: int | None
    """Which one is asked for; nothing if the location says nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Rows that are written, or asked for."""

    table: str
    """The table."""

    columns: Sequence[str]
    """Names of columns; none for all."""

    rows: Sequence[Sequence[Any]] = ()
    """Values, in the order of the columns."""

    where: Sequence[tuple[str, Any]] = ()
    """Values that columns may have to have: those which are columns of the table's key count."""


class ContentStorage(persistence.Storage):
    """A storage that takes content of one form.

    Parameters
    ----------
    name
        Its name in policies.
    location
        Where it is, for people.
    """

    form: ClassVar[Form]
    """Form of its content."""

    def __init__(self, name: str, location: str) -> None:
        self.name = name
        self.location = location

    @abc.abstractmethod
    def put(self, content: Any, type_name: str) -> None:
        """Write content.

        Parameters
        ----------
        content
            The content, of this storage's form.
        type_name
            Name of the object's type, which some storages note.

        Raises
        ------
        AggregatorError
            If it can't be written.
        """

    @abc.abstractmethod
    def get(self, request: Any = None) -> Any:
        """Return content.

        Parameters
        ----------
        request
            Which content, where a location does not tell that: `Rows` without rows.

        Raises
        ------
        AggregatorError
            If it is not there, or can't be read.
        """

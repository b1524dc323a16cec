"""What every format can do, and what others have to offer to add one.

A format is chosen by the storage class and the extension of a file. The class that a datastore record names
as formatter is never imported: it belongs to whoever wrote the file.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from aggregator.storage import errors


class FormatError(errors.AggregatorError):
    """An object can't be written in the format of its dataset, or a file has another format."""


class ParameterError(ValueError):
    """A parameter asks for something that the dataset does not have."""


class Format(abc.ABC):
    """A way to write objects."""

    parameters: ClassVar[frozenset[str]] = frozenset()
    """Names of the parameters that `decode` knows."""

    derived: ClassVar[Mapping[str, str]] = {}
    """Components that can be worked out of an object, with their storage classes."""

    @abc.abstractmethod
    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return the content of a file.

        Parameters
        ----------
        value
            The object, which is left as it is.
        provenance
            What is to be noted in the file about its origin, if the format has a place for that.

        Raises
        ------
        Exception
            Any, if the object can't be written.
        """

    @abc.abstractmethod
    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> Any:
        """Return the object that the content of a file stands for.

        Parameters
        ----------
        data
            The content.
        parameters
            Which part of the object is wanted, or how.

        Raises
        ------
        ParameterError
            If the object does not have what the parameters ask for.
        Exception
            Any, if the content is something else.
        """

    def component(self, value: Any, name: str) -> Any:
        """Return a part of an object: what a mapping has under its name, or an attribute.

        Raises
        ------
        KeyError
            If the object has no such part.
        """
        if isinstance(value, Mapping):
            return value[name]
        try:
            return getattr(value, name)
        except AttributeError:
            raise KeyError(name) from None


@dataclasses.dataclass(frozen=True, slots=True)
class Addition:
    """A format that another distribution adds by an entry point (see `choices.GROUP`)."""

    formatter: str
    """Qualified name of the formatter class, as in configurations and records."""

    extension: str
    """Extension of its files, with the dot."""

    storage_classes: frozenset[str]
    """Names of the storage classes that have the format if the extension is this one."""

    format: Format
    """How they are written and read."""

"""Formatters made of conversions: functions between an object and content of a form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

from aggregator.stages import property_sets
from aggregator.stages.policies import policy as policy_module
from aggregator.stages.storages import content
from aggregator.storage import errors


@dataclasses.dataclass(frozen=True, slots=True)
class Circumstances:
    """What a conversion may want to know besides the object."""

    data: property_sets.PropertySet
    """The additional data."""

    settings: policy_module.Policy
    """Settings of the formatter."""

    python_type: type[Any] | None
    """Class of the object that is wanted."""


class Conversion(NamedTuple):
    """Both ways between objects of a type and content of a form."""

    to_content: Callable[[Any, Circumstances], Any]
    """Makes content of an object."""

    from_content: Callable[[Any, Circumstances], Any]
    """Makes an object of content."""


class ItemFormatter:
    """Formatter of a type.

    Parameters
    ----------
    type_name
        Name of the type.
    conversions
        What it can do, by form.
    python_type
        Class of the objects.
    settings
        Settings: for rows ``TableName`` and ``KeyList``.
    """

    def __init__(
        self,
        type_name: str,
        conversions: Mapping[content.Form, Conversion],
        python_type: type[Any] | None,
        settings: policy_module.Policy,
    ) -> None:
        self._type_name = type_name
        self._conversions = conversions
        self._python_type = python_type
        self._settings = settings

    def write(self, item: Any, storage: Any, data: property_sets.PropertySet) -> None:
        """Write an object to a storage that has started.

        Raises
        ------
        RefusedError
            If the object can't be written there.
        """
        conversion = self._conversions[storage.form]
        with_what = Circumstances(data, self._settings, self._python_type)
        made = _explained(conversion.to_content, item, with_what, self._type_name, storage)
        storage.put(made, self._type_name)

    def read(self, storage: Any, data: property_sets.PropertySet) -> Any:
        """Return the object in a storage that has started.

        Raises
        ------
        RefusedError
            If there is something else.
        """
        with_what = Circumstances(data, self._settings, self._python_type)
        is_rows = storage.form is content.Form.ROWS
        made = storage.get(requested(data, self._settings)) if is_rows else storage.get()
        return _explained(
            self._conversions[storage.form].from_content, made, with_what, self._type_name, storage
        )

    def update(self, item: Any, storage: Any, data: property_sets.PropertySet) -> Any:
        """Return an object with what a further storage has of it: a mapping gets values.

        Raises
        ------
        RefusedError
            If the object is no mapping.
        """
        if not isinstance(item, MutableMapping):
            raise errors.RefusedError(
                f"{storage.location}: an object of type {type(item).__name__} can't be put together of "
                "several storages; give one."
            )
        item.update(self.read(storage, data))
        return item


def columns(settings: policy_module.Policy) -> dict[str, str]:
    """Return keys by the columns that they are for, as ``KeyList`` has them; nothing if it is not given.

    Raises
    ------
    RefusedError
        If an entry is not ``column=key``.
    """
    result = {}
    for text in settings.array("KeyList", str):
        column, equals, key = text.partition("=")
        if not (column and equals and key) or "=" in key:
            raise policy_module.complaint(
                settings.origin_of("KeyList"),
                settings.full_name("KeyList"),
                f"{text!r} has to be COLUMN=KEY.",
            )
        result[column] = key
    return result


def table(data: property_sets.PropertySet, settings: policy_module.Policy) -> str:
    """Return the name of the table for an item: ``TableName``, or the item's name."""
    return settings.get("TableName", "") or str(data["itemName"])


def requested(data: property_sets.PropertySet, settings: policy_module.Policy) -> content.Rows:
    """Return which rows an item is, as far as the additional data tells that."""
    keys = columns(settings)
    pairs = keys.items() if keys else ((name, name) for name in data)
    where = [(column, data[key]) for column, key in pairs if key in data]
    return content.Rows(table(data, settings), tuple(keys), where=where)


def rows(keys: Mapping[str, str], values: Sequence[Sequence[Any]], about: Circumstances) -> content.Rows:
    """Return rows that are to be written, which have `keys` by the columns that they are for."""
    where = requested(about.data, about.settings).where
    return content.Rows(table(about.data, about.settings), tuple(keys), values, where)


def _explained(
    convert: Callable[[Any, Circumstances], Any],
    value: Any,
    with_what: Circumstances,
    type_name: str,
    storage: Any,
) -> Any:
    try:
        return convert(value, with_what)
    except errors.AggregatorError:
        raise
    except Exception as exc:
        text = str(exc) or type(exc).__name__
        raise errors.RefusedError(
            f"{storage.location}: it can't be of type {type_name} in {storage.name}: {text}."
        ) from exc

"""Which formatter a type has: those that come with this package, and those that others add."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.metadata
from collections.abc import Mapping
from typing import Any, Final, Protocol

from aggregator.butler.formatting import table_kinds
from aggregator.stages import persistence
from aggregator.stages.formatters import item_formatter, plain_formatters
from aggregator.stages.policies import policy as policy_module
from aggregator.stages.storages import content
from aggregator.storage import errors

GROUP: Final = "quantum_graph_aggregator.formatters"
"""Entry points of other distributions; each is an `Addition`."""

_HERE: Final = "aggregator.stages.formatters"


class Addition(Protocol):
    """A formatter that another distribution adds: a class, of which one is made for each use."""

    type_name: str
    """Name of the type in policies."""

    python_types: tuple[str, ...]
    """Classes of its objects, as ``module.Class``."""

    storages: tuple[str, ...]
    """Names of the storages that it can use."""

    def __call__(
        self, python_type: type[Any] | None, settings: policy_module.Policy
    ) -> persistence.Formatter:
        """Make the formatter, for objects of a class, with settings."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Type:
    """A type of this package's own."""

    classes: tuple[str, ...]
    """Its classes, as ``module.Class``."""

    conversions: Mapping[content.Form, item_formatter.Conversion] | tuple[str, str] | table_kinds.Kind
    """What it can become; or the module here that has that, and its name there; or a kind of tables."""


_TYPES: Final[Mapping[str, _Type]] = {
    "PropertySet": _Type(
        ("aggregator.stages.property_sets.PropertySet", "builtins.dict"), plain_formatters.PROPERTY_SET
    ),
    "Policy": _Type(("aggregator.stages.policies.policy.Policy",), plain_formatters.POLICY),
    "Json": _Type(
        ("builtins.list", "builtins.int", "builtins.float", "builtins.bool"), plain_formatters.JSON
    ),
    "Text": _Type(("builtins.str",), plain_formatters.TEXT),
    "Bytes": _Type(("builtins.bytes",), plain_formatters.BYTES),
    "NumpyArray": _Type(("numpy.ndarray",), ("array_formatters", "ARRAY")),
    "FitsUnits": _Type(("astropy.io.fits.hdu.hdulist.HDUList",), ("array_formatters", "UNITS")),
    "Image": _Type((), ("array_formatters", "IMAGE")),
    "AstropyTable": _Type(("astropy.table.table.Table",), table_kinds.Kind.ASTROPY),
    "ArrowTable": _Type(("pyarrow.lib.Table",), table_kinds.Kind.ARROW),
}
"""Types by name."""

_OF_CLASSES: Final = {name: type_name for type_name, each in _TYPES.items() for name in each.classes}


def choose(
    type_name: str,
    python_type: type[Any] | None,
    storage_name: str,
    form: content.Form,
    settings: policy_module.Policy,
) -> persistence.Formatter:
    """Return the formatter of a type for a storage.

    Parameters
    ----------
    type_name
        Name of the type; "" to go by the class.
    python_type
        Class of the objects.
    storage_name, form
        Name of the storage, and form of what it takes.
    settings
        Settings of the formatter.

    Raises
    ------
    RefusedError
        If there is no such type, or it can't be in this storage.
    """
    names = [f"{each.__module__}.{each.__qualname__}" for each in python_type.__mro__] if python_type else []
    if (addition := _addition(type_name, names)) is not None:
        if storage_name in addition.storages:
            return addition(python_type, settings)
        raise _no_formatter(addition.type_name, storage_name)
    name = type_name or _name(python_type, names)
    known = _TYPES.get(name)
    if known is None:
        others = ", ".join(sorted({*_TYPES, *additions()}))
        raise errors.RefusedError(
            f"There is no formatter for type {name!r} in {storage_name}; there are some for {others}."
        )
    conversions = _conversions(name, storage_name)
    if form not in conversions:
        raise _no_formatter(name, storage_name)
    return item_formatter.ItemFormatter(name, conversions, python_type, settings)


def _addition(type_name: str, classes: list[str]) -> Addition | None:
    if type_name:
        return additions().get(type_name)
    by_class = {name: each for each in additions().values() for name in each.python_types}
    return next((by_class[name] for name in classes if name in by_class), None)


def _name(python_type: type[Any] | None, classes: list[str]) -> str:
    """Return the name of the type of a class; one with attributes of an image is an image."""
    for name in classes:
        if name in _OF_CLASSES:
            return _OF_CLASSES[name]
    has_header = hasattr(python_type, "header") or hasattr(python_type, "meta")
    if hasattr(python_type, "data") and has_header:
        return "Image"
    return classes[0] if classes else ""


@functools.cache
def _conversions(type_name: str, storage_name: str) -> Mapping[content.Form, item_formatter.Conversion]:
    given = _TYPES[type_name].conversions
    try:
        if isinstance(given, table_kinds.Kind):
            module = importlib.import_module(f"{_HERE}.table_formatters")
            made: Mapping[content.Form, item_formatter.Conversion] = module.conversions(given)
            return made
        if isinstance(given, tuple):
            found: Mapping[content.Form, item_formatter.Conversion] = getattr(
                importlib.import_module(f"{_HERE}.{given[0]}"), given[1]
            )
            return found
    except ImportError as exc:
        raise errors.RefusedError(
            f"Type {type_name!r} in {storage_name} needs {exc.name}; install this package with its extra "
            "'formats'."
        ) from exc
    return given


def _no_formatter(type_name: str, storage_name: str) -> errors.RefusedError:
    return errors.RefusedError(f"There is no formatter for type {type_name!r} in {storage_name}.")


@functools.cache
def additions() -> dict[str, Addition]:
    """Return the formatters that other distributions add, by name of their type.

    Raises
    ------
    RefusedError
        If one can't be imported.
    """
    result: dict[str, Addition] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            loaded: Addition = point.load()
            result[loaded.type_name] = loaded
        except Exception as exc:
            raise errors.RefusedError(
                f"Formatter {point.name} ({point.value}) can't be imported ({type(exc).__name__}: {exc}); "
                "mend or remove the package that adds it."
            ) from exc
    return result

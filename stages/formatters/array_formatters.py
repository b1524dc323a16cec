"""Formatters of arrays, FITS units, and images with a header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from aggregator.stages.formatters import item_formatter, plain_formatters
from aggregator.stages.storages import content

_Circumstances = item_formatter.Circumstances
_MORE: Final = ("mask", "uncertainty", "variance")
"""Attributes of images for which there is no place beside image and header."""


def _array(value: Any, _: _Circumstances) -> Any:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"it is of type {type(value).__name__}, and has to be a NumPy array")
    return value


def _of_unit(units: content.Units, _: _Circumstances) -> Any:
    """Return the array of a unit; that of the first one that has data, if none is asked for."""
    return np.asarray(_unit(units).data)


def _unit(units: content.Units) -> Any:
    if units.number is not None:
        unit = units.units[units.number]
        if unit.data is None:
            raise ValueError(f"unit {units.number} has no data")
        return unit
    for unit in units.units:
        if unit.data is not None:
            return unit
    raise ValueError("the file has no data")


def _units(value: Any, _: _Circumstances) -> Any:
    return value


def _of_units(units: content.Units, _: _Circumstances) -> Any:
    """Return all units, or the one that is asked for."""
    return units.units if units.number is None else units.units[units.number]


def _image(value: Any, _: _Circumstances) -> Any:
    """Return the units of an image with a header."""
    from aggregator.stages.formatters import fits_headers

    if hasattr(value, "to_hdu"):
        return value.to_hdu()
    if lost := [name for name in _MORE if getattr(value, name, None) is not None]:
        raise TypeError(
            f"it has a {lost[0]}, which would be lost; make an HDUList of it, or give it a to_hdu()"
        )
    given = value.header if hasattr(value, "header") else value.meta
    header = given if hasattr(given, "cards") else fits_headers.header(dict(given))
    import astropy.io.fits

    return astropy.io.fits.HDUList([astropy.io.fits.PrimaryHDU(np.asarray(value.data), header)])


def _of_image(units: content.Units, about: _Circumstances) -> Any:
    """Return an image, made by its class from array and header; a unit if no class is given."""
    unit = _unit(units)
    return unit if about.python_type is None else about.python_type(unit.data, unit.header)


Conversion = item_formatter.Conversion
Form = content.Form

ARRAY: Final[Mapping[Form, Conversion]] = {
    Form.VALUES: Conversion(_array, _array),
    Form.UNITS: Conversion(_array, _of_unit),
    Form.OBJECT: plain_formatters.ANY_OBJECT,
}
"""NumPy arrays."""

UNITS: Final[Mapping[Form, Conversion]] = {Form.UNITS: Conversion(_units, _of_units)}
"""Lists of FITS units, and single ones."""

IMAGE: Final[Mapping[Form, Conversion]] = {Form.UNITS: Conversion(_image, _of_image)}
"""Objects with ``data`` and ``header`` (or ``meta``)."""

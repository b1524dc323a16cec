"""Headers of FITS files from property sets, and back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

import astropy.io.fits

_OF_THE_FILE: Final = frozenset(
    [
        "SIMPLE",
        "BITPIX",
        "NAXIS",
        "NAXIS1",
        "NAXIS2",
        "NAXIS3",
        "EXTEND",
        "XTENSION",
        "PCOUNT",
        "GCOUNT",
        "BSCALE",
        "BZERO",
    ]
)
"""Keywords that tell of the file, and not of what is in it."""


def header(values: Mapping[str, Any]) -> Any:
    """Return a header; all names become capital letters, and those within mappings have spaces between them.

    Raises
    ------
    TypeError
        If a value is no boolean, number or text.
    """
    result = astropy.io.fits.Header()
    with warnings.catch_warnings():
        # Long names get another kind of card, which is what is wanted.
        warnings.simplefilter("ignore", astropy.io.fits.verify.VerifyWarning)
        for name, value in _leaves(values, ""):
            if value is not None and not isinstance(value, bool | int | float | str):
                raise TypeError(f"{name} is a {type(value).__name__}, which a FITS header can't have")
            # Cards whose keywords have dots mean something else.
            result[name.replace(".", " ").upper()] = value
    return result


def unit(values: Mapping[str, Any]) -> Any:
    """Return a unit with a header and no data."""
    return astropy.io.fits.PrimaryHDU(header=header(values))


def values(cards: Any) -> dict[str, Any]:
    """Return the values of a header, without those that tell of the file; with dots in place of spaces."""
    result = {}
    for card in cards.cards:
        if card.keyword not in _OF_THE_FILE and card.keyword not in ("", "COMMENT", "HISTORY"):
            is_undefined = isinstance(card.value, astropy.io.fits.card.Undefined)
            result[card.keyword.replace(" ", ".")] = None if is_undefined else card.value
    return result


def _leaves(values: Mapping[str, Any], before: str) -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            leaves += _leaves(value, f"{before}{name}.")
        else:
            leaves.append((f"{before}{name}", value))
    return leaves

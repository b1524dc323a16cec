"""What Astropy reads and writes: tables in ECSV, and FITS files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import astropy.io.fits
import astropy.table
import numpy as np
from aggregator.butler.formatting import file_formats


class EcsvFormat(file_formats.Format):
    """A table in ECSV."""

    def __init__(self, kind: type[Any]) -> None:
        self._kind = kind

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return the text of a table."""
        if not isinstance(value, astropy.table.Table):
            raise TypeError(f"it is of type {type(value).__name__}, and has to be a table of Astropy")
        stream = io.StringIO()
        value.write(stream, format="ascii.ecsv")
        return stream.getvalue().encode()

    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> Any:
        """Return the table."""
        return self._kind.read(data.decode(), format="ascii.ecsv")


class FitsFormat(file_formats.Format):
    """A list of FITS units."""

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return the file of a list of units, of a single one, of an image or of a table."""
        stream = io.BytesIO()
        _units(value).writeto(stream)
        return stream.getvalue()

    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> Any:
        """Return the list, all of it in memory."""
        return astropy.io.fits.open(io.BytesIO(data), lazy_load_hdus=False)


def _units(value: Any) -> Any:
    fits = astropy.io.fits
    if isinstance(value, fits.HDUList):
        return value
    if isinstance(value, fits.PrimaryHDU):
        return fits.HDUList([value])
    if isinstance(value, np.ndarray) and value.dtype.names is None:
        return fits.HDUList([fits.PrimaryHDU(value)])
    if isinstance(value, astropy.table.Table | np.ndarray):
        return fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(value)])
    if hasattr(value, "writeto"):
        return fits.HDUList([fits.PrimaryHDU(), value])
    raise TypeError(f"it is of type {type(value).__name__}, and has to be an image, a table or FITS units")


ECSV_TABLE = EcsvFormat(astropy.table.Table)
"""Tables without units on their values."""

ECSV_QUANTITIES = EcsvFormat(astropy.table.QTable)
"""Tables whose columns are quantities."""

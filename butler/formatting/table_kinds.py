"""Which kind of table an object is, without importing a library that its maker has not imported."""

from __future__ import annotations

import enum
import sys
from typing import Any, Final

import numpy as np


class Kind(enum.Enum):
    """A kind of table."""

    ARROW = "pyarrow.Table"
    ASTROPY = "astropy.table.Table"
    NUMPY = "numpy.ndarray"
    COLUMNS = "dict of numpy.ndarray"
    PANDAS = "pandas.DataFrame"


OF_STORAGE_CLASSES: Final = {
    "ArrowTable": Kind.ARROW,
    "ArrowAstropy": Kind.ASTROPY,
    "ArrowNumpy": Kind.NUMPY,
    "ArrowNumpyDict": Kind.COLUMNS,
    "DataFrame": Kind.PANDAS,
}
"""Storage classes whose files are the same, and what is made of these."""

_LIBRARIES: Final = {
    Kind.ARROW: ("pyarrow", "Table"),
    Kind.ASTROPY: ("astropy.table", "Table"),
    Kind.PANDAS: ("pandas", "DataFrame"),
}


def of(value: Any) -> Kind | None:
    """Return the kind of an object; nothing if it is no table."""
    for kind, (module, name) in _LIBRARIES.items():
        if module in sys.modules and isinstance(value, getattr(sys.modules[module], name)):
            return kind
    if isinstance(value, np.ndarray):
        return Kind.NUMPY if value.dtype.names is not None else None
    if isinstance(value, dict) and all(isinstance(column, np.ndarray) for column in value.values()):
        return Kind.COLUMNS
    return None

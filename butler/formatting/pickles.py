"""Pickled objects: NumPy arrays without any danger, everything else only for those who ask for it.

A pickle can call any function that is installed. The one kind that the default configuration of the reference
stores, and that need not, is the NumPy array: the few functions by which it is put together are named here.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from aggregator.butler.formatting import file_formats

_OF_ARRAYS: Final = frozenset(
    {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy", "recarray"),
        ("numpy", "record"),
        ("numpy.rec", "recarray"),
        ("numpy.rec", "record"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.core.numeric", "_frombuffer"),
        ("numpy.ma.core", "MaskedArray"),
        ("numpy.ma.core", "_mareconstruct"),
        ("numpy.ma", "MaskedArray"),
        ("_codecs", "encode"),
    }
)
"""Module and name of all that arrays are put together with, in versions 1 and 2 of NumPy."""


class _ArrayUnpickler(pickle.Unpickler):
    """Puts arrays together, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _OF_ARRAYS:
            raise file_formats.FormatError(
                f"it holds {module}.{name}, which is no part of a NumPy array. Pickles of other objects are "
                "read only where that is asked for: they can do anything."
            )
        if module.startswith("numpy.core."):
            # The older name of the same, about which NumPy warns.
            module = module.replace("numpy.core.", "numpy._core.")
        return super().find_class(module, name)


class ArrayFormat(file_formats.Format):
    """A NumPy array."""

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return the pickle of an array, if it can be read again without danger."""
        if not isinstance(value, np.ndarray):
            raise TypeError(f"it is of type {type(value).__name__}, and has to be a NumPy array")
        data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        if type(value) is not np.ndarray or value.dtype.hasobject:
            self.decode(data, {})
        return data

    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> Any:
        """Return the array."""
        value = _ArrayUnpickler(io.BytesIO(data)).load()
        if not isinstance(value, np.ndarray):
            raise file_formats.FormatError(f"it holds a {type(value).__name__} in place of a NumPy array")
        return value


class PickleFormat(file_formats.Format):
    """Any object, for those who trust whoever has written the file."""

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return the pickle."""
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)

    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> Any:
        """Return the object."""
        return pickle.loads(data)


class RefusedPickles(file_formats.Format):
    """What stands in place of `PickleFormat` where nobody has asked for it."""

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Refuse it."""
        raise self._refusal()

    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> Any:
        """Refuse it."""
        raise self._refusal()

    def _refusal(self) -> file_formats.FormatError:
        return file_formats.FormatError(
            "datasets of this storage class are pickles, which can do anything when they are read. Ask for "
            "them (unpickle=True) if you trust whoever writes here"
        )

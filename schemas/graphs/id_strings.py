"""Ids in JSON, found and replaced in the text itself: parsing whole documents takes many times as long.

A string of JSON that is a UUID in its usual form has 38 characters with its quotes, which no other text has:
a quote inside of a string follows a backslash, and after the quote that ends a string comes no hexadecimal
digit. So what looks like such a string is one, and it can be replaced by another one in its place. The only
other way to write it, with escaped characters, is told by `are_escaped`.
"""

import re
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
from aggregator.schemas.graphs import addresses

_DASHES: Final = (8, 13, 18, 23)
_DIGITS: Final = np.array([i for i in range(addresses.TEXT_SIZE) if i not in _DASHES])
_QUOTE, _DASH, _BACKSLASH = b'"-\\'

_VALUES: Final = np.full(256, 0xFF, dtype=np.uint8)
"""Value of each hexadecimal digit."""
_VALUES[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16)
_VALUES[np.frombuffer(b"ABCDEF", dtype=np.uint8)] = np.arange(10, 16)

_ESCAPED: Final = re.compile(rb"\\u00(?:2[dD]|3[0-9]|[46][1-6])")

_AT_ONCE: Final = 1 << 15
"""Ids that are taken apart at once."""


def are_escaped(text: bytes | bytearray) -> bool:
    """Return whether characters that ids consist of may be written with escapes."""
    return _ESCAPED.search(text) is not None


def replace(text: bytearray, renew: Callable[[addresses.Ids], addresses.Ids]) -> None:
    """Replace all ids in JSON texts, in their places.

    Parameters
    ----------
    text
        One text or many, with anything but hexadecimal digits and quotes in between.
    renew
        Returns what ids are to be replaced by; the same for those that stay.
    """
    codes = np.frombuffer(text, dtype=np.uint8)
    starts = _starts(codes)
    for begin in range(0, len(starts), _AT_ONCE):
        some = starts[begin : begin + _AT_ONCE]
        digits = _VALUES[codes[some[:, np.newaxis] + _DIGITS]]
        valid = (digits < 16).all(axis=1)
        some, digits = some[valid], digits[valid]
        rows = np.ascontiguousarray(digits[:, ::2] << 4 | digits[:, 1::2])
        old = rows.view(addresses.ID_TYPE)[:, 0]
        new = renew(old)
        changed = np.flatnonzero(new != old)
        codes[some[changed][:, np.newaxis] + np.arange(addresses.TEXT_SIZE)] = addresses.texts(new[changed])


def _starts(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Return where strings begin that have the form of an id, behind their quotes."""
    # Far fewer characters are dashes than quotes.
    starts = np.flatnonzero(codes == _DASH) - _DASHES[0]
    starts = starts[(starts >= 1) & (starts + addresses.TEXT_SIZE < len(codes))]
    for offset, code in ((-1, _QUOTE), (addresses.TEXT_SIZE, _QUOTE), *((d, _DASH) for d in _DASHES[1:])):
        starts = starts[codes[starts + offset] == code]
    # At the very beginning of a text there is nothing before the quote, and nothing to escape it.
    outside: npt.NDArray[np.intp] = starts[(starts == 1) | (codes[starts - 2] != _BACKSLASH)]
    return outside

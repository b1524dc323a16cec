"""Readable differences between two nested values, strict about types, with NaN equal to itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any


def differences(first: Any, second: Any, where: str = "") -> Iterator[str]:
    """Yield one line for each place where two values differ.

    Parameters
    ----------
    first, second
        Values of dicts, lists, tuples, sets and scalars.  ``1``, ``1.0`` and ``True`` are different;
        NaN equals NaN; the two zeros are different.
    where
        Name of the place.
    """
    if type(first) is not type(second):
        kinds = f"{type(first).__name__} | {type(second).__name__}"
        yield f"{where}: {kinds}: {_short(first)} | {_short(second)}"
    elif isinstance(first, dict):
        for key in itertools.chain(first, (key for key in second if key not in first)):
            place = f"{where}[{_short(key)}]"
            if key not in second:
                yield f"{place}: only in the first: {_short(first[key])}"
            elif key not in first:
                yield f"{place}: only in the second: {_short(second[key])}"
            else:
                yield from differences(first[key], second[key], place)
    elif isinstance(first, (set, frozenset)):
        for which, extra in (("first", first - second), ("second", second - first)):
            yield from (f"{where}: only in the {which}: {_short(item)}" for item in sorted(extra, key=repr))
    elif isinstance(first, (list, tuple)):
        if len(first) != len(second):
            yield f"{where}: length {len(first)} | {len(second)}: {_short(first)} | {_short(second)}"
        for index, (a, b) in enumerate(zip(first, second, strict=False)):
            yield from differences(a, b, f"{where}[{index}]")
    elif isinstance(first, float):
        same = first == second and math.copysign(1, first) == math.copysign(1, second)
        if not same and not (math.isnan(first) and math.isnan(second)):
            yield f"{where}: {first!r} | {second!r}"
    elif first != second:
        yield f"{where}: {_short(first)} | {_short(second)}"


def assert_same(first: Any, second: Any, what: str, limit: int = 10) -> None:
    """Raise an error with the first few differences, if there are any."""
    found = list(itertools.islice(differences(first, second), limit + 1))
    if found:
        more = ["... and more"] if len(found) > limit else []
        raise AssertionError("\n".join([f"{what} differ (first | second):", *found[:limit], *more]))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:150] + " ..."

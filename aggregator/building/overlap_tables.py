"""Tables that say which regions overlap: CSV or ECSV files with a column for each dimension."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

from aggregator.butler.dimensions import universe
from aggregator.butler.registry import batch, searches
from aggregator.storage import errors, local_files


def read(path: str, dimensions: universe.Universe) -> searches.Pairs:
    """Return the rows of a table.

    Parameters
    ----------
    path
        The file: names of dimensions in its first line, values in the others.
    dimensions
        Dimensions of the repository.

    Raises
    ------
    RefusedError
        If it can't be read, or does not fit the dimensions.
    """
    try:
        text = local_files.read(path).decode()
    except (OSError, local_files.UnusableError, UnicodeDecodeError) as exc:
        raise errors.RefusedError(f"{path}: can't read the table of overlaps ({exc}).") from exc
    lines = list(_lines(text, path))
    if not lines:
        raise errors.RefusedError(f"{path}: the table of overlaps has no line with names of dimensions.")
    _, names = lines[0]
    for name in names:
        if name not in dimensions or dimensions.element(name).key is None:
            raise errors.RefusedError(f"{path}: column {name!r} is no dimension of the repository.")
    if len(set(names)) < len(names):
        raise errors.RefusedError(f"{path}: a column comes twice.")
    kinds = [dimensions.key(name).type for name in names]
    rows = [_row(values, names, kinds, f"{path}: line {number}") for number, values in lines[1:]]
    return searches.Pairs(tuple(names), rows)


def _lines(text: str, path: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and values of each line that is neither empty nor a comment."""
    is_ecsv = text.startswith("# %ECSV")
    declared = re.search(r"^# (?:- \{)?delimiter: ['\"]?(.)", text, re.MULTILINE)
    delimiter = declared[1] if declared and is_ecsv else " " if is_ecsv else ","
    try:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                [values] = csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True)
                yield number, [value.strip() for value in values]
    except csv.Error as exc:
        raise errors.RefusedError(f"{path}: is no table ({exc}).") from exc


def _row(values: list[str], names: list[str], kinds: list[str], place: str) -> searches.Values:
    if len(values) != len(names):
        raise errors.RefusedError(f"{place}: has {len(values)} values for {len(names)} columns.")
    return tuple(_value(*each, place) for each in zip(values, names, kinds, strict=True))


def _value(value: str, name: str, kind: str, place: str) -> batch.Value:
    if kind != "int":
        return value
    if not re.fullmatch(r"-?\d+", value):
        raise errors.RefusedError(f"{place}: {name} has to be an integer, not {value!r}.")
    return int(value)

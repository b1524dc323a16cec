"""What bundles of other tools have in common: values that have to be checked, and regions without pixels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aggregator.butler.dimensions import htm_pixels, universe
from aggregator.schemas import bundle
from aggregator.storage import errors, uris

DATASTORE: Final = "FileDatastore@<butlerRoot>"
"""Name of the one datastore that files of other tools are in."""

_SYSTEM: Final = re.compile(r"htm(\d+)")


def check_universe(path: str, dimensions: universe.Universe, namespace: str, version: int) -> None:
    """Refuse what was made with other dimensions.

    Raises
    ------
    RefusedError
        If so (C14).
    """
    if (dimensions.namespace, dimensions.version) != (namespace, version):
        raise errors.RefusedError(
            f"{path}: was made with version {version} of dimension universe {namespace!r}, and where it is "
            f"to go there is version {dimensions.version} of {dimensions.namespace!r} (C14). Use a "
            "repository with the same."
        )


def required_values(
    kind: bundle.DatasetType, dimensions: universe.Universe, data_id: Mapping[str, Any]
) -> tuple[bundle.Value, ...]:
    """Return the values of a data ID as bundles have them.

    Raises
    ------
    ValueError
        If one is missing, or of another type than its dimension.
    """
    values: list[bundle.Value] = []
    for name in kind.dimensions:
        value = data_id.get(name)
        wanted = int if dimensions.key(name).type == "int" else str
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ValueError(f"data ID {dict(data_id)!r} of {kind.name} has no proper value for {name}")
        values.append(value)
    return tuple(values)


def dataset_type(
    name: str, storage_class: str, names: Iterable[str], is_calibration: bool, dimensions: universe.Universe
) -> bundle.DatasetType:
    """Return a dataset type, given some or all of its dimensions.

    Raises
    ------
    AggregatorError
        If one is no dimension.
    """
    return bundle.DatasetType(name, storage_class, dimensions.group(names).required, is_calibration)


def records(
    path: str, dimensions: universe.Universe, element: str, rows: Sequence[tuple[Any, ...]]
) -> bundle.DimensionRecords:
    """Return records of an element with the pixels of their regions.

    Raises
    ------
    RefusedError
        If nobody here knows which pixels these are.
    """
    entry = dimensions.element(element)
    overlaps: list[tuple[Any, ...]] = []
    if entry.spatial is not None:
        place = next(i for i, column in enumerate(entry.columns) if column.type == "region")
        names = [column.name for column in entry.columns]
        own = entry.key.name if entry.key is not None else ""
        keys = [names.index(own if name == element else name) for name in entry.required]
        for row in rows:
            if row[place] is not None:
                key = [row[each] for each in keys]
                pixels = _pixels(path, dimensions.common_skypix, row[place])
                overlaps += (("htm", pixels[0], *key, pixel) for pixel in pixels[1])
    return bundle.DimensionRecords(element, dimensions.record_columns(element), rows, overlaps)


def _pixels(path: str, system: str | None, region: bytes) -> tuple[int, list[int]]:
    match = _SYSTEM.fullmatch(system or "")
    corners = htm_pixels.polygon(region)
    if match is None or corners is None:
        what = "only convex polygons are" if match else f"those of {system} are not"
        raise errors.RefusedError(
            f"{path}: has dimension records with regions whose pixels are not known to this program: {what}. "
            "Bring these records with the middleware, and the datasets then without them."
        )
    level = int(match[1])
    return level, htm_pixels.overlapping(corners, level)


def inside(path: str, file: str) -> str:
    """Return the path of a file that is below the root of its datastore.

    Raises
    ------
    RefusedError
        If it leads elsewhere.
    """
    if uris.is_absolute(file) or not {"", ".", ".."}.isdisjoint(file.split("/")):
        raise errors.RefusedError(
            f"{path}: {file!r} is not beside it. Export with files, or find out who has made it."
        )
    return file

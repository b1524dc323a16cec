"""Tables of data IDs, as graph builders take them (aggregate-and-ingest.md section 7.4)."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator

from aggregator.reports import listing
from aggregator.schemas import output_kinds, output_paths
from aggregator.storage import durable_files

_UNKNOWN = "UNKNOWN"
"""Name of the file of quanta without exception."""

_UNFIT = re.compile(r"[/\x00-\x1f\x7f-\x9f]|^\.+$")


def write(listed: listing.Listing, directory: str, protection: output_paths.Protection) -> None:
    """Write a table for each task, status and exception: `TASK/STATUS/EXCEPTION.ecsv`.

    Raises
    ------
    RefusedError
        If there is something else at one of these paths; nothing is written then.
    AggregatorError
        If a file can't be written.
    """
    for group in listed.groups():
        # So that all are refused if one is.
        output_paths.check(path_of(group, directory), output_kinds.Kind.REPORT, protection)
    for group in listed.groups():
        path = path_of(group, directory)
        with durable_files.writing(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        output_paths.write(path, pieces(listed, group), output_kinds.Kind.REPORT, protection)


def path_of(group: listing.Group, directory: str) -> str:
    """Return where the table of a group is."""
    name = f"{_name(group.exception or _UNKNOWN)}.ecsv"
    return os.path.join(directory, _name(group.task.label), group.status, name)


def _name(text: str) -> str:
    """Return a name of a file or directory; those of classes have no slashes, but who knows."""
    return _UNFIT.sub("_", text)


def pieces(listed: listing.Listing, group: listing.Group) -> Iterator[bytes]:
    """Yield a group's table, line by line."""
    dimensions = listed.dimensions(group.task)
    line = io.StringIO()
    writer = csv.writer(line, delimiter=" ", lineterminator="\n")
    for i, row in enumerate(group.rows.tolist()):
        data_id = listed.data_id(listed.quantum(row))
        values = [data_id[name] for name in dimensions]
        if i == 0:
            yield _header(dimensions, values).encode()
            writer.writerow(dimensions)
        writer.writerow(values)
        yield line.getvalue().encode()
        line.seek(0)
        line.truncate()


def _header(dimensions: tuple[str, ...], values: list[int | str]) -> str:
    kinds = ["int64" if isinstance(value, int) else "string" for value in values]
    columns = "".join(
        f"# - {{name: {name}, datatype: {kind}}}\n" for name, kind in zip(dimensions, kinds, strict=True)
    )
    return f"# %ECSV 1.0\n# ---\n# datatype:\n{columns}# schema: astropy-2.0\n"

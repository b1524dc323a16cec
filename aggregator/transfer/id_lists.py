"""Files with ids of datasets."""

from __future__ import annotations

import re
from typing import BinaryIO, Final

from aggregator.storage import errors, local_files

STANDARD_INPUT: Final = "-"
"""In place of a path."""

_ID: Final = re.compile(rb"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")


def read(path: str, standard_input: BinaryIO) -> tuple[str, ...]:
    """Return the ids in a file, one a line, 32 hexadecimal digits each; empty lines and comments don't count.

    Parameters
    ----------
    path
        The file, or `STANDARD_INPUT`.
    standard_input
        What is read then.

    Raises
    ------
    RefusedError
        If it can't be read, or a line is no id.
    """
    try:
        content = standard_input.read() if path == STANDARD_INPUT else local_files.read(path)
    except (OSError, local_files.UnusableError) as exc:
        raise errors.RefusedError(
            f"{path}: can't read the list of ids ({local_files.reason(exc)}). Give a file with one a line."
        ) from exc
    ids: dict[str, None] = {}
    for number, line in enumerate(content.splitlines(), 1):
        text = line.split(b"#")[0].strip().lower()
        if not text:
            continue
        if _ID.fullmatch(text) is None:
            raise errors.RefusedError(
                f"{path}, line {number}: is no dataset id. Give one a line, 32 hexadecimal digits each."
            )
        ids[text.decode().replace("-", "")] = None
    return tuple(ids)

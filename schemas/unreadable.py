"""The list of files that could not be read, beside the digests (JSON lines)."""

import os
from collections.abc import Sequence

import msgspec

from schemas import files, messages


def write(path: str, problems: Sequence[messages.Problem]) -> None:
    """Store the list; an empty one is no file."""
    if problems:
        files.write_atomically(path, [msgspec.json.encode(problem) + b"\n" for problem in problems])
    elif os.path.exists(path):
        os.unlink(path)

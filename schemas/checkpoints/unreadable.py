"""The list of files that could not be read, beside the digests (JSON lines)."""

import contextlib
import os
from collections.abc import Iterable
from typing import IO

import msgspec
from aggregator.schemas import messages
from aggregator.storage import durable_files


class Listing:
    """The list in the making; it appears complete, or not at all.

    Parameters
    ----------
    directory
        Where it is written.
    """

    def __init__(self, directory: str) -> None:
        self._temporary = durable_files.temporary_name(os.path.join(directory, "unreadable.jsonl"))
        self._stream: IO[bytes] | None = None

    def add(self, problems: Iterable[messages.Problem]) -> None:
        """Append files.

        Raises
        ------
        AggregatorError
            If they can't be written.
        """
        lines = b"".join(msgspec.json.encode(problem) + b"\n" for problem in problems)
        if lines:
            with durable_files.writing(self._temporary):
                if self._stream is None:
                    self._stream = open(self._temporary, "xb")  # noqa: SIM115
                self._stream.write(lines)

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return self._stream is None

    def publish(self, path: str) -> None:
        """Give the list its name, in place of an earlier one; an empty one is no file.

        Raises
        ------
        AggregatorError
            If that can't be done.
        """
        with durable_files.writing(path):
            if self._stream is not None:
                self._stream.flush()
                os.fsync(self._stream.fileno())
                self._stream.close()
                os.rename(self._temporary, path)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

"""A directory for what is of use as long as a process lives; those that killed ones have left are removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Final

from aggregator.running import abandoned_places
from aggregator.storage import durable_files

_PREFIX: Final = "aggregator-run-"


@contextlib.contextmanager
def made() -> Iterator[str]:
    """Make a directory, and remove it afterwards.

    Raises
    ------
    AggregatorError
        If there is no room for it.
    """
    above = tempfile.gettempdir()
    for each in abandoned_places.of(above, _PREFIX):
        shutil.rmtree(each, ignore_errors=True)
    descriptor = None
    with durable_files.writing(above):
        while descriptor is None:
            directory = tempfile.mkdtemp(prefix=_PREFIX)
            descriptor = abandoned_places.occupy(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)

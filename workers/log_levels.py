"""Log levels by name, with two more than the standard ones."""

import logging

from aggregator.storage import errors

VERBOSE = (logging.INFO + logging.DEBUG) // 2
"""Level between INFO and DEBUG."""

TRACE = logging.DEBUG // 2
"""Level below DEBUG."""

logging.addLevelName(VERBOSE, "VERBOSE")
logging.addLevelName(TRACE, "TRACE")


def number(name: str) -> int:
    """Return the number of a log level.

    Raises
    ------
    RefusedError
        If there is no such level.
    """
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        raise errors.RefusedError(f"unknown log level {name!r}")
    return level

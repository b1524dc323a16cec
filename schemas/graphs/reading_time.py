"""When the files were read whose content a graph holds: kept in the comment of its archive.

A graph is complete long after the first of these files was read, days after if a run was resumed; what has
changed in between is not in it, though it is older than the graph.
"""

import re

_COMMENT = re.compile(rb"files read since ([0-9]{1,19}) ns")


def encode(since: int) -> bytes:
    """Return the comment of a graph.

    Parameters
    ----------
    since
        Nanoseconds since 1970 before which none of its files was read.
    """
    return b"files read since %d ns" % since


def decode(comment: bytes) -> int | None:
    """Return what a comment tells; nothing if it is another one, or none."""
    match = _COMMENT.fullmatch(comment)
    return int(match[1]) if match else None

"""Points at which tests stop a process, to kill it there from outside.

Nothing happens unless the environment names a point; see tests/test_kills.py.
"""

import os
import time

VARIABLE = "AGGREGATOR_STOP_AT"
"""`POINT:N:FILE`: stop at the N-th time that POINT is reached, after writing the process id to FILE."""

_point, _, _rest = os.environ.get(VARIABLE, "").partition(":")
_count, _, _marker = _rest.partition(":")
_left = int(_count) if _count else 0


def reached(point: str) -> None:
    """Stop here for good if a test asks for it."""
    global _left
    if not _point or point != _point:
        return
    _left -= 1
    if _left:
        return
    with open(f"{_marker}.tmp", "w") as stream:
        stream.write(str(os.getpid()))
    os.rename(f"{_marker}.tmp", _marker)
    while True:
        time.sleep(3600)

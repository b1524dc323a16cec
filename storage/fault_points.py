"""Points at which tests stop a process, to kill it there from outside.

Nothing happens unless the environment names a point; see tests/kills/test_aggregation.py.
"""

import os
import time

VARIABLE = "AGGREGATOR_STOP_AT"
"""`POINT:N:FILE`: when a process reaches POINT for the N-th time, write its id to FILE and wait until that is
emptied."""

_point, _, _rest = os.environ.get(VARIABLE, "").partition(":")
_count, _, _marker = _rest.partition(":")
_left = int(_count) if _count else 0


def reached(point: str) -> None:
    """Stop here if a test asks for it, until it empties the file or kills this process."""
    global _left
    if not _point or point != _point:
        return
    _left -= 1
    if _left:
        return
    name = f"{_marker}.{os.getpid()}"
    with open(name, "w") as stream:
        stream.write(str(os.getpid()))
    try:
        # Of several processes only the first stops.
        os.link(name, _marker)
    except FileExistsError:
        return
    finally:
        os.unlink(name)
    while os.path.getsize(_marker):
        time.sleep(0.02)

"""How deeply JSON documents are nested: readers of graphs have a limit."""

import re

LIMIT = 200
"""Lists and objects within each other, empty ones not counted, that the reference's reader takes."""

ATTEMPTS = 2
"""Of these, those that a block has around what an attempt left: the object, and its list of attempts."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_EMPTY = re.compile(rb"\[\s*\]|\{\s*\}")


def check(document: bytes, outside: int = 0) -> None:
    """Refuse a valid document that is nested too deeply.

    Parameters
    ----------
    document
        Its text.
    outside
        Levels that it is going to be in.

    Raises
    ------
    ValueError
        If the reference could not read it.
    """
    # The log of a command, which is set up before any library may start threads, imports this module.
    import numpy as np

    codes = np.frombuffer(_EMPTY.sub(b"0", _STRING.sub(b"0", document)), dtype=np.uint8)
    steps = np.zeros(len(codes), dtype=np.int32)
    steps[(codes == ord("[")) | (codes == ord("{"))] = 1
    steps[(codes == ord("]")) | (codes == ord("}"))] = -1
    if len(steps) and int(steps.cumsum().max()) + outside > LIMIT:
        raise ValueError(f"nested more than {LIMIT - outside} levels deep, too much for readers of graphs")

"""Rows of JSON documents too large to be held parsed: thin graphs and dimension data."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas import addresses

_STRING = rb'"(?:[^"\\]|\\.)*"'
_ROW_OR_KEY = re.compile(
    # An innermost list, with at most one level of lists inside (a timespan); or an object's key;
    # or an empty list, which has no rows.
    rb"(?P<row>\[(?:[^\[\]\"{}]|" + _STRING + rb"|\[[^\[\]\"{}]*\])+\])"
    rb"|(?P<key>" + _STRING + rb")\s*:\s*\["
)
_UUID = re.compile(rb'"([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})"')
_INTEGER = re.compile(rb"\d+")
_EDGES_KEY = re.compile(rb'"edges"\s*:\s*\[')
_EDGES_END = re.compile(rb"\]\s*\]")


def table_rows(chunks: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield (key, row) from a document `{key: [row, row, ...], ...}` whose rows are lists.

    Parameters
    ----------
    chunks
        The document in pieces.

    Yields
    ------
    key
        Key of the list that the row is in.
    row
        JSON text of the row.

    Raises
    ------
    ValueError
        If text is left over that is neither row nor key.
    """
    key, rest = "", b""
    for chunk in chunks:
        rest += chunk
        end = 0
        for match in _ROW_OR_KEY.finditer(rest):
            end = match.end()
            if match["key"] is not None:
                key = match["key"][1:-1].decode()
            else:
                yield key, match["row"]
        rest = rest[end:]
    if rest.strip(b" \t\r\n,[]{}"):
        raise ValueError(f"unexpected text {rest[:40]!r}")


def edge_pairs(chunks: Iterator[bytes], integers: bool) -> Iterator[npt.NDArray[Any]]:
    """Yield the ends of the edges of a thin graph, in pieces.

    Parameters
    ----------
    chunks
        The thin graph's document in pieces.
    integers
        Whether nodes are integers (version 0) instead of UUIDs.

    Yields
    ------
    ends
        Both ends of each edge by turns, shape (2 * edges,): ids of type `addresses.ID_TYPE`, or int64.
    """
    rest, inside = b"", False
    for chunk in chunks:
        rest += chunk
        if not inside:
            match = _EDGES_KEY.search(rest)
            if match is None:
                # Keep only what may be the start of the key.
                rest = rest[-64:]
                continue
            inside, rest = True, rest[match.end() :]
        if rest.lstrip().startswith(b"]"):
            return
        last = _EDGES_END.search(rest)
        # Whole pairs end with a closing bracket.
        end = last.start() + 1 if last else rest.rfind(b"]") + 1
        yield from _ends(rest[:end], integers)
        if last:
            return
        rest = rest[end:]
    raise ValueError("the list of edges is missing or has no end")


def _ends(text: bytes, integers: bool) -> Iterator[npt.NDArray[Any]]:
    found = (_INTEGER if integers else _UUID).findall(text)
    if len(found) % 2:
        raise ValueError("an edge does not have two ends")
    if not found:
        return
    if integers:
        yield np.array([int(n) for n in found], dtype=np.int64)
    else:
        digits = bytes.fromhex(b"".join(found).replace(b"-", b"").decode())
        yield np.frombuffer(digits, dtype=addresses.ID_TYPE)

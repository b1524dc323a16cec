"""Documents of predicted graphs too large to be held, in pieces (quantum-graph-format.md 6.1 and 6.3)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec
import numpy as np
from aggregator.schemas.graphs import addresses

Quanta = Callable[[], Iterable[tuple[str, addresses.Ids, list[str]]]]
"""Gives, each time from the start, the label of a task, ids of some of its quanta, and the JSON of their data
coordinates; all quanta of a task in a row, and each task at least once."""

Edges = Callable[[], Iterable[tuple[addresses.Ids, addresses.Ids]]]
"""Gives, each time from the start, producers and consumers of some edges."""

Rows = Callable[[], Iterable[tuple[str, list[Any]]]]
"""Gives, each time from the start, element and row of the dimension records; all of an element together."""

_PAIR: Final = b',["%s","%s"]' % (b"-" * addresses.TEXT_SIZE, b"-" * addresses.TEXT_SIZE)
"""An edge with a comma in front."""

_PLACES: Final = (_PAIR.index(b"-"), _PAIR.index(b'",') + 3)
"""Where its ends are."""


def thin_graph_size(quanta: Quanta, edges: Edges) -> int:
    """Return the size of a thin graph's document in bytes, without making its larger part, the edges."""
    pairs = sum(len(producers) for producers, _ in edges()) * len(_PAIR)
    return sum(map(len, _quanta(quanta))) + max(0, pairs - 1) + len("]}")


def thin_graph_pieces(quanta: Quanta, edges: Edges) -> Iterator[bytes]:
    """Yield a thin graph's document (section 6.1)."""
    yield from _quanta(quanta)
    # The comma in front of the very first pair is left out.
    comma = 1
    for ends in edges():
        pairs = np.tile(np.frombuffer(_PAIR, dtype=np.uint8), (len(ends[0]), 1))
        for begin, ids in zip(_PLACES, ends, strict=True):
            pairs[:, begin : begin + addresses.TEXT_SIZE] = addresses.texts(ids)
        if len(pairs):
            yield pairs.tobytes()[comma:]
            comma = 0
    yield b"]}"


def _quanta(quanta: Quanta) -> Iterator[bytes]:
    """Yield the document up to the first edge."""
    yield b'{"quanta":{'
    before, comma = None, ""
    for label, ids, coordinates in quanta():
        if label != before:
            yield f"{'' if before is None else '],'}{msgspec.json.encode(label).decode()}:[".encode()
            before, comma = label, ""
        texts = (text.decode() for text in addresses.text_list(ids))
        documents = ",".join(
            [
                f'{{"quantum_id":"{text}","data_coordinate":{coordinate}}}'
                for text, coordinate in zip(texts, coordinates, strict=True)
            ]
        )
        if documents:
            yield (comma + documents).encode()
            comma = ","
    yield b'},"edges":[' if before is None else b']},"edges":['


def dimension_pieces(rows: Rows) -> Iterator[bytes]:
    """Yield the document of dimension data (section 6.3)."""
    before = None
    for element, row in rows():
        encoded = msgspec.json.encode(row)
        if element == before:
            yield b"," + encoded
        else:
            yield b"%s%s:[%s" % (b"{" if before is None else b"],", msgspec.json.encode(element), encoded)
            before = element
    yield b"{}" if before is None else b"]}"

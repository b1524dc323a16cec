"""Sets of many keys of dimension records, in few bytes each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from aggregator.schemas import bundle

Key = tuple[bundle.Value, ...]
"""Values of some dimensions."""

_Rows = npt.NDArray[np.int64]

_LOOSE: Final = 200_000
"""Keys that are gathered before those that occur more than once are removed."""


class KeySet:
    """A set of keys of one length, 8 bytes for each value; texts, which are few, have numbers.

    Parameters
    ----------
    width
        Values of a key.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._rows: _Rows = np.zeros((0, width), np.int64)
        self._loose: list[_Rows] = []
        self._n_loose = 0
        self._texts: list[list[str]] = [[] for _ in range(width)]
        self._codes: list[dict[str, int]] = [{} for _ in range(width)]

    def __bool__(self) -> bool:
        return bool(len(self._rows) or self._n_loose)

    def update(self, keys: Iterable[Key]) -> None:
        """Add keys."""
        given = list(keys)
        if not given:
            return
        columns = [self._numbers(place, column) for place, column in enumerate(zip(*given, strict=True))]
        self._loose.append(np.stack(columns, axis=1) if columns else np.zeros((1, 0), np.int64))
        self._n_loose += len(given)
        if self._n_loose > _LOOSE:
            self._compact()

    def _numbers(self, place: int, column: tuple[bundle.Value, ...]) -> npt.NDArray[np.int64]:
        if not isinstance(column[0], str):
            return np.array(column, np.int64)
        codes, texts = self._codes[place], self._texts[place]
        for text in dict.fromkeys(column):
            if text not in codes:
                codes[str(text)] = len(texts)
                texts.append(str(text))
        return np.array([codes[str(text)] for text in column], np.int64)

    def _compact(self) -> None:
        if not self._loose:
            return
        rows = np.concatenate([self._rows, *self._loose])
        # What is not needed any more goes first: there may be millions of keys.
        self._rows, self._loose, self._n_loose = rows[:0], [], 0
        if self._width:
            rows.view([("", np.int64)] * self._width).sort(axis=0)
        is_first = np.ones(len(rows), np.bool_)
        is_first[1:] = False
        for column in rows.T:
            is_first[1:] |= column[1:] != column[:-1]
        self._rows = rows if is_first.all() else rows[is_first]

    def pieces(self, number: int) -> Iterator[set[Key]]:
        """Yield the keys in order, so many at a time."""
        self._compact()
        for begin in range(0, len(self._rows), number):
            columns = [
                [self._texts[place][code] for code in column] if self._texts[place] else column
                for place, column in enumerate(self._rows[begin : begin + number].T.tolist())
            ]
            yield set(zip(*columns, strict=True)) if self._width else {()}

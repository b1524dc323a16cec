"""How failures block what comes after them: first causes, and how much each failure blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]

NONE: Final = -1
"""Stands for no mark, or no cause."""

_STEP: Final = 1 << 40
"""Distance of one quantum in a combined number of distance and mark; marks are smaller."""

_SLICE: Final = 1 << 16
"""Links that are followed at once."""

_BITS_SIZE: Final = 1 << 25
"""Bytes of the bits of all quanta at once."""


class Blocking:
    """Failed quanta, the quanta that are blocked, and what leads from one to the other.

    Parameters
    ----------
    n
        Number of quanta, failed and blocked ones; each is known by a number below that.
    children, parents
        Links: a blocked quantum, and one that was to write an input of it; shape (m,), each pair once.
    """

    def __init__(self, n: int, children: Numbers, parents: Numbers) -> None:
        self.n = n
        self.n_links = len(children)
        levels = _levels(n, children, parents)
        order = np.lexsort((children, levels[children]))
        # What waits for itself is reached by nothing.
        order = order[levels[children[order]] < n]
        self._children, self._parents = children[order], parents[order]
        self._bounds = _bounds(levels[self._children], self._children)

    def first_causes(self, marks: Numbers) -> Numbers:
        """Return for each quantum the mark of the failure nearest above; of several as near, the lowest mark.

        Parameters
        ----------
        marks
            Marks of failures, `NONE` for blocked quanta, shape (n,).
        """
        far = np.iinfo(np.int64).max >> 1
        nearest = np.where(marks == NONE, far, marks)
        self._spread(nearest, np.minimum, _STEP)
        return np.where(nearest >= far, NONE, nearest % _STEP)

    def only_causes(self, marks: Numbers) -> Numbers:
        """Return for each blocked quantum the mark that all failures above share; `NONE` if they differ.

        Parameters
        ----------
        marks
            Marks of failures, `NONE` for blocked quanta, shape (n,).
        """
        low = np.where(marks == NONE, np.iinfo(np.int64).max, marks)
        high = marks.copy()
        self._spread(low, np.minimum)
        self._spread(high, np.maximum)
        return np.where((low == high) & (marks == NONE), high, NONE)

    def weights(self, fails: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Return for each quantum how many ways lead to blocked ones: at least the number of these."""
        ways = np.where(fails, 0.0, 1.0)
        for begin, end in reversed(self._bounds):
            np.add.at(ways, self._parents[begin:end], ways[self._children[begin:end]])
        return ways - ~fails

    def count(self, marks: Numbers, n_marks: int, kinds: Numbers, n_kinds: int) -> Numbers:
        """Return how many blocked quanta of each kind are below failures with each mark.

        It takes time for each link and each eighth of a mark, and no more than about 100 MB.

        Parameters
        ----------
        marks
            Marks of failures, below `n_marks`; `NONE` for blocked quanta and what is left out; shape (n,).
        n_marks
            Number of marks.
        kinds
            Kind of each quantum, below `n_kinds`, shape (n,).
        n_kinds
            Number of kinds.

        Returns
        -------
        counts
            Numbers of blocked quanta, shape (n_kinds, n_marks).
        """
        counts = np.zeros((n_kinds, n_marks), dtype=np.int64)
        n_words = max(1, min(-(-n_marks // 64), _BITS_SIZE // 8 // max(1, self.n)))
        for first in range(0, n_marks, 64 * n_words):
            words = np.zeros((self.n, n_words), dtype=np.uint64)
            bits = words.view(np.uint8)
            chosen = np.flatnonzero((marks >= first) & (marks < first + 64 * n_words))
            places = marks[chosen] - first
            bits[chosen, places >> 3] = 128 >> (places & 7)
            self._spread(words, np.bitwise_or)
            bits[chosen] = 0
            _add_bits(counts[:, first : first + 64 * n_words], bits, kinds)
        return counts

    def _spread(self, values: npt.NDArray[Any], reduce: np.ufunc, step: int = 0) -> None:
        """Let each blocked quantum have what its parents' values reduce to, farthest from failures last."""
        for begin, end in self._bounds:
            children = self._children[begin:end]
            firsts = np.flatnonzero(np.r_[True, children[1:] != children[:-1]])
            reduced = reduce.reduceat(values[self._parents[begin:end]], firsts, axis=0)
            values[children[firsts]] = reduced + step if step else reduced


def _levels(n: int, children: Numbers, parents: Numbers) -> Numbers:
    """Return the length of the longest way to each quantum; n for those that wait for themselves."""
    levels = np.full(n, n, dtype=np.int64)
    waiting = np.bincount(children, minlength=n)
    order = np.argsort(parents, kind="stable")
    begins = np.searchsorted(parents[order], np.arange(n + 1))
    ready, level = np.flatnonzero(waiting == 0), 0
    while len(ready):
        levels[ready] = level
        sizes = begins[ready + 1] - begins[ready]
        # Places of all links that leave from there, one after another.
        places = np.arange(sizes.sum()) + np.repeat(begins[ready] - (np.cumsum(sizes) - sizes), sizes)
        reached, counts = np.unique(children[order[places]], return_counts=True)
        waiting[reached] -= counts
        ready, level = reached[waiting[reached] == 0], level + 1
    return levels


def _bounds(levels: Numbers, children: Numbers) -> list[tuple[int, int]]:
    """Return begins and ends of links to follow at once: of one level, all of a child, and not many more."""
    bounds: list[tuple[int, int]] = []
    n = len(children)
    edges = [0, *(np.flatnonzero(np.diff(levels)) + 1).tolist(), n]
    for begin, level_end in itertools.pairwise(edges):
        while begin < level_end:
            end = min(begin + _SLICE, level_end)
            end = int(np.searchsorted(children[begin:level_end], children[end - 1], side="right")) + begin
            bounds.append((begin, end))
            begin = end
    return bounds


def _add_bits(counts: Numbers, bits: npt.NDArray[np.uint8], kinds: Numbers) -> None:
    """Add how many rows of each kind have each bit."""
    rows = np.flatnonzero(bits.any(axis=1))
    for kind, chosen in _by_kind(kinds[rows], rows):
        for begin in range(0, len(chosen), _SLICE >> 4):
            part = np.unpackbits(bits[chosen[begin : begin + (_SLICE >> 4)]], axis=1, count=counts.shape[1])
            counts[kind] += part.sum(axis=0, dtype=np.int64)


def _by_kind(kinds: Numbers, rows: Numbers) -> Iterator[tuple[int, Numbers]]:
    order = np.argsort(kinds, kind="stable")
    for kind in np.unique(kinds).tolist():
        begin, end = np.searchsorted(kinds[order], [kind, kind + 1])
        yield kind, rows[order[begin:end]]

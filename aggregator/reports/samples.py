"""Some of the listed quanta, of each kind, for pages."""

from __future__ import annotations

import dataclasses

from aggregator.reports import formats, listing, log_excerpts
from schemas import provenance

_MAX_QUANTA = 400
_MAX_EXCEPTIONS = 60
_MAX_EXCERPTS = 120
_EXCERPTS_PER_KIND = 3
_MESSAGE_SIZE = 400


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """A quantum as pages show it."""

    quantum: listing.ListedQuantum
    """The quantum."""

    message: str
    """Message of its exception, shortened."""

    excerpt: str
    """End of its log; empty if it is not shown."""


@dataclasses.dataclass(frozen=True, slots=True)
class ExceptionGroup:
    """Listed quanta with the same exception, of all tasks."""

    exception: str | None
    """Full name of the exception's class."""

    tasks: list[str]
    """Labels of their tasks."""

    count: int
    """How many they are."""

    shown: list[Sample]
    """Some of them."""


def choose(graph: provenance.ProvenanceGraph, listed: listing.Listing) -> tuple[list[ExceptionGroup], int]:
    """Return listed quanta by exception, most frequent first, and how many exceptions are left out.

    However many quanta there are, what is returned has a limited size, and some of each kind.
    """
    kinds: dict[str | None, list[listing.Group]] = {}
    for group in listed.groups():
        kinds.setdefault(group.exception, []).append(group)
    ordered = sorted(kinds.items(), key=lambda item: (item[0] is None, -_count(item[1])))
    chosen = ordered[:_MAX_EXCEPTIONS]
    quota = _MAX_QUANTA // max(1, sum(len(groups) for _, groups in chosen))
    reader = _Reader(graph, listed, max(1, quota))
    return [reader.group(name, groups) for name, groups in chosen], len(ordered) - len(chosen)


def _count(groups: list[listing.Group]) -> int:
    return sum(len(group.rows) for group in groups)


class _Reader:
    def __init__(self, graph: provenance.ProvenanceGraph, listed: listing.Listing, quota: int) -> None:
        self._graph = graph
        self._listed = listed
        self._quota = quota
        self._n_quanta = 0
        self._n_excerpts = 0

    def group(self, exception: str | None, groups: list[listing.Group]) -> ExceptionGroup:
        shown = [sample for group in groups for sample in self._samples(group)]
        tasks = list(dict.fromkeys(group.task.label for group in groups))
        return ExceptionGroup(exception, tasks, _count(groups), shown)

    def _samples(self, group: listing.Group) -> list[Sample]:
        n = min(self._quota, _MAX_QUANTA - self._n_quanta)
        rows = group.rows[:n].tolist()
        self._n_quanta += len(rows)
        return [self._sample(self._listed.read(row), i < _EXCERPTS_PER_KIND) for i, row in enumerate(rows)]

    def _sample(self, quantum: listing.ListedQuantum, with_excerpt: bool) -> Sample:
        excerpt = ""
        if with_excerpt and self._n_excerpts < _MAX_EXCERPTS:
            excerpt = log_excerpts.read(self._graph, quantum)
            self._n_excerpts += bool(excerpt)
        return Sample(quantum, formats.shorten(quantum.message or "", _MESSAGE_SIZE), excerpt)

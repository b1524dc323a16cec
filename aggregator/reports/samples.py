"""Samples for pages: a few of the listed quanta of each kind, with messages and log excerpts."""

from __future__ import annotations

import dataclasses

import numpy as np

from aggregator.reports import formats, listing, log_excerpts
from aggregator.schemas.graphs import provenance_graph

_MAX_QUANTA = 400
_MAX_BLOCKED = 20
_MAX_EXCEPTIONS = 60
_MAX_EXCERPTS = 120
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

    cause: listing.ListedQuantum | None
    """If it is blocked, the failed quantum nearest above."""


@dataclasses.dataclass(frozen=True, slots=True)
class ExceptionGroup:
    """Listed quanta with the same exception, of all tasks."""

    exception: str | None
    """Full name of the exception's class."""

    groups: list[listing.Group]
    """The same by task and status."""

    shown: list[Sample]
    """Some of them."""

    @property
    def count(self) -> int:
        """How many quanta they are."""
        return sum(len(group.rows) for group in self.groups)

    @property
    def tasks(self) -> list[str]:
        """Labels of their tasks."""
        return list(dict.fromkeys(group.task.label for group in self.groups))


def choose(
    graph: provenance_graph.ProvenanceGraph, listed: listing.Listing
) -> tuple[list[ExceptionGroup], int]:
    """Return listed quanta by exception, and how many exceptions are left out.

    Exceptions come first of which a quantum blocks most, then the most frequent; so do quanta. However
    many there are, what is returned has a limited size, and some of each kind.
    """
    kinds: dict[str | None, list[listing.Group]] = {}
    for group in listed.groups():
        kinds.setdefault(group.exception, []).append(group)
    ordered = sorted(kinds.items(), key=lambda item: _urgency(listed, item[1]))
    chosen = [(name, sorted(groups, key=lambda each: _urgency(listed, [each]))) for name, groups in ordered]
    del chosen[_MAX_EXCEPTIONS:]
    groups = [group for _, groups in chosen for group in groups]
    quotas = shares([len(group.rows) for group in groups], _MAX_QUANTA)
    samples = [_read(listed, group, quota) for group, quota in zip(groups, quotas, strict=True)]
    quotas = shares([sum(each.quantum.log is not None for each in part) for part in samples], _MAX_EXCERPTS)
    parts = iter([_add_excerpts(graph, *part) for part in zip(samples, quotas, strict=True)])
    shown = [
        ExceptionGroup(name, groups, [sample for _ in groups for sample in next(parts)])
        for name, groups in chosen
    ]
    return shown, len(ordered) - len(chosen)


def some(listed: listing.Listing) -> list[Sample]:
    """Return some of the listed quanta of each task, with the first causes of those that are blocked."""
    groups = list(listed.groups())
    quotas = shares([len(group.rows) for group in groups], _MAX_BLOCKED)
    return [sample for part in zip(groups, quotas, strict=True) for sample in _read(listed, *part)]


def shares(sizes: list[int], total: int) -> list[int]:
    """Return how many of each of some groups are taken: as equal as can be, and all that there is room for.

    What small groups leave of their part goes to larger ones.
    """
    result = [0] * len(sizes)
    for place, i in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        result[i] = min(sizes[i], total // (len(sizes) - place))
        total -= result[i]
    return result


def _urgency(listed: listing.Listing, groups: list[listing.Group]) -> tuple[int, int]:
    return -max(int(listed.n_blocked(group).max()) for group in groups), -sum(len(g.rows) for g in groups)


def _read(listed: listing.Listing, group: listing.Group, n: int) -> list[Sample]:
    """Return the quanta of a group that block most, without excerpts of logs."""
    rows = group.rows[np.argsort(-listed.n_blocked(group), kind="stable")]
    return [_sample(listed, row) for row in rows[:n].tolist()]


def _sample(listed: listing.Listing, row: int) -> Sample:
    quantum, cause = listed.read(row), listed.cause(row)
    message = formats.shorten(quantum.message or "", _MESSAGE_SIZE)
    return Sample(quantum, message, "", None if cause is None else listed.read(cause))


def _add_excerpts(graph: provenance_graph.ProvenanceGraph, samples: list[Sample], n: int) -> list[Sample]:
    """Return the same with the ends of the first n logs."""
    chosen = {id(each) for each in [each for each in samples if each.quantum.log is not None][:n]}
    return [
        dataclasses.replace(each, excerpt=log_excerpts.read(graph, each.quantum))
        if id(each) in chosen
        else each
        for each in samples
    ]

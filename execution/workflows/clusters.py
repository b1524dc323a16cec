"""Clusters: the quanta that one job executes, and the order of jobs that follows from that of quanta."""

from __future__ import annotations

import dataclasses
import graphlib
import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence

from aggregator.execution import readiness
from aggregator.storage import errors

_MOST_PER_ARRAY = 1000
"""Clusters of an array: by default, Slurm allows no more."""

_NAME_SIZE = 60
"""Characters of a name after its number."""


@dataclasses.dataclass(frozen=True, slots=True)
class Definition:
    """Which quanta share a job: those of some tasks that have the same values of some dimensions."""

    labels: tuple[str, ...]
    """Labels of tasks."""

    dimensions: tuple[str, ...]
    """Dimensions, which each of these tasks requires; none puts all quanta into one job."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """The quanta of one job."""

    name: str
    """Name of the job: letters, digits, ``_`` and ``-``."""

    labels: tuple[str, ...]
    """Labels of the tasks that may be in it."""

    quanta: tuple[uuid.UUID, ...]
    """Ids, none before its prerequisites."""

    parents: tuple[int, ...]
    """Positions of the clusters that have prerequisites; all are before its own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Array:
    """Clusters that may be executed at the same time, of the same tasks."""

    name: str
    """Its name, made like those of jobs."""

    labels: tuple[str, ...]
    """Labels of the tasks."""

    members: tuple[int, ...]
    """Positions of its clusters."""

    parents: tuple[int, ...]
    """Positions of the arrays in which there are parents of its clusters; all are before its own."""


def definition(text: str) -> Definition:
    """Return the definition that a text is: labels, and dimensions after a colon.

    Raises
    ------
    RefusedError
        If it names no task.
    """
    labels, _, dimensions = (part.strip() for part in text.partition(":"))
    chosen = Definition(_split(labels), _split(dimensions))
    if not chosen.labels:
        raise errors.RefusedError(f"{text!r} defines no cluster: write LABEL[,LABEL...][:DIMENSION,...].")
    return chosen


def _split(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.strip() for each in text.split(",") if each.strip()))


def check(definitions: Sequence[Definition], labels: Collection[str]) -> None:
    """Refuse definitions that do not fit to the tasks of a graph.

    Raises
    ------
    RefusedError
        If there is no such task, or one is in two definitions.
    """
    defined: set[str] = set()
    for label in (label for each in definitions for label in each.labels):
        if label not in labels:
            raise errors.RefusedError(
                f"{label!r} is no task of the graph. It has {', '.join(sorted(labels))}."
            )
        if label in defined:
            raise errors.RefusedError(f"Task {label!r} is in two clusters; a quantum is of one job.")
        defined.add(label)


def make(quanta: Iterable[readiness.QuantumData], definitions: Sequence[Definition]) -> list[Cluster]:
    """Return the clusters of quanta, none before those that it needs.

    Parameters
    ----------
    quanta
        Quanta, none before its prerequisites.
    definitions
        Which of them share a job; all others have one of their own.

    Raises
    ------
    RefusedError
        If a task does not have the dimensions of its definition, or clusters need each other in a circle.
    """
    by_label = {label: each for each in definitions for label in each.labels}
    groups: dict[tuple[object, ...], _Group] = {}
    of: dict[uuid.UUID, _Group] = {}
    for data in quanta:
        chosen = by_label.get(data.task)
        values = tuple(data.data_id.values()) if chosen is None else _values(data, chosen)
        key = (data.id,) if chosen is None else (chosen, values)
        group = groups.get(key)
        if group is None:
            labels = (data.task,) if chosen is None else chosen.labels
            group = groups[key] = _Group(len(groups), labels, values)
        of[data.id] = group
        group.quanta.append(data.id)
        group.parents.update(of[each].number for each in data.prerequisites)
    return list(_ordered(list(groups.values())))


class _Group:
    """A cluster to which quanta are added."""

    __slots__ = ("labels", "number", "parents", "quanta", "values")

    def __init__(self, number: int, labels: tuple[str, ...], values: tuple[object, ...]) -> None:
        self.number = number
        self.labels = labels
        self.values = values
        self.quanta: list[uuid.UUID] = []
        self.parents: set[int] = set()


def _values(data: readiness.QuantumData, chosen: Definition) -> tuple[object, ...]:
    try:
        return tuple(data.data_id[name] for name in chosen.dimensions)
    except KeyError as exc:
        raise errors.RefusedError(
            f"Task {data.task!r} does not require the dimension {exc.args[0]!r}. "
            f"It has {', '.join(data.data_id) or 'none'}."
        ) from exc


def _ordered(groups: Sequence[_Group]) -> Iterator[Cluster]:
    sorter = graphlib.TopologicalSorter({each.number: each.parents - {each.number} for each in groups})
    try:
        order = list(sorter.static_order())
    except graphlib.CycleError as exc:
        labels = sorted({label for number in exc.args[1] for label in groups[number].labels})
        raise errors.RefusedError(
            f"Jobs would need each other in a circle: {', '.join(labels)}. Put all tasks between two of one "
            "job into it as well, or fewer tasks."
        ) from exc
    places = {number: place for place, number in enumerate(order)}
    digits = len(str(len(order)))
    for place, number in enumerate(order):
        group = groups[number]
        yield Cluster(
            name(place + 1, digits, *group.labels, *group.values),
            group.labels,
            tuple(group.quanta),
            tuple(sorted(places[each] for each in group.parents if each != number)),
        )


def name(number: int, digits: int, *parts: object) -> str:
    """Return a name that no other number has, and that every batch system takes."""
    text = re.sub("[^A-Za-z0-9-]+", "_", "_".join(map(str, parts)))[:_NAME_SIZE].strip("_")
    return f"{number:0{digits}}_{text}"


def arrays(clusters: Sequence[Cluster]) -> list[Array]:
    """Return the arrays of clusters: those of the same tasks and the same generation, a thousand at most."""
    generations: list[int] = []
    groups: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for position, cluster in enumerate(clusters):
        generations.append(1 + max((generations[each] for each in cluster.parents), default=-1))
        groups.setdefault((generations[position], cluster.labels), []).append(position)
    parts = [
        (labels, members[begin : begin + _MOST_PER_ARRAY])
        for (_, labels), members in sorted(groups.items(), key=lambda item: (item[0][0], item[1][0]))
        for begin in range(0, len(members), _MOST_PER_ARRAY)
    ]
    of = {member: place for place, (_, members) in enumerate(parts) for member in members}
    digits = len(str(len(parts)))
    return [
        Array(
            name(place + 1, digits, *labels),
            labels,
            tuple(members),
            tuple(sorted({of[each] for member in members for each in clusters[member].parents})),
        )
        for place, (labels, members) in enumerate(parts)
    ]

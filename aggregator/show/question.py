"""What `aggregator show` is asked for, and which nodes that means."""

import contextlib
import dataclasses
import itertools
import uuid
from collections.abc import Iterator

from aggregator.reading import data_ids, lineage, provenance
from aggregator.schemas.graphs import nodes
from aggregator.storage import errors

_MATCHES = 10
"""Matches that are named if there are more than the one that is needed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What shall be shown: everything in brief, or one choice, and perhaps views of the one node chosen."""

    quantum_id: str | None = None
    """Choice: a quantum."""

    node_id: str | None = None
    """Choice: a quantum or a dataset, by the id that it has or had."""

    dataset: str | None = None
    """Choice: id of a dataset, or a dataset type."""

    task: str | None = None
    """Choice: quanta of a task."""

    why: str | None = None
    """Choice: id of a dataset or a dataset type, of which to tell what happened."""

    failed: bool = False
    """Choice: what failed, of a task or of all."""

    data_id: str | None = None
    """Which quanta of the task, or datasets of the type."""

    logs: bool = False
    """View: log records."""

    metadata: bool = False
    """View: task metadata."""

    upstream: bool = False
    """View: what it came from."""

    downstream: bool = False
    """View: what came of it."""

    attempt: int | None = None
    """Attempt of the logs and metadata; the last by default."""

    depth: int | None = None
    """Steps to go up or down; all by default."""

    limit: int | None = None
    """Lines of lists, 0 for all; by default 50 in tables and all in JSON."""

    output_format: str = "table"
    """"table" or "json"."""

    @property
    def is_by_id(self) -> bool:
        """Whether the choice is one node, by its id."""
        by_own_id = self.quantum_id is not None or self.node_id is not None
        return by_own_id or (self.dataset is not None and _is_id(self.dataset))

    @property
    def views(self) -> tuple[str, ...]:
        """Views that are asked for, in the order of display."""
        return tuple(v for v in ("logs", "metadata", "upstream", "downstream") if getattr(self, v))


def _is_id(text: str) -> bool:
    with contextlib.suppress(ValueError):
        uuid.UUID(text)
        return True
    return False


def matches(
    reader: provenance.Provenance, request: Request, dataset_type: str | None
) -> Iterator[nodes.Quantum | nodes.Dataset]:
    """Return the datasets of a type, or else the quanta of the task, with the data ID.

    Raises
    ------
    RefusedError
        If there are none.
    """
    given = data_ids.parse(request.data_id) if request.data_id is not None else {}
    search = _Search(reader, request.task, dataset_type)
    nodes_found = search.find(given)
    first = next(nodes_found, None)
    if first is None:
        raise errors.RefusedError(search.tell_nothing(given))
    return itertools.chain([first], nodes_found)


def one_node(reader: provenance.Provenance, request: Request) -> lineage.Node:
    """Return the node that is chosen.

    Raises
    ------
    RefusedError
        If there is none, or more than one; names some of them.
    """
    if request.node_id is not None:
        return reader.find(request.node_id)
    if request.quantum_id is not None:
        return reader.quantum(request.quantum_id)
    if request.dataset is not None:
        return one_dataset(reader, request, request.dataset)
    return _only(reader, list(itertools.islice(matches(reader, request, None), _MATCHES + 1)))


def one_dataset(reader: provenance.Provenance, request: Request, named: str) -> nodes.Dataset:
    """Return a dataset by its id, or the only one of its type with the data ID; see `one_node`."""
    if _is_id(named):
        return reader.dataset(named)
    only = _only(reader, list(itertools.islice(matches(reader, request, named), _MATCHES + 1)))
    assert isinstance(only, nodes.Dataset)
    return only


def _only(reader: provenance.Provenance, some: list[nodes.Quantum | nodes.Dataset]) -> lineage.Node:
    if len(some) == 1:
        return some[0]
    lines = [
        f"\n  {data_ids.text(reader.brief_data_id(node)) or '-'}  {lineage.node_id(node)}"
        for node in some[:_MATCHES]
    ]
    more = "\n  ..." if len(some) > _MATCHES else ""
    raise errors.RefusedError(
        f"several fit, choose one with a longer --data-id, or by its id:{''.join(lines)}{more}"
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Search:
    """Where nodes are looked for."""

    reader: provenance.Provenance
    task: str | None
    dataset_type: str | None

    def find(self, given: dict[str, str]) -> Iterator[nodes.Quantum | nodes.Dataset]:
        if self.dataset_type is not None:
            return iter(self.reader.datasets(self.dataset_type, given))
        return iter(self.reader.quanta(self.task, given))

    def tell_nothing(self, given: dict[str, str]) -> str:
        """Return that nothing was found, and which of the values occurs nowhere."""
        what = f"dataset of type {self.dataset_type}" if self.dataset_type else f"quantum of task {self.task}"
        message = f"{self.reader.path}: no {what} was predicted"
        if given:
            absent = [n for n, value in given.items() if next(self.find({n: value}), None) is None]
            why = (
                f"none has {data_ids.text({n: given[n] for n in absent})}"
                if absent
                else "not in this combination"
            )
            message += f" with {data_ids.text(given)}: {why}"
        return message

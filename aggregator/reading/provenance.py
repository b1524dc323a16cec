"""Questions to a provenance graph, each answered by reading no more of it than that takes."""

import contextlib
import functools
import os
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self, TypeVar

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import ingested_graphs
from aggregator.reading import causes, explanation, failures, lineage, node_search, selections, tables
from aggregator.schemas import argument_types
from aggregator.schemas.execution import log_records, statuses, task_metadata
from aggregator.schemas.graphs import addresses, nodes, origins, pipeline, provenance_graph
from aggregator.storage import errors

if TYPE_CHECKING:
    from aggregator.butler.registry import registry as registries

T = TypeVar("T")


class Provenance:
    """The provenance graph of a run, read in parts: memory does not depend on its size.

    What is found by its id takes a fraction of a millisecond. What is found by task, data ID or status needs
    an index, which is made by the first such search (some seconds per million quanta) and kept in the user's
    cache directory; with it, searches take milliseconds.

    Parameters
    ----------
    location
        A provenance graph (`.qg`), by its path or URI; or a repository (directory, configuration file,
        alias, or configuration) in which the graph has been ingested.
    run
        In a repository: the run, or a chain. Can be left out if only one run has a graph.
    registry
        The repository's database, if it is open already.

    Raises
    ------
    RefusedError
        If there is no such graph; and for ids, tasks or data IDs that it does not have.
    FormatError
        If a part of it is damaged; of all methods.
    """

    def __init__(
        self,
        location: str | os.PathLike[str] | repository_config.RepositoryConfig,
        run: str | None = None,
        *,
        registry: "registries.Registry | None" = None,
    ) -> None:
        argument_types.check(Provenance.__init__, locals())
        self._graph = provenance_graph.ProvenanceGraph(_find_graph(location, run, registry))
        self.path = self._graph.path
        self.n_bytes = self._graph.file.size
        self.header = self._graph.header
        self.pipeline = self._graph.pipeline
        self._search = node_search.NodeSearch(self._graph)

    def __repr__(self) -> str:
        return f"<Provenance of {self.header.output_run} ({self.header.n_quanta} quanta): {self.path}>"

    def _repr_html_(self) -> str:
        """Return the numbers of quanta of each task, for notebooks."""
        rows: list[tables.Row] = [
            {"task": task, **{statuses.NAMES[code]: n for code, n in by_status.items() if n}}
            for task, (by_status, _) in self.counts().items()
        ]
        names = [name for name in statuses.NAMES.values() if any(name in row for row in rows)]
        return tables.to_html(repr(self)[1:-1], ["task", *names], rows, more=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the graph and its index."""
        self._graph.close()
        self._search.close()

    def packages(self) -> dict[str, str]:
        """Return the versions of the software that aggregated the run."""
        return self._graph.packages()

    def counts(self) -> dict[str, tuple[dict[statuses.Status, int], dict[int, int]]]:
        """Return the numbers of quanta by status, and of successes by caveat bits, of each task."""
        return self._search.counts()

    def node(self, node_id: str) -> lineage.Node:
        """Return a quantum, init quantum or dataset by its id."""
        init_quantum = self._init_quanta.get(_usual(node_id))
        return self._graph.node(node_id) if init_quantum is None else init_quantum

    @property
    def origins(self) -> tuple[origins.Origin, ...]:
        """What the graph was before it was merged into a repository, the oldest transfer first."""
        return self._graph.origins

    def find(self, node_id: str) -> lineage.Node:
        """Return a quantum, init quantum or dataset by the id that it has, or had before it was merged.

        Raises
        ------
        RefusedError
            If there is none, now or then.
        """
        try:
            return self.node(node_id)
        except errors.RefusedError:
            for present_id in self._present_ids(node_id):
                with contextlib.suppress(errors.RefusedError):
                    return self.node(present_id)
            raise

    def former_id(self, node: lineage.Node) -> str | None:
        """Return the id that a node had before it was merged; nothing if that is not known, or the same."""
        run = node.run if isinstance(node, nodes.Dataset) else self.header.output_run
        now = lineage.node_id(node)
        digits = origins.former_id(self.origins, run, now.replace("-", "").lower())
        return None if digits is None or addresses.dashed(digits) == now else addresses.dashed(digits)

    def quantum(self, quantum_id: str) -> nodes.Quantum | nodes.InitQuantum:
        """Return a quantum or init quantum by its id."""
        init_quantum = self._init_quanta.get(_usual(quantum_id))
        return self._graph.quantum(quantum_id) if init_quantum is None else init_quantum

    def attempts(self, quantum_id: str) -> list[nodes.Attempt]:
        """Return the attempts to run a quantum, oldest first; a blocked or init quantum has none."""
        quantum = self.quantum(quantum_id)
        return quantum.attempts if isinstance(quantum, nodes.Quantum) else []

    def dataset(self, dataset_id: str) -> nodes.Dataset:
        """Return a dataset by its id."""
        return self._graph.dataset(dataset_id)

    def data_id(self, node: lineage.Node) -> dict[str, int | str]:
        """Return the full data ID of a node, required dimensions first."""
        if isinstance(node, nodes.InitQuantum):
            return {}
        return self._search.data_id(node)

    def brief_data_id(self, node: lineage.Node) -> dict[str, int | str]:
        """Return the required part of a node's data ID, which is enough to tell it from others."""
        if isinstance(node, nodes.InitQuantum):
            return {}
        full = self.data_id(node)
        return {name: full[name] for name in self._search.naming.required(self._search.dimensions(node))}

    def quanta(
        self,
        task: str | None = None,
        data_id: node_search.DataId = None,
        status: node_search.Statuses = None,
    ) -> selections.Quanta:
        """Return regular quanta, in the order of the graph: to iterate over, or as a table.

        Parameters
        ----------
        task
            Task label; all tasks by default.
        data_id
            Some or all values of the data ID: a mapping, or text like ``visit=102 AND detector=5``. Implied
            dimensions can be used, too. Needs a task.
        status
            A status or several, by name (see `aggregator.Status`) or number; all by default.

        Raises
        ------
        RefusedError
            If there is no such task or status, or it has no such dimensions. Finding nothing is no error.
        """
        return selections.Quanta(self._graph, self._search, self._search.query(task, data_id, status))

    def datasets(self, dataset_type: str, data_id: node_search.DataId = None) -> selections.Datasets:
        """Return the datasets of a type, `packages` excepted: to iterate over, or as a table.

        They are found through the quanta that write or, for inputs of the run, read them: quanta that the
        data ID does not exclude are looked at one by one.

        Parameters
        ----------
        dataset_type
            Name of the dataset type.
        data_id
            Some or all values of the data ID; see `quanta`.

        Raises
        ------
        RefusedError
            If there is no such dataset type, or it has no such dimensions. Finding nothing is no error.
        """
        constraint = self._search.check_type(dataset_type, data_id)
        return selections.Datasets(
            self._search, dataset_type, lambda: self._search.datasets(dataset_type, constraint), self.path
        )

    def logs(self, node_id: str, attempt: int | None = None) -> list[log_records.LogRecord] | None:
        """Return the log records of an attempt; nothing if it left no log.

        Parameters
        ----------
        node_id
            Id of the quantum, or of its log dataset.
        attempt
            Number of the attempt; the last by default.

        Raises
        ------
        RefusedError
            If the quantum has no such attempt; a blocked one has none.
        """
        quantum = self._attempted(node_id, pipeline.LOG_CONNECTION)
        return _of_attempt(quantum, self._graph.logs(quantum.quantum_id), attempt)

    def metadata(self, node_id: str, attempt: int | None = None) -> task_metadata.TaskMetadata | None:
        """Return the task metadata of an attempt; nothing if it left none. See `logs`."""
        quantum = self._attempted(node_id, pipeline.METADATA_CONNECTION)
        return _of_attempt(quantum, self._graph.metadata(quantum.quantum_id), attempt)

    def upstream(self, node_id: str, depth: int | None = None) -> Iterator[lineage.Step]:
        """Yield what a node came from, nearest first: its inputs, the quanta that wrote them, and so on.

        Parameters
        ----------
        node_id
            Id of a quantum, init quantum or dataset.
        depth
            Steps to go, from a quantum to a dataset or back; all the way by default.
        """
        return lineage.walk(self._related, self.node(node_id), True, depth)

    def downstream(self, node_id: str, depth: int | None = None) -> Iterator[lineage.Step]:
        """Yield what came of a node, nearest first; see `upstream`. Includes what was never produced."""
        return lineage.walk(self._related, self.node(node_id), False, depth)

    def failures(
        self, task: str | None = None, data_id: node_search.DataId = None, limit: int | None = None
    ) -> selections.Failures:
        """Return what did not succeed, in the order of the graph, with the first cause of what is blocked.

        It is there to iterate over, or as a table.

        Parameters
        ----------
        task, data_id
            Which quanta; see `quanta`.
        limit
            How many at most; all by default. Of many failures all are read first, about 0.1 ms each.
        """
        query = self._search.query(task, data_id, failures.STATUSES)
        return selections.Failures(
            self._search,
            query,
            lambda: failures.find(self._graph, self._search, self._causes, query, limit),
            self.path,
        )

    def cause(self, quantum: nodes.Quantum) -> nodes.Quantum | None:
        """Return the failed quantum nearest above a blocked one; nothing if none is on record."""
        return self._causes.first(quantum)

    def explain(self, dataset_id: str) -> explanation.Explanation:
        """Tell what happened to a dataset: produced, or why not."""
        dataset = self.dataset(dataset_id)
        producer = None if dataset.producer is None else self._related(dataset.producer)
        return explanation.explain(dataset, producer, self._causes)

    def _present_ids(self, former: str) -> Iterator[str]:
        """Yield what an id may be now; nothing for what is none."""
        with contextlib.suppress(ValueError):
            for digits in origins.present_ids(self.origins, uuid.UUID(former).hex):
                yield addresses.dashed(digits)

    @functools.cached_property
    def _init_quanta(self) -> dict[str, nodes.InitQuantum]:
        return {quantum.quantum_id: quantum for quantum in self._graph.init_quanta()}

    @functools.cached_property
    def _causes(self) -> causes.Causes:
        return causes.Causes(self._graph)

    def _related(self, node_id: str) -> lineage.Node:
        """Return a node that another one names."""
        try:
            return self.node(node_id)
        except errors.RefusedError as exc:
            raise errors.FormatError(self.path, nodes.ADDRESSES, f"a node is missing: {exc}") from exc

    def _attempted(self, node_id: str, connection: str) -> nodes.Quantum:
        """Return a quantum, given by its own id or that of its output of a connection."""
        node = self.node(node_id)
        if isinstance(node, nodes.Dataset) and node.producer is not None:
            producer = self._related(node.producer)
            if isinstance(producer, nodes.Quantum) and node.dataset_id in producer.outputs.get(
                connection, ()
            ):
                return producer
        if not isinstance(node, nodes.Quantum):
            what = connection.removeprefix("_")
            raise errors.RefusedError(
                f"{node_id} has no {what}: it is neither a quantum nor the {what} of one"
            )
        return node


def _usual(node_id: str) -> str:
    """Return an id as graphs have it; what is none stays as it is, to be refused by the graph."""
    with contextlib.suppress(ValueError):
        return str(uuid.UUID(node_id))
    return node_id


def _find_graph(
    location: str | os.PathLike[str] | repository_config.RepositoryConfig,
    run: str | None,
    registry: "registries.Registry | None",
) -> str:
    if isinstance(location, repository_config.RepositoryConfig):
        return ingested_graphs.find(location, run, registry)
    path = os.fspath(location)
    if path.endswith(".qg"):
        if run is not None:
            raise errors.RefusedError(f"{path} is a graph; a run ({run}) can be chosen in a repository only")
        return path
    return ingested_graphs.find(repository_config.load(path), run, registry)


def _of_attempt(quantum: nodes.Quantum, entries: list[T | None] | None, attempt: int | None) -> T | None:
    """Return what belongs to an attempt; there can be more entries than attempts, of which the last count."""
    n = len(quantum.attempts)
    if entries is None or n == 0:
        raise errors.RefusedError(f"quantum {quantum.quantum_id} has no attempts: it is blocked")
    if attempt is None:
        attempt = n - 1
    if not 0 <= attempt < n:
        raise errors.RefusedError(
            f"quantum {quantum.quantum_id} has no attempt {attempt}; the last is {n - 1}"
        )
    return entries[attempt - n] if attempt - n >= -len(entries) else None

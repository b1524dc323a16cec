"""A PostgreSQL server commits, and the connection ends before it can say so."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aggregator.butler.databases import database as databases_of_butler
from aggregator.storage import errors

import aggregator
from tests.helpers import databases, kills, lossy_connections, postgresql_server, small_runs

NAMESPACE = "butler"
BATCH = 60


@dataclasses.dataclass(slots=True)
class Case:
    """A run whose database is in PostgreSQL."""

    run: small_runs.SmallRun
    database: databases.Postgresql

    def copy(self, root: pathlib.Path) -> Case:
        """Return a copy with a database of its own."""
        made = Case(small_runs.copy(self.run, root), self.database.copy())
        made.database.configure(made.run.root)
        return made

    def aggregate(self, n_processes: int = 1) -> Any:
        return self.run.aggregate(n_processes=n_processes, ingest_batch_size=BATCH)

    def ingest_graph(self, n_processes: int = 1) -> Any:
        return aggregator.ingest_graph(self.run.root, self.run.output, batch_size=BATCH)

    def content(self) -> Any:
        """Return database, files and graph; the id of an ingested one, which always differs, is "graph"."""
        rows: Any = self.database.content()
        graphs = self.database.query(
            "SELECT dataset.id FROM dataset JOIN dataset_type ON dataset_type.id = dataset_type_id "
            "WHERE dataset_type.name = 'run_provenance'"
        )
        for (graph,) in graphs:
            rows = {
                name: sorted(repr(row).replace(graph, "graph") for row in some) for name, some in rows.items()
            }
        files = sorted(str(path.relative_to(self.run.root)) for path in self.run.root.rglob("*"))
        # When it is ingested, it moves.
        [place] = {*self.run.root.rglob("*.qg")} - {self.run.predicted}
        return rows, files, kills.graph_content(place)


@pytest.fixture(scope="module")
def executed(
    postgresql: postgresql_server.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    """Return an executed run; work on copies."""
    root = tmp_path_factory.mktemp("executed") / "run"
    database = databases.Postgresql(postgresql, postgresql.create_database(), NAMESPACE)
    run = small_runs.make(root, 120, database=database.url, namespace=NAMESPACE)
    yield Case(run, database)
    database.remove()


@pytest.fixture(scope="module")
def aggregated(executed: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """Return an aggregated run; work on copies."""
    made = executed.copy(tmp_path_factory.mktemp("aggregated") / "run")
    made.aggregate()
    yield made
    made.database.remove()


Prepared = tuple[Case, Callable[..., Any]]


@pytest.fixture(params=["aggregate_graph", "ingest_graph"])
def prepared(
    request: pytest.FixtureRequest, executed: Case, aggregated: Case, tmp_path: pathlib.Path
) -> Iterator[Prepared]:
    """Return a run, and what is to be done with it."""
    template = executed if request.param == "aggregate_graph" else aggregated
    case = template.copy(tmp_path / "run")
    yield case, case.aggregate if request.param == "aggregate_graph" else case.ingest_graph
    case.database.remove()


@pytest.fixture
def undisturbed(prepared: Prepared, executed: Case, tmp_path: pathlib.Path) -> Any:
    """Return what is left if nothing is lost, and the summary."""
    case, action = prepared
    alone = case.copy(tmp_path / "alone")
    done = getattr(alone, action.__name__)()
    content = alone.content()
    alone.database.remove()
    return content, done


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases_of_butler, "PAUSES", (0.01, 0.01))


def counts(done: Any) -> Any:
    """Return how many datasets are in the database by a command's account, whoever brought them there."""
    if isinstance(done, aggregator.Summary):
        return done.n_ingested + done.n_skipped
    return done.n_ingested + done.n_present, done.n_deleted, done.n_missing


@pytest.mark.ordering("B1", "B4", "I3")
@pytest.mark.parametrize("first", [1, 2])
def test_every_second_answer_is_lost(prepared: Prepared, undisturbed: Any, first: int) -> None:
    """Each transaction is committed, not known to be, and done again."""
    case, action = prepared
    with lossy_connections.in_front_of(case.database.server, lambda n: n % 2 == first % 2) as connections:
        case.database.configure(case.run.root, connections.url(case.database.name))
        done = action()
    assert connections.n_lost >= 5
    content, alone = undisturbed
    assert case.content() == content
    assert counts(done) == counts(alone)


@pytest.mark.ordering("B1", "B4", "I3")
@pytest.mark.parametrize("n_before", [0, 1, 3, 4])
def test_no_answer_comes_any_more_and_the_same_command_goes_on(
    prepared: Prepared, undisturbed: Any, n_before: int
) -> None:
    case, action = prepared
    is_broken = True
    with lossy_connections.in_front_of(
        case.database.server, lambda n: is_broken and n > n_before
    ) as connections:
        case.database.configure(case.run.root, connections.url(case.database.name))
        with pytest.raises(errors.AggregatorError, match="what was not committed was rolled back") as caught:
            action()
        assert connections.n_lost >= 3
        assert caught.value.exit_code == 1
        is_broken = False
        action()
    assert case.content() == undisturbed[0]

"""Whole aggregations whose workers answer in any order, and end or hang at any moment, in this process."""

from __future__ import annotations

import functools
import pathlib
import random
import shutil
import signal
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from aggregator.schemas.graphs import provenance_graph
from aggregator.storage import errors
from aggregator.workers.engines import outcomes, testing
from aggregator.workers.roles.scanning import scanner

from aggregator.aggregation import aggregate
from tests.helpers import databases, small_runs, thinning

N_PROCESSES = 3
SEEDS = thinning.thinned(range(3), [0, 1])


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> small_runs.SmallRun:
    """Return a run of several shards with failures and retries."""
    return small_runs.make(tmp_path_factory.mktemp("any_order") / "run", 160, failed=0.03, retried=0.05)


@pytest.fixture(scope="module")
def undisturbed(template: small_runs.SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Any:
    copy = small_runs.SmallRun(tmp_path_factory.mktemp("undisturbed") / "run")
    shutil.copytree(template.root, copy.root)
    aggregated(copy, n_processes=1)
    return content(copy)


@pytest.fixture
def run(template: small_runs.SmallRun, tmp_path: pathlib.Path) -> small_runs.SmallRun:
    shutil.copytree(template.root, tmp_path / "run")
    return small_runs.SmallRun(tmp_path / "run")


Prepare = Callable[[testing.Engine], None]


@pytest.fixture
def in_any_order(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that has the next aggregations take an order of their own.

    Something may be done to the workers as soon as the last one is started.
    """

    def choose(seed: int, prepare: Prepare = lambda engine: None) -> None:
        engine = testing.Engine(seed)
        start = engine.start

        def start_worker(program: Any) -> Any:
            worker = start(program)
            if program.name == "writer":
                prepare(engine)
            return worker

        monkeypatch.setattr(engine, "start", start_worker)
        monkeypatch.setattr(aggregate, "_engine", lambda *_: engine)

    return choose


def end_worker(engine: testing.Engine, name: str, end: outcomes.Outcome, after: int) -> None:
    engine.end_worker(name, end, after)


def aggregated(run: small_runs.SmallRun, n_processes: int = N_PROCESSES, **options: Any) -> Any:
    return run.aggregate(n_processes=n_processes, ingest_batch_size=200, zstd_dict_n_inputs=20, **options)


def content(run: small_runs.SmallRun) -> Any:
    """Return the database and the graph as values that can be compared."""
    with provenance_graph.ProvenanceGraph(str(run.output)) as graph:
        quanta = {quantum.quantum_id: msgspec.json.encode(quantum) for quantum in graph.quanta()}
        sets = {d.dataset_id: (d.produced, d.producer, sorted(d.consumers)) for d in graph.datasets()}
        logs = {quantum_id: repr(graph.logs(quantum_id)) for quantum_id in quanta}
    tables = databases.Sqlite(run.root / "gen3.sqlite3").content()
    # These have times of their own.
    rows = {name: rows for name, rows in tables.items() if name not in ("collection", "dataset")}
    return rows, run.n_datasets(), quanta, sets, logs


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_answers_changes_nothing(
    run: small_runs.SmallRun, undisturbed: Any, in_any_order: Callable[..., None], seed: int
) -> None:
    in_any_order(seed)
    aggregated(run)
    assert content(run) == undisturbed


@pytest.mark.parametrize("seed", SEEDS)
def test_it_goes_on_after_workers_that_were_killed(
    run: small_runs.SmallRun, undisturbed: Any, in_any_order: Callable[..., None], seed: int
) -> None:
    """Each run but the last loses a worker at a random moment."""
    numbers = random.Random(seed)
    for _ in range(2):
        name = numbers.choice(["scanner-001", "ingester", "writer"])
        # As many messages come to each of them in any order.
        after = numbers.randrange(2 if name == "scanner-001" else 9)
        end = outcomes.Killed(signal.SIGKILL)
        in_any_order(numbers.randrange(1000), functools.partial(end_worker, name=name, end=end, after=after))
        with pytest.raises(errors.FatalWorkerError, match=rf"{name} \(process .* was killed by SIGKILL"):
            aggregated(run)
        assert not run.output.exists()
    in_any_order(seed)
    aggregated(run)
    assert content(run) == undisturbed


def test_a_lost_worker_is_named(run: small_runs.SmallRun, in_any_order: Callable[..., None]) -> None:
    in_any_order(0, lambda engine: engine.end_worker("writer", outcomes.Lost("its host is gone"), 2))
    with pytest.raises(errors.FatalWorkerError, match=r"writer .* can't be reached \(its host is gone\)"):
        aggregated(run)


def test_a_scanner_that_hangs_is_named(run: small_runs.SmallRun, in_any_order: Callable[..., None]) -> None:
    in_any_order(0, lambda engine: engine.hang("scanner-001", after=3))
    with pytest.raises(
        errors.FatalWorkerError, match=r"scanner-001 has been at .*, longer than --scan-timeout 60"
    ):
        aggregated(run, scan_timeout=60.0)


def test_what_is_known_is_looked_at_while_others_get_ready(
    run: small_runs.SmallRun, in_any_order: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def let_ingester_hang(engine: testing.Engine) -> None:
        wait = engine.wait

        def wait_not_for_ever(seconds: float) -> Any:
            assert engine.seconds < 60, "nobody has anything to do"
            return wait(seconds)

        engine.hang("ingester")
        monkeypatch.setattr(engine, "wait", wait_not_for_ever)

    aggregated(run, n_processes=1, incomplete=True)
    monkeypatch.setattr(scanner.Scanner, "look_again", look_again)
    in_any_order(0, let_ingester_hang)
    with pytest.raises(errors.AggregatorError, match="it looks again"):
        aggregated(run)


@pytest.mark.parametrize("seed", thinning.thinned(range(3), [0]))
def test_what_is_going_to_be_replaced_is_not_looked_at(
    run: small_runs.SmallRun,
    undisturbed: Any,
    in_any_order: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    aggregated(run, n_processes=1, incomplete=True)
    monkeypatch.setattr(scanner.Scanner, "look_again", look_again)
    in_any_order(seed)
    aggregated(run, fresh=True)
    assert content(run) == undisturbed


def look_again(*_: object) -> None:
    raise errors.AggregatorError("it looks again")

"""Where storage is slow, files are read ahead; nothing else is different."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from aggregator.schemas.graphs import provenance_graph
from aggregator.storage import errors, in_flight, local_store

import aggregator
from tests.helpers import small_runs

FATES = {"failed": 0.1, "blocked": 0.05, "retried": 0.05, "caveats": 0.1, "aborted": 0.05}


@pytest.fixture(scope="module")
def clean_run(tmp_path_factory: pytest.TempPathFactory) -> small_runs.SmallRun:
    return small_runs.make(tmp_path_factory.mktemp("clean") / "run", 150, **FATES)


@pytest.fixture
def runs(clean_run: small_runs.SmallRun, tmp_path: pathlib.Path) -> list[small_runs.SmallRun]:
    """Return two runs that are the same, with a damaged file and one that is a directory."""
    copies = [small_runs.copy(clean_run, tmp_path / name) for name in ("quick", "slow")]
    for run in copies:
        logs = run.files("warp_log_*.json")
        logs[0].write_bytes(b"{")
        logs[1].unlink()
        logs[1].mkdir()
    return copies


def aggregate(run: small_runs.SmallRun, **options: Any) -> Any:
    run.aggregate(unreadable="failed", keep_checkpoint=True, **options)
    with provenance_graph.ProvenanceGraph(str(run.output)) as graph:
        quanta = [(q.quantum_id, [a.status for a in q.attempts]) for q in graph.quanta()]
        logs = [graph.logs(quantum_id) for quantum_id, _ in quanta]
    return quanta, logs, run.n_datasets()


@pytest.mark.parametrize("dictionary", [0, 20])
def test_the_result_is_the_same(
    runs: list[small_runs.SmallRun], monkeypatch: pytest.MonkeyPatch, dictionary: int
) -> None:
    quick, slow = runs
    options = {"zstd_dict_n_inputs": dictionary} if dictionary else {"zstd_dict_size": 0}
    expected = aggregate(quick, **options)
    threads: set[str] = set()
    original = local_store.LocalStore.read

    def read(self: local_store.LocalStore, key: str) -> Any:
        import threading

        threads.add(threading.current_thread().name.partition("_")[0])
        return original(self, key)

    monkeypatch.setattr(local_store.LocalStore, "read", read)
    monkeypatch.setattr(in_flight, "_SLOW", -1.0)
    assert aggregate(slow, **options) == expected
    assert "read" in threads
    # Once more, from the checkpoint.
    assert aggregate(slow, **options) == expected


def test_trouble_of_the_machine_ends_it(
    runs: list[small_runs.SmallRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run = runs
    monkeypatch.setattr(in_flight, "_SLOW", -1.0)
    original = local_store.LocalStore.read

    def read(self: local_store.LocalStore, key: str) -> Any:
        if "coadd_metadata" in key:
            raise errors.MachineError(self.location(key), "Stale file handle")
        return original(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(local_store.LocalStore, "read", read)
        with pytest.raises(aggregator.AggregatorError, match="Stale file handle"):
            run.aggregate(unreadable="failed")
    assert not run.output.exists()
    run.aggregate(unreadable="failed")
    assert run.output.exists()

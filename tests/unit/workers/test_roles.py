"""What roles refuse: another graph than the one that was read first, and what is for others."""

from __future__ import annotations

import logging
import os
import pathlib
from typing import Any

import msgspec
import numpy as np
import pytest
from aggregator.schemas import messages
from aggregator.storage import errors, fault_points, locks
from aggregator.workers.engines import memory
from aggregator.workers.roles import given_graph, handling
from aggregator.workers.roles.ingesting import ingester
from aggregator.workers.roles.scanning import scanner
from aggregator.workers.roles.writing import writer

from tests.helpers import small_runs

LOG = logging.getLogger("workers.test")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> small_runs.SmallRun:
    return small_runs.make(tmp_path_factory.mktemp("roles") / "run")


@pytest.fixture
def run(template: small_runs.SmallRun, tmp_path: pathlib.Path) -> small_runs.SmallRun:
    return small_runs.copy(template, tmp_path / "run")


@pytest.fixture
def setup(run: small_runs.SmallRun, monkeypatch: pytest.MonkeyPatch) -> messages.Setup:
    """Return what the workers of an aggregation are told that ended early, with its checkpoint."""
    found: list[messages.Setup] = []
    real = handling.open_log

    def open_log(log: logging.Logger, name: str, given: messages.Setup) -> None:
        found.append(given)
        real(log, name, given)

    def reached(point: str) -> None:
        if point == "digest":
            raise errors.AggregatorError("far enough")

    with monkeypatch.context() as patch:
        patch.setattr(handling, "open_log", open_log)
        patch.setattr(fault_points, "reached", reached)
        with pytest.raises(errors.AggregatorError, match="far enough"):
            run.aggregate(dry_run=True)
    # Nobody else works with it.
    monkeypatch.setattr(locks, "check", lambda ownership: None)
    return found[0]


def test_another_graph_is_refused(setup: messages.Setup) -> None:
    given_graph.open_graph(setup).close()
    n_open = len(os.listdir("/proc/self/fd"))
    other = msgspec.structs.replace(setup, graph_fingerprint="another")
    for make in (
        given_graph.open_graph,
        lambda s: scanner.Scanner(s, LOG),
        lambda s: ingester.Ingester(s, LOG),
    ):
        with pytest.raises(errors.AggregatorError, match=r"was replaced by another graph.*--fresh") as caught:
            make(other)
        assert caught.value.exit_code == 1
    assert len(os.listdir("/proc/self/fd")) == n_open


def test_a_writer_has_to_know_where(setup: messages.Setup) -> None:
    with pytest.raises(ValueError, match="no output path"):
        writer.Writer(msgspec.structs.replace(setup, output_path=None), LOG)


@pytest.mark.parametrize(
    ("role", "request_", "message"),
    [
        (scanner.Scanner, messages.Flush(), "not for a scanner"),
        (ingester.Ingester, messages.CopyBlocks(), "not for the ingester"),
        (writer.Writer, messages.Begin(), "not for the writer"),
    ],
)
def test_what_is_for_others_is_refused(
    setup: messages.Setup, run: small_runs.SmallRun, role: Any, request_: Any, message: str
) -> None:
    before = sorted(p.name for p in run.root.iterdir())
    made = role(setup, LOG)
    try:
        with pytest.raises(TypeError, match=message):
            made.handle(request_)
    finally:
        made.close()
    # What a writer has begun goes with it.
    assert sorted(p.name for p in run.root.iterdir()) == before


def test_a_block_of_another_quantum_is_noticed(setup: messages.Setup, run: small_runs.SmallRun) -> None:
    made = scanner.Scanner(setup, LOG)
    try:
        table = made.graph.address_table()
        offsets, sizes = (
            np.ascontiguousarray(each[:2, 0]).tobytes() for each in (table.offsets, table.sizes)
        )
        right, wrong = (table.ids[order].tobytes() for order in ([0, 1], [1, 0]))
        found = made.handle(messages.FindFile(messages.ScanShard(1, right, offsets, sizes)))
        assert isinstance(found, messages.FileFound)
        assert found.path
        with pytest.raises(errors.FormatError, match="has the address of"):
            made.handle(messages.FindFile(messages.ScanShard(1, wrong, offsets, sizes)))
    finally:
        made.close()


def test_memory_of_processes(tmp_path: pathlib.Path) -> None:
    assert 1e6 < memory.resident(os.getpid()) <= memory.peak(os.getpid())
    assert memory.resident(1 << 30) == memory.peak(1 << 30) == 0
    assert memory._field(os.getpid(), "VmNothing") == 0

"""Log options mean what they mean for the reference."""

from __future__ import annotations

import logging

import pytest

from tests.helpers import samples
from tests.unit.command_line import test_terminal


def aggregation(sample: samples.Sample) -> list[str]:
    graph = str(sample.repo / "predicted.qg")
    return ["aggregate-graph", graph, str(sample.repo), "--mock-storage-classes", "-o", "out.qg"]


def test_log_options_of_the_reference(sample: samples.Sample) -> None:
    logging_module = pytest.importorskip("lsst.daf.butler.logging")
    paths = [sample.root / name for name in ("log.json", "log.txt")]
    options = [
        "--log-file",
        ",".join(map(str, paths)),
        "--log-label",
        "campaign=dr1,{node}=a b",
        "--no-log-tty",
    ]
    text = test_terminal.invoke(*options, *aggregation(sample)[:-2])
    assert text.startswith("Task ")
    records = logging_module.ButlerLogRecords.from_file(str(paths[0]))
    assert {record.MDC["CAMPAIGN"] for record in records} == {"dr1"}
    assert {record.MDC["{NODE}"] for record in records} == {"a b"}
    assert "Scanning" in [record.message for record in records]
    assert "CAMPAIGN=dr1 {NODE}=a b: Scanning" in paths[1].read_text()
    # An invocation leaves nothing behind for the next one.
    n = len(paths[1].read_text())
    test_terminal.invoke("show", str(sample.root / "provenance.qg"))
    logging.getLogger("somebody").warning("heard by nobody")
    assert len(paths[1].read_text()) == n

"""Reports on executions, read again."""

from __future__ import annotations

import pathlib
import uuid

import pytest
from aggregator.execution import quantum_attempts
from aggregator.schemas.execution import task_metadata
from aggregator.schemas.graphs import pipeline

from aggregator.running import execution_report


@pytest.mark.parametrize("fate", list(quantum_attempts.Fate))
def test_what_became_of_a_quantum_is_read_as_it_was_written(
    tmp_path: pathlib.Path, fate: quantum_attempts.Fate
) -> None:
    exception = None
    if fate in (quantum_attempts.Fate.FAILED, quantum_attempts.Fate.TIMED_OUT):
        exception = task_metadata.ExceptionInfo("builtins.ValueError", "no stars", {})
    told = quantum_attempts.Report(uuid.uuid4(), "isr", {"visit": 7}, fate, exception)
    report = execution_report.ExecutionReport(str(tmp_path / "report.json"), in_process=True)
    report.add(told)
    report.write(pipeline.Header(), [], None)
    assert execution_report.read((tmp_path / "report.json").read_bytes()) == [told]

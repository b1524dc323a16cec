"""Worker processes."""

from __future__ import annotations

import logging
import os

import pytest
from aggregator.schemas import messages
from aggregator.workers.engines import process

import aggregator


def test_what_libraries_say_in_workers_comes_through_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the terminal itself, bars would cover it."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [caplog.handler])
    worker = process.ProcessWorker(
        "scanner", "scanner-000", os.open(os.devnull, os.O_RDONLY), process.Clock()
    )
    try:
        # A worker that was not set up says so, as an error.
        worker.send(messages.ScanShard(1, b"", b"", b""))
        with pytest.raises(aggregator.AggregatorError, match="not set up"):
            worker.receive()
    finally:
        worker.end()
        worker.join(5.0)
    assert "failed in ScanShard" in [record.getMessage() for record in caplog.records][-1]
    assert caplog.records[-1].getMessage().startswith("scanner-000: ")
    assert capfd.readouterr().err == ""

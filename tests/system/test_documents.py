"""The log as JSON lines, of a process."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

from tests.helpers import samples
from tests.unit.command_line import test_last_words


def test_the_log_as_json_lines(sample: samples.Sample, tmp_path: pathlib.Path) -> None:
    """Each line that a program reads from standard error is a record, and the same as in a file."""
    test_last_words.damage(sample)
    log = tmp_path / "log.json"
    words = [
        "--log-format=json",
        "--log-label=JOB=7",
        f"--log-file={log}",
        *test_last_words.aggregation(sample),
    ]
    done = subprocess.run([sys.executable, "-m", "aggregator", *words], capture_output=True, text=True)
    assert done.returncode == 1
    records = [json.loads(line) for line in done.stderr.splitlines()]
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert records[: len(logged)] == logged
    assert {record["MDC"]["JOB"] for record in records} == {"7"}
    [error, *following] = records[len(logged) :]
    assert error["levelname"] == "ERROR"
    assert "1 quantum has files that can't be read" in error["message"]
    assert all(record["levelname"] == "INFO" for record in following)
    assert "--unreadable=failed" in following[1]["message"]

"""What docs/outputs.md says of documents, metrics, outcomes and exit codes is what the code has."""

from __future__ import annotations

import json
import logging

import pytest
from aggregator.schemas import metrics_text
from aggregator.storage import errors

from aggregator.console import logs
from tests.helpers import field_tables

PAGE = field_tables.PAGE.read_text()


def test_tables_are_those_of_the_code() -> None:
    """If not: `python -m tests.helpers.field_tables`."""
    assert field_tables.tables(PAGE) == PAGE
    names = [metric.name for metric in metrics_text.METRICS]
    assert len(names) == len(set(names)) == PAGE.count("| `aggregator_")


@pytest.mark.parametrize("module", ["summary_document", "status_document"])
def test_each_document_is_on_the_page(module: str) -> None:
    source = (field_tables.ROOT / "schemas" / f"{module}.py").read_text()
    classes = [line.split()[1].partition("(")[0] for line in source.splitlines() if line[:6] == "class "]
    assert classes
    assert all(f"<!-- fields: schemas/{module}.py {name} -->" in PAGE for name in classes)


def test_exit_codes() -> None:
    assert f"| {errors.HeldError.exit_code} | `held` |" in PAGE
    assert f"| {errors.AggregatorError.exit_code} | `failed` |" in PAGE
    assert f"| {errors.RefusedError.exit_code} | `refused` |" in PAGE


def test_fields_of_the_log() -> None:
    record = logging.makeLogRecord({"exc_info": (ValueError, ValueError("x"), None)})
    section = PAGE[PAGE.index("## Logs") :]
    for name in json.loads(logs.JsonFormatter({}).format(record)):
        assert f"`{name}`" in section, name

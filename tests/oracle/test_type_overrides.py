"""Overrides of dataset types mean what they mean for a reference that knows them (`make oracle-newest`)."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import yaml
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import registry

import aggregator
from tests.helpers.oracle import compare, reference, runs

pytest.importorskip("lsst.pipe.base")
pytestmark = pytest.mark.skipif(not reference.is_newest(), reason="this reference knows no overrides")


def override(run: runs.OracleRun, overrides: dict[str, Any]) -> None:
    path = run.root / "butler.yaml"
    content = yaml.safe_load(path.read_text())
    cls = content["registry"]["managers"]["datasets"]
    content["registry"]["managers"]["datasets"] = {"cls": cls, "config": {"overrides": overrides}}
    path.write_text(yaml.safe_dump(content))


def test_databases_are_the_same(clean_oracle_run: runs.OracleRun, tmp_path: pathlib.Path) -> None:
    """One type is new under another name, one is there with another storage class, one with both."""
    copies = [runs.copy_run(clean_oracle_run, tmp_path / name) for name in ("theirs", "ours")]
    for copy in copies:
        with registry.open_repository(repository_config.load(copy.root), writeable=True) as opened:
            opened.dataset_types.register("isr_config", "StructuredDataDict", [])
            opened.dataset_types.register("old_config", "StructuredDataDict", [])
        override(
            copy,
            {
                "old_log": {"rename": "isr_log"},
                "isr_config": {"storageClass": "Config"},
                "old_config": {"rename": "calibrate_config", "storageClass": "Config"},
            },
        )
    theirs, ours = copies
    reference.aggregate(theirs)
    options = aggregator.AggregatorConfig(mock_storage_classes=True)
    aggregator.aggregate_graph(str(ours.predicted_path), str(ours.root), options)
    compare.assert_databases_equal(theirs.root, ours.root)
    names = {name for (name,) in ours.tables.query("SELECT name FROM dataset_type")}
    assert {"old_log", "old_config"} <= names
    assert not {"isr_log", "calibrate_config"} & names

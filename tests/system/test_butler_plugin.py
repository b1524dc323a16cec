"""The reference's `butler` offers the commands, and its own under their names as before."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from aggregator.command_line import butler_plugin, main
from tests.helpers import samples

pytest.importorskip("lsst.daf.butler")

BUTLER = pathlib.Path(sys.executable).with_name("butler")
ENVIRONMENT = os.environ | {"PATH": f"{BUTLER.parent}{os.pathsep}{os.environ['PATH']}"}


def butler(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["butler", *words], env=ENVIRONMENT, capture_output=True, text=True, executable=BUTLER
    )
    assert done.returncode == code, done.stderr
    return done


def test_names_are_added_and_none_is_taken() -> None:
    names = re.findall(r"^  ([a-z][a-z-]+)  ", butler("--help").stdout, re.MULTILINE)
    assert {butler_plugin.PREFIX + name for name in main.PLACES} < set(names)
    assert {"aggregate-graph", "ingest-graph", "provenance-report"} < set(names)
    assert len(names) == len(set(names))
    # Whatever comes of the reference's own help, it is not this project's.
    assert "--summary-json" not in butler("aggregate-graph", "--help").stdout
    text = butler("aggregator-aggregate-graph", "-h").stdout
    assert text.startswith("Usage: butler aggregator-aggregate-graph [OPTIONS] PREDICTED_GRAPH REPO")
    assert "--summary-json" in text


def test_a_run_from_there(sample: samples.Sample) -> None:
    output, summary = sample.root / "out.qg", sample.root / "summary.json"
    words = [
        *("--log-level", "aggregator=INFO", "aggregator-aggregate-graph", str(sample.repo / "predicted.qg")),
        *(str(sample.repo), "--mock-storage-classes", "-o", str(output), "--summary-json", str(summary)),
    ]
    done = butler(*words)
    assert "Datasets ingested: 61" in done.stdout
    assert "Writing the graph" in done.stderr
    document = json.loads(summary.read_bytes())
    assert document["command"] == "aggregate-graph"
    assert document["next"][0]["command"] == f"butler aggregator-show {output} --failed"
    assert "FAILED" in butler("aggregator-show", str(output), "--failed").stdout
    again = butler(*words[2:-4], "--zstd-level", "99", code=2)
    assert again.stderr.splitlines()[-1].startswith("Error: zstd_level must be")
    assert "Traceback" not in again.stderr

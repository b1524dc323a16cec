"""Reports have the content of the reference's on the same graph."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING

import pytest

from tests.helpers.oracle import reference, runs
from tests.unit.reports.test_reports import run

if TYPE_CHECKING:
    from tests.helpers.oracle import fixtures

pytest.importorskip("lsst.pipe.base")

OPTIONS = {
    "default": ([], {}),
    "blocked": (["--state", "BLOCKED"], {"state": ("BLOCKED",)}),
    "fewer": (["--no-state", "FAILED"], {"no_state": ("FAILED",)}),
    "caveats": (
        ["--caveat", "PARTIAL_OUTPUTS_ERROR", "--caveat", "NO_WORK", "--no-state", "ABORTED_SUCCESS"],
        {"caveat": ("PARTIAL_OUTPUTS_ERROR", "NO_WORK"), "no_state": ("ABORTED_SUCCESS",)},
    ),
    "all successes": (["--state", "SUCCESSFUL"], {"state": ("SUCCESSFUL",)}),
}


def tables(text: str) -> list[list[list[str]]]:
    """Return the cells of plain tables, without rules; heads with spaces are one cell each."""
    found: list[list[list[str]]] = [[]]
    for line in text.replace("Aborted success", "Aborted_success").splitlines():
        if not line.strip():
            found.append([])
        elif set(line) - set("- "):
            found[-1].append(line.split())
    return [table for table in found if table and table[0][0] == "Task" and table[0][-1] != "Quanta"]


@pytest.mark.parametrize("kind", OPTIONS)
def test_equal_content(reference_result: fixtures.Aggregated, tmp_path: pathlib.Path, kind: str) -> None:
    ours, theirs = OPTIONS[kind]
    graph = reference_result.provenance
    expected = reference.provenance_report(
        graph, status_report=tmp_path / "theirs.json", data_id_table_dir=tmp_path / "theirs", **theirs
    )
    printed = run(
        graph, *ours, "--status-report", tmp_path / "ours.json", "--data-id-table-dir", tmp_path / "ours"
    )
    assert tables(printed) == tables(expected)
    assert len(tables(printed)) == 2
    status = json.loads((tmp_path / "ours.json").read_text())
    assert status == json.loads((tmp_path / "theirs.json").read_text())
    assert status
    written = {
        name: {p.relative_to(tmp_path / name): p.read_text() for p in (tmp_path / name).rglob("*.ecsv")}
        for name in ("ours", "theirs")
    }
    assert written["ours"] == written["theirs"]
    assert written["ours"]


def test_ingested_graph(reference_result: fixtures.Aggregated, tmp_path: pathlib.Path) -> None:
    graph = reference_result.provenance
    copy = runs.copy_run(reference_result.run, tmp_path / "repo")
    reference.ingest_graph(copy, graph, transfer="copy")
    assert run(copy.root, copy.run) == run(graph)
    assert tables(run(copy.root, copy.run)) == tables(reference.provenance_report(copy.root, copy.run))

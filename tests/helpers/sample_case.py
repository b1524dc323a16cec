"""Ingesting the sample's graph, and looking at what that leaves."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from aggregator.storage import fault_points

import aggregator
from tests.helpers import databases, samples

RUN = "u/sample/run1"
PATH = "u/sample/run1/run_provenance/run_provenance_u_sample_run1.qg"


def ingest(sample: samples.Sample, graph: pathlib.Path | None = None, **options: Any) -> Any:
    return aggregator.ingest_graph(sample.repo, graph or sample.root / "provenance.qg", **options)


def database(sample: samples.Sample) -> databases.Sqlite:
    return databases.Sqlite(sample.repo / "gen3.sqlite3")


def files(sample: samples.Sample) -> set[str]:
    return {str(p.relative_to(sample.root)) for p in sample.root.rglob("*") if not p.name.endswith("sqlite3")}


def originals(sample: samples.Sample) -> list[pathlib.Path]:
    """Return the files that the graph replaces."""
    kinds = ("config", "log", "metadata")
    found = sorted((sample.repo / RUN).rglob("*"))
    return [path for path in found if path.is_file() and path.name.split("_")[1] in kinds]


def backed(sample: samples.Sample) -> dict[str, str]:
    """Return dataset type and storage class of what the graph backs."""
    query = (
        "SELECT t.name, r.storage_class FROM file_datastore_records r JOIN dataset d ON d.id = r.dataset_id "
        f"JOIN dataset_type t ON t.id = d.dataset_type_id WHERE r.path = '{PATH}'"
    )
    return dict(database(sample).query(query))


def unchanged(sample: samples.Sample, call: Callable[[], Any], match: str) -> None:
    """Check that something is refused, and leaves everything as it was."""
    before = files(sample), database(sample).content()
    with pytest.raises(aggregator.RefusedError, match=match):
        call()
    assert (files(sample), database(sample).content()) == before


def configure(sample: samples.Sample, **datastore: Any) -> None:
    path = sample.repo / "butler.yaml"
    content = yaml.safe_load(path.read_text())
    content["datastore"].update(datastore)
    path.write_text(yaml.safe_dump(content))


class StoppedError(Exception):
    """What ends an ingestion at a point."""


def stop_at(monkeypatch: pytest.MonkeyPatch, point: str, call: Callable[[], Any]) -> None:
    """Let a call end at a point as if it had been killed."""

    def reached(name: str) -> None:
        if name == point:
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(fault_points, "reached", reached)
        with pytest.raises(StoppedError):
            call()

"""The sample run: an executed repository, graphs written by the reference, expected results."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import zipfile
from typing import Any

import aggregator

DATA = pathlib.Path(__file__).parent / "data"


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """A copy of the sample run."""

    root: pathlib.Path
    """Directory with everything that the archive holds."""

    repo: pathlib.Path
    """The executed repository, before aggregation."""

    expected: dict[str, Any]
    """What the reference makes of it."""


def unpack(directory: pathlib.Path) -> Sample:
    """Return a copy of the sample run in a directory."""
    with zipfile.ZipFile(DATA / "sample.zip") as archive:
        archive.extractall(directory)
    expected = json.loads((DATA / "expected.json").read_text())
    return Sample(directory, directory / "repo", expected)


def aggregate(sample: Sample, **config: Any) -> Any:
    """Aggregate a copy of the sample in this process."""
    options = {"output_path": str(sample.root / "out.qg"), "mock_storage_classes": True} | config
    return aggregator.aggregate_graph(
        str(sample.repo / "predicted.qg"), str(sample.repo), aggregator.AggregatorConfig(**options)
    )


def tree(directory: pathlib.Path) -> dict[str, bytes]:
    """Return the content of all files below a directory."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}

"""A graph that is not completed is given up without a word."""

from __future__ import annotations

import gc
import zipfile
from typing import Any

import pytest

import aggregator
from tests.helpers import samples


def test_nothing_is_written_when_the_archive_is_destroyed(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python before 3.13 says nothing about such errors."""
    close = zipfile._ZipWriteFile.close  # type: ignore[attr-defined]
    failures: list[BaseException] = []

    def watched(member: Any) -> None:
        try:
            close(member)
        except BaseException as exc:
            failures.append(exc)
            raise

    monkeypatch.setattr(zipfile._ZipWriteFile, "close", watched)  # type: ignore[attr-defined]
    log = next(path for path in sample.repo.rglob("*") if path.is_file() and "clean_log" in path.name)
    log.write_text("no log")
    options = aggregator.AggregatorConfig(
        mock_storage_classes=True, output_path=str(sample.root / "out.qg"), n_processes=1
    )
    with pytest.raises(aggregator.AggregatorError, match="can't be read"):
        aggregator.aggregate_graph(str(sample.repo / "predicted.qg"), str(sample.repo), options)
    gc.collect()
    assert failures == []
    assert sorted(path.name for path in sample.root.glob("*.qg*")) == [
        "provenance.qg", "provenance_dict.qg", "provenance_newer.qg",
    ]  # fmt: skip

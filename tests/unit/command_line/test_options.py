"""The command line and the options that the comparison with the reference does not cover."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from aggregator.schemas.graphs import container, provenance_graph

import aggregator
from tests.helpers import samples


def aggregate(sample: samples.Sample, **config: Any) -> Any:
    options = aggregator.AggregatorConfig(mock_storage_classes=True, **config)
    return aggregator.aggregate_graph(str(sample.repo / "predicted.qg"), str(sample.repo), options)


def test_incomplete_with_output_warns_once_and_writes_none(
    sample: samples.Sample, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        done = aggregate(sample, incomplete=True, output_path=str(sample.root / "out.qg"))
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == [
        "No graph is written in incomplete mode; the output path has no effect"
    ]
    assert not (sample.root / "out.qg").exists()
    assert done.graph_path is None
    assert done.n_ingested == 59


def test_dictionary_and_level_are_used(sample: samples.Sample) -> None:
    sizes = {}
    for level in (1, 19):
        path = sample.root / f"{level}.qg"
        aggregate(sample, output_path=str(path), zstd_level=level, dry_run=True)
        sizes[level] = path.stat().st_size
    assert sizes[19] < sizes[1]
    path = sample.root / "dictionary.qg"
    config = {"zstd_dict_size": 4096, "zstd_dict_n_inputs": 20}
    aggregate(sample, output_path=str(path), dry_run=True, **config)
    with container.Container(str(path)) as opened:
        assert 0 < opened.size(container.DICTIONARY) <= 4096
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        assert len(list(graph.quanta())) == 20


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"n_processes": 0}, "n_processes"),
        ({"zstd_level": 23}, "zstd_level must be .* not 23"),
        ({"worker_log_level": "LOUD"}, "unknown log level 'LOUD'"),
        ({"log_status_interval": 0.0}, "log_status_interval"),
        ({"output_path": "/nowhere/at/all/out.qg"}, "/nowhere/at/all"),
        ({"output_path": "s3://bucket/out.qg"}, "only local files"),
    ],
)
def test_options_that_cannot_work_are_refused(
    sample: samples.Sample, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(aggregator.RefusedError, match=message) as caught:
        aggregate(sample, **config)
    assert caught.value.exit_code == 2
    assert not list(sample.repo.glob("*.checkpoint"))

"""The command line and the options that the comparison with the reference does not cover."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from typing import Any

import pytest
from aggregator.schemas.graphs import container, provenance_graph

import aggregator
from aggregator.command_line import aggregate_graph, main
from tests.helpers import samples
from tests.unit.command_line import test_last_words


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
        ({"output_path": "ftp://host/out.qg"}, "only local files"),
    ],
)
def test_options_that_cannot_work_are_refused(
    sample: samples.Sample, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(aggregator.RefusedError, match=message) as caught:
        aggregate(sample, **config)
    assert caught.value.exit_code == 2
    assert not list(sample.repo.glob("*.checkpoint"))


@pytest.mark.parametrize("name", sorted(main.PLACES))
def test_each_command_takes_a_file_of_options(name: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text(f"{name}:\n  no-such-option: 1\n")
    done = test_last_words.invoke(name, "-@", path, code=2)
    assert f"{path}: no such option: no-such-option" in done.stderr
    path.write_text("other:\n  quanta: 1\n")
    assert f"has no section '{name}'" in test_last_words.invoke(name, "-@", path, code=2).stderr


def test_defaults_are_those_of_the_configuration() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(aggregator.AggregatorConfig)}
    given = {parameter.name: parameter.default for parameter in aggregate_graph.aggregate_graph.params}
    common = given.keys() & defaults.keys()
    # Those for compatibility only are not offered, and neither is the size of samples.
    assert defaults.keys() - common == {"worker_sleep", "worker_check_timeout", "zstd_dict_input_max_bytes"}
    context = aggregate_graph.aggregate_graph.make_context("aggregate-graph", ["predicted.qg", "repo"])
    assert {name: context.params[name] for name in common} == {name: defaults[name] for name in common}

"""Questions to graphs of the oracle run, and to a repository that the reference has ingested one into."""

from __future__ import annotations

import pathlib
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from aggregator.schemas.execution import statuses

import aggregator
from aggregator.reading import lineage
from tests.helpers.oracle import reference, runs

if TYPE_CHECKING:
    from tests.helpers.oracle import fixtures


def all_steps(steps: Iterator[lineage.Step]) -> dict[str, int]:
    return {lineage.node_id(step.node): step.depth for step in steps}


@pytest.fixture(scope="module")
def our_graph(oracle_run: runs.OracleRun, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("questions")
    copy = runs.copy_run(oracle_run, directory / "repo")
    config = aggregator.AggregatorConfig(
        output_path=str(directory / "ours.qg"), mock_storage_classes=True, dry_run=True
    )
    aggregator.aggregate_graph(str(copy.predicted_path), str(copy.root), config)
    return directory / "ours.qg"


@pytest.fixture(params=["ours", "theirs"])
def oracle_graph(request: pytest.FixtureRequest) -> pathlib.Path:
    if request.param == "ours":
        ours: pathlib.Path = request.getfixturevalue("our_graph")
        return ours
    aggregated: fixtures.Aggregated = request.getfixturevalue("reference_result")
    return aggregated.provenance


def test_answers_are_those_of_the_reference_s_reader(oracle_graph: pathlib.Path) -> None:
    import networkx
    from lsst.pipe.base.quantum_graph import ProvenanceQuantumGraphReader

    with (
        ProvenanceQuantumGraphReader.open(str(oracle_graph)) as reader,
        aggregator.Provenance(oracle_graph) as asked,
    ):
        reader.read_full_graph()
        bipartite = reader.graph.bipartite_xgraph
        above = bipartite.reverse()
        for label in asked.counts():
            wanted = {str(q): dict(d.mapping) for d, q in reader.graph.quanta_by_task[label].items()}
            assert {q.quantum_id: asked.data_id(q) for q in asked.quanta(label)} == wanted
        logs = reader.fetch_logs([uuid.UUID(q.quantum_id) for q in asked.quanta()])
        for node in list(bipartite)[::5]:
            name = lineage.node_id(asked.node(str(node)))
            assert name == str(node)
            if logs.get(node):
                mine = asked.logs(name)
                theirs = logs[node][-1]
                assert (mine is None) == (theirs is None)
                if mine is not None and theirs is not None:
                    assert [r.message for r in mine] == [r.message for r in theirs]
            for steps, walk in ((asked.upstream, above), (asked.downstream, bipartite)):
                for depth in (1, 2, None):
                    lengths = networkx.single_source_shortest_path_length(walk, node, depth)
                    assert all_steps(steps(name, depth)) == {str(n): d for n, d in lengths.items() if d}


def test_causes_of_the_oracle_run_are_failures_above(oracle_graph: pathlib.Path) -> None:
    with aggregator.Provenance(oracle_graph) as asked:
        found = list(asked.failures())
        assert found == list(asked.failures(limit=200))
        blocked = [f for f in found if not f.quantum.attempts]
        assert len(blocked) > 5
        for each in blocked:
            assert each.cause is not None
            assert each.cause.status == statuses.FAILED
            above = {lineage.node_id(step.node) for step in asked.upstream(each.quantum.quantum_id)}
            assert each.cause.quantum_id in above


@pytest.fixture(scope="module")
def ingested(
    reference_result: fixtures.Aggregated, tmp_path_factory: pytest.TempPathFactory
) -> runs.OracleRun:
    """Return a copy of the run in which the reference has ingested its graph."""
    copy = runs.copy_run(reference_result.run, tmp_path_factory.mktemp("ingested") / "repo")
    reference.ingest_graph(copy, reference_result.provenance, transfer="copy")
    return copy


def test_ingested_graphs_are_found_in_their_repository(
    ingested: runs.OracleRun, reference_result: fixtures.Aggregated
) -> None:
    from aggregator.butler.configuration import repository_config
    from aggregator.butler.registry import registry

    wanted = ingested.root / ingested.run / "run_provenance"
    repository = repository_config.load(str(ingested.root))
    with registry.open_registry(repository.database, repository.namespace, writeable=False) as opened:
        for arguments in (
            (ingested.root,),
            (ingested.root / "butler.yaml", ingested.run),
            (str(ingested.root), ingested.chain),
            (repository, ingested.run),
        ):
            with aggregator.Provenance(*arguments) as asked:
                assert pathlib.Path(asked.path).parent == wanted
        with aggregator.Provenance(repository, ingested.chain, registry=opened) as asked:
            assert pathlib.Path(asked.path).parent == wanted
            assert asked.header.output_run == ingested.run
    with pytest.raises(aggregator.RefusedError, match=f"these runs have a graph: {ingested.run}"):
        aggregator.Provenance(str(ingested.root), "u/nothing")
    with pytest.raises(aggregator.RefusedError, match="has no ingested provenance graph"):
        aggregator.Provenance(str(ingested.root), asked.header.inputs[0])
    with pytest.raises(aggregator.RefusedError, match="no run has an ingested provenance graph"):
        aggregator.Provenance(str(reference_result.run.root))
    with pytest.raises(aggregator.RefusedError, match="is a graph"):
        aggregator.Provenance(str(reference_result.provenance), "u/run")

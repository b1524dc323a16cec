"""The reference opens synthetic runs, aggregates them, and comes to the same result as this project."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import pytest

import aggregator
from aggregator.synthesis import campaign, parameters, survey_pipeline
from tests.helpers.oracle import compare, reference

pytest.importorskip("lsst.pipe.base")

ASKED = parameters.SynthesisParameters(
    quanta=400,
    seed=7,
    log_size=4000,
    metadata_size=4000,
    output_size=20,
    failed=0.03,
    blocked=0.08,
    retried=0.04,
    caveats=0.08,
    aborted=0.03,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> campaign.Campaign:
    """Return a run with all kinds of trouble but unreadable files; to be read only."""
    root = tmp_path_factory.mktemp("synthetic") / "repo"
    return campaign.synthesize(str(root), ASKED, interactive_status=False)


def test_trouble_is_there(made: campaign.Campaign) -> None:
    missing = [name for name, n in made.counts["fates"].items() if n < 3 and name != "corrupt"]
    assert not missing


@pytest.fixture(scope="module")
def theirs(made: campaign.Campaign, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a copy that the reference has aggregated, with its graph; to be read only."""
    root = tmp_path_factory.mktemp("theirs") / "repo"
    shutil.copytree(made.root, root)
    # No storage class of a mock is among those of synthetic runs.
    reference.aggregate_files(
        str(root / "predicted.qg"), str(root), output_path=str(root / "out.qg"), mock_storage_classes=False
    )
    return root


@pytest.mark.parametrize("n_processes", [1, 2])
def test_same_results(
    made: campaign.Campaign, theirs: pathlib.Path, tmp_path: pathlib.Path, n_processes: int
) -> None:
    ours = tmp_path / "ours"
    shutil.copytree(made.root, ours)
    config = aggregator.AggregatorConfig(output_path=str(tmp_path / "ours.qg"), n_processes=n_processes)
    aggregator.aggregate_graph(str(ours / "predicted.qg"), str(ours), config)
    compare.assert_databases_equal(theirs / "gen3.sqlite3", ours / "gen3.sqlite3")
    compare.assert_provenance_equal(theirs / "out.qg", tmp_path / "ours.qg", ours)


@pytest.mark.parametrize("options", [{"incomplete": True}, {"promise_ingest_graph": True}])
def test_same_results_of_other_modes(
    made: campaign.Campaign, tmp_path: pathlib.Path, options: dict[str, Any]
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for root in (theirs, ours):
        shutil.copytree(made.root, root)
    reference.aggregate_files(str(theirs / "predicted.qg"), str(theirs), output_path=None, **options)
    aggregator.aggregate_graph(
        str(ours / "predicted.qg"), str(ours), aggregator.AggregatorConfig(checkpoint=False, **options)
    )
    compare.assert_databases_equal(theirs / "gen3.sqlite3", ours / "gen3.sqlite3")


@pytest.mark.parametrize(
    "mode", ["DO_NOT_IMPORT", "ASSUME_CONSISTENT_EDGES", "REQUIRE_CONSISTENT_EDGES", "OVERRIDE_EDGES"]
)
def test_reference_reads_the_whole_graph(made: campaign.Campaign, mode: str) -> None:
    from lsst.pipe.base.pipeline_graph import TaskImportMode
    from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

    with PredictedQuantumGraph.open(made.predicted, import_mode=TaskImportMode[mode]) as reader:
        reader.read_all()
        graph = reader.components.assemble()
    assert len(graph) == made.counts["quanta"]
    assert len(graph.bipartite_xgraph) == made.counts["quanta"] + regular_datasets(made)
    n_edges = graph.bipartite_xgraph.number_of_edges()
    assert n_edges == made.counts["edges"]
    assert {label: len(quanta) for label, quanta in graph.quanta_by_task.items()} == made.counts["tasks"]
    if mode == "ASSUME_CONSISTENT_EDGES":
        execution = graph.build_execution_quanta()
        assert len(execution) == made.counts["quanta"]


def regular_datasets(made: campaign.Campaign) -> int:
    """Return the number of datasets that are no outputs of initialisations."""
    return int(
        made.counts["datasets"] - 1 - sum(len(task.all_init_outputs) for task in survey_pipeline.TASKS)
    )


def test_reference_reads_the_thin_graph(made: campaign.Campaign) -> None:
    from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

    with PredictedQuantumGraph.open(made.predicted) as reader:
        reader.read_all()
        full = set(reader.components.assemble().quantum_only_xgraph.edges)
    with PredictedQuantumGraph.open(made.predicted) as reader:
        reader.read_thin_graph()
        thin = reader.components.thin_graph
    assert {(a, b) for a, b in thin.edges} == full
    assert len(thin.edges) == len(full)


def test_reference_writes_the_same_graph(made: campaign.Campaign, tmp_path: pathlib.Path) -> None:
    """What the reference has read and written again has the same content."""
    from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

    from tests.helpers.oracle import container, difference

    with PredictedQuantumGraph.open(made.predicted) as reader:
        reader.read_all()
        reader.components.write(str(tmp_path / "again.qg"))
    ours, theirs = (container.Container(p) for p in (pathlib.Path(made.predicted), tmp_path / "again.qg"))
    for name in ("header", "thin_graph", "dimension_data", "init_quanta", "pipeline_graph"):
        documents = [by_content(name, graph.single(name)) for graph in (ours, theirs)]
        difference.assert_same(*documents, name)
    blocks = [
        {
            b["quantum_id"]: normalised(b)
            for b in (g.block("quantum_datasets", a) for a in g.walk("quantum_datasets"))
        }
        for g in (ours, theirs)
    ]
    difference.assert_same(*blocks, "quanta")


def by_content(name: str, document: Any) -> Any:
    """Return a document with lists in a fixed order where order has no meaning."""
    if name == "thin_graph":
        quanta = {label: sorted(map(repr, found)) for label, found in document["quanta"].items()}
        return {"quanta": quanta, "edges": sorted(document["edges"])}
    if name == "dimension_data":
        return {element: sorted(map(repr, rows)) for element, rows in document.items()}
    if name == "pipeline_graph":
        return without(document, "config_str")
    if name == "init_quanta":
        return [normalised(quantum) for quantum in document]
    return document


def without(document: Any, key: str) -> Any:
    """Return a document without the members of a name; configurations are written anew."""
    if isinstance(document, dict):
        return {k: without(v, key) for k, v in document.items() if k != key}
    return document


def normalised(quantum: dict[str, Any]) -> dict[str, Any]:
    """Return a quantum with datasets and records in a fixed order."""
    result = dict(quantum)
    for members in ("inputs", "outputs"):
        result[members] = {
            name: sorted(found, key=lambda d: d["dataset_id"])
            for name, found in sorted(quantum[members].items())
        }
    records = {}
    for store, found in quantum["datastore_records"].items():
        records[store] = {**found, "dataset_ids": sorted(found["dataset_ids"])}
    result["datastore_records"] = records
    return result


def test_reference_finds_inputs_and_dimension_records(made: campaign.Campaign) -> None:
    from lsst.daf.butler import Butler

    with Butler.from_config(made.root) as butler:
        counts = {}
        for kind in survey_pipeline.OVERALL_INPUTS:
            refs = butler.query_datasets(kind.name, collections=survey_pipeline.INPUT_CHAIN, limit=None)
            counts[kind.name] = len(refs)
            for ref in refs:
                assert butler.getURI(ref).exists()
        assert counts["raw"] == made.counts["tasks"]["isr"]
        assert min(counts.values()) >= 1
        visits = butler.query_dimension_records("visit", limit=None)
        assert len({visit.id for visit in visits}) == len(visits) >= made.counts["tasks"]["summarize"]
        assert list(butler.collections.query(survey_pipeline.INPUT_CHAIN, flatten_chains=True)) == list(
            survey_pipeline.INPUT_RUNS
        )

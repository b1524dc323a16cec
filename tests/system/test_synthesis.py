"""What is in synthetic runs."""

from __future__ import annotations

import collections
import json
import os
import pathlib
from typing import Any

import numpy as np
import pytest
from aggregator.schemas.graphs import addresses, predicted
from aggregator.storage import errors

from aggregator.synthesis import (
    campaign,
    chunk_workers,
    node_ids,
    node_numbers,
    parameters,
    quantum_blocks,
    quantum_inputs,
    quantum_outcomes,
    seeded_numbers,
    survey,
    survey_data_ids,
    survey_pipeline,
)
from tests.helpers import synthetic_runs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> campaign.Campaign:
    """Return a run with all kinds of trouble; to be read only."""
    return synthetic_runs.make(tmp_path_factory.mktemp("synthetic") / "run")


def quanta(root: str) -> list[tuple[predicted.Quantum, bytes]]:
    """Return all quanta of a run's graph, in file order, with their JSON."""
    with predicted.PredictedGraph(os.path.join(root, campaign.GRAPH)) as graph:
        table = graph.address_table()
        order = np.argsort(table.offsets[:, 0])
        return list(graph.read_quanta(table.offsets[order, 0], table.sizes[order, 0]))


def chosen(made: campaign.Campaign) -> quantum_outcomes.Fates:
    """Return the fate of each quantum of a run, in file order."""
    asked = parameters.SynthesisParameters(**synthetic_runs.TROUBLE)
    return quantum_outcomes.choose(asked, node_numbers.Nodes(survey.plan(asked.quanta), asked.seed))


@pytest.mark.parametrize("n", [60, 61, 100, 457, 1000, 4999, 20_000, 123_457, 1_000_000, 10_000_000])
def test_survey_has_exactly_the_quanta_asked_for(n: int) -> None:
    planned = survey.plan(n)
    graph = node_numbers.Nodes(planned, 1)
    assert graph.n_quanta == n
    assert sum(chunk.end - chunk.begin for chunk in graph.chunks()) == n
    assert all(graph.task_counts)
    if n >= 2000:
        assert 3.4 < graph.n_datasets / n < 4.1
        # Exposures that are not processed to the end should be few.
        assert planned.extras < 0.05 * n
    if n in (2000, 20_000, 123_457):
        assert 10 < quantum_blocks.count_edges(graph) / n < 13


def test_fan_in_reaches_hundreds() -> None:
    graph = node_numbers.Nodes(survey.plan(1_000_000), 1)
    widest = max(
        int(quantum_inputs.REACHES[each.reach](graph.survey, np.arange(n))[1].max())
        for task, n in zip(survey_pipeline.TASKS, graph.task_counts, strict=True)
        for each in task.inputs
    )
    assert 200 < widest < 1000


@pytest.mark.parametrize("n", [60, 900, 30_000])
def test_inputs_exist_and_are_distinct(n: int) -> None:
    graph = node_numbers.Nodes(survey.plan(n), 1)
    for task, total in zip(survey_pipeline.TASKS, graph.task_counts, strict=True):
        rows = np.arange(total)
        for each in task.inputs:
            found, counts = quantum_inputs.REACHES[each.reach](graph.survey, rows)
            assert len(found) == counts.sum()
            assert counts.min() > 0
            assert each.multiple or counts.max() == 1
            assert found.min() >= 0
            assert found.max() < graph.counts[each.dataset_type], (task.label, each.connection)
            pairs = np.stack([np.repeat(rows, counts), found], axis=1)
            assert len(np.unique(pairs, axis=0)) == len(pairs)


def test_inputs_fit_the_data_ids() -> None:
    """What a quantum reads has the same values for the dimensions that both have, neighbours aside."""
    graph = node_numbers.Nodes(survey.plan(900), 1)
    for task, total in zip(survey_pipeline.TASKS, graph.task_counts, strict=True):
        ours = survey_data_ids.KINDS[task.kind].columns(graph.survey, np.arange(total))
        for each in task.inputs:
            found, counts = quantum_inputs.REACHES[each.reach](graph.survey, np.arange(total))
            kind = survey_pipeline.DATASET_TYPES[each.dataset_type].kind
            theirs = survey_data_ids.KINDS[kind].columns(graph.survey, found)
            owner = np.repeat(np.arange(total), counts)
            for name in theirs.keys() & ours.keys():
                assert [ours[name][row] for row in owner.tolist()] == theirs[name], (task.label, each, name)


def test_ids_are_unique_and_of_version_7() -> None:
    made = node_ids.ids(3, np.concatenate([np.arange(200_000), (1 << 32) + np.arange(200_000)]))
    assert len(np.unique(made)) == 400_000
    raw = np.frombuffer(made.tobytes(), dtype=np.uint8).reshape(-1, 16)
    assert (raw[:, 6] >> 4 == 7).all()
    assert (raw[:, 8] >> 6 == 2).all()
    times = np.zeros(len(raw), dtype=np.int64)
    for byte in range(6):
        times = times << 8 | raw[:, byte]
    assert (np.diff(times) >= 0).all()
    assert node_ids.texts(3, np.array([5]))[0] == addresses.dashed(addresses.hex_digits(made[5:6])[0])
    assert not np.isin(made[:1000], node_ids.ids(4, np.arange(1000))).any()


def test_dice_never_change() -> None:
    """The very numbers: with others, runs of the same seed would differ between versions."""
    numbers = seeded_numbers.Dice(1, 2, 3)
    assert numbers.uniform(2).tolist() == [0.6704722626516632, 0.1110146366693816]
    assert numbers.below(1000, 3).tolist() == [511, 356, 704]
    assert sorted(numbers.permutation(50).tolist()) == list(range(50))
    bell = numbers.bell(20_000)
    assert abs(bell.mean()) < 0.05
    assert 0.95 < bell.std() < 1.05


def test_shares(made: campaign.Campaign) -> None:
    n = synthetic_runs.TROUBLE["quanta"]
    found = made.counts["fates"]
    assert sum(found.values()) == n
    for share, names in {
        "failed": ["failed"],
        "retried": ["retried"],
        "caveats": ["caveats"],
        "aborted": ["without log", "without metadata", "without both"],
    }.items():
        assert sum(found[name] for name in names) == round(synthetic_runs.TROUBLE[share] * n), share
    assert (
        0.5 * synthetic_runs.TROUBLE["blocked"] * n
        <= found["blocked"]
        <= synthetic_runs.TROUBLE["blocked"] * n
    )
    assert min(found[name] for name in ("without log", "without metadata", "without both")) > 0


def test_shares_of_a_large_graph() -> None:
    asked = parameters.SynthesisParameters(quanta=50_000, failed=0.01, blocked=0.03, aborted=0.002)
    found = np.bincount(
        quantum_outcomes.choose(asked, node_numbers.Nodes(survey.plan(50_000), 1)), minlength=9
    )
    assert found[quantum_outcomes.FAILED] == 500
    assert 0.9 * 1500 <= found[quantum_outcomes.BLOCKED] <= 1500


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"failed": 0.0, "aborted": 0.0}, "Nothing is blocked"),
        ({"failed": 0.45, "blocked": 0.0, "caveats": 0.0, "retried": 0.0}, "larger share"),
        ({"failed": 0.6}, "More than half"),
        ({"caveats": float("nan")}, "must be a number of 0 or more, at most 1"),
        ({"quanta": 59}, "at least 60"),
        ({"log_size": -1}, "must be .*0 or more"),
    ],
)
def test_what_can_not_be_made_is_refused(
    tmp_path: pathlib.Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(errors.RefusedError, match=message):
        synthetic_runs.make(tmp_path / "run", **changes)


def test_files_tell_the_fates(made: campaign.Campaign) -> None:
    described = chunk_workers.Plan(
        made.root, parameters.SynthesisParameters(**synthetic_runs.TROUBLE)
    ).datasets
    expected = {
        quantum_outcomes.FAILED: (1, 0),
        quantum_outcomes.UNFINISHED: (1, 0),
        quantum_outcomes.KILLED: (0, 0),
        quantum_outcomes.LOGLESS: (0, 1),
        quantum_outcomes.BLOCKED: (0, 0),
    }
    for (quantum, _), fate in zip(quanta(made.root), chosen(made).tolist(), strict=True):
        there: dict[str, pathlib.Path | None] = {}
        for connection, [dataset] in quantum.outputs.items():
            values = tuple(json.loads(bytes(dataset.data_coordinate)))
            [path] = described.paths(dataset.dataset_type_name, [values], [dataset.dataset_id])
            file = pathlib.Path(made.root) / path
            there[connection] = file if file.exists() else None
        log, metadata = there.pop("_log"), there.pop("_metadata")
        n_written = sum(file is not None for file in there.values())
        assert (bool(log), bool(metadata)) == expected.get(fate, (True, True)), (fate, quantum)
        if fate == quantum_outcomes.BLOCKED:
            assert n_written == 0
        elif fate == quantum_outcomes.CAVEAT:
            assert n_written < max(2, len(there))
        elif fate not in (quantum_outcomes.FAILED, quantum_outcomes.KILLED):
            assert n_written == len(there)
        if log:
            document = json.loads(log.read_bytes())
            assert bool(document["previous_attempts"]) or fate != quantum_outcomes.RETRIED
            assert (document["exception"] is not None) == (fate == quantum_outcomes.FAILED)
        if metadata and fate != quantum_outcomes.CAVEAT:
            listed = json.loads(metadata.read_bytes())["metadata"]["quantum"]["arrays"]["outputs"]
            assert listed == [quantum.outputs[connection][0].dataset_id for connection in there]


def test_nothing_runs_below_a_failure(made: campaign.Campaign) -> None:
    found = dict(zip((q.quantum_id for q, _ in quanta(made.root)), chosen(made).tolist(), strict=True))
    before: dict[str, list[str]] = collections.defaultdict(list)
    with predicted.PredictedGraph(made.predicted) as graph:
        table = graph.address_table()
        texts = [addresses.dashed(digits) for digits in addresses.hex_digits(table.ids)]
        for producer, consumer in graph.edges(table).tolist():
            before[texts[consumer]].append(texts[producer])
    stops = (
        quantum_outcomes.FAILED,
        quantum_outcomes.UNFINISHED,
        quantum_outcomes.KILLED,
        quantum_outcomes.BLOCKED,
    )
    for quantum, fate in found.items():
        stopped = any(found[ancestor] in stops for ancestor in before[quantum])
        assert (fate == quantum_outcomes.BLOCKED) == stopped


def test_edges_are_those_of_the_datasets(made: campaign.Campaign) -> None:
    producers = {
        d.dataset_id: q.quantum_id for q, _ in quanta(made.root) for ds in q.outputs.values() for d in ds
    }
    expected = {
        (producers[d.dataset_id], q.quantum_id)
        for q, _ in quanta(made.root)
        for ds in q.inputs.values()
        for d in ds
        if d.dataset_id in producers
    }
    with predicted.PredictedGraph(made.predicted) as graph:
        table = graph.address_table()
        texts = [addresses.dashed(digits) for digits in addresses.hex_digits(table.ids)]
        found = [(texts[a], texts[b]) for a, b in graph.edges(table).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_header_counts(made: campaign.Campaign) -> None:
    ids, n_edges, tasks = set(), 0, collections.Counter()
    for quantum, _ in quanta(made.root):
        tasks[quantum.task_label] += 1
        for members in (quantum.inputs, quantum.outputs):
            n_edges += sum(map(len, members.values()))
            ids |= {d.dataset_id for found in members.values() for d in found}
    with predicted.PredictedGraph(made.predicted) as graph:
        for init in graph.init_quanta():
            for members in (init.inputs, init.outputs):
                ids |= {d.dataset_id for found in members.values() for d in found}
        assert graph.header.n_datasets == len(ids) == made.counts["datasets"]
        assert graph.header.n_quanta == sum(tasks.values())
        assert graph.header.n_task_quanta == tasks == made.counts["tasks"]
    assert n_edges == made.counts["edges"]


def test_sizes(tmp_path: pathlib.Path) -> None:
    for name, sizes in {"normal": (22_000, 7_000, 300), "small": (2_600, 2_600, 0)}.items():
        root = tmp_path / name
        synthetic_runs.make(
            root, quanta=400, log_size=sizes[0], metadata_size=sizes[1], output_size=sizes[2], retried=0.0
        )
        found = collections.defaultdict(list)
        for path in (root / survey_pipeline.OUTPUT_RUN).rglob("*.*"):
            kind = path.relative_to(root / survey_pipeline.OUTPUT_RUN).parts[0]
            found[kind.rpartition("_")[2]].append(path.stat().st_size)
        for kind, size in (("log", sizes[0]), ("metadata", sizes[1])):
            mean = sum(found[kind]) / len(found[kind])
            assert 0.75 < mean / size < 1.3, (name, kind, mean)
            assert len(set(found[kind])) > 50
        assert set(found["table"]) == {sizes[2]}


def same_form(first: Any, second: Any, where: str) -> None:
    """Check that two JSON documents have the same keys and types, where both have something."""
    assert type(first) is type(second), where
    if isinstance(first, dict):
        for key in first.keys() & second.keys():
            same_form(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list) and first and second:
        same_form(first[0], second[0], f"{where}[]")


def test_graph_looks_like_one_of_the_reference(made: campaign.Campaign, sample: Any) -> None:
    with (
        predicted.PredictedGraph(made.predicted) as ours,
        predicted.PredictedGraph(str(sample.repo / "predicted_dict.qg")) as theirs,
    ):
        assert set(ours._container._members) == set(theirs._container._members)
        for name in ("header", "pipeline_graph", "thin_graph", "dimension_data", "init_quanta"):
            documents = [json.loads(graph._container.read_block(name)) for graph in (ours, theirs)]
            same_form(*documents, name)
            if name in ("header", "pipeline_graph"):
                assert documents[0].keys() == documents[1].keys()
            if name == "init_quanta":
                assert [list(d) for d in documents[0]][:2] == [list(d) for d in documents[1]][:2]
            if name == "pipeline_graph":
                ours_tasks, their_tasks = (list(d["tasks"].values()) for d in documents)
                assert {tuple(t) for t in ours_tasks} == {tuple(t) for t in their_tasks}
                types = [list(d["dataset_types"].values()) for d in documents]
                assert {tuple(t) for t in types[0]} == {tuple(t) for t in types[1]}
                found = sorted(
                    [each["index"] for each in documents[0]["dataset_types"].values()]
                    + [each["index"] for each in documents[0]["tasks"].values()]
                    + [each["init"]["index"] for each in documents[0]["tasks"].values()]
                )
                assert found == list(range(len(found)))
    raw = json.loads(quanta(made.root)[0][1])
    with predicted.PredictedGraph(str(sample.repo / "predicted.qg")) as theirs:
        table = theirs.address_table()
        order = np.argsort(table.offsets[:, 0])[:1]
        [(_, document)] = theirs.read_quanta(table.offsets[order, 0], table.sizes[order, 0])
    expected = json.loads(document)
    assert list(raw) == list(expected)
    same_form(raw, expected, "quantum")
    ours_records, their_records = (
        next(iter(q["datastore_records"]["FileDatastore@<butlerRoot>"]["records"].values()))
        for q in (raw, expected)
    )
    ours_row, their_row = (
        next(iter(r.values()))["file_datastore_records"][0] for r in (ours_records, their_records)
    )
    assert ours_row.keys() == their_row.keys()

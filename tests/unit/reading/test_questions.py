"""Questions to a provenance graph: the sample, and graphs made for the purpose."""

from __future__ import annotations

import itertools
import pathlib
import random
import tracemalloc
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import nodes, provenance_graph, quantum_index

import aggregator
from aggregator.reading import causes, failures, lineage
from tests.helpers import graph_files

NAMES = ["provenance.qg", "provenance_dict.qg", "provenance_newer.qg"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return graph_files.unpack_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    found: dict[str, Any] = graph_files.expected()["provenance"]
    return found


@pytest.fixture(params=NAMES)
def asked(request: pytest.FixtureRequest, root: pathlib.Path) -> Iterator[aggregator.Provenance]:
    with aggregator.Provenance(root / request.param) as found:
        yield found


def fits(data_id: dict[str, Any], part: dict[str, Any]) -> bool:
    return part.items() <= data_id.items()


def test_quanta_are_found_by_task_and_every_part_of_their_data_id(
    asked: aggregator.Provenance, expected: dict[str, Any]
) -> None:
    for wanted in expected["quanta"].values():
        for n in range(3):
            for names in itertools.combinations(wanted["data_id"], n):
                part = {name: wanted["data_id"][name] for name in names}
                text = " AND ".join(f"{name}='{value}'" for name, value in part.items())
                found = [quantum.quantum_id for quantum in asked.quanta(wanted["task"], part)]
                assert found == [q.quantum_id for q in asked.quanta(wanted["task"], text or None)]
                others = expected["quanta"].items()
                assert set(found) == {
                    quantum_id
                    for quantum_id, other in others
                    if other["task"] == wanted["task"] and fits(other["data_id"], part)
                }
                assert len(found) == len(set(found))


def test_datasets_are_found_by_type_and_data_id(
    asked: aggregator.Provenance, expected: dict[str, Any]
) -> None:
    by_type: dict[str, dict[str, Any]] = {}
    for dataset_id, wanted in expected["datasets"].items():
        by_type.setdefault(wanted["dataset_type"], {})[dataset_id] = wanted["data_id"]
    for dataset_type, ids in by_type.items():
        assert sorted(d.dataset_id for d in asked.datasets(dataset_type)) == sorted(ids)
        for data_id in ids.values():
            for name in data_id:
                part = {name: data_id[name]}
                found = [d.dataset_id for d in asked.datasets(dataset_type, part)]
                assert sorted(found) == sorted(i for i, other in ids.items() if fits(other, part))


def test_nodes_logs_and_metadata_are_those_of_the_sample(
    asked: aggregator.Provenance, expected: dict[str, Any]
) -> None:
    for quantum_id, wanted in expected["quanta"].items():
        quantum = asked.quantum(quantum_id.upper().replace("-", ""))
        assert asked.data_id(quantum) == wanted["data_id"]
        n = len(wanted["attempts"])
        assert len(asked.attempts(quantum_id)) == n
        for attempt in range(n):
            logs = asked.logs(quantum_id, attempt)
            assert (None if logs is None else len(logs)) == wanted["n_logs"][attempt]
            metadata = asked.metadata(wanted["metadata_id"], attempt)
            assert (metadata is not None) == wanted["has_metadata"][attempt]
        if n:
            assert asked.logs(wanted["log_id"]) == asked.logs(quantum_id, n - 1)
        for read in (asked.logs, asked.metadata):
            with pytest.raises(aggregator.RefusedError, match="no attempt"):
                read(quantum_id, n)
    for label, init in expected["init_quanta"].items():
        found = asked.node(init["quantum_id"])
        assert isinstance(found, nodes.InitQuantum)
        assert (found.task_label, asked.data_id(found)) == (label, {})
        with pytest.raises(aggregator.RefusedError, match="neither a quantum nor"):
            asked.logs(init["quantum_id"])
        with pytest.raises(aggregator.RefusedError, match="neither a quantum nor"):
            asked.metadata(init["config_id"])


def test_numbers_of_quanta_are_those_of_the_sample(
    asked: aggregator.Provenance, expected: dict[str, Any]
) -> None:
    counts = asked.counts()
    assert list(counts) == [task.label for task in asked.pipeline.tasks]
    for label, (by_status, by_caveats) in counts.items():
        quanta = [q for q in expected["quanta"].values() if q["task"] == label]
        for status, n in by_status.items():
            assert n == sum(q["status"] == statuses.NAMES[status] for q in quanta)
        for bits, n in by_caveats.items():
            assert n == sum(q["status"] == "SUCCESSFUL" and q["caveats"] == bits for q in quanta)


@pytest.mark.parametrize(
    ("task", "data_id", "problem"),
    [
        ("other", None, "no task 'other'; there are clean, measure"),
        ("clean", "patch=1", "task clean has no dimension 'patch'; its dimensions are instrument, detector"),
        ("clean", {"visit": "x"}, "values of visit are integers"),
        ("clean", "visit", "is not understood"),
        (None, "visit=1", "name the task"),
    ],
)
def test_requests_that_mean_nothing_are_refused(
    asked: aggregator.Provenance, task: str | None, data_id: Any, problem: str
) -> None:
    with pytest.raises(aggregator.RefusedError, match=problem):
        asked.quanta(task, data_id)
    with pytest.raises(aggregator.RefusedError, match="no dataset type 'packages'"):
        asked.datasets("packages")


def all_steps(steps: Iterator[lineage.Step]) -> dict[str, int]:
    return {lineage.node_id(step.node): step.depth for step in steps}


def test_outcomes_of_the_sample_are_explained(asked: aggregator.Provenance, expected: dict[str, Any]) -> None:
    seen = set()
    for dataset_id, wanted in expected["datasets"].items():
        told = asked.explain(dataset_id)
        seen.add(told.outcome)
        producer = expected["quanta"].get(wanted["producer"], {"status": None})
        assert (told.outcome == "input") == (wanted["producer"] is None)
        assert (told.outcome == "produced") == (wanted["produced_in_file"] and wanted["producer"] is not None)
        if not wanted["produced_in_file"] and producer["status"]:
            outcome = {"BLOCKED": "blocked", "FAILED": "failed"}.get(producer["status"], "not written")
            assert told.outcome == outcome
        assert (told.cause is not None) == (told.outcome == "blocked")
        if told.cause is not None:
            assert expected["quanta"][told.cause.quantum_id]["status"] == "FAILED"
    assert seen == {"input", "produced", "blocked", "failed", "not written"}


class Graph:
    """A graph of one task, made of numbered quanta and datasets."""

    def __init__(self, root: pathlib.Path, path: pathlib.Path) -> None:
        self.members = graph_files.members(root / "provenance.qg")
        self.path = path
        self.quanta: dict[int, dict[str, Any]] = {}
        self.datasets: dict[int, dict[str, Any]] = {}

    @staticmethod
    def id_of(number: int) -> str:
        return str(uuid.UUID(int=(number * 7919 % 100_003) << 70 | number))

    def add_quantum(self, number: int, status: int, inputs: list[int], n_outputs: int = 1) -> list[int]:
        """Add a quantum and its outputs; return their numbers."""
        outputs = [100_000 + 10 * number + i for i in range(n_outputs)]
        attempts = [{"status": status}] if status != statuses.BLOCKED else []
        self.quanta[number] = {
            "quantum_id": self.id_of(number),
            "task_label": "measure",
            "data_coordinate": ["SampleCam", number % 5, number, "r", 20260301, f"filter {number % 3}"],
            "inputs": {"image": [self.id_of(i) for i in inputs]},
            "outputs": {"sources": [self.id_of(o) for o in outputs]},
            "attempts": attempts,
        }
        for each in outputs:
            self.add_dataset(each, self.id_of(number), produced=status == statuses.SUCCESSFUL)
        for each in inputs:
            if each not in self.datasets:
                self.add_dataset(each, None, produced=True)
            self.datasets[each]["consumers"].append(self.id_of(number))
        return outputs

    def add_dataset(self, number: int, producer: str | None, produced: bool) -> None:
        self.datasets[number] = {
            "dataset_id": self.id_of(number),
            "dataset_type_name": "sources",
            "data_coordinate": ["SampleCam", 1, number, "r", 20260301, "R"],
            "run": "u/run",
            "produced": produced,
            "producer": producer,
            "consumers": [],
        }

    def write(self) -> pathlib.Path:
        payloads, rows = {}, []
        for column, found in enumerate((self.datasets, self.quanta)):
            payload, places = graph_files.join([graph_files.compress(each) for each in found.values()])
            payloads[nodes.COMPONENTS[column]] = payload
            for number, place in zip(found, places, strict=True):
                pairs = [(0, 0)] * 4
                pairs[column] = place
                rows.append((uuid.UUID(self.id_of(number)).bytes, 0, pairs))
        header = {**graph_files.single(self.members, "header"), "n_quanta": len(self.quanta)}
        return graph_files.pack(
            self.path,
            {
                **self.members,
                "header.json.zst": graph_files.compress(header),
                "init_quanta.json.zst": graph_files.compress([]),
                **{f"{name}.mb": payload for name, payload in payloads.items()},
                "nodes.addr": graph_files.address_file(sorted(rows), 8, 4),
            },
        )


def random_graph(root: pathlib.Path, path: pathlib.Path, seed: int, n: int, failing: float) -> Graph:
    """Return a graph in which what is below a failure is blocked."""
    chance = random.Random(seed)
    graph = Graph(root, path)
    made: list[tuple[int, bool]] = []
    for number in range(n):
        some = chance.sample(made, min(len(made), chance.randrange(4)))
        blocked = any(bad for _, bad in some)
        usual = [statuses.SUCCESSFUL, statuses.ABORTED_SUCCESS]
        status = chance.choice(sorted(causes.BLOCKING) if chance.random() < failing else usual)
        inputs = [each for each, _ in some] + [200_000 + chance.randrange(50)]
        chance.shuffle(inputs)
        outputs = graph.add_quantum(
            number, statuses.BLOCKED if blocked else status, inputs, chance.randrange(3)
        )
        made += [(each, blocked or status in causes.BLOCKING) for each in outputs]
    return graph


def nearest_failures(graph: Graph, number: int) -> set[str]:
    """Return all failed quanta at the smallest distance above a blocked one."""
    by_id = {q["quantum_id"]: q for q in graph.quanta.values()}
    producers = {d["dataset_id"]: d["producer"] for d in graph.datasets.values()}
    level = {graph.id_of(number)}
    while level:
        inputs = {i for q in level for ids in by_id[q]["inputs"].values() for i in ids}
        above = {producers[i] for i in inputs if producers[i]}
        failed = {
            q for q in above if by_id[q]["attempts"] and by_id[q]["attempts"][0]["status"] in causes.BLOCKING
        }
        if failed:
            return failed
        level = {q for q in above if not by_id[q]["attempts"]}
    return set()


@pytest.mark.parametrize("seed", range(4))
def test_the_first_cause_is_the_nearest_failure(
    root: pathlib.Path, tmp_path: pathlib.Path, seed: int
) -> None:
    graph = random_graph(root, tmp_path / "graph.qg", seed, 400, 0.05 * seed + 0.02)
    with aggregator.Provenance(graph.write()) as asked:
        found = list(asked.failures())
        assert found == list(asked.failures(limit=len(found)))
        assert found[:5] == list(asked.failures(limit=5))
        bad = {q["quantum_id"] for q in graph.quanta.values() if q["attempts"] != [{"status": 1}]}
        assert [f.quantum.quantum_id for f in found] == [
            q["quantum_id"] for q in graph.quanta.values() if q["quantum_id"] in bad
        ]
        blocked = 0
        for number, quantum in graph.quanta.items():
            if not quantum["attempts"]:
                blocked += 1
                wanted = min(nearest_failures(graph, number))
                (failure,) = (f for f in found if f.quantum.quantum_id == quantum["quantum_id"])
                alone = asked.cause(failure.quantum)
                assert failure.cause is not None
                assert alone == failure.cause
                assert failure.cause.quantum_id == wanted
        assert blocked > 20
        assert all(f.cause is None for f in found if f.quantum.attempts)


def test_many_failures_are_traced_at_once(
    root: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of finding causes agree; the second is for graphs with more failures than this one."""
    graph = random_graph(root, tmp_path / "graph.qg", 11, 300, 0.1)
    with aggregator.Provenance(graph.write()) as asked:
        one_by_one = list(asked.failures(limit=200))
        monkeypatch.setattr(failures, "_FEW", 0)
        assert list(asked.failures(limit=200)) == one_by_one
        assert [f.quantum.task_label for f in asked.failures("measure", "visit=3")] == ["measure"] * sum(
            f.quantum.quantum_id == graph.id_of(3) for f in one_by_one
        )


@pytest.mark.parametrize("status", [None, statuses.SUCCESSFUL, statuses.BLOCKED])
def test_graphs_without_failures_or_with_nothing_else(
    root: pathlib.Path, tmp_path: pathlib.Path, status: int | None
) -> None:
    graph = Graph(root, tmp_path / "graph.qg")
    for number in range(0 if status is None else 5):
        graph.add_quantum(number, status or 0, [200_000])
    with aggregator.Provenance(graph.write()) as asked:
        found = list(asked.failures())
        assert len(found) == len(list(asked.failures(limit=9))) == (5 if status == statuses.BLOCKED else 0)
        assert all(f.cause is None for f in found)
        assert sum(by_status[status or 0] for by_status, _ in asked.counts().values()) == len(graph.quanta)
        assert len(list(asked.quanta())) == len(graph.quanta)
        told = [asked.explain(d["dataset_id"]).reason for d in graph.datasets.values() if d["producer"]]
        assert all(("no failure above it" in reason) == (status == statuses.BLOCKED) for reason in told)


def test_lineage_goes_as_far_as_it_is_told(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    graph = Graph(root, tmp_path / "graph.qg")
    output = 200_000
    for number in range(6):
        (output,) = graph.add_quantum(number, statuses.SUCCESSFUL, [output])
    with aggregator.Provenance(graph.write()) as asked:
        for depth in range(1, 12):
            steps = list(asked.downstream(graph.id_of(200_000), depth))
            assert [step.depth for step in steps] == list(range(1, depth + 1))
            assert [step.via for step in steps[1:]] == [lineage.node_id(step.node) for step in steps[:-1]]
        up = all_steps(asked.upstream(graph.id_of(output)))
        assert len(up) == 12
        assert up[graph.id_of(200_000)] == 12


def test_a_node_that_is_missing_is_told(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    graph = Graph(root, tmp_path / "graph.qg")
    graph.add_quantum(1, statuses.SUCCESSFUL, [200_000])
    del graph.datasets[200_000]
    with (
        aggregator.Provenance(graph.write()) as asked,
        pytest.raises(aggregator.FormatError, match="a node is missing"),
    ):
        list(asked.upstream(graph.id_of(1)))


def test_strings_with_the_same_code_are_told_apart(
    root: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantum_index, "code", lambda value: value if isinstance(value, int) else 5)
    graph = Graph(root, tmp_path / "graph.qg")
    for number in range(6):
        graph.add_quantum(number, statuses.SUCCESSFUL, [200_000])
    with aggregator.Provenance(graph.write()) as asked:
        found = list(asked.quanta("measure", 'physical_filter="filter 1"'))
    assert [quantum.quantum_id for quantum in found] == [graph.id_of(1), graph.id_of(4)]


def ask_everything(path: pathlib.Path) -> None:
    with aggregator.Provenance(path) as asked:
        asked.counts()
        for quantum in list(asked.quanta()):
            asked.data_id(quantum)
            list(asked.upstream(quantum.quantum_id))
            if quantum.attempts:
                asked.logs(quantum.quantum_id)
                asked.metadata(quantum.quantum_id)
        for each in asked.pipeline.dataset_types[:-1]:
            for dataset in asked.datasets(each.name):
                asked.explain(dataset.dataset_id)
                list(asked.downstream(dataset.dataset_id, 3))
        list(asked.failures())
        list(asked.failures(limit=50))


@pytest.mark.parametrize("name", NAMES)
def test_damage_anywhere_is_an_error_that_names_the_file(
    root: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
    data, damaged = (root / name).read_bytes(), tmp_path / "graph.qg"
    ask_everything(root / name)
    chance = random.Random(5)
    caught = []
    for place in chance.sample(range(len(data)), 20):
        changed = bytes([data[place] ^ chance.randrange(1, 256)])
        damaged.write_bytes(data[:place] + changed + data[place + 1 :])
        try:
            ask_everything(damaged)
        except aggregator.AggregatorError as exc:
            caught.append(str(exc))
    assert len(caught) > 10
    assert [text for text in caught if str(damaged) not in text] == []


def test_memory_does_not_grow_with_the_graph(
    root: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantum_index, "_GROUP_ROWS", 256)
    monkeypatch.setattr(provenance_graph, "_CHUNK_SIZE", 20_000)
    peaks = []
    for n in (1_000, 8_000):
        graph = Graph(root, tmp_path / f"{n}.qg")
        for number in range(n):
            graph.add_quantum(number, statuses.FAILED if number == 77 else statuses.SUCCESSFUL, [200_000], 0)
        path = graph.write()
        del graph
        with aggregator.Provenance(path) as asked:
            tracemalloc.start()
            try:
                assert [q.task_label for q in asked.quanta("measure", f"visit={n - 1}")] == ["measure"]
                assert len(list(asked.failures())) == 1
                assert sum(sum(by.values()) for by, _ in asked.counts().values()) == n
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 200_000

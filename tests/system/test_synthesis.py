"""Synthetic runs: what is in them; equal parameters make equal files; they can be interrupted."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from aggregator.schemas.graphs import addresses, predicted
from aggregator.storage import errors

import aggregator
from aggregator.synthesis import (
    campaign,
    chunk_workers,
    node_ids,
    node_numbers,
    parameters,
    parts,
    quantum_blocks,
    quantum_inputs,
    quantum_outcomes,
    seeded_numbers,
    state,
    survey,
    survey_data_ids,
    survey_pipeline,
)
from tests.helpers import databases, postgresql_server

TROUBLE: dict[str, Any] = {
    "quanta": 900,
    "log_size": 5000,
    "metadata_size": 5000,
    "output_size": 50,
    "failed": 0.02,
    "blocked": 0.05,
    "retried": 0.04,
    "caveats": 0.05,
    "aborted": 0.02,
}


def make(root: pathlib.Path, n_processes: int = 1, **changes: Any) -> campaign.Campaign:
    asked = parameters.SynthesisParameters(**{**TROUBLE, **changes})
    return campaign.synthesize(str(root), asked, n_processes=n_processes, interactive_status=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> campaign.Campaign:
    """Return a run with all kinds of trouble; to be read only."""
    return make(tmp_path_factory.mktemp("synthetic") / "run")


def content(root: pathlib.Path | str) -> dict[str, bytes]:
    """Return the files of a run by path; of the database the rows, but for the time of ingestion."""
    found = {}
    for path in sorted(pathlib.Path(root).rglob("*")):
        name = str(path.relative_to(root))
        if path.name == "gen3.sqlite3":
            with contextlib.closing(sqlite3.connect(path)) as connection, connection:
                tables = [
                    t for (t,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
                ]
                rows = {t: connection.execute(f"SELECT * FROM {t}").fetchall() for t in sorted(tables)}
            connection.close()
            rows["dataset"] = [(*row[:2], *row[3:]) for row in rows["dataset"]]
            found[name] = repr({t: sorted(r, key=repr) for t, r in rows.items()}).encode()
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def quanta(root: str) -> list[tuple[predicted.Quantum, bytes]]:
    """Return all quanta of a run's graph, in file order, with their JSON."""
    with predicted.PredictedGraph(os.path.join(root, campaign.GRAPH)) as graph:
        table = graph.address_table()
        order = np.argsort(table.offsets[:, 0])
        return list(graph.read_quanta(table.offsets[order, 0], table.sizes[order, 0]))


def chosen(made: campaign.Campaign) -> quantum_outcomes.Fates:
    """Return the fate of each quantum of a run, in file order."""
    asked = parameters.SynthesisParameters(**TROUBLE)
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
    n = TROUBLE["quanta"]
    found = made.counts["fates"]
    assert sum(found.values()) == n
    for share, names in {
        "failed": ["failed"],
        "retried": ["retried"],
        "caveats": ["caveats"],
        "aborted": ["without log", "without metadata", "without both"],
    }.items():
        assert sum(found[name] for name in names) == round(TROUBLE[share] * n), share
    assert 0.5 * TROUBLE["blocked"] * n <= found["blocked"] <= TROUBLE["blocked"] * n
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
        make(tmp_path / "run", **changes)


def test_files_tell_the_fates(made: campaign.Campaign) -> None:
    described = chunk_workers.Plan(made.root, parameters.SynthesisParameters(**TROUBLE)).datasets
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
        make(root, quanta=1200, log_size=sizes[0], metadata_size=sizes[1], output_size=sizes[2], retried=0.0)
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


def test_equal_parameters_make_equal_files(made: campaign.Campaign, tmp_path: pathlib.Path) -> None:
    make(tmp_path / "again", n_processes=3)
    first, second = content(made.root), content(tmp_path / "again")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    make(tmp_path / "other", seed=2)
    other = content(tmp_path / "other")
    same = [
        name for name in first if other.get(name) == first[name] and "_config" not in name and first[name]
    ]
    assert not [name for name in same if "_log" in name or "_metadata" in name]
    assert other[campaign.GRAPH] != first[campaign.GRAPH]


def test_complete_run_is_recognised(tmp_path: pathlib.Path) -> None:
    first = make(tmp_path / "run", quanta=100)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    second = make(tmp_path / "run", quanta=100)
    assert second.seconds == 0
    assert second.counts == first.counts
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == before
    with pytest.raises(errors.RefusedError, match="other parameters"):
        make(tmp_path / "run", quanta=101)


def test_other_directories_are_left_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "important").write_text("")
    with pytest.raises(errors.RefusedError, match="not empty"):
        make(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["important"]


def command(root: pathlib.Path, *options: str) -> list[str]:
    given = [word for k, v in TROUBLE.items() for word in (f"--{k.replace('_', '-')}", str(v))]
    program = [sys.executable, "-m", "aggregator", "synthesize"]
    return [*program, str(root), *given, "--no-interactive-status", *options]


@pytest.mark.parametrize("n_processes", [1, 2])
def test_goes_on_after_kills(made: campaign.Campaign, tmp_path: pathlib.Path, n_processes: int) -> None:
    root = tmp_path / "run"
    state = root / ".synthesis"

    def killed(wanted: Callable[[], bool]) -> bool:
        """Start it, and kill it as soon as there is what is wanted; return whether that came."""
        running = subprocess.Popen(
            command(root, "-j", str(n_processes)), start_new_session=True, stderr=subprocess.DEVNULL
        )
        while running.poll() is None and not wanted():
            time.sleep(0.001)
        was_there = running.poll() is None
        if was_there:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        return was_there

    assert killed(root.exists)
    assert killed(state.exists)
    assert killed((root / "gen3.sqlite3").exists)
    assert killed((root / "butler.yaml").exists)
    assert killed((state / "dictionary").exists)
    assert killed((root / "SynthCam").exists)
    for number in range(1, 10, 2 if n_processes == 1 else 4):
        # Those that were complete are still there.
        assert killed(lambda n=number: len(list(state.glob("part-??????"))) >= n)
    killed(lambda: bool(list(root.glob("predicted.qg*"))))
    assert not killed(lambda: False)
    first, second = content(made.root), content(root)
    assert [name for name in first if first[name] != second.get(name)] == []
    # Nothing but files that were being renamed may be left over.
    assert [name for name in second if name not in first and not name.endswith(".tmp")] == []


def test_goes_on_where_it_was(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "run"
    options = ("--quanta", "6000")
    running = subprocess.Popen(command(root, *options), start_new_session=True, stderr=subprocess.DEVNULL)
    held = parts.Parts(str(root))
    deadline = time.monotonic() + 60
    while len(done := [n for n in range(9) if held.has_part(n)]) < 6:
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    files = {p: p.stat().st_mtime_ns for p in (root / survey_pipeline.OUTPUT_RUN).rglob("isr_log_*")}
    subprocess.run(command(root, *options), check=True, capture_output=True)
    after = {p: p.stat().st_mtime_ns for p in files}
    # At least the chunks that were complete have not been made again.
    assert sum(after[p] == files[p] for p in files) >= 0.9 * min(len(files), node_numbers.CHUNK * len(done))
    assert not (root / ".synthesis").exists()


def test_one_process_at_a_time(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "run"
    with subprocess.Popen(
        command(root, "--quanta", "5000"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as running:
        while not (root / ".synthesis").exists():
            time.sleep(0.01)
        with pytest.raises(errors.InUseError, match="in use by"):
            make(root, quanta=5000)
        running.kill()


def test_dead_process_is_noticed(tmp_path: pathlib.Path) -> None:
    import psutil

    with subprocess.Popen(
        command(tmp_path / "run", "--quanta", "8000", "-j", "2"), stderr=subprocess.PIPE, text=True
    ) as running:
        helpers: list[psutil.Process] = []
        while not list((tmp_path / "run" / ".synthesis").glob("part-*")):
            assert running.poll() is None
            time.sleep(0.01)
        helpers = psutil.Process(running.pid).children()
        assert len(helpers) == 2
        helpers[0].kill()
        _, complaints = running.communicate(timeout=20)
    assert running.returncode == 1
    assert "Run the same command again" in complaints
    assert not helpers[1].is_running()


@pytest.mark.parametrize("n_processes", [1, 2])
def test_no_room(tmp_path: pathlib.Path, n_processes: int) -> None:
    """Files that can't be written end it with a message; with room, the same command goes on."""
    options = ("--log-size", "3000000", "--quanta", "60", "-j", str(n_processes))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    arguments = command(tmp_path / "run", *options)
    done = subprocess.run(arguments, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    assert "Make room" in done.stderr
    # With one process, nobody has heard of others.
    assert ("synthesizer-" in done.stderr) == (n_processes > 1)
    assert "Traceback" not in done.stderr
    subprocess.run(arguments, check=True, capture_output=True)


def test_aggregation_finds_the_fates(tmp_path: pathlib.Path) -> None:
    made = make(tmp_path / "run", n_processes=2)
    config = aggregator.AggregatorConfig(output_path=str(tmp_path / "out.qg"))
    done = aggregator.aggregate_graph(made.predicted, made.root, config)
    total = sum((done.counts[task] for task in done.tasks), collections.Counter())
    found = made.counts["fates"]
    assert total["Successful"] == found["success"] + found["retried"] + found["caveats"]
    assert total["Aborted success"] == found["without log"]
    assert total["Failed"] == found["failed"] + found["without metadata"] + found["without both"]
    assert total["Blocked"] == found["blocked"]
    assert not done.conflicts


def test_corrupt_files_are_named(tmp_path: pathlib.Path) -> None:
    made = make(tmp_path / "run", corrupt=0.03)
    config = aggregator.AggregatorConfig(output_path=str(tmp_path / "out.qg"), keep_checkpoint=True)
    with pytest.raises(errors.AggregatorError, match="can't be read"):
        aggregator.aggregate_graph(made.predicted, made.root, config)
    listed = (pathlib.Path(made.predicted + ".checkpoint") / "unreadable.jsonl").read_text().splitlines()
    assert len(listed) == made.counts["fates"]["corrupt"] == 27
    kinds = collections.Counter("log" if "_log_" in line else "metadata" for line in listed)
    assert min(kinds["log"], kinds["metadata"]) > 3


def test_memory_hardly_grows(tmp_path: pathlib.Path) -> None:
    """Peak memory at 2,000 and at 10,000 quanta; their files and blocks take 10 kB a quantum and more."""
    program = (
        "import os, sys\n"
        "from aggregator.synthesis import campaign, parameters\n"
        "from aggregator.workers.engines import memory\n"
        "asked = parameters.SynthesisParameters(quanta=int(sys.argv[2]), log_size=0, metadata_size=0)\n"
        "campaign.synthesize(sys.argv[1], asked, interactive_status=False)\n"
        "print(memory.peak(os.getpid()))\n"
    )
    peaks = []
    for n in (2_000, 10_000):
        arguments = [sys.executable, "-c", program, str(tmp_path / str(n)), str(n)]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < 200e6
    assert (peaks[1] - peaks[0]) / 8_000 < 1_500


def test_help_imports_little() -> None:
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from aggregator.command_line import main\n"
        "done = CliRunner().invoke(main.main, ['synthesize', '--help'])\n"
        "assert done.exit_code == 0 and '--small-files' in done.output, done.output\n"
        "assert 'numpy' not in sys.modules and 'sqlalchemy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_command_line(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(command(tmp_path / "run"), check=True, capture_output=True, text=True)
    assert "900 quanta of 10 tasks" in done.stdout
    again = subprocess.run(command(tmp_path / "run"), check=True, capture_output=True, text=True)
    assert "Made earlier" in again.stdout
    refused = subprocess.run(command(tmp_path / "run", "--seed", "5"), capture_output=True, text=True)
    assert refused.returncode == 2
    assert "other parameters" in refused.stderr
    described = msgspec.json.decode((tmp_path / "run" / "synthesis.json").read_bytes())
    assert described["counts"]["quanta"] == 900
    assert described["parameters"]["seed"] == 1


def test_same_run_on_postgresql(
    made: campaign.Campaign, postgresql: postgresql_server.Server, tmp_path: pathlib.Path
) -> None:
    name = postgresql.create_database()
    try:
        place = databases.Postgresql(postgresql, name, "synthetic")
        other = make(tmp_path / "run", database=place.url, namespace=place.namespace)
        # A second time from the start, as after a kill: what is in the database is left alone.
        described = tmp_path / "run" / "synthesis.json"
        document = json.loads(described.read_text())
        described.write_text(json.dumps(document | {"counts": None}))
        make(tmp_path / "run", database=place.url, namespace=place.namespace)
        expected = databases.Sqlite(pathlib.Path(made.root) / "gen3.sqlite3")
        for table in (
            "dataset",
            "collection_chain",
            "file_datastore_records",
            "detector",
            "patch",
            "opaque_meta",
        ):
            assert place.count(table) == expected.count(table), table
        config = aggregator.AggregatorConfig(output_path=str(tmp_path / "out.qg"))
        done = aggregator.aggregate_graph(other.predicted, other.root, config)
        assert done.n_ingested > 2 * made.counts["quanta"]
        assert place.count("dataset") == expected.count("dataset") + done.n_ingested
    finally:
        postgresql.drop_database(name)
    same = [
        name
        for name, data in content(tmp_path / "run").items()
        if (pathlib.Path(made.root) / name).is_file()
        and data == (pathlib.Path(made.root) / name).read_bytes()
    ]
    assert len(same) > 2 * made.counts["quanta"]
    assert campaign.GRAPH in same


def test_second_synthesis_at_the_same_moment(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has seen an empty directory, and takes nothing away from the first one."""
    asked = parameters.SynthesisParameters(quanta=300)
    root = str(tmp_path / "run")
    with state.State(root, asked):
        before = (tmp_path / "run" / state.DESCRIPTION).stat().st_ino
        monkeypatch.setattr(state, "_read", lambda root, path: None)
        with pytest.raises(errors.InUseError, match="another process has just begun"):
            state.State(root, asked)
        assert (tmp_path / "run" / state.DESCRIPTION).stat().st_ino == before

"""From a pipeline of plain tasks to an aggregated run, on each kind of database, without the reference."""

from __future__ import annotations

import contextlib
import json
import pathlib
import textwrap
from concurrent import futures
from typing import Any

import pytest
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import registry
from aggregator.execution import graph_context, graph_quanta
from aggregator.schemas import output_paths
from aggregator.schemas.graphs import predicted
from click import testing

import aggregator
from aggregator.command_line import main
from aggregator.running import graph_run
from tests.helpers import databases

_TASKS = "tests.helpers.pipeline_tasks"
TAKING = f"description: take\ntasks: {{take: {_TASKS}.TakeTask, extra: {_TASKS}.ExtraTask}}\n"
PIPELINE = textwrap.dedent(
    f"""\
    description: process
    instrument: {_TASKS}.Cam
    tasks:
      step: {{class: {_TASKS}.StepTask, config: {{mode: {{2/1: fail}}}}}}
      join: {_TASKS}.JoinTask
      coadd: {_TASKS}.CoaddTask
      sink: {_TASKS}.SinkTask
    subsets:
      visits: [step, join]
    """
)
VISITS, DETECTORS = (1, 2), (1, 2, 3)
RECORDS: dict[str, list[dict[str, Any]]] = {
    "instrument": [{"name": "Cam"}],
    "skymap": [{"name": "S", "hash": b"h"}],
    "physical_filter": [{"instrument": "Cam", "name": "r1", "band": "r"}],
    "detector": [{"instrument": "Cam", "id": n, "full_name": f"D{n}"} for n in DETECTORS],
    "day_obs": [{"instrument": "Cam", "id": 20260301}],
    "visit": [
        {"instrument": "Cam", "id": n, "name": f"v{n}", "physical_filter": "r1", "day_obs": 20260301,
         "exposure_time": 15.0 * n}
        for n in VISITS
    ],
    "tract": [{"skymap": "S", "id": 0}],
    "patch": [{"skymap": "S", "tract": 0, "id": n - 1} for n in DETECTORS],
}  # fmt: skip


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def taken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a repository with images, made by a pipeline that reads nothing."""
    directory = tmp_path_factory.mktemp("building")
    root, options = directory / "repo", {}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        options = {"database_url": databases.Postgresql(server, server.create_database(), "made").url}
    aggregator.create_repository(root, **options)
    config = repository_config.load(root)
    with registry.open_repository(config, writeable=True) as opened:
        for element, rows in RECORDS.items():
            opened.dimensions.insert(element, rows)
    (directory / "taking.yaml").write_text(TAKING)
    (directory / "pipeline.yaml").write_text(PIPELINE)
    rows = [f"Cam,{visit},{n},S,0,{n - 1}" for visit in VISITS for n in DETECTORS]
    (directory / "overlaps.csv").write_text(
        "\n".join(["instrument,visit,detector,skymap,tract,patch", *rows])
    )
    collections = repository_without_inputs(root)
    aggregator.build(
        directory / "taking.yaml", root, directory / "taking.qg", inputs=collections, output_run="taken"
    )
    assert execute(directory / "taking.qg", root) == 9
    return directory


def repository_without_inputs(root: pathlib.Path) -> list[str]:
    """Make a collection with nothing in it."""
    with registry.open_repository(repository_config.load(root), writeable=True) as opened:
        opened.collections.register_run("nothing")
    return ["nothing"]


def execute(graph: pathlib.Path, root: pathlib.Path) -> int:
    """Execute and aggregate a graph; return the number of quanta that have failed or succeeded."""
    try:
        done = aggregator.execute(graph, root, aggregator.RunConfig(in_process=True))
    except aggregator.ExecutionError as exc:
        done = exc.summary  # type: ignore[assignment]
    aggregator.aggregate_graph(graph, root, aggregator.AggregatorConfig(register_dataset_types=True))
    return done.total()


def invoke(*arguments: object, code: int = 0) -> str:
    done = testing.CliRunner().invoke(main.main, [*map(str, arguments)], prog_name="aggregator")
    assert done.exit_code == code, done.output
    return done.output


def arguments(directory: pathlib.Path, graph: str, *more: object) -> tuple[object, ...]:
    return (
        *("build", directory / "pipeline.yaml", directory / "repo", "-o", directory / graph, "-i", "taken"),
        *("--overlaps", directory / "overlaps.csv", *more),
    )


def test_a_pipeline_is_built_executed_and_goes_on(taken: pathlib.Path) -> None:
    output = invoke(*arguments(taken, "first.qg", "--output", "u/run1", "--output-chain", "u/all"))
    assert "12 quanta (step 6, coadd 3, join 2, sink 1), 56 datasets, 14 edges" in output
    assert f"Next: aggregator run {taken / 'first.qg'} {taken / 'repo'} -j 2" in output
    execute(taken / "first.qg", taken / "repo")
    # Five have succeeded, one visit is whole; the others are not even begun.
    (taken / "pipeline.yaml").write_text(PIPELINE.replace("2/1: fail", ""))
    more = ("--output", "u/run2", "--skip-existing-in", "u/all", "-i", "u/all", "--dry-run")
    output = invoke(*arguments(taken, "second.qg", *more))
    assert "4 quanta (step 1, coadd 1, join 1, sink 1)" in output
    assert "Left out since they have succeeded before: step 5, coadd 2, join 1" in output
    assert not (taken / "second.qg").exists()
    invoke(*arguments(taken, "second.qg", *more[:-1]))
    assert execute(taken / "second.qg", taken / "repo") == 4


def test_what_a_graph_has_left_is_no_success_of_one_that_was_built_again(taken: pathlib.Path) -> None:
    """Its files are in the same places, but nobody could ingest them by the other's ids."""
    for name in ("once.qg", "twice.qg"):
        invoke(*arguments(taken, name, "--output", "u/twice"))
    root, again = taken / "repo", taken / "twice.qg"
    with contextlib.suppress(aggregator.ExecutionError):
        aggregator.execute(taken / "once.qg", root, aggregator.RunConfig(in_process=True))
    files = {path: path.read_bytes() for path in (root / "u/twice").rglob("*") if path.is_file()}
    with futures.ThreadPoolExecutor(1) as executor:
        for config in (aggregator.RunConfig(in_process=True), aggregator.RunConfig(engine=executor)):
            with pytest.raises(aggregator.RefusedError, match="is of a quantum of another graph"):
                aggregator.execute(again, root, config)
    with graph_context.GraphContext(str(again), str(root)) as context:
        later = next(data for data in graph_quanta.GraphQuanta(context) if data.prerequisites)
    with pytest.raises(aggregator.RefusedError, match="is of a quantum of another graph"):
        graph_run.execute(again, root, aggregator.RunConfig(in_process=True), ids=[later.id])
    assert files == {path: path.read_bytes() for path in (root / "u/twice").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("query", "counts"),
    [
        ("visit.exposure_time > 20 AND detector IN (1, 3)", {"step": 2, "join": 1, "coadd": 2, "sink": 1}),
        ("detector IN (1..3:2) AND visit != 1", {"step": 2, "join": 1, "coadd": 2, "sink": 1}),
        ("NOT (visit = 1 OR detector.full_name = 'D2')", {"step": 2, "join": 1, "coadd": 2, "sink": 1}),
        ("band IN ('g', 'i')", {"step": 0, "join": 0, "coadd": 0, "sink": 0}),
    ],
)
def test_queries_choose_data_ids(query: str, counts: dict[str, int], taken: pathlib.Path) -> None:
    summary = taken / "summary.json"
    more = ("--output", "u/other", "-d", query, "--dry-run", "--summary-json", summary)
    output = invoke(*arguments(taken, "query.qg", *more))
    document = json.loads(summary.read_bytes())
    assert document["outcome"] == "dry run"
    assert document["done"]["tasks"] == counts
    assert ("no data ID has all inputs" in output) == (not any(counts.values()))


def test_prerequisites_and_files_of_inputs_are_there(taken: pathlib.Path) -> None:
    graph = taken / "part.qg"
    graph.unlink(missing_ok=True)
    part = f"{taken / 'pipeline.yaml'}#visits"
    aggregator.build(part, taken / "repo", graph, inputs=["taken"], output_run="u/part")
    with predicted.PredictedGraph(str(graph)) as opened:
        table = opened.address_table()
        quanta = [quantum for quantum, _ in opened.read_quanta(table.offsets[:, 0], table.sizes[:, 0])]
    steps = [quantum for quantum in quanta if quantum.task_label == "step"]
    assert len(steps) == 6
    for quantum in steps:
        assert [len(quantum.inputs[name]) for name in ("raw", "extra")] == [1, 1]
        [(_, records)] = quantum.datastore_records.items()
        ids = {each.dataset_id for group in quantum.inputs.values() for each in group}
        assert set(records["dataset_ids"]) == ids


@pytest.mark.parametrize("taken", ["sqlite"], indirect=True)
def test_files_that_nobody_has_aggregated_are_told_of(
    taken: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph, given = taken / "unknown.qg", {"inputs": ["taken"], "output_run": "u/unknown"}
    part = f"{taken / 'pipeline.yaml'}#visits"
    aggregator.build(part, taken / "repo", graph, **given)
    assert not [text for text in caplog.messages if "which the database does not know" in text]
    aggregator.init_run(graph, taken / "repo")
    aggregator.build(part, taken / "repo", taken / "unknown2.qg", **given)
    assert [text for text in caplog.messages if "which the database does not know" in text]


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "no table": (("--output", "u/x"), "give a table (--overlaps FILE)"),
    "no collection": (("--output", "u/x", "-i", "nowhere"), "no collection 'nowhere'"),
    "chain": (("--output", "u/all"), "is a CHAINED collection"),
    "query": (("--output", "u/x", "-d", "visit > "), "at character"),
    "type": (("--output", "u/x", "-d", "visit > 'a'"), "of type int, with 'a'"),
    "function": (("--output", "u/x", "-d", "visit.region OVERLAPS POINT(1, 2)"), "is not understood"),
    "no dimension": (("--output", "u/x", "-d", "seq_num = 1"), "there is no dimension 'seq_num'"),
    "governor": (("--output", "u/x", "-d", "patch = 1"), "add skymap = '...'"),
    "deep query": (("--output", "u/x", "-d", "(" * 200 + "visit = 1" + ")" * 200), "more than 100 levels"),
    "long query": (("--output", "u/x", "-d", " OR ".join(["visit = 1"] * 500)), "more than 400 conditions"),
    "number": (("--output", "u/x", "-d", f"visit = {2**63}"), "more than 64 bits"),
    "long number": (("--output", "u/x", "-d", f"visit IN (1..1{'0' * 5000})"), "more than 64 bits"),
    "place": (("--output", "u/../x"), "Leave out empty parts, '.' and '..'"),
    "root": (("--output", "/etc"), "Leave out empty parts"),
    "quoted": (("--output", "u/x%20y?#"), "it looks like a quoted URI"),
    "variable": (("--output", "u/$HOME"), "depends on environment variables"),
    "same": (("--output", "u/x", "--output-chain", "u/x"), "both the output run and the chain"),
}


@pytest.mark.parametrize("taken", ["sqlite"], indirect=True)
@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_built_is_refused(case: str, taken: pathlib.Path) -> None:
    more, problem = REFUSED[case]
    with registry.open_repository(repository_config.load(taken / "repo"), writeable=True) as opened:
        opened.collections.register_chain("u/all")
    given = arguments(taken, "refused.qg", *more)
    if case == "no table":
        given = tuple(word for word in given if word not in ("--overlaps", taken / "overlaps.csv"))
    assert problem in invoke(*given, code=2)
    assert not (taken / "refused.qg").exists()


@pytest.mark.parametrize("taken", ["sqlite"], indirect=True)
def test_of_two_builds_for_one_path_one_has_it(taken: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, last_look = taken / "both.qg", output_paths.check_again

    def look(*given: Any) -> None:
        last_look(*given)
        graph.write_bytes(b"of the other build")

    monkeypatch.setattr(output_paths, "check_again", look)
    assert "has come there while" in invoke(*arguments(taken, "both.qg", "--output", "u/x"), code=1)
    assert graph.read_bytes() == b"of the other build"
    assert [path.name for path in taken.glob("both.qg*")] == ["both.qg"]


@pytest.mark.parametrize("taken", ["sqlite"], indirect=True)
def test_nothing_is_replaced(taken: pathlib.Path) -> None:
    graph = taken / "there.qg"
    graph.write_bytes(b"precious")
    assert "is not replaced" in invoke(*arguments(taken, "there.qg", "--output", "u/x"), code=2)
    inside = arguments(taken, "repo/u/x/graph.qg", "--output", "u/x")
    (taken / "repo/u/x").mkdir(parents=True)
    assert "where the files of run u/x are" in invoke(*inside, code=2)
    assert graph.read_bytes() == b"precious"


@pytest.mark.parametrize("taken", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no line with names"),
        ("instrument,visit,nothing\n", "column 'nothing' is no dimension"),
        ("instrument,visit,visit\n", "comes twice"),
        ("instrument,visit,patch\nCam,1\n", "line 2: has 2 values for 3 columns"),
        ("instrument,visit,patch\nCam,one,1\n", "visit has to be an integer"),
        ("instrument,exposure\nCam,1\n", "no dimension"),
    ],
)
def test_tables_of_overlaps_have_to_fit(text: str, problem: str, taken: pathlib.Path) -> None:
    table = taken / "bad.csv"
    table.write_text(text)
    words = (*arguments(taken, "refused.qg")[:-1], table, "--output", "u/x")
    assert problem in invoke(*words, code=2)

"""The command `stage`: a policy for each data ID, out to files and rows, and back in."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import registry
from aggregator.stages import repository_butler
from click import testing

import aggregator
from aggregator.command_line import main
from tests.helpers import clusters, kills, postgresql_server, stage_functions, stage_runs, stage_storages

_SPLIT = """\
input:
  parameters:
    butler: {{collections: [in]}}
    inputItems:
      image: {{datasetType: image, datasetId: {{fromJobIdentity: [instrument, visit, detector]}}}}
output:
  parameters:
    outputItems:
      image:
        type: NumpyArray
        datasetId: {{datasetType: product, fromJobIdentity: [instrument, visit], set: {{field: deep}}}}
        storagePolicy: {{storage: BoostStorage, location: "{out}/%(field)/%(visit)/%(detector).item"}}
"""
"""Input and output items apart; the output is a dataset, but of no repository."""
_PLACE = _SPLIT.splitlines()[-1]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> stage_runs.StageRun:
    return stage_runs.make(tmp_path_factory.mktemp("stage") / "run")


@pytest.fixture
def run(template: stage_runs.StageRun, tmp_path: pathlib.Path) -> stage_runs.StageRun:
    return template.copy(tmp_path / "run")


@pytest.fixture
def told(run: stage_runs.StageRun, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that tells the function of the policy what to do."""
    path = run.root / "told.json"
    monkeypatch.setenv(stage_functions.TOLD, str(path))

    def tell(**modes: str) -> None:
        path.write_text(json.dumps({name.removeprefix("image_"): mode for name, mode in modes.items()}))

    tell()
    return tell


@contextlib.contextmanager
def stopped(run: stage_runs.StageRun, processes: str, marker: pathlib.Path) -> Iterator[Any]:
    """Start the command, and give it when it has stopped where a file is ready; it goes on when told to."""
    with kills.start(run.arguments("-j", processes), "pending:1", marker) as running:
        try:
            kills.wait_for(marker, running)
            yield running
        except BaseException:
            os.killpg(running.pid, signal.SIGKILL)
            raise


JOBS = [pytest.param((), marks=pytest.mark.exhaustive), ("-j", "2")]
"""With workers; all other tests here are without."""


def invoke(run: stage_runs.StageRun, *more: str, code: int = 0) -> str:
    done = testing.CliRunner().invoke(main.main, run.arguments(*more))
    assert done.exit_code == code, done.output
    return str(done.output)


@pytest.mark.parametrize("options", JOBS)
def test_all_data_ids_and_again(run: stage_runs.StageRun, options: tuple[str, ...]) -> None:
    assert "6 would be done" in invoke(run, "--dry-run")
    assert not run.out.exists()
    assert ": 6 done (" in invoke(run, *options)
    assert run.is_complete()
    before = {path: path.stat().st_mtime_ns for path in run.out.rglob("*")}
    assert ": 6 were there (" in invoke(run)
    assert {path: path.stat().st_mtime_ns for path in run.out.rglob("*")} == before


def test_what_is_missing_is_written_and_nothing_else(run: stage_runs.StageRun, told: Any) -> None:
    invoke(run)
    (run.out / "Cam/1/00001.json").unlink()
    (run.out / "Cam/1/00002.item").write_bytes(b"somebody's")
    with contextlib.closing(sqlite3.connect(run.root / "quality.sqlite3")) as connection, connection:
        connection.execute("DELETE FROM quality WHERE visit = 2 AND detector = 3")
    assert ": 2 done, 4 were there (" in invoke(run)
    assert (run.out / "Cam/1/00002.item").read_bytes() == b"somebody's"
    assert run.rows() == stage_runs.ROWS


def test_what_is_overwritten_is_done_each_time(run: stage_runs.StageRun) -> None:
    """A storage that is to be overwritten is never there already; what others have stays."""
    invoke(run)
    before = run.files()
    for name in ("item", "json"):
        (run.out / f"Cam/1/00002.{name}").write_bytes(before[f"Cam/2/00003.{name}"])
    run.write_policy(
        stage_runs.EXPORT.replace("persistence:", "persistence:\n    BoostStorage: {{overwrite: true}}")
    )
    assert "6 would be done" in invoke(run, "--dry-run")
    assert ": 6 done (" in invoke(run)
    assert run.files() == {**before, "Cam/1/00002.json": before["Cam/2/00003.json"]}
    assert run.rows() == stage_runs.ROWS


def test_rows_of_other_storages_are_not_written_twice(run: stage_runs.StageRun) -> None:
    run.write_policy(rows="DbStorage")
    invoke(run)
    for path in run.out.rglob("*.item"):
        path.unlink()
    assert ": 6 done (" in invoke(run)
    assert run.is_complete()


def test_some_data_ids(run: stage_runs.StageRun) -> None:
    assert ": 2 done (" in invoke(run, "--where", "instrument = 'Cam' AND detector = 2")
    assert [row[:2] for row in run.rows()] == [(1, 2), (2, 2)]
    assert "there is nothing to do" in invoke(run, "--where", "instrument = 'Cam' AND visit = 9")


def test_older_names_of_keys(run: stage_runs.StageRun) -> None:
    text = stage_runs.EXPORT.replace("[instrument, visit, detector]", "[instrument, visit, ccd]")
    text = text.replace("%05d(detector)", "%05d(ccd)").replace("detector=detector", "detector=ccd")
    run.write_policy(text)
    assert ": 6 done (" in invoke(run)
    assert ": 6 were there (" in invoke(run)
    assert run.is_complete()


def test_jobs_that_fail(run: stage_runs.StageRun, told: Any) -> None:
    told(image_11="fail", image_22="exit")
    output = invoke(run, "--summary-json", str(run.root / "summary.json"), code=1)
    assert "4 done, 2 failed" in output
    assert "instrument=Cam, detector=1, visit=1: ValueError: told to fail\n" in output
    assert "instrument=Cam, detector=2, visit=2: SystemExit: 3\n" in output
    assert "Error: 2 jobs have failed." in output
    assert len(run.rows()) == 4
    assert len(run.files()) == 8
    summary = json.loads((run.root / "summary.json").read_text())
    assert summary["outcome"] == "failed"
    assert summary["done"]["fates"] == {"done": 4, "failed": 2}
    assert len(summary["done"]["failures"]) == 2
    assert summary["next"]
    told()
    assert ": 2 done, 4 were there (" in invoke(run)
    assert run.is_complete()


def test_what_a_function_does_to_its_process(run: stage_runs.StageRun, told: Any) -> None:
    told(image_11="upset")
    done = testing.CliRunner().invoke(main.main, run.arguments())
    assert done.exit_code == 0, done.output
    assert "its own words" not in done.stdout
    assert run.is_complete()


def test_a_function_that_ends_its_own_processes(run: stage_runs.StageRun, told: Any) -> None:
    """A pool tells its processes to end by a signal, which workers themselves do not heed."""
    told(image_11="pool")
    assert ": 6 done (" in invoke(run)
    assert run.is_complete()


def test_items_that_a_function_has_not_made(run: stage_runs.StageRun, told: Any) -> None:
    told(image_11="nothing")
    assert ": 5 done, 1 done without all items (" in invoke(run)
    assert len(run.rows()) == 5
    text = stage_runs.EXPORT.replace("type: PropertySet", "type: PropertySet\n      required: true")
    run.write_policy(text)
    assert "Missing output item: quality" in invoke(run, code=1)


def test_a_worker_that_is_killed_costs_its_job(run: stage_runs.StageRun, told: Any) -> None:
    told(image_22="kill")
    output = invoke(run, "-j", "2", code=1)
    assert "5 done, 1 failed" in output
    assert "the worker was killed by signal 9 during this job" in output
    told()
    assert ": 1 done, 5 were there (" in invoke(run)
    assert run.is_complete()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("%(visit)", "x"), "is where two jobs write"),
        (("%(visit)", "%(visit)/.."), "is where two jobs write"),
        (("%05d(detector).json", "%05d(detector).item"), "is where two storages of image write"),
        ((".item", "\\0.item"), "has a null character"),
        (("NumpyArray", "Strange"), "There is no formatter for type 'Strange'"),
        (("BoostStorage", "PafStorage"), "There is no formatter for type 'NumpyArray' in PafStorage"),
        (("detector]", "detektor]"), "key 'detektor' (datasetId.fromJobIdentity) is no dimension"),
        (("KeyList: [visit=visit,", "TableName: a.b, KeyList: [visit=visit,"), "there is no table 'a.b'"),
        (("median=median]", "other=median]"), "table 'quality' has no column 'other'"),
        (("persistence:", "persistence:\n    DbTsvStorage: {TempPath: /else}"), "/else is no directory"),
        (("BoostStorage", "StrangeStorage"), "there is no 'StrangeStorage'"),
        (("%(visit)", "%(unknown)"), "Unknown substitution: unknown"),
        (("quality.sqlite3", "none.sqlite3"), "there is no such database file"),
        (("outputItems", "outputs"), "parameters.outputs: parameter name is unknown"),
        (("inputItems", "inputs"), "parameters.inputs: parameter name is unknown"),
        (("fromJobIdentity", "set"), "datasetId.set: value has the incorrect type string"),
        (("fromJobIdentity: [instrument, visit, detector]", "set: {visit: 1}"), "no item has a key"),
        (
            ("    image:\n      datasetType", "    images:\n      datasetType"),
            "measure can't be called with",
        ),
        (("collections: [in]", "run: x"), "parameters.butler.collections: is missing"),
        (("measure", "nothing"), "Function tests.helpers.stage_functions.nothing: can't be imported"),
        (("collections: [in]", "collections: [none]"), "there is no collection 'none'"),
        (("datasetType: image", "datasetType: picture"), "dataset type 'picture' is not registered"),
        (("[in]", "[in], repository: /else"), "is another repository than"),
        (("/out/", "/repo/out/"), "where the datasets of the repository are"),
        (("quality.sqlite3", "repo/gen3.sqlite3"), "there is no table 'quality'"),
        (("KeyList: [visit=visit,", "TableName: other, KeyList: [visit=visit,"), "there is no table 'other'"),
        (("parameters:", "parameters: ["), "export.yaml"),
        (('location: "', 'location: "~'), "begins with '~', which only a shell replaces"),
    ],
)
def test_what_is_refused(run: stage_runs.StageRun, change: tuple[str, str], text: str) -> None:
    run.policy.write_text(run.policy.read_text().replace(*change))
    output = invoke(run, code=2)
    assert text in output
    assert "Traceback" not in output
    assert not run.out.exists()
    assert not run.rows()
    assert not (run.repo / "out").exists()


@pytest.mark.parametrize("storage", ["DbStorage", "DbTsvStorage"])
def test_rows_of_two_jobs_that_have_one_key(run: stage_runs.StageRun, storage: str) -> None:
    with contextlib.closing(sqlite3.connect(run.root / "quality.sqlite3")) as connection:
        connection.execute("CREATE TABLE visits (visit BIGINT PRIMARY KEY, median DOUBLE PRECISION)")
    text = stage_runs.EXPORT.replace(
        "KeyList: [visit=visit, detector=detector,", "TableName: visits, KeyList: [visit=visit,"
    )
    run.write_policy(text, storage)
    assert "table 'visits' with visit=1 is where two jobs write" in invoke(run, code=2)
    assert not run.out.exists()
    assert ": 2 done (" in invoke(run, "--where", "instrument = 'Cam' AND detector = 2")


def test_two_items_in_one_place(run: stage_runs.StageRun) -> None:
    text = stage_runs.EXPORT.replace(
        '{rows}, location: "{url}"', 'XmlStorage, location: "{out}/%(visit).json"'
    )
    run.write_policy(text.replace("%(instrument)/%(visit)/%05d(detector).json", "%(visit).json"))
    assert "is where items image and quality write" in invoke(
        run, "--where", "instrument = 'Cam' AND detector = 1", code=2
    )
    assert not run.out.exists()


def test_datasets_of_two_jobs_that_are_the_same(run: stage_runs.StageRun) -> None:
    with registry.open_repository(repository_config.load(str(run.repo)), writeable=True) as repository:
        repository.dataset_types.register("whole", "NumpyArray", ["visit"])
    text = _SPLIT.replace(_PLACE, "").replace("field: deep", "").replace("product", "whole")
    run.write_policy(text.replace("outputItems", "butler: {{run: back}}\n    outputItems"))
    assert "is where two jobs write" in invoke(run, code=2)
    assert ": 2 done (" in invoke(run, "--where", "instrument = 'Cam' AND detector = 2")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("run: back", 'run: ""'), "output.parameters.butler.run: is missing"),
        (
            ("run: back", "run: ../../back"),
            "export.yaml:12: output.parameters.butler.run: '../../back' is no name",
        ),
        (("run: back", "run: u//back"), "'u//back' is no name of a run"),
        (("run: back", "run: /back"), "'/back' is no name of a run"),
        (("datasetType: image", "datasetType: picture"), "dataset type 'picture' is not registered"),
    ],
)
def test_what_is_refused_of_datasets(run: stage_runs.StageRun, change: tuple[str, str], text: str) -> None:
    run.write_policy(stage_runs.IMPORT.replace(*change))
    for options in ((), ("--dry-run",)):
        assert text in invoke(run, *options, code=2)


@pytest.mark.parametrize(("link", "code", "jobs"), [("back", 2, 6), ("back/image/20260301/r/red/1", 1, 3)])
def test_links_that_lead_out_of_the_repository(
    run: stage_runs.StageRun, link: str, code: int, jobs: int
) -> None:
    """Nothing is written where they lead; a link within the repository is nothing special."""
    invoke(run)
    run.write_policy(stage_runs.IMPORT)
    outside, inside = run.root / "outside", run.repo / "inside"
    place = run.repo / link
    place.parent.mkdir(parents=True, exist_ok=True)
    for target in (outside, inside):
        target.mkdir()
        place.unlink(missing_ok=True)
        place.symlink_to(target)
        if target is outside:
            assert f"{place}: is a link that leads out of the datastore" in invoke(run, code=code)
            assert not list(outside.iterdir())
    invoke(run)
    assert len(list(inside.rglob("*_D?_*"))) == jobs


def test_temporary_files_are_not_in_the_repository(run: stage_runs.StageRun) -> None:
    settings = f"persistence:\n    DbTsvStorage: {{{{TempPath: {run.repo}/in, SaveTemp: true}}}}"
    run.write_policy(stage_runs.EXPORT.replace("persistence:", settings))
    assert "where the datasets of the repository are" in invoke(run, code=2)
    assert not run.out.exists()


@pytest.mark.parametrize("options", JOBS)
def test_places_that_only_items_tell(run: stage_runs.StageRun, options: tuple[str, ...]) -> None:
    text = stage_runs.EXPORT.replace("  inputItems", "  additionalData: parity=quality.parity\n  inputItems")
    run.write_policy(text.replace("%05d(detector)", "%(parity)").replace(".measure", ".parity"))
    output = invoke(run, *options, code=1)
    # Of three detectors, which are odd, even and odd, there are two visits.
    assert "4 done, 2 failed" in output
    assert "is where two jobs write" in output


def test_what_has_the_name_of_a_file_but_is_none(run: stage_runs.StageRun) -> None:
    (run.out / "Cam/1").mkdir(parents=True)
    (run.out / "Cam/1/00001.item").touch()
    os.mkfifo(run.out / "Cam/1/00002.item")
    output = invoke(run, code=1)
    assert "4 done, 2 failed" in output
    assert "Cam/1/00001.item: is there already, and is not replaced" in output
    (run.out / "Cam/1/00001.item").unlink()
    (run.out / "Cam/1/00002.item").unlink()
    assert ": 2 done, 4 were there (" in invoke(run)
    assert run.is_complete()


def test_ids_of_an_item_that_is_no_dataset(run: stage_runs.StageRun) -> None:
    run.write_policy(_SPLIT)
    (run.out / "deep/1").mkdir(parents=True)
    (run.out / "deep/1/1.item").write_bytes(b"somebody's")
    assert ": 5 done, 1 were there (" in invoke(run)
    assert len(run.files()) == 6


def test_other_refusals(run: stage_runs.StageRun, tmp_path: pathlib.Path) -> None:
    for more in (
        ["--where", "visit ="],
        ["--where", "visit = 1"],
        ["--engine", "mpi:4"],
        ["--where", "nonsense = 1"],
    ):
        assert "Error: " in invoke(run, *more, code=2)
    for policy, repo in ((tmp_path / "none.yaml", run.repo), (run.policy, tmp_path)):
        done = testing.CliRunner().invoke(main.main, ["stage", str(policy), "--repo", str(repo)])
        assert done.exit_code == 2
    with pytest.raises(aggregator.RefusedError, match="n_processes"):
        aggregator.run_stage(run.policy, run.repo, aggregator.StageConfig(n_processes=0))
    config = aggregator.StageConfig(where=stage_runs.WHERE, engine="dask:tcp://127.0.0.1:1")
    for change in (("{out}/", "out/"), ("{url}", "sqlite:///quality.sqlite3")):
        run.write_policy(stage_runs.EXPORT.replace(*change))
        with pytest.raises(aggregator.RefusedError, match="give an absolute path"):
            aggregator.run_stage(run.policy, run.repo, config)
    output = "output:\n  parameters:\n    outputItems:\n      image:\n        storagePolicy:"
    location = '{{storage: XmlStorage, location: "{out}/%(instrument)/%(visit)/%05d(detector).item"}}'
    dataset = "\n        datasetId: {{datasetType: image, fromJobIdentity: [instrument, visit, detector]}}"
    run.write_policy(f"{stage_runs.IMPORT.partition('output:')[0]}{output} {location}{dataset}\n")
    assert "is what the job reads" in invoke(run, code=2)


def test_a_key_that_tells_nothing_of_rows(run: stage_runs.StageRun) -> None:
    with contextlib.closing(sqlite3.connect(run.root / "quality.sqlite3")) as connection, connection:
        connection.execute("DROP TABLE quality")
        connection.execute("CREATE TABLE quality (visit BIGINT, detector BIGINT, median DOUBLE PRECISION)")
    assert "has no primary key" in invoke(run, code=2)


def test_a_key_that_only_items_have(run: stage_runs.StageRun) -> None:
    with contextlib.closing(sqlite3.connect(run.root / "quality.sqlite3")) as connection, connection:
        connection.execute("CREATE TABLE medians (median DOUBLE PRECISION PRIMARY KEY)")
    text = stage_runs.EXPORT.replace("visit=visit, detector=detector, ", "")
    run.write_policy(text.replace("KeyList", "TableName: medians, KeyList"))
    assert "no column of the table's key has a value of the data ID" in invoke(run, code=2)
    assert not run.out.exists()


def test_out_and_back(run: stage_runs.StageRun) -> None:
    invoke(run)
    run.write_policy(stage_runs.IMPORT)
    (run.out / "Cam/2/00002.item").rename(run.root / "away")
    output = invoke(run, code=1)
    assert "5 done, 1 failed" in output
    assert "Cam/2/00002.item: there is no such file" in output
    (run.root / "away").rename(run.out / "Cam/2/00002.item")
    assert ": 1 done, 5 were there (" in invoke(run)
    assert ": 6 were there (" in invoke(run)
    policy = stage_storages.policy(f"{{repository: {run.repo}, collections: [back]}}")
    with contextlib.closing(repository_butler.RepositoryButler(policy)) as butler:
        assert butler.get("image", {"instrument": "Cam", "visit": 2, "detector": 3})[0, 0] == 23.0


def test_datasets_and_files_of_one_job(run: stage_runs.StageRun) -> None:
    """A job that is half done is completed, whichever half it is."""
    text = stage_runs.EXPORT.replace("collections: [in]", "collections: [in], run: copies")
    item = "datasetId: {{datasetType: image, fromJobIdentity: [instrument, visit, detector]}}"
    run.write_policy(text.replace("      type: NumpyArray", f"      {item}"))
    assert ": 6 done (" in invoke(run)
    with contextlib.closing(sqlite3.connect(run.root / "quality.sqlite3")) as connection, connection:
        connection.execute("DELETE FROM quality WHERE detector = 3")
    assert ": 2 done, 4 were there (" in invoke(run)
    assert run.rows() == stage_runs.ROWS
    assert len(list((run.repo / "copies").rglob("*.pickle"))) == 6


def test_postgresql(run: stage_runs.StageRun, postgresql: postgresql_server.Server) -> None:
    name = postgresql.create_database()
    postgresql.execute(name, stage_runs.TABLE)
    run.write_policy(url=postgresql.url(name))
    assert ": 6 done (" in invoke(run, "-j", "2")
    assert ": 6 were there (" in invoke(run)
    assert postgresql.query(name, "SELECT * FROM quality ORDER BY visit, detector") == stage_runs.ROWS
    postgresql.drop_database(name)


@pytest.mark.parametrize(("number", "processes"), [(signal.SIGINT, "1"), (signal.SIGTERM, "2")])
def test_signals(
    run: stage_runs.StageRun, told: Any, number: signal.Signals, processes: str, tmp_path: pathlib.Path
) -> None:
    """The first one lets what is under way come to its end, a second one does not wait for that."""
    marker = tmp_path / "marker"
    with stopped(run, processes, marker) as running:
        running.send_signal(number)
        marker.write_text("")
        printed, complaints = running.communicate(timeout=120)
    assert running.returncode == 128 + number, complaints
    assert f"interrupted by {number.name}" in complaints
    assert "not begun" in printed
    assert len(run.files()) % 2 == 0
    told(image_23="sleep")
    invoke(run, "--where", "instrument = 'Cam' AND visit = 1")
    kills.assert_gone(running.pid)
    told()
    invoke(run)
    assert run.is_complete()


def test_a_signal_after_the_last_job(run: stage_runs.StageRun, tmp_path: pathlib.Path) -> None:
    """What is complete was not interrupted."""
    marker = tmp_path / "marker"
    with kills.start(run.arguments(), "rows_committed:6", marker) as running:
        kills.wait_for(marker, running)
        running.send_signal(signal.SIGINT)
        marker.write_text("")
        printed, complaints = running.communicate(timeout=60)
    assert running.returncode == 0, complaints
    assert ": 6 done (" in printed
    assert run.is_complete()


def test_second_signal(run: stage_runs.StageRun, told: Any, tmp_path: pathlib.Path) -> None:
    marker = tmp_path / "marker"
    told(image_12="sleep", image_21="sleep")
    with stopped(run, "2", marker) as running:
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=120)
    assert running.returncode in (130, 143)
    kills.assert_gone(running.pid)
    told()
    invoke(run)
    assert run.is_complete()


def test_two_at_once(run: stage_runs.StageRun, tmp_path: pathlib.Path) -> None:
    """One stops where it has all ready; the other does everything; then the first finds it there."""
    marker = tmp_path / "marker"
    with stopped(run, "2", marker) as running:
        invoke(run)
        marker.write_text("")
        _, complaints = running.communicate(timeout=120)
    assert running.returncode == 0, complaints
    assert run.is_complete()


def test_from_python(run: stage_runs.StageRun) -> None:
    updates: list[aggregator.ProgressUpdate] = []
    config = aggregator.StageConfig(where=stage_runs.WHERE)
    done = aggregator.run_stage(run.policy, run.repo, config, on_progress=updates.append)
    assert done.n_jobs == 6
    assert done.outcome == "complete"
    assert updates[-1].done == {"jobs": 6}
    cancellation = aggregator.Cancellation()
    cancellation.cancel()
    with pytest.raises(aggregator.Interrupted):
        aggregator.run_stage(run.policy, run.repo, config, cancellation=cancellation)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["dask", "parsl"])
def test_engines(run: stage_runs.StageRun, name: str, tmp_path: pathlib.Path) -> None:
    with contextlib.ExitStack() as stack:
        if name == "dask":
            where = f"dask:{stack.enter_context(clusters.dask_cluster()).scheduler_address}"
        else:
            where = f"parsl:{clusters.parsl_configuration(tmp_path)}"
        assert ": 6 done (" in invoke(run, "--engine", where)
        assert ": 6 were there (" in invoke(run, "--engine", where)
    assert run.is_complete()

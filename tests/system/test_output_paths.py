"""Paths that are written: never what a command reads, a repository owns, or somebody else has made."""

from __future__ import annotations

import itertools
import os
import pathlib
import socket
from collections.abc import Callable
from typing import Any

import click.testing
import pytest
from aggregator.schemas import output_kinds, output_paths
from aggregator.storage import fault_points
from aggregator.workers import log_handlers
from aggregator.workers.roles.ingesting import closed_quanta

import aggregator
from aggregator.aggregation import checkpoints
from aggregator.command_line import main
from aggregator.reports import report_files
from tests.helpers import sample_case, samples, thinning


def run(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main.main, [str(each) for each in arguments])


def everything(directory: pathlib.Path) -> dict[str, Any]:
    """Return the content of all that is below a directory."""
    found: dict[str, Any] = dict(samples.tree(directory))
    for path in directory.rglob("*"):
        found.setdefault(str(path.relative_to(directory)), path.lstat().st_mode)
        if path.is_symlink():
            found[f"{path} ->"] = os.readlink(path)
    return found


def _link(sample: samples.Sample, target: str, hard: bool = False) -> pathlib.Path:
    path = sample.root / "link.qg"
    (os.link if hard else os.symlink)(sample.repo / target, path)
    return path


def _made(sample: samples.Sample, content: bytes = b"\\documentclass{thesis}") -> pathlib.Path:
    path = sample.root / "mine.qg"
    path.write_bytes(content)
    return path


def _fifo(sample: samples.Sample) -> pathlib.Path:
    os.mkfifo(sample.root / "fifo")
    return sample.root / "fifo"


def _socket(sample: samples.Sample) -> pathlib.Path:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(sample.root / "socket"))
    return sample.root / "socket"


def _checkpoint(sample: samples.Sample) -> pathlib.Path:
    directory = sample.root / "another.checkpoint"
    checkpoints.Checkpoint(str(directory)).lock.release()
    (directory / "deep").mkdir()
    (sample.root / "way").symlink_to(directory / "deep")
    return sample.root / "way" / "out.qg"


def _dataset(sample: samples.Sample) -> pathlib.Path:
    path = sample.repo / "u" / "empty.qg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    return path


NOT_WRITTEN: dict[str, tuple[Callable[[samples.Sample], pathlib.Path], str]] = {
    "predicted": (lambda s: s.repo / "predicted.qg", "is the predicted graph"),
    "link to predicted": (lambda s: _link(s, "predicted.qg"), "is the predicted graph"),
    "hard link to predicted": (lambda s: _link(s, "predicted.qg", True), "is the predicted graph"),
    "database": (lambda s: s.repo / "gen3.sqlite3", "is the database"),
    "link to database": (lambda s: _link(s, "gen3.sqlite3"), "is the database"),
    "hard link to database": (lambda s: _link(s, "gen3.sqlite3", True), "is the database"),
    "journal": (lambda s: s.repo / "gen3.sqlite3-journal", "is the database"),
    "link to journal": (lambda s: _link(s, "gen3.sqlite3-journal"), "is the database"),
    "configuration": (lambda s: s.repo / "butler.yaml", "is the configuration"),
    "copy of predicted": (
        lambda s: _made(s, (s.repo / "predicted.qg").read_bytes()), "is no provenance graph",
    ),
    "thesis": (_made, "is no provenance graph"),
    "directory": (lambda s: s.repo, "is a directory"),
    "fifo": (_fifo, "is no regular file"),
    "socket": (_socket, "is no regular file"),
    "device": (lambda _: pathlib.Path("/dev/null"), r"is no regular file|is the log of"),
    "another checkpoint": (_checkpoint, "is in the checkpoint"),
    "files of the run": (lambda s: s.repo / sample_case.RUN / "out.qg", "where the files of run"),
    "empty dataset": (_dataset, "is no provenance graph"),
    "name": (lambda s: s.root / ("x" * 256), "File name too long"),
}  # fmt: skip


@pytest.mark.ordering("W3", "W5", "B6")
@pytest.mark.parametrize(
    ("which", "dry_run"),
    thinning.thinned(
        itertools.product(NOT_WRITTEN, [False, True]),
        [*((which, False) for which in NOT_WRITTEN), *((which, True) for which in list(NOT_WRITTEN)[::6])],
    ),
)
def test_output_that_must_not_be_written(sample: samples.Sample, which: str, dry_run: bool) -> None:
    make, message = NOT_WRITTEN[which]
    path = make(sample)
    before = everything(sample.root)
    with pytest.raises(aggregator.RefusedError, match=message):
        samples.aggregate(sample, output_path=str(path), dry_run=dry_run)
    assert everything(sample.root) == before


@pytest.mark.parametrize("which", ["output_path", "worker_log_dir", "worker_profile_dir"])
@pytest.mark.parametrize("place", ["", "deep"])
@pytest.mark.ordering("W3", "W5")
def test_nothing_else_is_written_into_the_checkpoint(sample: samples.Sample, which: str, place: str) -> None:
    path = sample.repo / "predicted.qg.checkpoint" / place
    if which == "output_path":
        path.mkdir(parents=True)
        path /= "out.qg"
    before = everything(sample.root)
    with pytest.raises(aggregator.RefusedError, match="the checkpoint"):
        samples.aggregate(sample, **{which: str(path)}, n_processes=2)
    assert everything(sample.root) == before


def test_checkpoint_among_the_files_of_the_run(sample: samples.Sample) -> None:
    """Who executes quanta may write there."""
    before = everything(sample.root)
    for directory in ("new", "of_a_type/new"):
        with pytest.raises(aggregator.RefusedError, match="where the files of run"):
            samples.aggregate(sample, checkpoint_dir=str(sample.repo / sample_case.RUN / directory))
    assert everything(sample.root) == before


def test_checkpoint_in_a_checkpoint(sample: samples.Sample) -> None:
    outer = sample.root / "outer"
    checkpoints.Checkpoint(str(outer)).lock.release()
    before = everything(sample.root)
    with pytest.raises(aggregator.RefusedError, match="is in the checkpoint"):
        samples.aggregate(sample, checkpoint_dir=str(outer / "inner"))
    assert everything(sample.root) == before


@pytest.mark.parametrize(
    "which", ["absent", "older", "empty", "link", "link to nowhere", "in the repository"]
)
def test_output_that_may_be_replaced(sample: samples.Sample, which: str) -> None:
    path = (sample.repo if which == "in the repository" else sample.root) / "out.qg"
    samples.aggregate(sample, dry_run=True, output_path=str(path))
    expected = path.stat().st_size
    if which in ("link", "link to nowhere"):
        path.rename(sample.root / "older.qg")
        path.symlink_to("older.qg" if which == "link" else "nowhere.qg")
    elif which == "empty":
        path.write_bytes(b"")
    elif which == "absent":
        path.unlink()
    samples.aggregate(sample, output_path=str(path))
    assert path.stat().st_size == pytest.approx(expected, rel=0.1)
    assert not path.is_symlink()


@pytest.mark.ordering("W3")
@pytest.mark.parametrize("transfer", ["auto", "symlink", "hardlink"])
def test_ingested_graph_is_not_replaced(sample: samples.Sample, transfer: str) -> None:
    """Wherever it lies, it is all that is left of logs and metadata."""
    path = (sample.repo if transfer == "auto" else sample.root) / "out.qg"
    samples.aggregate(sample, output_path=str(path))
    sample_case.ingest(sample, path, transfer=transfer)
    content = path.read_bytes()
    with pytest.raises(aggregator.RefusedError, match=f"is the ingested graph of run {sample_case.RUN}"):
        samples.aggregate(sample, output_path=str(path))
    assert path.read_bytes() == content


@pytest.mark.ordering("W4", "W5")
@pytest.mark.parametrize("what", ["thesis", "directory", "link to the database"])
def test_what_comes_to_the_output_while_the_run_goes_on(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    output = sample.root / "out.qg"

    def reached(name: str) -> None:
        if name == "output":
            if what == "directory":
                output.mkdir()
            elif what == "thesis":
                output.write_text("thesis")
            else:
                output.symlink_to(sample.repo / "gen3.sqlite3")

    with monkeypatch.context() as patch:
        patch.setattr(fault_points, "reached", reached)
        with pytest.raises(aggregator.AggregatorError, match="while the command was running") as caught:
            samples.aggregate(sample)
    assert caught.value.exit_code == 1
    # Nothing is lost: the same command goes on when it has been moved away.
    if what == "directory":
        output.rmdir()
    else:
        assert output.read_text() == "thesis" if what == "thesis" else output.is_symlink()
        output.unlink()
    assert samples.aggregate(sample).n_ingested == 0


@pytest.fixture
def graph(sample: samples.Sample) -> pathlib.Path:
    samples.aggregate(sample)
    return sample.root / "out.qg"


@pytest.mark.ordering("W3", "W5")
@pytest.mark.parametrize("option", ["--output", "--status-report"])
@pytest.mark.parametrize("form", ["json", "table"])
def test_report_replaces_nothing_but_reports(
    sample: samples.Sample, graph: pathlib.Path, option: str, form: str
) -> None:
    notes = sample.root / "report.txt"
    notes.write_text("my notes")
    (sample.root / "link").symlink_to(graph)
    before = everything(sample.root)
    for path in (
        graph,
        sample.root / "link",
        notes,
        sample.repo / "gen3.sqlite3",
        sample.repo / "butler.yaml",
    ):
        done = run("provenance-report", graph, "--format", form, option, path)
        assert (done.exit_code, "Error: " in done.output) == (2, True), done.output
    for path in (sample.repo / "gen3.sqlite3-journal", sample.repo / "butler.yaml"):
        aggregate_first = run("provenance-report", sample.repo, "--format", form, option, path)
        assert aggregate_first.exit_code == 2
    assert everything(sample.root) == before


@pytest.mark.ordering("W3")
def test_two_reports_in_one_file(sample: samples.Sample, graph: pathlib.Path) -> None:
    for other in (sample.root / "report", sample.root / "repo" / ".." / "report"):
        done = run("provenance-report", graph, "-o", sample.root / "report", "--status-report", other)
        assert (done.exit_code, "another report of this command" in done.output) == (2, True), done.output
    assert not (sample.root / "report").exists()


@pytest.mark.parametrize("form", ["table", "json", "csv", "md", "html"])
def test_report_replaces_a_report(sample: samples.Sample, graph: pathlib.Path, form: str) -> None:
    path, status, tables = (sample.root / name for name in ("report", "status", "tables"))
    first = ("provenance-report", graph, "--format", form, "-o", path, "--status-report", status)
    second = ("provenance-report", graph, "--format", "md", "-o", path)
    for command in (first, (*first, "--data-id-table-dir", tables), second, first):
        done = run(*command, "--state", "SUCCESSFUL")
        assert done.exit_code == 0, done.output
    done = run("provenance-report", graph, "--data-id-table-dir", tables, "--state", "SUCCESSFUL")
    assert done.exit_code == 0, done.output


@pytest.mark.ordering("W4", "W5")
def test_what_comes_to_a_report_while_it_is_made(
    sample: samples.Sample, graph: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sample.root / "report"
    monkeypatch.setattr(fault_points, "reached", lambda _: path.write_text("my notes"))
    with pytest.raises(aggregator.AggregatorError, match="is no report"):
        report_files.write(str(graph), None, report_files.Request(output=str(path)))
    assert path.read_text() == "my notes"
    assert sorted(p.name for p in sample.root.glob("report*")) == ["report"]


@pytest.mark.ordering("W3", "W5")
def test_tables_of_data_ids_replace_nothing_else(sample: samples.Sample, graph: pathlib.Path) -> None:
    tables = sample.root / "tables"
    arguments = ("provenance-report", graph, "--state", "SUCCESSFUL", "--data-id-table-dir", tables)
    assert run(*arguments).exit_code == 0
    paths = sorted(tables.rglob("*.ecsv"))
    for path in paths[:-1]:
        path.unlink()
    paths[-1].write_text("my notes")
    before = everything(sample.root)
    assert run(*arguments, "--status-report", sample.root / "status").exit_code == 2
    assert everything(sample.root) == before


@pytest.mark.ordering("W3", "W5")
def test_log_file(sample: samples.Sample, graph: pathlib.Path) -> None:
    data = sample.root / "data.log"
    data.write_bytes(b"\0\1\2")
    before = everything(sample.root)
    dataset = sample.repo / "u" / "text.log"
    dataset.write_text("a dataset")
    places = (
        graph,
        dataset,
        sample.repo / "gen3.sqlite3",
        sample.repo / "butler.yaml",
        data,
        _checkpoint(sample),
    )
    before = everything(sample.root)
    for path in (*places, "/dev/null"):
        done = run("--log-file", path, "status", sample.root)
        assert done.exit_code == 2
        assert "--log-file" in done.output or str(path) in done.output
    assert everything(sample.root) == before
    log = sample.root / "messages"
    for _ in range(2):
        run("--log-file", log, "show", graph)
    assert run("--log-file", log, "aggregate-graph", graph, sample.repo, "-o", log).exit_code == 2


LOGGED = {
    "aggregate-graph predicted.qg .": (f"{sample_case.RUN}/log.json", "predicted.qg.checkpoint/log"),
    "ingest-graph . ../provenance.qg": (f"{sample_case.RUN}/log.json",),
}
"""Places where commands find out, once they know the repository, that nothing may be logged there."""


@pytest.mark.ordering("W3", "B6")
@pytest.mark.parametrize(("command", "place"), [(c, p) for c, places in LOGGED.items() for p in places])
def test_nothing_is_logged_where_a_repository_has_its_files(
    aggregated_sample: samples.Sample, command: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(aggregated_sample.repo)
    pathlib.Path(place).parent.mkdir(exist_ok=True)
    before = everything(aggregated_sample.root)
    done = run("--log-file", place, *command.split())
    assert (done.exit_code, everything(aggregated_sample.root)) == (2, before), done.output
    assert os.path.realpath(place) in done.output


@pytest.mark.ordering("W3", "W5")
@pytest.mark.parametrize("name", ["scanner-000.log", "writer.profile"])
@pytest.mark.parametrize("what", ["database", "notes"])
def test_logs_and_profiles_of_workers(sample: samples.Sample, name: str, what: str) -> None:
    place = sample.root / "workers"
    place.mkdir()
    if what == "database":
        os.link(sample.repo / "gen3.sqlite3", place / name)
    else:
        (place / name).write_bytes(b"my\0notes")
    before = everything(sample.root)
    option = "worker_log_dir" if name.endswith(".log") else "worker_profile_dir"
    with pytest.raises(aggregator.RefusedError, match=name):
        samples.aggregate(sample, **{option: str(place)}, n_processes=2)
    assert everything(sample.root) == before


def test_logs_and_profiles_are_written_again(sample: samples.Sample) -> None:
    place = str(sample.root / "workers")
    for _ in range(2):
        samples.aggregate(sample, worker_log_dir=place, worker_profile_dir=place, n_processes=2, dry_run=True)
    assert (sample.root / "workers" / "writer.profile").exists()


@pytest.mark.ordering("W3", "W5")
@pytest.mark.parametrize("command", [("create",), ("synthesize", "--quanta", "3000")])
def test_repository_in_a_checkpoint(sample: samples.Sample, command: tuple[str, ...]) -> None:
    place = _checkpoint(sample).parent / "repo"
    before = everything(sample.root)
    done = run(*command, place)
    assert (done.exit_code, "is in the checkpoint" in done.output) == (2, True), done.output
    assert everything(sample.root) == before


@pytest.mark.ordering("W3", "W5")
def test_database_in_a_checkpoint(sample: samples.Sample) -> None:
    place = _checkpoint(sample).parent / "new.sqlite3"
    before = everything(sample.root)
    done = run("create", sample.root / "new", "--db", f"sqlite:///{place}")
    assert (done.exit_code, "is in the checkpoint" in done.output) == (2, True), done.output
    assert everything(sample.root) == before


@pytest.mark.ordering("W3", "W5")
@pytest.mark.parametrize("transfer", ["move", "copy", "symlink"])
def test_ingestion_replaces_nothing_at_the_place_of_a_graph(
    aggregated_sample: samples.Sample, transfer: str
) -> None:
    place = aggregated_sample.repo / sample_case.PATH
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("somebody's")
    sample_case.unchanged(
        aggregated_sample,
        lambda: sample_case.ingest(aggregated_sample, transfer=transfer),
        "is no provenance graph",
    )


@pytest.mark.ordering("W4", "W5")
def test_what_comes_to_the_place_of_a_graph(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = aggregated_sample.repo / sample_case.PATH
    monkeypatch.setattr(
        fault_points, "reached", lambda name: place.write_text("somebody's") if name == "placing" else None
    )
    with pytest.raises(aggregator.AggregatorError, match="while the command was running") as caught:
        sample_case.ingest(aggregated_sample)
    assert caught.value.exit_code == 1
    assert place.read_text() == "somebody's"
    assert [p.name for p in place.parent.iterdir()] == [place.name]


def test_protection_travels(tmp_path: pathlib.Path) -> None:
    """Workers get it in a message; then it means the same."""
    path = tmp_path / "file"
    path.write_text("my notes")
    for files in ({}, {str(path): "an input"}):
        with pytest.raises(aggregator.RefusedError):
            output_paths.check(str(path), output_kinds.Kind.LOG, output_paths.Protection(files))


@pytest.mark.parametrize("place", ["file", "file/below", "closed", "closed/below"])
def test_directories_that_nothing_can_be_written_in(
    sample: samples.Sample, graph: pathlib.Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Whatever a command would make there, it is refused before anything else."""
    (sample.root / "file").write_text("thesis")
    closed = sample.root / "closed"
    closed.mkdir()
    original = os.access
    # Nothing is closed to root.
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(closed) and original(path, mode))
    before = everything(sample.root)
    path = sample.root / place
    aggregation = ["aggregate-graph", sample.repo / "predicted.qg", sample.repo, "--mock-storage-classes"]
    for command in (
        ["create", path],
        ["synthesize", path, "--quanta", "300", "--small-files"],
        ["provenance-report", graph, "-o", path / "report.txt"],
        ["provenance-report", graph, "--status-report", path / "report.json"],
        ["provenance-report", graph, "--data-id-table-dir", path],
        [*aggregation, "--worker-log-dir", path],
        [*aggregation, "--worker-profile-dir", path, "-j", "2"],
    ):
        done = run(*command)
        assert done.exit_code == 2, (command, done.output)
        assert "Choose another path" in done.output
        assert everything(sample.root) == before


def test_log_of_a_worker_that_cannot_be_opened(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object, path: str) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(log_handlers.LogFile, "__init__", refuse)
    with pytest.raises(
        aggregator.RefusedError, match=r"scanner-000\.log: can't write the log \(Permission denied"
    ):
        samples.aggregate(sample, worker_log_dir=str(sample.root / "logs"))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("below", ["", "/logs"])
def test_directory_of_logs_where_the_graph_goes(sample: samples.Sample, below: str) -> None:
    before = everything(sample.root)
    with pytest.raises(aggregator.RefusedError, match="is where the graph goes"):
        samples.aggregate(sample, worker_log_dir=f"{sample.root / 'out.qg'}{below}")
    assert everything(sample.root) == before


@pytest.mark.ordering("W4", "W5")
def test_graph_that_is_ingested_where_it_lies_while_the_run_goes_on(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on it is all that is left of logs and metadata, as one that was ingested before."""
    path = sample.repo / "out.qg"
    samples.aggregate(sample, output_path=str(path))
    content = path.read_bytes()

    def ingest(self: object) -> None:
        sample_case.ingest(sample, path, transfer="auto")

    # That of the same run is found in another way, so this one stands for that of another run.
    monkeypatch.setattr(closed_quanta.ClosedQuanta, "check_again", ingest)
    with pytest.raises(aggregator.AggregatorError, match="is the ingested graph of run") as caught:
        samples.aggregate(sample, output_path=str(path))
    assert caught.value.exit_code == 1
    assert path.read_bytes() == content

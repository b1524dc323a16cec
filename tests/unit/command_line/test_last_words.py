"""How commands end: exit codes, what they say was done, and which command comes next."""

from __future__ import annotations

import pathlib
import re
import shlex
from typing import Any

import pytest
from aggregator.butler.registry import collections, dataset_types
from aggregator.storage import errors
from aggregator.workers.roles.ingesting import closed_quanta, ingester
from aggregator.workers.roles.scanning import scanner
from aggregator.workers.roles.writing import writer
from click import testing

import aggregator
from aggregator.aggregation import checkpoints, presence
from aggregator.command_line import main, next_commands
from aggregator.console import terminal
from aggregator.graph_ingestion import replacement
from aggregator.reports import formats
from aggregator.synthesis import repository
from tests.helpers import sample_case, samples, thinning


def invoke(*arguments: str | pathlib.Path, code: int = 0) -> testing.Result:
    done = testing.CliRunner().invoke(main.main, [*map(str, arguments)], prog_name="aggregator")
    assert done.exit_code == code, done.output
    return done


def aggregation(sample: samples.Sample, *options: str) -> list[str]:
    graph = str(sample.repo / "predicted.qg")
    return ["aggregate-graph", graph, str(sample.repo), "--mock-storage-classes", *options]


def following(done: testing.Result) -> list[list[str]]:
    """Return the words of the commands that a command names as next ones."""
    text = done.output[done.output.rindex("Next: ") :].removeprefix("Next: ")
    lines = [line.strip() for line in text.splitlines() if "  # " in line]
    commands = [shlex.split(line, comments=True) for line in lines]
    assert all(words[0] == "aggregator" for words in commands)
    return [words[1:] for words in commands]


def damage(sample: samples.Sample) -> pathlib.Path:
    """Cut a log off; return its path."""
    path = next(path for path in sorted(sample.repo.rglob("*_log_*")) if path.is_file())
    path.write_bytes(path.read_bytes()[:100])
    return path


def refuse(*_: Any, **__: Any) -> Any:
    raise errors.RefusedError("this can't be done")


def state(sample: samples.Sample) -> Any:
    return sample_case.files(sample), sample_case.database(sample).content()


@pytest.mark.ordering("B6")
@pytest.mark.parametrize("place", [(writer.Writer, "__init__"), (closed_quanta.ClosedQuanta, "refuse")])
def test_what_is_refused_changes_nothing(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str]
) -> None:
    """A worker that can't begin is known before the database is changed and a digest written."""
    before = state(sample)
    monkeypatch.setattr(*place, refuse)
    done = invoke(*aggregation(sample, "-o", str(sample.root / "out.qg")), code=2)
    assert state(sample) == before
    assert "this can't be done" in done.stderr
    assert "Next" not in done.output


@pytest.mark.ordering("B6")
def test_an_older_checkpoint_survives_a_refusal(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke(*aggregation(sample, "--dry-run"))
    before = state(sample)
    with monkeypatch.context() as patch:
        patch.setattr(closed_quanta.ClosedQuanta, "refuse", refuse)
        invoke(*aggregation(sample), code=2)
    assert state(sample) == before
    assert "known from an earlier run" in invoke(*aggregation(sample)).stdout


REFUSALS = [
    ((closed_quanta.ClosedQuanta, "refuse"), 2, "--fresh"),
    ((dataset_types.DatasetTypes, "register_all"), 2, "--fresh"),
    ((collections.Collections, "register_run"), 1, "--fresh"),
    ((presence, "check"), 2, "--fresh"),
    ((closed_quanta.ClosedQuanta, "refuse"), 2, "--zstd-level=5"),
    ((dataset_types.DatasetTypes, "register_all"), 2, "--zstd-level=5"),
    ((collections.Collections, "register_run"), 1, "--zstd-level=5"),
    ((presence, "check"), 2, "--zstd-level=5"),
]


@pytest.mark.ordering("B6", "M5")
@pytest.mark.parametrize(
    ("place", "code", "option"), thinning.thinned(REFUSALS, [*REFUSALS[:4], REFUSALS[6]])
)
def test_work_that_was_to_be_replaced_survives_a_refusal(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, option: str, place: tuple[Any, str], code: int
) -> None:
    invoke(*aggregation(sample, "--dry-run"))
    checkpoint = sample.repo / "predicted.qg.checkpoint"
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(*place, refuse)
        done = invoke(*aggregation(sample, option), code=code)
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before
    if code == 1:
        # It has not begun afresh yet.
        assert following(done) == [aggregation(sample, option)]
    assert "known from an earlier run" not in invoke(*aggregation(sample, option, "--keep-checkpoint")).stdout
    assert not list(checkpoint.glob("*.old"))


@pytest.mark.ordering("M5")
@pytest.mark.parametrize("point", ["dictionary", "manifest", "rename.json"])
def test_work_that_was_to_be_replaced_survives_a_kill(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    invoke(*aggregation(sample, "--dry-run"))
    with monkeypatch.context() as patch:
        # A killed process does not tidy up.
        patch.setattr(checkpoints.Checkpoint, "leave", lambda held: None)
        config = aggregator.AggregatorConfig(zstd_level=5, mock_storage_classes=True)
        paths = str(sample.repo / "predicted.qg"), str(sample.repo)
        sample_case.stop_at(patch, point, lambda: aggregator.aggregate_graph(*paths, config))
    assert "known from an earlier run" in invoke(*aggregation(sample)).stdout


def test_nothing_is_said_of_a_temporary_checkpoint_that_is_gone(sample: samples.Sample) -> None:
    assert "WARNING" not in invoke(*aggregation(sample, "--no-checkpoint")).stderr


@pytest.mark.ordering("B6")
@pytest.mark.parametrize(
    "place", [(collections.Collections, "register_run"), (collections.Collections, "update_output_chain")]
)
def test_after_a_change_nothing_is_refused(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str]
) -> None:
    monkeypatch.setattr(*place, refuse)
    done = invoke(*aggregation(sample), code=1)
    assert "this can't be done" in done.stderr
    [again] = following(done)
    assert again == aggregation(sample)


@pytest.mark.ordering("B6")
@pytest.mark.parametrize(
    "place", [(ingester.Ingester, "take"), (ingester.Ingester, "_commit"), (scanner.Scanner, "scan")]
)
def test_a_later_refusal_keeps_the_work_and_tells_what_was_done(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(*place, refuse)
        options = aggregator.AggregatorConfig(mock_storage_classes=True)
        with pytest.raises(aggregator.AggregatorError, match="this can't be done") as caught:
            aggregator.aggregate_graph(str(sample.repo / "predicted.qg"), str(sample.repo), options)
    assert caught.value.exit_code == 1
    assert caught.value.summary is not None
    assert caught.value.summary.lines()[0].startswith("Task ")
    checkpoint = sample.repo / "predicted.qg.checkpoint"
    n_digests = len(list(checkpoint.glob("*.digest")))
    assert n_digests or place[0] is scanner.Scanner
    lines = "\n".join(invoke(*aggregation(sample)).stdout.splitlines())
    assert bool(n_digests) == ("known from an earlier run" in lines)


def test_a_failure_prints_the_table(sample: samples.Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ingester.Ingester, "_commit", refuse)
        done = invoke(
            *aggregation(sample, "-o", "a b.qg", "--checkpoint-dir", str(sample.root / "c p")), code=1
        )
    table = done.stdout.splitlines()
    assert table[0].split()[0] == "Task"
    assert table[3].split()[0] == "stack"
    assert "Datasets ingested: 0; already there: 0" in table
    assert "Provenance graph: not written" in table
    [again] = following(done)
    monkeypatch.chdir(sample.root)
    assert "Provenance graph: " in invoke(*again).stdout


def test_an_interrupted_run_says_what_it_did_not_come_to(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = scanner.Scanner.handle

    def stop(self: scanner.Scanner, request: Any) -> Any:
        if getattr(request, "shard", 0) == 1:
            raise errors.AggregatorError("the machine is tired")
        return scan(self, request)

    monkeypatch.setattr(scanner.Scanner, "handle", stop)
    done = invoke(*aggregation(sample), code=1)
    [line] = [line for line in done.stdout.splitlines() if "not come to" in line]
    left, total = map(int, re.findall(r"\d+", line))
    assert left == total > 0


@pytest.mark.parametrize("keeps", [True, False])
def test_a_held_run_says_what_to_do(sample: samples.Sample, keeps: bool) -> None:
    path = damage(sample)
    done = invoke(*aggregation(sample, *[] if keeps else ["--no-checkpoint"]), code=1)
    assert done.stdout.startswith("Task ")
    assert "Held" in done.stdout.splitlines()[0]
    assert "1 quantum has files that can't be read" in done.stderr
    [listed] = re.findall(r"\S+unreadable\.jsonl", done.stderr)
    assert str(path) in pathlib.Path(listed).read_text()
    assert (str(sample.repo / "predicted.qg.checkpoint") in listed) == keeps
    again, failed = following(done)
    assert again == aggregation(sample, *[] if keeps else ["--no-checkpoint"])
    assert failed == [*again, "--unreadable=failed"]
    assert "Held" not in invoke(*failed).stdout


def test_a_held_dry_run_does_not_say_that_anything_is_saved(sample: samples.Sample) -> None:
    damage(sample)
    done = invoke(*aggregation(sample, "--dry-run"), code=1)
    assert "saved" not in done.output
    assert "everything else would be ingested" in done.stderr


def test_a_dry_run_says_that_it_was_one(sample: samples.Sample) -> None:
    done = invoke(*aggregation(sample, "--dry-run"))
    assert "Datasets that would be ingested, unless they are there already: 61" in done.stdout
    assert "This was a dry run: the database is as it was." in done.stdout
    [again] = following(done)
    done = invoke(*again)
    assert "Datasets ingested: 61; already there: 0" in done.stdout
    assert "Provenance graph: none was asked for (-o FILE)" in done.stdout
    assert following(done) == [[*aggregation(sample), "-o", "provenance.qg"]]


@pytest.mark.parametrize("option", ["dry-run", "incomplete"])
def test_what_a_file_of_options_asks_for_is_not_taken_for_undone(sample: samples.Sample, option: str) -> None:
    options = sample.root / "options.yaml"
    options.write_text(f"aggregate-graph:\n  {option}: true\n")
    done = invoke(*aggregation(sample, "-@", str(options)))
    if option == "dry-run":
        assert "Next" not in done.output
    else:
        _, last = following(done)
        words = [str(sample.root / "out.qg") if word == "provenance.qg" else word for word in last]
        assert "Provenance graph: /" in invoke(*words).stdout


def test_an_incomplete_run_says_why_there_is_no_graph(sample: samples.Sample) -> None:
    output = str(sample.root / "out.qg")
    done = invoke(*aggregation(sample, "--incomplete", "-o", output))
    assert "Provenance graph: none yet, since not all quanta count as attempted" in done.stdout
    again, last = following(done)
    assert again == aggregation(sample, "--incomplete", "-o", output)
    assert last == aggregation(sample, "-o", output)
    done = invoke(*last)
    for words in following(done):
        invoke(*words)
    assert [words[0] for words in following(done)] == ["show", "provenance-report", "ingest-graph"]


def test_an_ingestion_of_a_graph_tells_what_it_did(
    aggregated_sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = aggregated_sample.root / "provenance.qg"
    arguments = ["ingest-graph", str(aggregated_sample.repo), str(graph)]
    with monkeypatch.context() as patch:
        patch.setattr(replacement.Replacement, "_clean", refuse)
        done = invoke(*arguments, code=1)
    assert "this can't be done" in done.stderr
    assert "Original files deleted: 39; not there any more: 0" in done.stdout
    assert following(done) == [arguments]
    done = invoke(*arguments)
    assert "Original files deleted: 0; not there any more: 39" in done.stdout
    for words in following(done):
        invoke(*words)
    # A refusal before anything is done stays one.
    arguments = ["ingest-graph", str(aggregated_sample.repo), str(aggregated_sample.repo / "predicted.qg")]
    assert "Next" not in invoke(*arguments, code=2).output


def test_a_synthesis_tells_how_to_go_on(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke("synthesize", tmp_path / "my run", "--quanta", "60", "--small-files", "--blocked", "0")
    [words] = following(done)
    monkeypatch.chdir(tmp_path)
    assert "Provenance graph: " in invoke(*words[:-2]).stdout


def test_a_new_repository_is_followed_by_a_run(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("create", tmp_path / "first").stderr == ""
    monkeypatch.setattr(terminal, "is_terminal", lambda _: True)
    done = invoke("create", tmp_path / "my repo")
    assert f"aggregator run predicted.qg '{tmp_path}/my repo'  # when it has" in done.stderr


def test_the_same_command_again() -> None:
    command = next_commands.Command(
        ("/opt/my tools/aggregator",), ("aggregate-graph", "--fresh", "--dry-run", "--", "-g", "r")
    )
    assert (
        command.again("-o", "x y") == "'/opt/my tools/aggregator' aggregate-graph --dry-run -o 'x y' -- -g r"
    )
    assert command.again(without="--dry-run") == "'/opt/my tools/aggregator' aggregate-graph -- -g r"


def test_a_synthesis_that_is_refused_leaves_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["synthesize", str(tmp_path / "run"), "--quanta", "60", "--small-files"]
    assert "choose blocked=0" in invoke(*arguments, code=2).stderr
    with monkeypatch.context() as patch:
        patch.setattr(repository, "create", refuse)
        invoke(*arguments, "--blocked", "0", code=2)
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(repository, "insert_dimension_records", refuse)
        assert following(invoke(*arguments, "--blocked", "0", code=1)) == [[*arguments, "--blocked", "0"]]
    invoke(*arguments, "--blocked", "0")


def test_reports_are_not_refused_when_one_is_written(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["provenance-report", str(sample.root / "provenance.qg"), "-o", str(sample.root / "report")]
    monkeypatch.setattr(formats, "table", refuse)
    invoke(*arguments, code=2)
    invoke(*arguments, "--status-report", str(sample.root / "status.json"), code=1)

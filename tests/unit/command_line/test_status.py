"""What `status` tells, compared with what the run itself told."""

from __future__ import annotations

import fcntl
import os
import pathlib
import re
import shutil
from typing import Any

import pytest
from aggregator.storage import errors
from aggregator.workers.roles.ingesting import ingester

from aggregator.aggregation import checkpoint_status, checkpoints
from tests.helpers import samples
from tests.unit.command_line import test_last_words

aggregation, invoke = test_last_words.aggregation, test_last_words.invoke


def table(text: str) -> list[list[str]]:
    """Return the table of tasks in a text, as words."""
    lines = text.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("Task "))
    return [line.split() for line in lines[begin:] if line and not line.startswith(("Quanta", "Provenance"))]


def told_table(done: Any) -> list[list[str]]:
    return table(done.stdout.partition("\n\n")[0])


@pytest.mark.parametrize(
    ("options", "code", "state"),
    [
        (["--incomplete"], 0, "the last run ingested what had succeeded, for a run that goes on"),
        (["--dry-run"], 0, "the last run was a dry run"),
        (["--keep-checkpoint"], 1, "did not finish: 1 quantum has files that can't be read"),
        (["--keep-checkpoint", "--unreadable=failed"], 0, "complete; provenance graph: none was asked for"),
    ],
)
def test_status_agrees_with_the_run(
    sample: samples.Sample, options: list[str], code: int, state: str
) -> None:
    if "--keep-checkpoint" in options:
        test_last_words.damage(sample)
    done = invoke(*aggregation(sample, *options), code=code)
    graph = sample.repo / "predicted.qg"
    texts = [invoke("status", path).stdout for path in (graph, f"{graph}.checkpoint")]
    assert texts[0] == texts[1]
    assert state in texts[0]
    assert table(texts[0]) == told_table(done)
    [line] = re.findall(r"State: (.*)", texts[0])
    assert not line.endswith((":", ";"))
    [ingested] = re.findall(r"Datasets ingested: (\d+)", texts[0])
    if "--dry-run" not in options:
        assert f"Datasets ingested: {ingested};" in done.stdout


def test_status_of_a_run_that_was_killed(sample: samples.Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ingester.Ingester, "_commit", die)
        invoke(*aggregation(sample), code=130)
    text = invoke("status", sample.repo / "predicted.qg").stdout
    assert "State: not in use; the last run was killed. The same command goes on" in text


def test_status_after_success(sample: samples.Sample) -> None:
    output = sample.root / "out.qg"
    invoke(*aggregation(sample, "-o", str(output)))
    assert "State: complete; 20 quanta" in invoke("status", output).stdout
    text = invoke("status", sample.repo / "predicted.qg").stdout
    assert "there is no checkpoint" in text
    assert "complete and removed it" in text
    for name in ("nothing.qg", "old.checkpoint"):
        assert "has removed its checkpoint" in invoke("status", sample.root / name, code=2).stderr


def test_status_of_a_run_whose_graph_has_gone(sample: samples.Sample) -> None:
    output = sample.root / "out.qg"
    invoke(*aggregation(sample, "-o", str(output), "--keep-checkpoint"))
    graph = sample.repo / "predicted.qg"
    assert f"provenance graph: {output}\n" in invoke("status", graph).stdout
    output.unlink()
    assert f"provenance graph: {output}, which is not there any more\n" in invoke("status", graph).stdout


def test_status_beside_the_output(sample: samples.Sample) -> None:
    """There it is if nothing can be written beside the predicted graph; the output need not exist yet."""
    invoke(*aggregation(sample, "--incomplete", "--checkpoint-dir", str(sample.root / "out.qg.checkpoint")))
    assert "Checkpoint of" in invoke("status", sample.root / "out.qg").stdout


def test_a_checkpoint_of_another_graph_has_no_verdicts(sample: samples.Sample) -> None:
    invoke(*aggregation(sample, "--incomplete"))
    shutil.copy(sample.root / "provenance.qg", sample.repo / "predicted.qg")
    assert "is another one: no verdicts" in invoke("status", sample.repo / "predicted.qg").stdout


@pytest.mark.ordering("C6")
def test_status_of_a_run_that_is_starting(tmp_path: pathlib.Path) -> None:
    directory = str(tmp_path / "p.qg.checkpoint")
    with checkpoints.Checkpoint(directory):
        [line] = checkpoint_status.find(directory).lines()
        assert line.startswith(f"{directory}: a run is starting, in use by process {os.getpid()}")
    status = checkpoint_status.find(directory)
    assert status.lines() == [
        f"{directory}: not in use; no run has come as far as scanning. The same command goes on"
    ]
    assert (status.document().state, status.document().process) == ("not begun", None)
    os.unlink(os.path.join(directory, "aggregation.lock"))
    with pytest.raises(errors.RefusedError, match="not a checkpoint"):
        checkpoint_status.find(directory)


@pytest.mark.ordering("C6")
def test_status_leaves_nothing_locked(sample: samples.Sample) -> None:
    invoke(*aggregation(sample, "--incomplete"))
    directory = sample.repo / "predicted.qg.checkpoint"
    before = {path.name: path.stat() for path in directory.iterdir()}
    checkpoint_status.find(str(directory))
    assert {path.name: path.stat() for path in directory.iterdir()}.keys() == before.keys()
    with open(directory / "aggregation.lock", "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_status_while_the_checkpoint_is_removed(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file may go at any moment: the run that has it is complete."""
    invoke(*aggregation(sample, "--incomplete"))
    directory = sample.repo / "predicted.qg.checkpoint"
    read = checkpoint_status._read_digests

    def remove(*arguments: Any) -> Any:
        result = read(*arguments)
        shutil.rmtree(directory)
        return result

    monkeypatch.setattr(checkpoint_status, "_read_digests", remove)
    assert "was just removed" in invoke("status", directory, code=2).stderr

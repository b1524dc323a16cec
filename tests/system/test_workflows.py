"""Workflows are written where nothing of anybody is, and executed by the rules of DAGMan."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import msgspec
import pytest
from click import testing

import aggregator
from aggregator.command_line import main
from aggregator.running import graph_run, run_config, workflow_directory, workflow_run
from tests.helpers import plain_runs, shell_workflows


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> plain_runs.PlainRun:
    return plain_runs.make(tmp_path_factory.mktemp("plain") / "re po", 60)


def invoke(*arguments: str | os.PathLike[str]) -> tuple[int, str]:
    done = testing.CliRunner().invoke(main.main, [os.fspath(each) for each in arguments])
    return done.exit_code, done.output


def written(run: plain_runs.PlainRun, directory: pathlib.Path, *options: str) -> tuple[int, str]:
    return invoke("write-workflow", run.graph, run.root, "--for", "htcondor", "-o", directory, *options)


def contents(directory: pathlib.Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_workflow_is_written_once(run: plain_runs.PlainRun, tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "new" / "w"
    assert written(run, directory)[0] == 0
    before = contents(directory)
    code, text = written(run, directory)
    assert code == 0
    assert "is there already" in text
    # Jobs may be working on it.
    code, text = written(run, directory, "--memory", "isr=4000")
    assert code == 2
    assert "has another workflow" in text
    assert contents(directory) == before


def test_one_that_was_not_completed_is_written_anew(run: plain_runs.PlainRun, tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "w"
    marked = workflow_directory.Marker("aggregator-workflow", 1, "htcondor", "")
    directory.mkdir()
    (directory / ".aggregator-workflow").write_bytes(msgspec.json.encode(marked))
    (directory / "workflow.dag").write_text("JOB a a.sub\n")
    assert invoke("run-workflow", directory)[0] == 2
    assert written(run, directory)[0] == 0
    assert "FINAL aggregate" in (directory / "workflow.dag").read_text()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("full", "there are other things in it"),
        ("full/file", "is no directory"),
        ("link", "there are other things in it"),
        ("re po/submit", "a datastore of the repository"),
        ("into/submit", "a datastore of the repository"),
        ("re po/predicted.qg.checkpoint/w", "checkpoint"),
    ],
)
def test_what_is_there_is_left_alone(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path, place: str, message: str
) -> None:
    copy = run.copy(tmp_path / "re po")
    (copy.root / "predicted.qg.checkpoint").mkdir()
    (copy.root / "predicted.qg.checkpoint" / "lock").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "link").symlink_to("full")
    (tmp_path / "into").symlink_to("re po")
    before = contents(tmp_path)
    code, text = written(copy, tmp_path / place)
    assert code == 2, text
    assert message in text
    assert contents(tmp_path) == before


def test_options_that_do_not_fit(run: plain_runs.PlainRun, tmp_path: pathlib.Path) -> None:
    for options, message in {
        ("--exact",): "always wait only for those that they need",
        ("--cluster", "isr:patch"): "does not require the dimension 'patch'",
        ("--memory", "no=3"): "'no' is no task of the graph",
        ("--memory", "isr=much"): "is no number of megabytes",
        ("--provenance", str(run.graph)): "is the predicted graph, which is not replaced",
        ("--provenance", str(tmp_path / "w" / "workflow.dag")): "must have the extension .qg",
        ("--provenance", str(tmp_path / "w" / "jobs" / "a.qg")): "is in the workflow",
        ("--provenance", str(tmp_path / "no" / "a.qg")): "the output's directory must exist",
    }.items():
        code, text = written(run, tmp_path / "w", *options)
        assert (code, message in text) == (2, True), text
    assert not (tmp_path / "w").exists()


def test_nodes_run_in_order_and_are_tried_again(tmp_path: pathlib.Path) -> None:
    dag = shell_workflows.nodes("abc")
    dag += "PARENT c CHILD a\nPARENT a CHILD b\nSCRIPT PRE a pre.sh $JOB $RETRY\nRETRY a 3\n"
    dag += shell_workflows.FINAL
    directory = shell_workflows.make(tmp_path / "w", dag, script="echo $0 >> order")
    assert workflow_run.run(str(directory), 2).n_succeeded == 3
    assert shell_workflows.told(directory / "order") == [
        "c",
        "pre a 0",
        "pre a 1",
        "pre a 2",
        "a",
        "b",
        "last",
    ]
    assert shell_workflows.told(directory / "post") == ["0 0 0"]
    # All is done; the next time is a second pass.
    assert not (directory / "run-workflow.done").exists()


def test_what_has_failed_is_all_that_is_done_again(tmp_path: pathlib.Path) -> None:
    dag = shell_workflows.nodes("abcd")
    dag += f"PARENT a CHILD b\nPARENT c CHILD d\n{shell_workflows.FINAL}"
    script = "echo $0 >> order; test $0 != a -o -e mended"
    directory = shell_workflows.make(
        tmp_path / "w", dag, script=script, lines="max_retries = 2\nretry_until = member(ExitCode, {0, 2})\n"
    )
    with pytest.raises(aggregator.AggregatorError, match="2 succeeded, 1 failed, 1 not run") as caught:
        workflow_run.run(str(directory), 1)
    assert caught.value.exit_code == 1
    assert sorted(shell_workflows.told(directory / "order")) == ["a", "a", "a", "c", "d", "last"]
    assert shell_workflows.told(directory / "post") == ["2 0 1"]
    (directory / "mended").touch()
    account = workflow_run.run(str(directory), 1)
    assert (account.n_before, account.n_succeeded) == (2, 2)
    assert shell_workflows.told(directory / "order")[-3:] == ["a", "b", "last"]


def test_one_node_can_end_all(tmp_path: pathlib.Path) -> None:
    dag = f"{shell_workflows.nodes('ab')}PARENT a CHILD b\n"
    dag += f"RETRY a 3\nABORT-DAG-ON a 9 RETURN 0\n{shell_workflows.FINAL}"
    directory = shell_workflows.make(tmp_path / "w", dag, script="echo $0 >> order; exit 9")
    workflow_run.run(str(directory), 1)
    assert shell_workflows.told(directory / "order") == ["a", "last"]
    assert shell_workflows.told(directory / "post") == ["3 0 1"]


def test_faults_are_refused_before_anything_runs(tmp_path: pathlib.Path) -> None:
    directory = shell_workflows.make(
        tmp_path / "w", "JOB a job.sub\nJOB b job.sub\nPARENT a CHILD b\nPARENT b CHILD a\n"
    )
    with pytest.raises(aggregator.RefusedError, match="circle"):
        workflow_run.run(str(directory), 1)
    assert shell_workflows.told(directory / "order") == []


def test_what_the_last_job_would_be_refused_is_refused(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path
) -> None:
    copy = run.copy(tmp_path / "repo")
    graph_run.execute(str(copy.graph), str(copy.root), run_config.RunConfig(in_process=True))
    config = aggregator.AggregatorConfig(output_path=copy.root / "provenance.qg")
    aggregator.aggregate_graph(copy.graph, copy.root, config)
    aggregator.ingest_graph(copy.root, copy.root / "provenance.qg")
    code, text = written(copy, tmp_path / "w")
    assert code == 2
    assert "holds its provenance graph already" in text
    assert not (tmp_path / "w").exists()


SBATCH = """#!/bin/sh
[ -e {place}/refuses ] && [ "$(wc -l < {place}/submissions)" -ge 3 ] && exit 1
for word; do printf "%s|" "$word"; done >> {place}/submissions
echo >> {place}/submissions
wc -l < {place}/submissions
"""


def test_slurm_gets_all_jobs_or_none(run: plain_runs.PlainRun, tmp_path: pathlib.Path) -> None:
    """What it makes of them, only a real one tells: `make slurm`."""
    directory = tmp_path / "w 'x'"
    options = ("--for", "slurm", "-o", str(directory), "--cluster", "isr,calibrate:visit")
    assert invoke("write-workflow", run.graph, run.root, *options)[0] == 0
    programs = {
        "sbatch": SBATCH.format(place=tmp_path),
        "squeue": f"#!/bin/sh\ncat {tmp_path}/queue\n",
        "scancel": f'#!/bin/sh\necho "$*" > {tmp_path}/cancelled\n',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def submit(*arguments: str) -> int:
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        return subprocess.run([directory / "submit.sh", *arguments], env=environment, check=False).returncode

    (tmp_path / "queue").touch()
    (tmp_path / "refuses").touch()
    assert submit() != 0
    assert shell_workflows.told(tmp_path / "cancelled") == ["1 2 3"]
    for name in ("refuses", "submissions"):
        (tmp_path / name).unlink()
    assert submit("--account=a b") == 0
    submissions = [line.split("|") for line in shell_workflows.told(tmp_path / "submissions")]
    assert {line[1] for line in submissions} == {"--account=a b"}
    assert submissions[1][2] == "--dependency=afterok:1"
    assert submissions[2][2] == "--dependency=afterok:1,afterany:2"
    assert submissions[-1][2] == f"--dependency=afterany:{':'.join(map(str, range(1, len(submissions))))}"
    # One job of an earlier submission is enough.
    (tmp_path / "queue").write_text("77\n2\n")
    assert submit() == 1
    (tmp_path / "queue").write_text("77\n22\n")
    assert submit() == 0


def test_files_for_htcondor_are_accepted_by_its_own_package(
    run: plain_runs.PlainRun, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDOR_CONFIG", "ONLY_ENV")
    htcondor = pytest.importorskip("htcondor2")
    classad = pytest.importorskip("classad2")
    directory = tmp_path / "w 'x'"
    assert written(run, directory, "--cluster", "isr,calibrate:visit", "--max-memory", "10000")[0] == 0
    (tmp_path / "condor_dagman").write_text("#!/bin/sh\n")
    (tmp_path / "condor_dagman").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(directory)
    assert "condor_dagman" in str(htcondor.Submit.from_dag("workflow.dag", {"force": True}))
    # The last one is that of jobs that execute quanta.
    for path in sorted(pathlib.Path("jobs").iterdir(), reverse=True):
        submit = htcondor.Submit(path.read_text())
        assert submit["executable"] == sys.executable
        assert submit.getQArgs() == ""
    assert f"'{directory}'".replace("'x'", "''x''").strip("'") in submit["arguments"]

    def value(key: str, **attributes: object) -> object:
        ad = classad.ClassAd(attributes)
        ad["X"] = classad.ExprTree(submit[key])
        return ad.eval("X")

    out = {"LastHoldReasonCode": 3, "LastHoldReasonSubCode": 34}
    first = value("request_memory", NumJobStarts=0)
    assert [value("request_memory", NumJobStarts=n, **out) for n in (1, 2, 9)] == [
        2 * first,
        min(4 * first, 10000),
        10000,
    ]
    assert value("request_memory", NumJobStarts=1, LastHoldReasonCode=1) == first
    held = {"JobStatus": 5, "JobMaxRetries": 5, "HoldReasonCode": 34}
    assert [value("periodic_release", NumJobStarts=n, **held) for n in (5, 6)] == [True, False]
    assert [value("periodic_remove", NumJobStarts=n, **held) for n in (5, 6)] == [False, True]
    assert value("periodic_release", NumJobStarts=1, **{**held, "HoldReasonCode": 1}) is False
    holds = {code: value("on_exit_hold", ExitBySignal=False, ExitCode=code) for code in (0, 1, 2, 21, 137)}
    assert holds == {0: False, 1: True, 2: False, 21: False, 137: True}
    assert value("on_exit_hold", ExitBySignal=True) is True
    # Records of jobs tell by this what has ended a job.
    reasons = [value("on_exit_hold_reason", ExitBySignal=s, ExitSignal=9, ExitCode=1) for s in (True, False)]
    assert reasons == ["the job was ended by signal 9", "the job ended with exit code 1"]
    ends = {code: value("retry_until", ExitCode=code) for code in (0, 1, 2, 3)}
    assert ends == {0: True, 1: False, 2: True, 3: False}

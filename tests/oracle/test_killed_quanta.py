"""The reference's aggregation tells the same of quanta that were killed, in several attempts, as ours."""

from __future__ import annotations

import pathlib

import pytest

from tests.helpers import executions, plain_runs
from tests.helpers.oracle import difference, real_runs, reference

KILLED = ("FAILED", ("aggregator.QuantumKilled", "its process was killed by SIGKILL"))
EXITED = ("FAILED", ("aggregator.QuantumKilled", "its process ended with exit code 9"))
LATE = ("FAILED", ("aggregator.QuantumTimeout", "it took longer than 1000 seconds"))
FAILED = ("FAILED", ("ValueError", "told to fail"))
GOOD = ("SUCCESSFUL", None)

STORIES = (("kill", "exit", "ok"), ("sleep", "fail", "ok"), ("kill", "kill", "kill"))
EXPECTED = ([KILLED, EXITED, GOOD], [LATE, FAILED, GOOD], [KILLED, KILLED, KILLED])


def test_attempts_of_those_that_were_killed(tmp_path: pathlib.Path) -> None:
    run = plain_runs.make(tmp_path / "run", 60)
    quanta = [data for data in run.quanta() if data.task == "isr"][: len(STORIES)]
    gone = set().union(*({data.id} | executions.descendants(run, data) for data in quanta))
    for modes in zip(*STORIES, strict=True):
        run.tell({"isr": dict(zip(map(executions.key, quanta), modes, strict=True))})
        with pytest.MonkeyPatch.context() as patch:
            if "sleep" in modes:
                executions.hurry(patch, run, len(run.quanta()) - len(gone))
            assert executions.execute(run, timeout=1000.0)[0] == 1
    theirs = run.copy(tmp_path / "theirs")
    path = theirs.root / "provenance.qg"
    reference.aggregate_files(
        str(theirs.graph), str(theirs.root), output_path=str(path), register_dataset_types=True
    )
    executions.aggregated(run).close()
    ours = real_runs.outcome(run.root / "provenance.qg")
    difference.assert_same(ours, real_runs.outcome(path), "provenance")
    assert tuple(ours["quanta"][str(data.id)][3] for data in quanta) == EXPECTED

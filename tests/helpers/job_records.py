"""Records of jobs as batch systems write them, for the quanta of small runs."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from collections.abc import Sequence

import aggregator
from tests.helpers import small_runs

HELD = """\
012 (0700.000.000) 2026-11-30 10:03:00 Job was held.
\tError from slot1_1@node7: Docker job has gone over memory limit of 2048 Mb
\tCode 34 Subcode 0
...
"""
"""A job that ran out of memory."""


def begin(name: str, notes: Sequence[str] = (), job: str = "0700.000.000") -> str:
    """Return the events until a job runs."""
    more = "".join(f"{each}\n" for each in notes)
    return (
        f"000 ({job}) 2026-11-30 10:00:00 Job submitted from host: <10.0.0.1:9618?addrs=10.0.0.1-9618>\n"
        f"    DAG Node: {name}\n...\n"
        f"001 ({job}) 2026-11-30 10:01:00 Job executing on host: "
        "<10.0.0.7:9618?addrs=10.0.0.7-9618&alias=node7.example.org>\n"
        f"\tSlotName: slot1_1@node7.example.org\n\tCpus = 1\n{more}...\n"
        f"006 ({job}) 2026-11-30 10:02:00 Image size of job updated: 2097152\n"
        "\t2048  -  MemoryUsage of job (MB)\n\t2097152  -  ResidentSetSize of job (KB)\n...\n"
    )


def quanta(run: small_runs.SmallRun, copy: pathlib.Path) -> dict[str, tuple[str, list[pathlib.Path]]]:
    """Return task, and log and metadata in the run, of each quantum by its id.

    Parameters
    ----------
    run
        An executed run.
    copy
        Where to aggregate a copy of it, to find out.
    """
    made = small_runs.copy(run, copy)
    made.aggregate()
    result = {}
    with (
        aggregator.Provenance(made.output) as graph,
        contextlib.closing(sqlite3.connect(made.root / "gen3.sqlite3")) as connection,
    ):
        rows = connection.execute("SELECT dataset_id, path FROM file_datastore_records").fetchall()
        paths = {str(dataset_id).replace("-", ""): path for dataset_id, path in rows}
        for quantum in graph.quanta():
            ids = [quantum.outputs[name][0].replace("-", "") for name in ("_log", "_metadata")]
            result[quantum.quantum_id] = (quantum.task_label, [run.root / paths[each] for each in ids])
    return result

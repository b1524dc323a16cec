"""Event logs tell the same here as HTCondor's own package reads, and graphs with stories open elsewhere."""

from __future__ import annotations

import pathlib
import uuid
from typing import Any

import pytest
from aggregator.schemas.jobs import condor_ads, condor_log
from aggregator.schemas.jobs import job_records as records
from lsst.pipe.base import QuantumAttemptStatus
from lsst.pipe.base.quantum_graph import ProvenanceQuantumGraphReader

from tests.helpers import job_records, small_runs

USAGE = """\
\t(0) CPU times
\t\tUsr 0 00:00:05, Sys 0 00:00:00  -  Run Remote Usage
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Local Usage
\t0  -  Run Bytes Sent By Job
\t0  -  Run Bytes Received By Job
"""
RESOURCES = """\
\tPartitionable Resources :    Usage  Request Allocated
\t   Cpus                 :                 1         1
\t   Disk (KB)            :       12       30    200000
\t   Memory (MB)          :     1223     2048      2048
"""
TOTALS = """\
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Remote Usage
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Local Usage
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Total Remote Usage
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Total Local Usage
\t0  -  Run Bytes Sent By Job
\t0  -  Run Bytes Received By Job
\t0  -  Total Bytes Sent By Job
\t0  -  Total Bytes Received By Job
"""

EVENTS = f"""\
{job_records.begin("01_isr_1", job="1234.000.000")}\
007 (1234.000.000) 2026-11-30 10:02:30 Shadow exception!
\tError from slot1_1@node7.example.org: gone over memory limit
\t0  -  Run Bytes Sent By Job
\t0  -  Run Bytes Received By Job
...
{job_records.HELD.replace("0700", "1234")}\
013 (1234.000.000) 2026-11-30 10:03:30 Job was released.
\tThe job attribute PeriodicRelease expression 'x' evaluated to TRUE
...
004 (1234.000.000) 2026-11-30 10:05:00 Job was evicted.
{USAGE}\tclaim was preempted
...
022 (1234.000.000) 2026-11-30 10:05:00 Job disconnected, attempting to reconnect
    Socket between submit and execute hosts closed unexpectedly
    Trying to reconnect to slot1@node8.example.org <10.0.0.8:9618>
...
024 (1234.000.000) 2026-11-30 10:06:00 Job reconnection failed
    Job disconnected too long: JobLeaseDuration (2400 seconds) expired
    Can not reconnect to slot1@node8.example.org, rescheduling job
...
021 (1234.000.000) 2026-11-30 10:06:30 Error from starter on slot1@node8.example.org:
\tFailed to execute '/x'
\tCode 0 Subcode 0
...
028 (1234.000.000) 2026-11-30 10:07:30 Job ad information event triggered.
Arguments = "run-quanta g r --quantum a"
bps_job_name = "x"
Proc = 0
TriggerEventTypeNumber = 5
TriggerEventTypeName = "ULOG_JOB_TERMINATED"
...
005 (1234.000.000) 2026-11-30 10:08:00 Job terminated.
\t(0) Abnormal termination (signal 9)
\t(0) No core file
{TOTALS}{RESOURCES}...
005 (1235.001.000) 2026-11-30 10:08:00 Job terminated.
\t(1) Normal termination (return value 1)
{TOTALS}...
009 (1234.000.000) 2026-11-30 10:09:00 Job was aborted.
\tvia condor_rm (by user alice)
...
"""

JSON = """\
{
    "Cluster": 1234,
    "EventTime": "2026-11-30T10:03:00",
    "EventTypeNumber": 12,
    "HoldReason": "over {memory}",
    "HoldReasonCode": 34,
    "HoldReasonSubCode": 0,
    "MyType": "JobHeldEvent",
    "Proc": 0,
    "Subproc": 0
}
{
    "Cluster": 1234,
    "EventTime": "2026-11-30T10:08:00",
    "EventTypeNumber": 5,
    "MyType": "JobTerminatedEvent",
    "Proc": 0,
    "Subproc": 0,
    "TerminatedBySignal": 9,
    "TerminatedNormally": false
}
"""

XML = """\
<?xml version="1.0"?>
<!DOCTYPE classads SYSTEM "classads.dtd">
<classads>
<c>
    <a n="MyType"><s>JobHeldEvent</s></a>
    <a n="EventTypeNumber"><i>12</i></a>
    <a n="EventTime"><s>2026-11-30T10:03:00</s></a>
    <a n="Cluster"><i>1234</i></a>
    <a n="Proc"><i>0</i></a>
    <a n="Subproc"><i>0</i></a>
    <a n="HoldReason"><s>over &lt;memory></s></a>
    <a n="HoldReasonCode"><i>34</i></a>
    <a n="HoldReasonSubCode"><i>0</i></a>
</c>
<c>
    <a n="MyType"><s>JobTerminatedEvent</s></a>
    <a n="EventTypeNumber"><i>5</i></a>
    <a n="EventTime"><s>2026-11-30T10:08:00</s></a>
    <a n="Cluster"><i>1234</i></a>
    <a n="Proc"><i>0</i></a>
    <a n="Subproc"><i>0</i></a>
    <a n="TerminatedNormally"><b v="f"/></a>
    <a n="TerminatedBySignal"><i>9</i></a>
</c>
"""


@pytest.mark.parametrize(
    ("text", "read", "n_attributes"),
    [(EVENTS, condor_log.read, 19), (JSON, condor_ads.read_json, 12), (XML, condor_ads.read_xml, 12)],
    ids=["text", "JSON", "XML"],
)
def test_events_are_those_that_htcondor_reads(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, text: str, read: Any, n_attributes: int
) -> None:
    monkeypatch.setenv("CONDOR_CONFIG", "ONLY_ENV")
    htcondor = pytest.importorskip("htcondor2")
    path = tmp_path / "log"
    path.write_text(text)
    damage = records.Damage()
    ours = list(read(path.read_text().splitlines(keepends=True), damage))
    theirs = list(htcondor.JobEventLog(str(path)).events(0))
    assert damage.n == 0
    assert [(event.number, event.job) for event in ours] == [
        (int(event.type), f"{event.cluster}.{event.proc}") for event in theirs
    ]
    assert [event.time for event in ours] == [event["EventTime"].replace("T", " ") for event in theirs]
    compared = 0
    for event, oracle in zip(ours, theirs, strict=True):
        for name, value in event.attributes.items():
            assert value == oracle[name], (event.number, name)
            compared += 1
    assert compared >= n_attributes


def test_the_reference_reads_graphs_with_stories(tmp_path: pathlib.Path) -> None:
    run = small_runs.make(tmp_path / "run", 60)
    files = job_records.quanta(run, tmp_path / "copy")
    [quantum, *_] = [each for each, (label, _) in files.items() if label == "calibrate"]
    for path in files[quantum][1]:
        path.unlink()
    log = tmp_path / "jobs.log"
    log.write_text(job_records.begin(f"{quantum}_x") + job_records.HELD)
    run.aggregate(job_records=[log])
    with ProvenanceQuantumGraphReader.open(str(run.output)) as reader:
        reader.read_full_graph()
        graph = reader.graph
        node = graph.quantum_only_xgraph.nodes[uuid.UUID(quantum)]
        assert node["status"] is QuantumAttemptStatus.ABORTED
        [attempt] = node["attempts"]
        assert attempt.exception.type_name == "aggregator.JobOutOfMemory"
        assert attempt.exception.metadata["memory"] == 2 << 30
        assert attempt.resource_usage is None
        assert list(reader.fetch_logs([uuid.UUID(quantum)])[uuid.UUID(quantum)]) == [None]
        table = graph.make_exception_table()
        assert ("calibrate", "aggregator.JobOutOfMemory") in set(
            zip(table["Task"], table["Exception"], strict=True)
        )
        quanta = graph.make_quantum_table()
        assert dict(zip(quanta["Task"], quanta["Aborted"], strict=True))["calibrate"] == 1
        report = graph.make_status_report()
        [told] = report.root["calibrate"]["ABORTED"]["aggregator.JobOutOfMemory"]
        assert str(told.quantum_id) == quantum

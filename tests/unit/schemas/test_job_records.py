"""Records of jobs are read in all forms that batch systems give them, and damage is told."""

from __future__ import annotations

import pathlib

import pytest
from aggregator.schemas.jobs import growing_logs, job_files, job_records

import aggregator
from tests.helpers import job_records as samples

Cause = job_records.Cause

# As Slurm 22.05 wrote them, but for names and places.
JOBCOMP = """\
JobId=6 UserId=root(0) GroupId=root(0) Name=01_isr JobState=FAILED Partition=all TimeLimit=UNLIMITED \
StartTime=2026-12-01T02:58:07 EndTime=2026-12-01T02:58:07 NodeList=node7 NodeCnt=1 ProcCnt=1 \
WorkDir=/data/w 'x' ReservationName= Tres=cpu=1,mem=100M,node=1,billing=1 Account= QOS= WcKey= \
Cluster=unknown SubmitTime=2026-12-01T02:58:04 EligibleTime=2026-12-01T02:58:04 ArrayJobId=1 ArrayTaskId=2 \
DerivedExitCode=0:0 ExitCode=5:0 \n\
JobId=5 UserId=root(0) GroupId=root(0) Name=01_isr JobState=COMPLETED Partition=all TimeLimit=UNLIMITED \
StartTime=2026-12-01T02:58:07 EndTime=2026-12-01T02:58:07 NodeList=node7 NodeCnt=1 ProcCnt=1 \
WorkDir=/data/w 'x' ReservationName= Tres=cpu=1 Account= QOS= WcKey= Cluster=unknown \
SubmitTime=2026-12-01T02:58:04 EligibleTime=2026-12-01T02:58:04 ArrayJobId=1 ArrayTaskId=1 \
DerivedExitCode=0:0 ExitCode=0:0 \n\
JobId=7 UserId=root(0) GroupId=root(0) Name=01_isr JobState=FAILED Partition=all TimeLimit=UNLIMITED \
StartTime=2026-12-01T02:58:08 EndTime=2026-12-01T02:58:08 NodeList=node7 NodeCnt=1 ProcCnt=1 \
WorkDir=/data/w 'x' ReservationName= Tres=cpu=1 Account= QOS= WcKey= Cluster=unknown \
SubmitTime=2026-12-01T02:58:04 EligibleTime=2026-12-01T02:58:04 ArrayJobId=1 ArrayTaskId=3 \
DerivedExitCode=0:0 ExitCode=0:9 \n\
JobId=3 UserId=root(0) GroupId=root(0) Name=03_x JobState=CANCELLED Partition=all TimeLimit=UNLIMITED \
StartTime=2026-12-01T02:58:10 EndTime=2026-12-01T02:58:10 NodeList=(null) NodeCnt=0 ProcCnt=0 \
WorkDir=/data/w 'x' ReservationName= Tres=cpu=1 Account= QOS= WcKey= Cluster=unknown \
SubmitTime=2026-12-01T02:58:04 EligibleTime=unknown DerivedExitCode=0:0 ExitCode=0:0 \n\
"""

SCONTROL = """\
JobId=1 ArrayJobId=1 ArrayTaskId=4 JobName=01_isr UserId=root(0) JobState=RUNNING Reason=None Restarts=0 \
ExitCode=0:0 StartTime=2026-12-01T02:58:08 EndTime=Unknown NodeList=node7 BatchHost=node7 TRES=cpu=1 \
Command=/data/w/quanta.sh quanta/01_isr.ids WorkDir=/data/w StdErr=/data/w/logs/1_4.out Power=x
JobId=2 JobName=alone UserId=root(0) JobState=CANCELLED Reason=DependencyNeverSatisfied ExitCode=0:0 \
StartTime=2026-12-01T02:58:10 EndTime=2026-12-01T02:58:10 NodeList= Command=/data/w/q.sh a b \
WorkDir=/data/w Power=x
JobId=3 ArrayJobId=3 ArrayTaskId=7-9 JobName=03_x UserId=root(0) JobState=CANCELLED Reason=JobHeldUser \
ExitCode=0:0 StartTime=2026-12-01T02:58:10 EndTime=2026-12-01T02:58:10 NodeList= WorkDir=/data/w Power=x
"""

SACCT = """\
JobID|JobName|State|ExitCode|MaxRSS|NodeList|Start|End|WorkDir
11_1|01_isr|COMPLETED|0:0||node7|2026-12-01T02:00:00|2026-12-01T02:10:00|/data/w
11_1.batch|batch|COMPLETED|0:0|900K|node7|2026-12-01T02:00:00|2026-12-01T02:10:00|
11_2|01_isr|OUT_OF_MEMORY|0:125||node8|2026-12-01T02:00:00|2026-12-01T02:10:00|/data/w
11_2.batch|batch|OUT_OF_MEMORY|0:125|2097152K|node8|2026-12-01T02:00:00|2026-12-01T02:10:00|
11_2.extern|extern|COMPLETED|0:0|0|node8|2026-12-01T02:00:00|2026-12-01T02:10:00|
11_3|01_isr|NODE_FAIL|1:0||node9|2026-12-01T02:00:00|2026-12-01T02:11:00|/data/w
11_[4-5,8%2]|01_isr|CANCELLED by 1000|0:0||None assigned|Unknown|2026-12-01T02:12:00|/data/w
12|02_x|TIMEOUT|0:0||node7|2026-12-01T02:00:00|2026-12-01T02:10:00|/data/w
13|03_x|PREEMPTED|0:0||node7|2026-12-01T02:00:00|2026-12-01T02:10:00|/data/w
14|04_x|FAILED|137:0||node7|2026-12-01T02:00:00|2026-12-01T02:10:00|/data/w
15|05_x|PENDING|0:0||None assigned|Unknown|Unknown|/data/w
"""


def read(path: pathlib.Path, text: str) -> tuple[list[job_records.JobRecord], job_records.Damage]:
    path.write_text(text)
    damage = job_records.Damage()
    return list(job_files.read(str(path), damage)), damage


def ends(records: list[job_records.JobRecord]) -> dict[str, tuple[Cause, int | None] | None]:
    """Return cause, and exit code or signal, of each job."""
    return {
        each.job: None if each.end is None else (each.end.cause, each.end.exit_code or each.end.signal)
        for each in records
    }


def test_files_of_jobcomp(tmp_path: pathlib.Path) -> None:
    records, damage = read(tmp_path / "ended.txt", JOBCOMP)
    assert damage.n == 0
    assert ends(records) == {
        "1_2": (Cause.FAILED, 5),
        "1_1": None,
        "1_3": (Cause.KILLED, 9),
        "3": (Cause.REMOVED, None),
    }
    assert {each.directory for each in records} == {"/data/w 'x'"}
    first = records[0]
    assert (first.name, first.element, first.time) == ("01_isr", 2, "2026-12-01 02:58:07")
    assert first.end is not None
    assert first.end.host == "node7"
    assert records[3].end is not None
    assert records[3].end.host == ""


def test_what_scontrol_shows(tmp_path: pathlib.Path) -> None:
    records, damage = read(tmp_path / "jobs.txt", SCONTROL)
    assert damage.n == 0
    assert ends(records) == {
        "1_4": None,
        "2": (Cause.REMOVED, None),
        "3_7": (Cause.REMOVED, None),
        "3_8": (Cause.REMOVED, None),
        "3_9": (Cause.REMOVED, None),
    }
    assert records[1].end is not None
    assert records[1].end.reason == "DependencyNeverSatisfied"
    assert read(tmp_path / "none.txt", "No jobs in the system\n")[0] == []


def test_tables_of_sacct(tmp_path: pathlib.Path) -> None:
    records, damage = read(tmp_path / "table", SACCT)
    assert damage.n == 0
    assert ends(records) == {
        "11_1": None,
        "11_2": (Cause.OUT_OF_MEMORY, None),
        "11_3": (Cause.NODE_LOST, None),
        "11_4": (Cause.REMOVED, None),
        "11_5": (Cause.REMOVED, None),
        "11_8": (Cause.REMOVED, None),
        "12": (Cause.TIME_LIMIT, None),
        "13": (Cause.EVICTED, None),
        "14": (Cause.KILLED, 9),
        "15": None,
    }
    out = records[1]
    assert out.end is not None
    assert (out.end.memory, out.end.host) == (2 << 30, "node8")
    told = job_records.exception(out, out.end)
    assert told.type_name == "aggregator.JobOutOfMemory"
    assert told.message == "Slurm job 11_2 ran out of memory on node8 (2048 MB in use)"
    assert told.metadata["memory"] == 2 << 30


RELEASED = "013 (0700.000.000) 2026-11-30 10:04:00 Job was released.\n\tvia condor_release\n...\n"
AGAIN = "001 (0700.000.000) 2026-11-30 10:05:00 Job executing on host: <10.0.0.8:9618?alias=node8>\n...\n"


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("", None),
        (samples.HELD, (Cause.OUT_OF_MEMORY, None)),
        (samples.HELD + RELEASED, (Cause.OUT_OF_MEMORY, None)),
        # It runs again: nobody knows yet.
        (samples.HELD + RELEASED + AGAIN, None),
        (
            "012 (0700.000.000) 2026-11-30 10:03:00 Job was held.\n\tThe job was ended by signal 9\n"
            "\tCode 3 Subcode 34\n...\n",
            (Cause.KILLED, 9),
        ),
        (
            "012 (0700.000.000) 2026-11-30 10:03:00 Job was held.\n\tthe job ended with exit code 1\n"
            "\tCode 3 Subcode 34\n...\n",
            (Cause.FAILED, 1),
        ),
        (
            "012 (0700.000.000) 2026-11-30 10:03:00 Job was held.\n\tDisk usage is too high\n"
            "\tCode 34 Subcode 104\n...\n",
            (Cause.HELD, None),
        ),
        (
            "012 (0700.000.000) 2026-11-30 10:03:00 Job was held.\n\tit took too long\n"
            "\tCode 47 Subcode 0\n...\n",
            (Cause.TIME_LIMIT, None),
        ),
        (
            "005 (0700.000.000) 2026-11-30 10:03:00 Job terminated.\n"
            "\t(1) Normal termination (return value 0)\n...\n",
            None,
        ),
        (
            "005 (0700.000.000) 2026-11-30 10:03:00 Job terminated.\n"
            "\t(0) Abnormal termination (signal 11)\n\t(0) No core file\n...\n",
            (Cause.KILLED, 11),
        ),
        (
            "009 (0700.000.000) 2026-11-30 10:03:00 Job was aborted.\n\tvia condor_rm (by user a)\n...\n",
            (Cause.REMOVED, None),
        ),
        (
            samples.HELD + "009 (0700.000.000) 2026-11-30 10:09:00 Job was aborted.\n\tPeriodicRemove\n...\n",
            (Cause.OUT_OF_MEMORY, None),
        ),
        ("004 (0700.000.000) 2026-11-30 10:03:00 Job was evicted.\n\t(0) x\n...\n", (Cause.EVICTED, None)),
        (
            "022 (0700.000.000) 2026-11-30 10:03:00 Job disconnected, attempting to reconnect\n"
            "    Socket between submit and execute hosts closed unexpectedly\n...\n",
            (Cause.NODE_LOST, None),
        ),
        (
            "022 (0700.000.000) 2026-11-30 10:03:00 Job disconnected, attempting to reconnect\n    x\n...\n"
            "023 (0700.000.000) 2026-11-30 10:04:00 Job reconnected to slot1@node7\n...\n",
            None,
        ),
    ],
)
def test_ends_of_jobs_of_htcondor(
    tmp_path: pathlib.Path, events: str, expected: tuple[Cause, int | None] | None
) -> None:
    records, damage = read(tmp_path / "log", samples.begin("n1") + events)
    assert damage.n == 0
    assert ends(records) == {"700.0": expected}
    assert records[0].name == "n1"
    if expected is not None:
        end = records[0].end
        assert end is not None
        assert (end.host, end.memory) == ("node7.example.org", 2 << 30)


@pytest.mark.parametrize(
    ("text", "damage"),
    [
        # Cut off in the middle of its last event.
        (samples.begin("n1") + samples.HELD[:-10], "line 14: the last event is not complete"),
        (
            samples.begin("n1") + "\0\0 garbage\n" + samples.HELD,
            "line 12: '\\x00\\x00 garbage' is of no event",
        ),
        (samples.begin("n1")[:-4] + samples.HELD, "line 11: an event was cut off before"),
    ],
)
def test_damage_of_a_log_is_told_and_the_rest_is_read(tmp_path: pathlib.Path, text: str, damage: str) -> None:
    records, told = read(tmp_path / "log", text)
    assert (told.n, told.first) == (1, damage)
    end = records[0].end
    assert end is not None
    assert end.cause in (Cause.OUT_OF_MEMORY, Cause.HELD)


def test_damage_of_tables_is_told(tmp_path: pathlib.Path) -> None:
    records, damage = read(tmp_path / "table", SACCT + "16|x\n17|06_x|FAILED|a:0||n|Unknown|Unknown|/w\n")
    assert (len(records), damage.n) == (10, 2)
    assert damage.first.startswith("line 13: ")
    records, damage = read(tmp_path / "ended.txt", JOBCOMP + "JobId=8 UserId=ro")
    assert (len(records), damage.n) == (4, 1)


def test_no_file_and_other_files_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(aggregator.RefusedError, match="can't read these records"):
        list(job_files.read(str(tmp_path / "none"), job_records.Damage()))
    with pytest.raises(aggregator.RefusedError, match="is no record of jobs that is known"):
        read(tmp_path / "other", "hello\nworld\n")
    assert read(tmp_path / "empty", "")[0] == []


def test_numbers_that_were_damaged_are_left_out(tmp_path: pathlib.Path) -> None:
    digits = "9" * 400
    rows = "JobID|State|ExitCode|MaxRSS", f"1|FAILED|1:0|{digits}", "3|FAILED|1:0|99999999999T"
    table = "\n".join([*rows, f"2|FAILED|{digits}:0|", ""])
    records, damage = read(tmp_path / "table", table)
    assert ends(records) == {"1": (Cause.FAILED, 1), "3": (Cause.FAILED, 1)}
    assert [each.end.memory for each in records if each.end is not None] == [None, None]
    assert damage.n == 1
    ad = "".join(
        f'<a n="{name}"><{kind}>{value}</{kind}></a>'
        for name, kind, value in (
            ("EventTypeNumber", "i", 5),
            ("Cluster", "i", 7),
            ("Proc", "i", 0),
            ("EventTime", "s", "2026-12-01T02:58:07"),
            ("ReturnValue", "i", 1),
            ("MemoryUsage", "r", "nan"),
            ("ResidentSetSize", "i", digits),
        )
    )
    records, damage = read(tmp_path / "ads", f"<c>{ad}</c>\n")
    assert (ends(records), damage.n) == ({"7.0": (Cause.FAILED, 1)}, 0)
    assert records[0].end is not None
    assert records[0].end.memory is None


def test_a_job_that_waits_has_the_time_of_its_submission(tmp_path: pathlib.Path) -> None:
    line = "JobId=5 JobName=x JobState={} SubmitTime=2026-12-01T02:58:04 StartTime=Unknown EndTime=Unknown\n"
    records, _ = read(tmp_path / "jobs", line.format("PENDING"))
    assert (records[0].is_open, records[0].time) == (True, "2026-12-01 02:58:04")
    records, _ = read(tmp_path / "jobs", line.format("COMPLETED"))
    assert not records[0].is_open


class TestGrowingLogs:
    """What is read again while it grows is what a whole file tells."""

    EVENTS = "".join(samples.begin(f"node{n}", job=f"{n:04}.000.000") + samples.HELD for n in range(1, 40))

    def records(self, path: pathlib.Path) -> list[job_records.JobRecord]:
        return list(job_files.read(str(path), job_records.Damage()))

    def test_any_number_of_bytes_can_be_appended(self, tmp_path: pathlib.Path) -> None:
        path, whole = tmp_path / "a.log", tmp_path / "whole.log"
        content, logs = self.EVENTS.encode(), growing_logs.GrowingLogs()
        for end in (0, 100, 700, 701, 4000, 4000, 9000, len(content) - 2, len(content)):
            path.write_bytes(content[:end])
            complete = content[:end].rpartition(b"\n...\n")
            whole.write_bytes(b"".join(complete[:2]))
            damage = job_records.Damage()
            assert list(logs.read(str(path), damage)) == self.records(whole)
            assert not damage.n

    def test_what_was_read_is_not_read_again(self, tmp_path: pathlib.Path) -> None:
        path, logs = tmp_path / "a.log", growing_logs.GrowingLogs()
        path.write_text(self.EVENTS)
        before = list(logs.read(str(path), job_records.Damage()))
        size = path.stat().st_size
        with path.open("r+b") as stream:
            stream.seek(1000)
            stream.write(b"x" * (size - 2000))
            stream.seek(size)
            stream.write(b"no event\n" + samples.begin("later", job="0900.000.000").encode())
        damage = job_records.Damage()
        *same, later = logs.read(str(path), damage)
        assert same == before
        assert (later.job, later.is_open) == ("900.0", True)
        number = self.EVENTS.count("\n") + 1
        assert (damage.n, damage.first) == (1, f"line {number}: 'no event' is of no event")
        # The next time it still is known.
        list(logs.read(str(path), again := job_records.Damage()))
        assert again == damage

    @pytest.mark.parametrize("how", ["shorter", "replaced", "written over"])
    def test_another_file_is_read_as_a_whole(self, tmp_path: pathlib.Path, how: str) -> None:
        path, logs = tmp_path / "a.log", growing_logs.GrowingLogs()
        path.write_text(self.EVENTS)
        list(logs.read(str(path), job_records.Damage()))
        events = self.EVENTS.replace("node7", "other")
        if how == "replaced":
            (tmp_path / "new").write_text(events + events)
            (tmp_path / "new").rename(path)
        else:
            path.write_text(
                events[: events.index("...\n", 3000) + 4] if how == "shorter" else f"{SACCT}{events}"
            )
        assert list(logs.read(str(path), job_records.Damage())) == self.records(path)

    @pytest.mark.parametrize("text", [JOBCOMP, SCONTROL, SACCT, ""])
    def test_other_formats_are_read_as_a_whole(self, tmp_path: pathlib.Path, text: str) -> None:
        path, logs = tmp_path / "a.txt", growing_logs.GrowingLogs()
        for _ in range(2):
            path.write_text(text)
            assert list(logs.read(str(path), job_records.Damage())) == self.records(path)
        with pytest.raises(aggregator.RefusedError, match="can't read these records"):
            logs.read(str(tmp_path / "none"), job_records.Damage()).__next__()

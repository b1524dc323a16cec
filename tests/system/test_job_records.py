"""Records of jobs tell what became of quanta that have left no files, and of no other."""

from __future__ import annotations

import dataclasses
import pathlib
import time

import pytest
from aggregator.schemas.graphs import addresses, nodes
from click import testing

import aggregator
from aggregator.aggregation import job_stories
from aggregator.command_line import main
from tests.helpers import job_records, small_runs


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A run in which quanta can lose their files."""

    run: small_runs.SmallRun
    files: dict[str, tuple[str, list[pathlib.Path]]]

    def ids(self, task: str) -> list[str]:
        return [quantum for quantum, (label, _) in self.files.items() if label == task]

    def lose(self, *quanta: str) -> None:
        for quantum in quanta:
            for path in self.files[quantum][1]:
                path.unlink()

    def write(self, text: str, name: str = "jobs.log") -> pathlib.Path:
        path = self.run.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def quantum(self, quantum: str) -> nodes.Quantum:
        with aggregator.Provenance(self.run.output) as graph:
            return graph.quantum(quantum)

    def last(self, quantum: str) -> nodes.Attempt:
        return self.quantum(quantum).attempts[-1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Case:
    root = tmp_path_factory.mktemp("records")
    run = small_runs.make(root / "run", 60)
    return Case(run, job_records.quanta(run, root / "copy"))


@pytest.fixture
def case(made: Case, tmp_path: pathlib.Path) -> Case:
    run = small_runs.copy(made.run, tmp_path / "run")
    files = {
        quantum: (label, [run.root / path.relative_to(made.run.root) for path in paths])
        for quantum, (label, paths) in made.files.items()
    }
    return Case(run, files)


def held(quantum: str) -> str:
    """Return a log like that of bps, whose nodes have the id of their quantum in the name."""
    return job_records.begin(f"{quantum}_calibrate_1_2") + job_records.HELD


def test_a_quantum_without_files_has_the_story_of_its_job(case: Case) -> None:
    [quantum, *_] = case.ids("calibrate")
    case.lose(quantum)
    summary = case.run.aggregate(job_records=[case.write(held(quantum))])
    assert summary.status_counts()["ABORTED"] == 1
    last = case.last(quantum)
    assert last.status == aggregator.Status.ABORTED
    assert last.exception is not None
    assert last.exception.type_name == "aggregator.JobOutOfMemory"
    assert last.exception.metadata == {
        "system": "HTCondor",
        "job": "700.0",
        "name": f"{quantum}_calibrate_1_2",
        "host": "node7.example.org",
        "memory": 2 << 30,
        "time": "2026-11-30 10:03:00",
    }
    # What comes after it is blocked, as after any failure.
    assert summary.status_counts()["BLOCKED"] > 0
    shown = testing.CliRunner().invoke(main.main, ["show", str(case.run.output), "--failed"]).output
    assert "HTCondor job 700.0 ran out of memory on node7.example.org (2048 MB in use)" in shown
    told = testing.CliRunner().invoke(main.main, ["provenance-report", str(case.run.output)]).output
    assert "JobOutOfMemory" in told


def test_files_know_better(case: Case) -> None:
    first, second, third, *_ = case.ids("isr")
    log, metadata = range(2)
    case.files[first][1][log].unlink()
    case.files[second][1][metadata].unlink()
    logs = [held(each).replace("0700.", f"070{n}.") for n, each in enumerate((first, second, third))]
    case.run.aggregate(job_records=[case.write("".join(logs))])
    statuses = [aggregator.Status(case.last(quantum).status).name for quantum in (first, second, third)]
    assert statuses == ["ABORTED_SUCCESS", "FAILED", "SUCCESSFUL"]


def test_other_records_are_noticed_by_the_next_run(case: Case) -> None:
    quantum, other, *_ = case.ids("calibrate")
    case.lose(quantum, other)

    def story(*records: pathlib.Path) -> list[tuple[str, str | None]]:
        summary = case.run.aggregate(job_records=records, keep_checkpoint=True)
        reused.append(summary.n_reused)
        lasts = [case.last(each) for each in (quantum, other)]
        return [
            (aggregator.Status(last.status).name, last.exception.type_name if last.exception else None)
            for last in lasts
        ]

    reused: list[int] = []
    memory, nothing = ("ABORTED", "aggregator.JobOutOfMemory"), ("FAILED", None)
    path = case.write(held(quantum))
    assert story() == [nothing, nothing]
    assert story(path) == [memory, nothing]
    assert story(path) == [memory, nothing]
    case.write(
        held(quantum) + "009 (0700.000.000) 2026-11-30 11:00:00 Job was aborted.\n\tvia condor_rm\n...\n"
    )
    assert story(path) == [memory, nothing]
    message = case.last(quantum).exception.message  # type: ignore[union-attr]
    assert message.endswith("; removed (via condor_rm)")
    case.write(held(other), "other.log")
    assert story(path, case.run.root / "other.log") == [memory, memory]
    assert story() == [nothing, nothing]
    n = len(case.files)
    # Only quanta whose story is another one are read again.
    assert reused == [0, n - 1, n, n - 1, n - 1, n - 2]


@pytest.mark.parametrize("system", ["htcondor", "slurm", "exact"])
def test_quanta_of_workflows_are_those_of_their_jobs(case: Case, tmp_path: pathlib.Path, system: str) -> None:
    directory = tmp_path / "w 'x'"
    options = ["--for", system] if system != "exact" else ["--for", "slurm", "--exact"]
    options += ["-o", str(directory), "--cluster", "isr,calibrate:visit,detector"]
    arguments = ["write-workflow", str(case.run.predicted), str(case.run.root), *options]
    done = testing.CliRunner().invoke(main.main, arguments)
    assert done.exit_code == 0, done.output
    cluster = case.ids("calibrate")[0]
    [file] = [path for path in (directory / "quanta").iterdir() if cluster in path.read_text()]
    lines = file.read_text().splitlines()
    [line] = [number for number, text in enumerate(lines, 1) if cluster in text]
    both = lines[line - 1].split(",")
    assert len(both) == 2
    case.lose(*both)
    if system == "htcondor":
        dag = (directory / "workflow.dag").read_text().splitlines()
        place = f'quantum_file="quanta/{file.name}" quantum_line="{line}"'
        [name] = [text.split()[1] for text in dag if place in text]
        (directory / "workflow.nodes.log").write_text(job_records.begin(name) + job_records.HELD)
        records = directory / "workflow.nodes.log"
    else:
        name = file.name.removesuffix(".ids")
        array = f"ArrayJobId=4 ArrayTaskId={line} "
        if system == "exact":
            script = (directory / "submit.sh").read_text().splitlines()
            [submission] = [text for text in script if f"quanta/{file.name} {line})" in text]
            name, array = submission.partition("--job-name=")[2].split()[0], ""
        records = case.write(
            f"JobId=5 UserId=u(1) GroupId=g(1) Name={name} JobState=OUT_OF_MEMORY Partition=all TimeLimit=1 "
            f"StartTime=2026-12-01T02:58:07 EndTime=2026-12-01T02:59:07 NodeList=node7 NodeCnt=1 ProcCnt=1 "
            f"WorkDir={directory} ReservationName= Tres=cpu=1 Account= QOS= WcKey= Cluster=c "
            f"SubmitTime=2026-12-01T02:58:04 EligibleTime=2026-12-01T02:58:04 {array}DerivedExitCode=0:0 "
            "ExitCode=0:125 \n"
        )
    case.run.aggregate(job_records=[records])
    # The second one needs the first.
    assert [len(case.quantum(each).attempts) for each in both] == [1, 0]
    last = case.last(both[0])
    assert last.exception is not None
    assert last.exception.type_name == "aggregator.JobOutOfMemory"


def test_clusters_of_bps_are_in_the_arguments_of_their_jobs(case: Case) -> None:
    first, second, *_ = case.ids("isr")
    case.lose(first, second)
    case.write(
        "universe = vanilla\nexecutable = /sw/pipetask\n"
        f'arguments = "run-qbb /repo run.qg --qgraph-node-id {first},{second} --summary x"\nqueue\n',
        "jobs/isr.sub",
    )
    case.write('JOB isr_7_1 "isr.sub" DIR "jobs"\nVARS isr_7_1 a="b"\nRETRY isr_7_1 3\n', "run.dag")
    case.run.aggregate(job_records=[case.write(job_records.begin("isr_7_1") + job_records.HELD)])
    assert {case.last(each).status for each in (first, second)} == {aggregator.Status.ABORTED}


def test_damage_and_jobs_of_others_are_told(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    [quantum, *_] = case.ids("calibrate")
    case.lose(quantum)
    stranger = "8e62c569-ae2e-44e8-be36-d1aee333a129"
    text = held(stranger).replace("0700.", "0699.") + held("init").replace("0700.", "0698.") + held(quantum)
    path = case.write(text + "012 (0701.000.000) 2026-11-30 10:03:00 Job was he")
    case.run.aggregate(job_records=[path])
    assert case.last(quantum).status == aggregator.Status.ABORTED
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    damage, foreign = (text for text in told if str(path) in text)
    assert "1 records can't be read" in damage
    assert "3 of 4 jobs without success are of no quantum of this graph" in foreign


def test_records_that_are_none_are_refused_before_anything_is_done(case: Case) -> None:
    for path in (case.run.root / "none.log", case.write("hello\n")):
        before = sorted(case.run.root.rglob("*"))
        with pytest.raises(aggregator.RefusedError, match=r"records? of jobs"):
            case.run.aggregate(job_records=[path])
        assert sorted(case.run.root.rglob("*")) == before
    for records in (str(path), [3]):
        with pytest.raises(aggregator.RefusedError, match="job_records must be a list of paths"):
            case.run.aggregate(job_records=records)
    path = case.write(held(case.ids("isr")[0]))
    with pytest.raises(aggregator.RefusedError, match="a file with records of jobs"):
        case.run.aggregate(job_records=[path], output_path=str(path))


REQUEUED = "004 (0700.000.000) 2026-11-30 11:00:00 Job was evicted.\n\t(0) CPU times\n...\n"
RELEASED = "013 (0700.000.000) 2026-11-30 11:00:00 Job was released.\n\tvia condor_release\n...\n"


def sacct(*rows: str) -> str:
    """Return a table of jobs of one workflow, which name their quanta."""
    return "\n".join(["JobID|JobName|State|ExitCode|Start|End|WorkDir", *rows, ""])


def test_jobs_that_are_in_a_queue_have_no_story_while_the_campaign_goes_on(case: Case) -> None:
    quantum = case.ids("calibrate")[0]
    failed = f"12|{quantum}_x|FAILED|1:0|2026-12-01T01:00:00|2026-12-01T02:00:00|/w"
    ids = addresses.parse_ids(sorted(case.files))
    texts = {
        "released": held(quantum) + RELEASED,
        "requeued": job_records.begin(f"{quantum}_x") + REQUEUED,
        "waits": sacct(failed, f"13|{quantum}_x|PENDING|0:0|Unknown|Unknown|/w"),
        "elsewhere": sacct(failed, f"13|{quantum}_y|RUNNING|0:0|2026-12-01T03:00:00|Unknown|/other"),
    }
    for text in texts.values():
        files = job_stories.read([str(case.write(text))])
        assert job_stories.resolve(files, ids, incomplete=True).of(quantum) is None
    both = [str(case.write(each, name)) for each, name in ((sacct(failed), "1"), (texts["elsewhere"], "2"))]
    for paths in (both, both[::-1]):
        assert job_stories.resolve(job_stories.read(paths), ids, incomplete=True).of(quantum) is None
    # At the end the last thing that became of it is all that is known.
    assert job_stories.resolve(job_stories.read(both[:1]), ids, incomplete=True).of(quantum) is not None
    assert job_stories.resolve(job_stories.read(both), ids).of(quantum) is not None


@pytest.mark.parametrize("zone", ["Z", ".5Z", "+00:00", "+0000"])
def test_times_of_different_zones_are_compared(
    case: Case, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """Some pools log in UTC, and Slurm has the time of the place."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    quantum = case.ids("calibrate")[0]
    ids = addresses.parse_ids(sorted(case.files))
    first = held(quantum).replace("10:03:00", f"10:03:00{zone}")
    assert zone in first
    paths = [case.write(first, "1")]
    for hour, is_later in (("10:30", False), ("11:30", True)):
        row = f"12|{quantum}_x|FAILED|1:0|2026-11-30T01:00:00|2026-11-30T{hour}:00|/w"
        files = job_stories.read([str(each) for each in (*paths, case.write(sacct(row), "2"))])
        story = job_stories.resolve(files, ids).of(quantum)
        assert story is not None
        assert (story.type_name == "aggregator.JobFailed") == is_later
    monkeypatch.undo()
    time.tzset()


def test_what_comes_later_in_a_log_is_later(case: Case) -> None:
    """Dates of old pools have no year, and come after those of the next one."""
    quantum = case.ids("calibrate")[0]
    ids = addresses.parse_ids(sorted(case.files))
    first = held(quantum).replace("2026-11-30", "12/31")
    second = job_records.begin(f"{quantum}_calibrate_1_2", job="0701.000.000").replace("2026-11-30", "01/01")
    done = (
        "005 (0701.000.000) 01/01 10:05:00 Job terminated.\n\t(1) Normal termination (return value 0)\n...\n"
    )
    files = job_stories.read([str(case.write(first + second + done))])
    assert len(job_stories.resolve(files, ids)) == 0
    files = job_stories.read([str(case.write(first))])
    assert len(job_stories.resolve(files, ids)) == 1


def test_jobs_of_a_workflow_elsewhere_are_none_of_the_one_beside_their_records(
    case: Case, tmp_path: pathlib.Path
) -> None:
    directory = tmp_path / "w"
    arguments = ["write-workflow", str(case.run.predicted), str(case.run.root), "--for", "slurm"]
    done = testing.CliRunner().invoke(main.main, [*arguments, "-o", str(directory)])
    assert done.exit_code == 0, done.output
    name = next(path.stem for path in (directory / "quanta").iterdir())
    row = f"12_1|{name}|OUT_OF_MEMORY|0:125|2026-12-01T01:00:00|2026-12-01T02:00:00|"
    ids = addresses.parse_ids(sorted(case.files))
    n_told = []
    for where in (directory, tmp_path / "gone", ""):
        path = directory / "jobs.txt"
        path.write_text(sacct(row + str(where)))
        n_told.append(len(job_stories.resolve(job_stories.read([str(path)]), ids)))
    assert n_told == [1, 0, 1]

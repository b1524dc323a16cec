"""Workflows: which quanta share a job, what waits for what, and the files that say so."""

from __future__ import annotations

import os
import pathlib
import re
import uuid
from typing import Any

import pytest
from aggregator.execution import readiness
from aggregator.execution.workflows import (
    clusters,
    condor_workflow,
    dag_faults,
    dag_files,
    dag_schedule,
    slurm_workflow,
    submit_files,
    workflow,
)
from aggregator.storage import errors

ODD = '/a b/o\'ne "two" $(three)/é\\%j'
"""A path with all that files, shells and macros take for something else."""


def campaign(visits: int = 2, detectors: int = 3) -> list[readiness.QuantumData]:
    """Return the quanta of a small campaign: step, join by visit, coadd by patch, and one sink."""
    ids = (uuid.UUID(int=number) for number in range(1, 1000))
    pairs = [(visit, detector) for visit in range(1, visits + 1) for detector in range(1, detectors + 1)]
    steps = {pair: data(next(ids), "step", visit=pair[0], detector=pair[1]) for pair in pairs}
    joins = [
        data(next(ids), "join", *(steps[pair].id for pair in pairs if pair[0] == visit), visit=visit)
        for visit in range(1, visits + 1)
    ]
    coadds = [
        data(next(ids), "coadd", *(steps[pair].id for pair in pairs if pair[1] == detector), patch=detector)
        for detector in range(1, detectors + 1)
    ]
    sink = data(next(ids), "sink", *(each.id for each in [*joins, *coadds]))
    return [*steps.values(), *joins, *coadds, sink]


def data(quantum_id: uuid.UUID, task: str, *before: uuid.UUID, **values: int | str) -> readiness.QuantumData:
    return readiness.QuantumData(None, task, quantum_id, frozenset(before), values)


def members(made: list[clusters.Cluster]) -> dict[str, tuple[int, list[str]]]:
    """Return the number of quanta, and the names of the parents, by name."""
    return {each.name: (len(each.quanta), [made[n].name for n in each.parents]) for each in made}


def test_each_quantum_has_a_job_of_its_own() -> None:
    quanta = campaign()
    made = clusters.make(quanta, [])
    assert {each.quanta for each in made} == {(q.id,) for q in quanta}
    by_id = {each.quanta[0]: each for each in made}
    for quantum in quanta:
        assert {made[n].quanta[0] for n in by_id[quantum.id].parents} == quantum.prerequisites
    assert all(parent < place for place, each in enumerate(made) for parent in each.parents)


def test_quanta_with_the_same_values_share_a_job() -> None:
    made = clusters.make(
        campaign(), [clusters.definition("step, join : visit"), clusters.definition("coadd")]
    )
    assert members(made) == {
        "1_step_join_1": (4, []),
        "2_step_join_2": (4, []),
        "3_coadd": (3, ["1_step_join_1", "2_step_join_2"]),
        "4_sink": (1, ["1_step_join_1", "2_step_join_2", "3_coadd"]),
    }
    order = {quantum.id: place for place, quantum in enumerate(campaign())}
    assert all(list(each.quanta) == sorted(each.quanta, key=order.__getitem__) for each in made)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["step,sink"], "Jobs would need each other in a circle"),
        (["step:patch"], "does not require the dimension 'patch'. It has visit, detector"),
        (["stop"], "'stop' is no task of the graph. It has coadd, join, sink, step"),
        (["step", "join,step"], "'step' is in two clusters"),
        ([" :visit"], "defines no cluster"),
    ],
)
def test_definitions_that_do_not_fit(texts: list[str], message: str) -> None:
    def make() -> None:
        definitions = [clusters.definition(text) for text in texts]
        clusters.check(definitions, ["step", "join", "coadd", "sink"])
        clusters.make(campaign(), definitions)

    with pytest.raises(errors.RefusedError, match=re.escape(message)):
        make()


def test_arrays_have_clusters_of_one_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_MOST_PER_ARRAY", 4)
    made = clusters.make(campaign(), [])
    arrays = clusters.arrays(made)
    assert sorted(n for array in arrays for n in array.members) == list(range(len(made)))
    of = {n: place for place, array in enumerate(arrays) for n in array.members}
    for place, array in enumerate(arrays):
        assert {label for n in array.members for label in made[n].labels} == set(array.labels)
        assert set(array.parents) == {of[parent] for n in array.members for parent in made[n].parents}
        assert all(parent < place for parent in array.parents)
    assert [(array.name, len(array.members)) for array in arrays] == [
        ("1_step", 4), ("2_step", 2), ("3_join", 2), ("4_coadd", 3), ("5_sink", 1),
    ]  # fmt: skip


def test_an_array_never_waits_for_itself() -> None:
    ids = [uuid.UUID(int=number) for number in range(1, 4)]
    chain = [data(ids[0], "chain"), data(ids[1], "chain", ids[0]), data(ids[2], "chain", ids[1])]
    arrays = clusters.arrays(clusters.make(chain, []))
    assert [(array.members, array.parents) for array in arrays] == [((0,), ()), ((1,), (0,)), ((2,), (1,))]


def test_names_are_those_that_every_batch_system_takes() -> None:
    odd = [data(uuid.UUID(int=n), "is:r+1.b", instrument="Ca m/ä", visit=n) for n in (1, 2)]
    names = [each.name for each in clusters.make([*odd], [])]
    assert names == ["1_is_r_1_b_Ca_m_1", "2_is_r_1_b_Ca_m_2"]
    long = clusters.make([data(uuid.UUID(int=1), "x" * 300)], [])
    assert len(long[0].name) < 80


def jobs(**changes: Any) -> workflow.Workflow:
    made = clusters.make(campaign(), [clusters.definition("step,join:visit")])
    values = {
        "directory": ODD, "program": (f"{ODD}/python", "-m", "aggregator"), "graph": f"{ODD}/predicted.qg",
        "repository": ODD, "provenance": "/p.qg", "clusters": made, "arrays": clusters.arrays(made),
        "resources": workflow.Resources(memories={"join": 3000}), **changes,
    }  # fmt: skip
    return workflow.Workflow(**values)


def write(directory: pathlib.Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (directory / path).parent.mkdir(exist_ok=True)
        (directory / path).write_text(text)
        (directory / path).chmod(0o755)


def faults(directory: pathlib.Path) -> tuple[dag_files.Dag, list[str]]:
    dag, wrong = dag_files.read((directory / condor_workflow.DAG).read_text().splitlines())
    return dag, [str(each) for each in [*wrong, *dag_faults.find(dag, str(directory))[1]]]


def test_files_for_htcondor_have_no_faults_and_say_all(tmp_path: pathlib.Path) -> None:
    made = jobs()
    write(tmp_path, files := dict(condor_workflow.files(made)))
    dag, wrong = faults(tmp_path)
    assert wrong == []
    assert list(files)[-1] == condor_workflow.DAG
    parents: dict[str, set[str]] = {}
    for parent, child in dag.edges:
        parents.setdefault(child, set()).add(parent)
    for each in made.clusters:
        assert parents[each.name] == ({made.clusters[n].name for n in each.parents} or {"init"})
    assert dag.final is not None
    assert dag.final.post == ("final_post.sh", "$DAG_STATUS", "$RETURN")
    for each in made.clusters:
        node = dag.nodes[each.name]
        submit = submit_files.read(files[node.submit])
        command = submit.command(node.variables)
        assert command[: len(made.payload())] == made.payload()
        *_, option, file, line_option, line = command
        assert (option, line_option) == ("--quantum-file", "--line")
        ids = files[file.removeprefix(f"{ODD}/")].splitlines()[int(line) - 1]
        assert ids == ",".join(map(str, each.quanta))
    submit = submit_files.read(files[dag.final.submit])
    log = f"{ODD}/{submit_files.LOG}"
    assert submit.command(dag.final.variables) == made.final("--job-records", log)
    # The last job finds it, be there HTCondor or not.
    assert files[submit_files.LOG] == ""
    assert (submit.retries, submit.final_codes) == (5, {0, 2, 20, 21})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("PARENT b CHILD a", "the DAG: nodes need each other in a circle"),
        ("PARENT a CHILD c", "line 5: there is no node c"),
        ("JOB a job.sub", "line 5: node a is there twice"),
        ("FINAL g job.sub", "line 5: g is a second FINAL node"),
        ("JOB c none.sub", "none.sub: can't be read (No such file or directory)"),
        ("JOB c", "line 5: a node has a name and a file"),
        ("JOB c.d job.sub", "line 5: c.d can't be the name of a node"),
        ("JOB Parent job.sub", "line 5: Parent can't be the name of a node"),
        ("RETRY a many", "line 5: RETRY has a node, a number"),
        ("RETRY a 3 UNLESS-EXIT", "line 5: RETRY has a node, a number"),
        ("RETRY", "line 5: RETRY has a node, a number"),
        ("RETRY f 3", "line 5: f is the FINAL node, which can't have that"),
        ("PARENT a CHILD f", "line 5: f is the FINAL node"),
        ("VARS a x=1", "line 5: VARS has a node and macros"),
        ("SCRIPT PRE a none.sh", "none.sh: is no program"),
        ("SCRIPT NOW a job.sub", "line 5: SCRIPT has PRE or POST"),
        ("ABORT-DAG-ON a", "line 5: ABORT-DAG-ON has a node"),
        ("SPLICE a other.dag", "line 5: SPLICE is no command that is known here"),
        ("JOB c odd.sub", "odd.sub: retry_until is no list of exit codes"),
        ("JOB c two.sub", "two.sub: it has to queue one job"),
    ],
)
def test_faults_of_a_dag_are_found(tmp_path: pathlib.Path, lines: str, message: str) -> None:
    job = "executable = /bin/true\n"
    odd = f"{job}retry_until = ExitCode > 1\nqueue\n"
    write(tmp_path, {"job.sub": f"{job}queue\n", "odd.sub": odd, "two.sub": f"{job}queue\nqueue\n"})
    good = "JOB a job.sub\nJOB b job.sub\nPARENT a CHILD b\nFINAL f job.sub\n"
    (tmp_path / condor_workflow.DAG).write_text(good)
    assert faults(tmp_path)[1] == []
    (tmp_path / condor_workflow.DAG).write_text(f"{good}{lines}\n")
    assert [text for text in faults(tmp_path)[1] if message in text] != []


def test_a_dag_is_read_as_it_was_written() -> None:
    nodes = {
        "a": dag_files.Node(
            "a", "a.sub", {"x": 'quo"ted \\ text'}, ("pre", "$JOB"), ("post", "$RETURN"), 3, 2
        ),
        "b": dag_files.Node("b", "a.sub", abort=dag_files.Abort(9, 1)),
    }
    nodes |= {f"n{n}": dag_files.Node(f"n{n}", "n.sub") for n in range(120)}
    dag = dag_files.Dag(nodes, tuple(("a", f"n{n}") for n in range(120)), dag_files.Node("f", "f.sub"))
    assert dag_files.read("".join(dag_files.write(dag)).splitlines()) == (dag, [])


def schedule(text: str, done: set[str] | None = None) -> dag_schedule.DagSchedule:
    dag, wrong = dag_files.read(text.splitlines())
    assert not wrong
    return dag_schedule.DagSchedule(dag, done or set())


def ready(known: dag_schedule.DagSchedule) -> list[str]:
    return [node.name for node in known.ready()]


CHAIN = "JOB a j\nJOB b j\nJOB c j\nJOB d j\nPARENT a CHILD b c\nPARENT b c CHILD d\n"


def test_a_node_waits_for_all_its_parents() -> None:
    known = schedule(CHAIN)
    assert ready(known) == ["a"]
    assert known.finish("a", 0)
    assert ready(known) == ["b", "c"]
    known.finish("c", 0)
    assert ready(known) == []
    known.finish("b", 0)
    assert ready(known) == ["d"]
    known.finish("d", 0)
    assert (ready(known), known.failed, known.status) == ([], [], dag_schedule.DagStatus.FINE)


def test_a_failure_stops_what_needs_it_after_all_tries() -> None:
    known = schedule(f"{CHAIN}RETRY b 2 UNLESS-EXIT 7\n", {"a"})
    assert ready(known) == ["b", "c"]
    known.finish("c", 0)
    for tries in (1, 2):
        assert not known.finish("b", 1)
        assert (ready(known), known.tries["b"]) == (["b"], tries)
    known.finish("b", 1)
    assert (ready(known), known.failed, known.status) == ([], ["b"], dag_schedule.DagStatus.NODE_FAILED)


def test_one_code_is_not_tried_again_and_one_ends_all() -> None:
    known = schedule(f"{CHAIN}RETRY b 2 UNLESS-EXIT 7\nRETRY c 2\nABORT-DAG-ON c 9 RETURN 5\n", {"a"})
    assert ready(known) == ["b", "c"]
    known.finish("b", 7)
    assert known.failed == ["b"]
    known.finish("c", 9)
    assert (ready(known), known.result, known.status) == ([], 5, dag_schedule.DagStatus.ABORTED)


def test_slurm_jobs_wait_for_those_that_they_need() -> None:
    made = jobs()
    text = dict(slurm_workflow.files(made, is_exact=True))[slurm_workflow.SUBMIT]
    assert f'c3=$(submit "afterok:$init,afterany:$c0:$c1" --job-name={made.clusters[3].name} ' in text
    assert 'final=$(submit "afterany:$init:$c0:$c1:$c2:$c3:$c4:$c5" aggregate.sh)' in text
    text = dict(slurm_workflow.files(made, is_exact=False))[slurm_workflow.SUBMIT]
    assert 'a0=$(submit "afterok:$init" --array=1-2 --job-name=1_step_join --mem=3000M' in text
    assert 'a2=$(submit "afterok:$init,afterany:$a0:$a1" --array=1-1 --job-name=3_sink --mem=2048M' in text


@pytest.mark.parametrize("path", ["/a\nb", "/a\x85b", "/a\u2028b", os.fsdecode(b"/a\xff")])
def test_paths_that_can_t_stand_in_a_line_are_refused(path: str) -> None:
    with pytest.raises(errors.RefusedError, match="can't stand in a workflow"):
        jobs(graph=path).check()


@pytest.mark.parametrize("path", ["/end ", "/end\\"])
def test_ends_of_lines_that_htcondor_reads_in_its_own_way_are_refused(path: str) -> None:
    made = jobs(directory=path)
    made.check()
    with pytest.raises(errors.RefusedError, match="can't stand in a file for HTCondor"):
        list(condor_workflow.files(made))
    assert list(slurm_workflow.files(made, is_exact=False))

"""A workflow as files for Slurm: a script for each kind of jobs, and one that submits them all."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from aggregator.execution.workflows import workflow

SUBMIT = "submit.sh"
"""The script that submits all jobs."""

ACCOUNTING = "accounting.txt"
"""What the accounting has of all jobs when the last one begins."""

KNOWN = "jobs.txt"
"""What is known of jobs then where there is no accounting; more is added each time."""

_TRIES_OF_FINAL = 3
_QUANTA = "quanta.sh"
_NAME = "--job-name="
_SUBMISSION = re.compile(rf".* {_NAME}(?P<name>\S+) .*{_QUANTA} (?P<file>\S+)(?: (?P<line>\d+))?\)")

_HEAD = """\
#!/bin/bash
# Submits all jobs of a workflow. Its arguments are given to sbatch for each: --account=..., --time=...
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"

# Two jobs must never execute the same quantum at a time.
exec 9> submit.lock
flock --nonblock 9 || { echo "Another one is submitting this workflow." >&2; exit 1; }
if [[ -s submitted ]]; then
    queued=$(squeue --noheader --format=%F)
    if grep -qFxf submitted <<< "$queued"; then
        echo "Jobs of this workflow are in the queue: wait for them, or cancel those in $PWD/submitted." >&2
        exit 1
    fi
fi
options=("$@")
: > submitted

submit() {  # DEPENDENCY SCRIPT [ARGUMENT...]; prints the job's id
    local id
    id=$(sbatch --parsable "${options[@]}" ${1:+"--dependency=$1"} "${@:2}") || return
    id=${id%%;*}
    echo "$id" >> submitted
    echo "$id"
}

# All or nothing: without its last job, a campaign would end unnoticed.
cancel() {
    echo "Not everything could be submitted; what was is cancelled." >&2
    xargs --no-run-if-empty scancel < submitted
}
trap cancel ERR

"""


def files(jobs: workflow.Workflow, *, is_exact: bool) -> Iterator[tuple[str, str]]:
    """Yield path and content of each file; the one that submits all is the last.

    Parameters
    ----------
    jobs
        The workflow.
    is_exact
        Whether each cluster is a job of its own, which waits for those that it needs. Otherwise they are in
        arrays, which wait for arrays: then fewer may run at a time, but there are far fewer jobs to schedule.
    """
    yield from jobs.id_files()
    yield "init.sh", _script("init", jobs.resources.memory) + f"exec {shlex.join(jobs.init())}\n"
    yield _QUANTA, _payload(jobs)
    yield "aggregate.sh", _final(jobs)
    yield SUBMIT, _HEAD + "".join(_exact(jobs) if is_exact else _arrays(jobs))


def _script(name: str, memory: int, *options: str, output: str = "%x.%j") -> str:
    lines = [
        f"{_NAME}{name}",
        f"--mem={memory}M",
        f"--output={workflow.LOGS}/{output}.out",
        "--open-mode=append",
        "--requeue",
        *options,
    ]
    return "#!/bin/bash\n" + "".join(f"#SBATCH {line}\n" for line in lines)


def _payload(jobs: workflow.Workflow) -> str:
    """Return the script of all jobs that execute quanta: arguments are a file with ids, and maybe a line."""
    # The signal comes before the time is up: the quantum that is under way is finished, if it can be.
    head = _script("quanta", jobs.resources.memory, "--kill-on-invalid-dep=yes", "--signal=B:TERM@60")
    command = [*jobs.payload(), "--quantum-file"]
    return head + f'exec {shlex.join(command)} "$1" --line "${{2:-${{SLURM_ARRAY_TASK_ID:-}}}}"\n'


def _final(jobs: workflow.Workflow) -> str:
    resources = jobs.resources
    options = (f"--cpus-per-task={resources.final_processes}", "--signal=TERM@300")
    records = ("--job-records", KNOWN, "--job-records", ACCOUNTING)
    return _script("aggregate", resources.final_memory, *options) + (
        "# What became of jobs that left nothing: from the accounting, or else what is still known of them.\n"
        "fields=JobID,JobName,State,ExitCode,MaxRSS,NodeList,Start,End,WorkDir\n"
        f"touch {KNOWN} {ACCOUNTING}\n"
        'sacct --parsable2 --duplicates --format="$fields" --jobs="$(paste -sd, submitted)" '
        f"> {ACCOUNTING} ||\n"
        f"    scontrol --oneliner show jobs >> {KNOWN}\n"
        f'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" {shlex.join(jobs.final(*records))}\n'
        "code=$?\n"
        "# Interrupted as its time is up (143), or something went wrong that may be gone (1).\n"
        f"if [[ $code -ne 0 && $code -ne 2 && ${{SLURM_RESTART_COUNT:-0}} -lt {_TRIES_OF_FINAL} ]]; then\n"
        '    scontrol requeue "$SLURM_JOB_ID"\n'
        "fi\n"
        'exit "$code"\n'
    )


def _arrays(jobs: workflow.Workflow) -> Iterator[str]:
    """Yield the lines that submit an array after all arrays that it needs, whatever became of their jobs."""
    yield "init=$(submit '' init.sh)\n"
    for number, array in enumerate(jobs.arrays):
        options = [f"--array=1-{len(array.members)}", f"{_NAME}{array.name}"]
        options += [f"--mem={jobs.resources.of(array.labels)}M", f"--output={workflow.LOGS}/%x.%A_%a.out"]
        arguments = [*options, _QUANTA, workflow.ids_file(array)]
        yield _submission(f"a{number}", [f"a{each}" for each in array.parents], arguments)
    yield _last([f"a{number}" for number in range(len(jobs.arrays))])


def _exact(jobs: workflow.Workflow) -> Iterator[str]:
    """Yield the lines that submit a job for each cluster, after those that it needs."""
    yield "init=$(submit '' init.sh)\n"
    places = jobs.places()
    for position, cluster in enumerate(jobs.clusters):
        options = [f"{_NAME}{cluster.name}", f"--mem={jobs.resources.of(cluster.labels)}M"]
        place = places[position]
        arguments = [*options, _QUANTA, place.file, str(place.line)]
        yield _submission(f"c{position}", [f"c{each}" for each in cluster.parents], arguments)
    yield _last([f"c{position}" for position in range(len(jobs.clusters))])


def _submission(variable: str, parents: Sequence[str], arguments: Sequence[str]) -> str:
    after = ",afterany" + "".join(f":${each}" for each in parents) if parents else ""
    return f'{variable}=$(submit "afterok:$init{after}" {shlex.join(arguments)})\n'


def submitted(script: str) -> dict[str, workflow.Place]:
    """Return where the quanta of each job are named that a script submits, by the names of jobs.

    Parameters
    ----------
    script
        Content of the script that submits all jobs.
    """
    places = {}
    for line in script.splitlines():
        if (match := _SUBMISSION.fullmatch(line)) is None:
            continue
        places[match["name"]] = workflow.Place(match["file"], int(match["line"] or workflow.ELEMENT))
    return places


def _last(variables: Sequence[str]) -> str:
    after = "".join(f":${each}" for each in ["init", *variables])
    return (
        f'final=$(submit "afterany{after}" aggregate.sh)\n'
        'echo "Submitted; the last job is $final. What became of each is in logs/."\n'
    )

"""Aggregation where each operation on a file takes long: ``python -m benchmarks.latency --quanta 5000``.

A preloaded library delays what opens a file of the run, or looks at it, in whatever process. Tools and delays
take turns; what was written is the same with each delay, or it is an error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import shutil
import statistics
import subprocess

from benchmarks import campaigns, measure
from tests.helpers.oracle import reference

_SOURCE = pathlib.Path(__file__).with_name("slow_files.c")

KILLED_AT = 0.9


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """What is measured."""

    tool: str
    """``ours``, ``restart`` after a kill, ``settled`` for an incomplete run that finds nothing
    new, ``reference``."""

    delay: float
    """Milliseconds that each operation takes longer."""

    processes: int
    """Number of scanners."""

    requests: int | None
    """Files that a scanner has under way; nothing for its own choice."""

    def __str__(self) -> str:
        requests = "" if self.requests is None else f", --requests {self.requests}"
        return f"{self.tool}, {self.delay:g} ms, -j {self.processes}{requests}"

    @property
    def options(self) -> list[str]:
        """Options of the command."""
        given = ["-j", str(self.processes)]
        return given if self.requests is None else [*given, "--requests", str(self.requests)]


def compile_library(directory: pathlib.Path) -> pathlib.Path:
    """Return the library that makes files slow."""
    library = directory / "slow_files.so"
    subprocess.run(["cc", "-O2", "-fPIC", "-shared", "-o", library, _SOURCE, "-ldl"], check=True)
    return library


def slow_variables(library: pathlib.Path, files: pathlib.Path, delay: float) -> dict[str, str]:
    """Return variables that make what is below a directory slow: not graphs, database and checkpoint."""
    return {
        "LD_PRELOAD": str(library),
        "SLOW_FILES_MICROSECONDS": str(round(1000 * delay)),
        "SLOW_FILES_BELOW": str(files),
    }


def take(case: Case, run: campaigns.Run, library: pathlib.Path) -> dict[str, float]:
    """Return what a case takes once."""
    slow = dataclasses.replace(run, variables=slow_variables(library, run.files, case.delay))
    run.reset()
    if case.tool == "reference":
        command = reference.command(
            run.predicted, run.root, "--no-mock-storage-classes", "-j", str(case.processes), "-o", run.output
        )
        environment = reference.environment() | slow.variables
        log = run.root.with_suffix(".log")
        taken = measure.measure(command, cwd=_SOURCE.parent, env=environment, log=log)
        return {"wall_s": taken.wall, "cpu_s": taken.cpu}
    if case.tool == "restart":
        run.kill(KILLED_AT, *case.options)
    if case.tool == "settled":
        run.aggregate("--incomplete", *case.options)
        done = slow.aggregate("--incomplete", *case.options)
    else:
        done = slow.aggregate(*case.options)
    return {"wall_s": done["wall"], "cpu_s": done["cpu"], "starting_s": done["phases"]["starting"]}


def cases(given: argparse.Namespace) -> list[Case]:
    """Return what is to be measured."""
    tools = ["ours", *["restart"] * given.resume, *["settled"] * given.settled]
    result = [
        Case(tool, delay, processes, requests)
        for processes in given.processes
        for requests in given.requests
        for delay in given.delays
        for tool in tools
    ]
    if given.reference:
        result += [
            Case("reference", delay, processes, None)
            for processes in given.processes
            for delay in given.delays
        ]
    return result


def number_or_none(text: str) -> int | None:
    """Return a number of requests."""
    return None if text == "auto" else int(text)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("bench-out"))
    parser.add_argument("--quanta", type=int, default=5000)
    parser.add_argument("--delays", type=float, nargs="+", default=[0, 10, 30], help="milliseconds")
    parser.add_argument("--processes", type=int, nargs="+", default=[2])
    parser.add_argument("--requests", type=number_or_none, nargs="+", default=[None], help="numbers, or auto")
    parser.add_argument("--resume", action="store_true", help="measure a restart after a kill at 90 %%, too")
    parser.add_argument("--settled", action="store_true", help="measure a run that finds nothing new, too")
    parser.add_argument("--reference", action="store_true", help="measure the reference, too")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", type=pathlib.Path, help="write the results to a file, too")
    given = parser.parse_args(arguments)
    given.workdir.mkdir(parents=True, exist_ok=True)
    workdir = given.workdir.resolve()
    library = compile_library(workdir)
    run = campaigns.make(workdir, given.quanta)
    run.read_all()
    taken: dict[Case, list[dict[str, float]]] = {case: [] for case in cases(given)}
    contents = set()
    for _ in range(given.repeat):
        for case, values in taken.items():
            values.append(take(case, run, library))
            print(f"{case}: " + "  ".join(f"{k}={v:.3g}" for k, v in values[-1].items()), flush=True)
            if case.tool in ("ours", "restart"):
                contents.add(run.content())
    if len(contents) > 1:
        raise AssertionError("what was written depends on how long files take")
    medians = {str(c): {k: statistics.median(v[k] for v in vs) for k in vs[0]} for c, vs in taken.items()}
    print(json.dumps(medians, indent=1))
    if given.json:
        given.json.write_text(json.dumps({"quanta": run.quanta, "cases": medians}, indent=1) + "\n")
    shutil.rmtree(f"{run.predicted}.checkpoint", ignore_errors=True)


if __name__ == "__main__":
    main()

"""Execution of quanta that do next to nothing: ``python -m benchmarks.execution --quanta 1000 10000``.

Two kinds of graphs are executed by commands. In one, plain tasks write outputs of some bytes; it can be
large. The other is the same for both tools: a task of the reference, in a graph that the reference has built.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import measure
from tests.helpers import plain_runs
from tests.helpers.oracle import real_runs, reference

_COMMANDS = pathlib.Path(sys.executable).parent
_DETECTORS = 10
_MB = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """What is measured."""

    tasks: str
    """``plain`` tasks, or one of the ``reference``."""

    quanta: int
    """Their number."""

    tool: str
    """``ours`` or ``reference``."""

    processes: int
    """Number of workers; 0 for the command's own process."""

    def command(self, root: pathlib.Path) -> list[str]:
        """Return what executes the graph of a repository."""
        graph = str(root / "predicted.qg")
        if self.tool == "reference":
            return [f"{_COMMANDS}/pipetask", "run-qbb", str(root), graph, "-j", str(self.processes or 1)]
        how = ["-j", str(self.processes)] if self.processes else ["--in-process"]
        return [f"{_COMMANDS}/aggregator", "run", graph, str(root), "--no-interactive-status", *how]


def make(tasks: str, quanta: int, workdir: pathlib.Path) -> pathlib.Path:
    """Return a repository with a graph, nothing of which is executed."""
    root = workdir / f"{tasks}-{quanta}"
    shutil.rmtree(root, ignore_errors=True)
    if tasks == "plain":
        return plain_runs.make(root, quanta).root
    return real_runs.make(root, visits=quanta // _DETECTORS, detectors=_DETECTORS, labels=("step",)).root


def take(case: Case, root: pathlib.Path) -> dict[str, Any]:
    """Return what the execution of a graph takes; what it has left is removed before the next one."""
    log = root.with_suffix(".log")
    taken = measure.measure(case.command(root), cwd=reference.ROOT, env=reference.environment(), log=log)
    shutil.rmtree(root / "u")
    n = case.quanta
    return {
        **dataclasses.asdict(case),
        "wall_s": taken.wall,
        "quanta_per_s": n / taken.wall,
        "cpu_ms": 1000 * taken.cpu / n,
        "largest_process_mb": taken.peak_process / _MB,
        "all_processes_mb": taken.peak_tree / _MB,
    }


def cases(numbers: Sequence[int], processes: Sequence[int], n_reference: int) -> list[Case]:
    """Return what is to be measured."""
    return [
        *(Case("plain", n, "ours", each) for n in numbers for each in processes),
        *(Case("reference", n_reference, tool, each) for tool in ("ours", "reference") for each in processes),
    ]


def main() -> None:
    """Measure, and print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quanta", type=int, nargs="+", default=[1000], help="sizes of graphs of plain tasks"
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[0, 2], help="0: no workers")
    parser.add_argument("--reference-quanta", type=int, default=40, help="for both tools")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("bench-out"))
    parser.add_argument("--json", type=pathlib.Path, help="file for the results")
    options = parser.parse_args()
    workdir = options.workdir.resolve() / "execution"
    roots: dict[tuple[str, int], pathlib.Path] = {}
    results = []
    for case in cases(options.quanta, options.processes, options.reference_quanta):
        key = case.tasks, case.quanta
        roots[key] = roots.get(key) or make(*key, workdir)
        results.append(take(case, roots[key]))
        print(json.dumps(results[-1]), flush=True)
    shutil.rmtree(workdir)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

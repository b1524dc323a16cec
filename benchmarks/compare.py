"""The reference and this project side by side on the same run: ``python -m benchmarks.compare``.

Each measurement has a fresh copy of the run, all of whose files have been read before.  The results of
the very runs that were measured are compared: the databases' rows and everything in the provenance graphs.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import statistics
import sys
from collections.abc import Iterator
from typing import Any

from oracle import compare, reference, runs

from benchmarks import measure, synthetic_run

PROJECT = pathlib.Path(__file__).resolve().parent.parent
COPIED = ("gen3.sqlite3", "butler.yaml", "predicted.qg")
"""Files of a run that a copy has of its own; the others are only read, so that hard links will do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One measured aggregation with its results."""

    tool: str
    """``reference`` or ``ours``."""

    level: int
    """Compression level."""

    run: runs.OracleRun
    """The copy that was aggregated."""

    output: pathlib.Path
    """The provenance graph."""

    taken: measure.Measurement
    """What it took."""

    def values(self) -> dict[str, float]:
        """Return what is to be printed."""
        quanta = len(self.run.manifest["quanta"])
        return {
            "wall_s": self.taken.wall,
            "cpu_s": self.taken.cpu,
            "quanta_per_s": quanta / self.taken.wall,
            "cpu_ms_per_quantum": 1000 * self.taken.cpu / quanta,
            "peak_tree_mb": self.taken.peak_tree / 1e6,
            "peak_process_mb": self.taken.peak_process / 1e6,
            "processes": self.taken.processes,
            "output_mb": self.output.stat().st_size / 1e6,
        }


def copy_run(run: runs.OracleRun, destination: pathlib.Path) -> runs.OracleRun:
    """Copy a run for one aggregation and read all its files once."""

    def copy(source: str, target: str) -> None:
        own = pathlib.Path(source).name in COPIED
        (shutil.copy2 if own else os.link)(source, target)

    shutil.copytree(run.root, destination, copy_function=copy)
    for path in destination.rglob("*"):
        if path.is_file():
            path.read_bytes()
    return dataclasses.replace(run, root=destination.resolve())


def command(tool: str, run: runs.OracleRun, output: pathlib.Path, level: int, processes: int) -> list[str]:
    """Return the command line of an aggregation."""
    options = ["-o", str(output), "-j", str(processes), "--zstd-level", str(level)]
    if tool == "reference":
        return reference.command(run.predicted_path, run.root, *options)
    program = [sys.executable, "-m", "aggregator.command_line", "aggregate-graph", "--mock-storage-classes"]
    return [*program, str(run.predicted_path), str(run.root), *options]


def take(tool: str, level: int, run: runs.OracleRun, directory: pathlib.Path, processes: int) -> Case:
    """Aggregate a fresh copy of a run in a new directory."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    copy, output = copy_run(run, directory / "repo"), directory / "provenance.qg"
    environment = reference.environment() if tool == "reference" else dict(os.environ)
    arguments = command(tool, copy, output, level, processes)
    taken = measure.measure(arguments, cwd=PROJECT, env=environment, log=directory / "log.txt")
    return Case(tool, level, copy, output, taken)


def assert_equal(theirs: Case, ours: Case) -> None:
    """Compare the results of two aggregations."""
    compare.assert_databases_equal(theirs.run.database, ours.run.database)
    # The copies have the same execution files.
    compare.assert_provenance_equal(theirs.output, ours.output, ours.run.root)


def measure_all(run: runs.OracleRun, given: argparse.Namespace) -> Iterator[Case]:
    """Yield all measurements, the tools taking turns; results are compared in between and then deleted."""
    tools = ["ours"] if given.skip_reference else ["reference", "ours"]
    for repetition in range(given.repeat):
        for level in given.levels:
            cases = {}
            for tool in tools if repetition % 2 == 0 else reversed(tools):
                directory = given.workdir / "cases" / f"{tool}-{level}"
                cases[tool] = take(tool, level, run, directory, given.processes)
                print(f"{tool} at level {level}: {_line(cases[tool].values())}", flush=True)
            compare.check_provenance(cases["ours"].output, run.predicted_path)
            if "reference" in cases:
                assert_equal(cases["reference"], cases["ours"])
                print(f"level {level}: equal rows, equal provenance graphs", flush=True)
            yield from cases.values()
    shutil.rmtree(given.workdir / "cases")


def medians(cases: list[tuple[str, int, dict[str, float]]]) -> dict[str, Any]:
    """Return medians by level and tool, and the ratios of ours to the reference."""
    result: dict[str, Any] = {}
    for level in sorted({level for _, level, _ in cases}):
        tools: dict[str, dict[str, float]] = {}
        for tool in ("reference", "ours"):
            found = [values for name, at, values in cases if name == tool and at == level]
            if found:
                tools[tool] = {key: statistics.median(v[key] for v in found) for key in found[0]}
        if len(tools) == 2:
            tools["ratio"] = {key: tools["ours"][key] / value for key, value in tools["reference"].items()}
        result[f"level {level}"] = tools
    return result


def machine() -> dict[str, Any]:
    """Return on what and with what the measurements were made."""
    names = ("lsst-pipe-base", "lsst-daf-butler", "zstandard", "msgspec", "pydantic", "SQLAlchemy")
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"cores": os.cpu_count(), "python": platform.python_version(), **versions}


def _line(values: dict[str, float]) -> str:
    return "  ".join(f"{key}={value:.4g}" for key, value in values.items())


def _print_table(title: str, tools: dict[str, dict[str, float]]) -> None:
    print(f"\n{title:20}" + "".join(f"{tool:>12}" for tool in tools))
    for key in next(iter(tools.values())):
        print(f"{key:20}" + "".join(f"{values[key]:12.4g}" for values in tools.values()))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measure the reference and this project on the same run.")
    parser.add_argument("--workdir", type=pathlib.Path, default=PROJECT / "bench-out")
    parser.add_argument("--quanta", type=int, default=2000, help="size of the run, at least")
    parser.add_argument("--processes", type=int, default=2, help="scanners")
    parser.add_argument("--repeat", type=int, default=1, help="measurements of each case; medians count")
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 10], help="compression levels")
    parser.add_argument("--skip-reference", action="store_true", help="measure this project only")
    parser.add_argument("--json", type=pathlib.Path, help="write everything to a file, too")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, compare, print; return 1 if results differ or a command fails."""
    given = parse(arguments)
    given.workdir = given.workdir.resolve()
    run = synthetic_run.make(given.workdir, quanta=given.quanta)
    about = {"run": synthetic_run.describe(run), "machine": machine(), "processes": given.processes}
    print(json.dumps(about, indent=1), flush=True)
    cases, problem = [], None
    try:
        for case in measure_all(run, given):
            cases.append((case.tool, case.level, case.values()))
    except (AssertionError, measure.CommandError) as error:
        problem = str(error)
    results = medians(cases)
    for title, tools in results.items():
        _print_table(title, tools)
    if given.json:
        every = [{"tool": tool, "level": level, **values} for tool, level, values in cases]
        report = {**about, "medians": results, "measurements": every, "problem": problem}
        given.json.write_text(json.dumps(report, indent=1) + "\n")
    if problem:
        print(f"\n{problem}", file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())

"""The reference and this project side by side on the same synthetic run: ``python -m benchmarks.compare``.

The tools take turns on one repository whose database is put back each time; all files have been read before.
The results of the very runs that were measured are compared: the rows of all tables and everything in the
provenance graphs.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import shutil
import statistics
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks import campaigns, measure
from tests.helpers import databases, postgresql_server
from tests.helpers.oracle import compare, reference

PROJECT = pathlib.Path(__file__).resolve().parent.parent

TOOLS = ("reference", "ours")


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """What is aggregated, and how."""

    database: str
    """``sqlite`` or ``postgresql``."""

    level: int
    """Compression level."""

    processes: int
    """Number of scanners; with one, everything is done in one process."""

    graph: bool
    """Whether a provenance graph is written."""

    def __str__(self) -> str:
        kind = f"level {self.level}" if self.graph else "no graph"
        return f"{self.database}, -j {self.processes}, {kind}"

    def command(self, tool: str, run: campaigns.Run, output: pathlib.Path) -> list[str]:
        """Return the command line of an aggregation."""
        options = ["-j", str(self.processes), "--zstd-level", str(self.level)]
        options += ["-o", str(output)] * self.graph
        if tool == "reference":
            # No storage class of a mock is among those of synthetic runs.
            return reference.command(run.predicted, run.root, "--no-mock-storage-classes", *options)
        program = [sys.executable, "-m", "aggregator", "aggregate-graph"]
        return [*program, str(run.predicted), str(run.root), *options]


class Repository:
    """A synthetic run with a database of either kind, which can be put back to its state before.

    Parameters
    ----------
    workdir
        Directory for runs.
    quanta
        Number of quanta.
    server
        Server for PostgreSQL; nothing for SQLite.
    """

    def __init__(self, workdir: pathlib.Path, quanta: int, server: postgresql_server.Server | None) -> None:
        self._pristine: databases.Database
        if server is None:
            self.run = campaigns.make(workdir, quanta)
            self._pristine = databases.Sqlite(self.run.saved_database())
        else:
            name = server.create_database()
            self.run = campaigns.make(workdir / name, quanta, database=server.url(name))
            self._pristine = databases.Postgresql(server, name, "public")
        self.run.read_all()

    def fresh(self) -> databases.Database:
        """Let the run have a copy of its first database, and return it."""
        if not isinstance(self._pristine, databases.Postgresql):
            self.run.reset()
            return databases.Sqlite(self.run.root / "gen3.sqlite3")
        copy = self._pristine.copy()
        copy.configure(self.run.root)
        return copy


def take(
    tool: str, case: Case, repository: Repository, directory: pathlib.Path
) -> tuple[databases.Database, dict[str, float]]:
    """Aggregate once; return the database and what it took."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    run, output = repository.run, directory / "provenance.qg"
    database = repository.fresh()
    environment = reference.environment() if tool == "reference" else dict(os.environ)
    command = case.command(tool, run, output)
    taken = measure.measure(command, cwd=PROJECT, env=environment, log=directory / "log.txt")
    if isinstance(database, databases.Sqlite):
        database = databases.Sqlite(pathlib.Path(shutil.copy(database.path, directory)))
    values = {
        "wall_s": taken.wall,
        "cpu_s": taken.cpu,
        "quanta_per_s": run.quanta / taken.wall,
        "cpu_ms_per_quantum": 1000 * taken.cpu / run.quanta,
        "peak_tree_mb": taken.peak_tree / 1e6,
        "peak_process_mb": taken.peak_process / 1e6,
        "processes": taken.processes,
    }
    if case.graph:
        values["output_mb"] = output.stat().st_size / 1e6
    return database, values


def measure_case(
    case: Case, repository: Repository, given: argparse.Namespace
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield all measurements of a case, the tools taking turns; results are compared in between."""
    for repetition in range(given.repeat):
        found = {}
        for tool in TOOLS if repetition % 2 == 0 else reversed(TOOLS):
            if tool == "ours" or not given.skip_reference:
                directory = given.workdir / "cases" / tool
                found[tool], values = take(tool, case, repository, directory)
                print(f"{tool} ({case}): {_line(values)}", flush=True)
                yield tool, values
        if len(found) == 2:
            compare.assert_databases_equal(found["reference"], found["ours"])
            if case.graph:
                paths = [given.workdir / "cases" / tool / "provenance.qg" for tool in TOOLS]
                compare.assert_provenance_equal(paths[0], paths[1], repository.run.root)
            print("  equal rows, equal graphs", flush=True)
        for database in found.values():
            if isinstance(database, databases.Postgresql):
                database.remove()
    shutil.rmtree(given.workdir / "cases")


def medians(measurements: list[tuple[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return medians by tool, and the ratios of the reference to ours."""
    tools = {}
    for tool in TOOLS:
        if found := [values for name, values in measurements if name == tool]:
            tools[tool] = {key: statistics.median(v[key] for v in found) for key in found[0]}
    if len(tools) == 2:
        tools["ratio"] = {key: tools["ours"][key] / value for key, value in tools["reference"].items()}
    return tools


def machine() -> dict[str, Any]:
    """Return on what and with what the measurements were made."""
    names = ("lsst-pipe-base", "lsst-daf-butler", "zstandard", "msgspec", "pydantic", "SQLAlchemy", "psycopg")
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"cores": os.cpu_count(), "python": platform.python_version(), **versions}


def _line(values: dict[str, float]) -> str:
    return "  ".join(f"{key}={value:.4g}" for key, value in values.items())


def _print_table(title: str, tools: dict[str, dict[str, float]]) -> None:
    print(f"\n{title}\n" + " " * 20 + "".join(f"{tool:>12}" for tool in tools))
    for key in next(iter(tools.values())):
        print(f"{key:20}" + "".join(f"{values[key]:12.4g}" for values in tools.values()))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measure the reference and this project on the same run.")
    parser.add_argument("--workdir", type=pathlib.Path, default=PROJECT / "bench-out")
    parser.add_argument("--quanta", type=int, default=5000, help="size of the run")
    parser.add_argument("--databases", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite"])
    parser.add_argument("--processes", type=int, nargs="+", default=[2], help="numbers of scanners")
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 10], help="compression levels")
    parser.add_argument("--without-graph", action="store_true", help="measure runs that write no graph, too")
    parser.add_argument("--repeat", type=int, default=1, help="measurements of each case; medians count")
    parser.add_argument("--skip-reference", action="store_true", help="measure this project only")
    parser.add_argument("--json", type=pathlib.Path, help="write everything to a file, too")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, compare, print; return 1 if results differ or a command fails."""
    given = parse(arguments)
    given.workdir = given.workdir.resolve()
    report: dict[str, Any] = {"machine": machine(), "quanta": given.quanta, "cases": []}
    problem = None
    try:
        for kind in given.databases:
            with contextlib.ExitStack() as stack:
                server = stack.enter_context(postgresql_server.running()) if kind == "postgresql" else None
                repository = Repository(given.workdir, given.quanta, server)
                report["run"] = repository.run.counts
                kinds = [*itertools.product(given.levels, given.processes, [True])]
                kinds += itertools.product(given.levels[:1], given.processes, [False] * given.without_graph)
                for level, processes, graph in kinds:
                    case = Case(kind, level, processes, graph)
                    measurements = list(measure_case(case, repository, given))
                    tools = medians(measurements)
                    _print_table(str(case), tools)
                    report["cases"].append(
                        dataclasses.asdict(case) | {"medians": tools, "measurements": measurements}
                    )
    except (AssertionError, measure.CommandError) as error:
        problem = str(error)
    if given.json:
        given.json.write_text(json.dumps(report | {"problem": problem}, indent=1) + "\n")
    if problem:
        print(f"\n{problem}", file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())

"""Running the reference's tools on a copy of a run: in this process, or timed in one of their own.

As a program: ``python -m tests.helpers.oracle.reference PREDICTED_GRAPH REPO [-o OUTPUT] [-j N]``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import inspect
import io
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.helpers.oracle import runs

ROOT = pathlib.Path(__file__).resolve().parents[3]


def is_newest() -> bool:
    """Return whether the reference is of the newer kind.

    That turns into floats what can be taken for a number in metadata, and knows overrides of dataset types.
    """
    return tuple(map(int, importlib.metadata.version("lsst-pipe-base").split("."))) > (30, 2026, 500)


@contextlib.contextmanager
def _kept_environment() -> Iterator[None]:
    """Undo what the reference does to the environment variables of its process."""
    saved = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)


def aggregate_files(predicted: str, repo: str, **config: Any) -> None:
    """Aggregate in this process, with any field of the reference's ``AggregatorConfig``."""
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)
    from lsst.pipe.base.quantum_graph import aggregator

    config.setdefault("mock_storage_classes", True)
    with _kept_environment():
        aggregator.aggregate_graph(predicted, repo, aggregator.AggregatorConfig(**config))


def aggregate(run: runs.OracleRun, output: pathlib.Path | None = None, **config: Any) -> None:
    """Aggregate a copy of a run in this process.

    Parameters
    ----------
    run
        A copy of a run: its database changes.
    output
        Where to write the provenance graph, if at all.
    **config
        Fields of the reference's ``AggregatorConfig``.
    """
    path = None if output is None else str(output)
    aggregate_files(str(run.predicted_path), str(run.root), output_path=path, **config)


def command(predicted: pathlib.Path, repo: pathlib.Path, *options: str) -> list[str]:
    """Return the command line that aggregates in a process of its own (see `environment`)."""
    return [sys.executable, "-m", "tests.helpers.oracle.reference", str(predicted), str(repo), *options]


def environment() -> dict[str, str]:
    """Return the environment for `command`, in which the mock tasks can be imported."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def aggregate_in_subprocess(
    run: runs.OracleRun, *options: str, timeout: float = 600.0
) -> subprocess.CompletedProcess[str]:
    """Aggregate a copy of a run in a process of its own, with options of the command line (see `main`)."""
    arguments = command(run.predicted_path, run.root, *options)
    return subprocess.run(
        arguments, env=environment(), capture_output=True, text=True, timeout=timeout, check=True
    )


def ingest_graph(run: runs.OracleRun, graph: pathlib.Path | None, **options: Any) -> None:
    """Ingest a provenance graph into a copy of a run; without one, resume."""
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)
    from lsst.pipe.base.quantum_graph import ingest_graph as module

    if graph is None:
        options.setdefault("output_run", run.run)
    with _kept_environment():
        module.ingest_graph(str(run.root), None if graph is None else str(graph), **options)


def provenance_report(
    graph: pathlib.Path,
    collection: str | None = None,
    *,
    state: tuple[str, ...] = (),
    no_state: tuple[str, ...] = (),
    caveat: tuple[str, ...] = (),
    status_report: pathlib.Path | None = None,
    data_id_table_dir: pathlib.Path | None = None,
) -> str:
    """Make the reference's reports with its command ``provenance-report``.

    Parameters
    ----------
    graph, collection
        A provenance graph file; or a repository, and the run with an ingested graph.
    state, no_state
        Names of statuses to report on, too, and not to report on.
    caveat
        Names of caveats: successes with any of them are reported on, too.
    status_report, data_id_table_dir
        Where to write the JSON report, and the directory for tables of data IDs.

    Returns
    -------
    text
        What is printed: the table of quanta and the table of exceptions.
    """
    from lsst.pipe.base import QuantumAttemptStatus, QuantumSuccessCaveats
    from lsst.pipe.base.cli.cmd import commands

    callback = commands.provenance_report.callback
    # Required since it exists.
    options = {"format": "table"} if "format" in inspect.signature(callback).parameters else {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        callback(
            repo_or_qg=str(graph),
            collection=collection,
            state=[QuantumAttemptStatus[name] for name in state],
            no_state=no_state,
            caveat=[QuantumSuccessCaveats[name] for name in caveat],
            status_report=None if status_report is None else str(status_report),
            data_id_table_dir=None if data_id_table_dir is None else str(data_id_table_dir),
            quantum_table=True,
            exception_table=True,
            **options,
        )
    return printed.getvalue()


def main(arguments: list[str] | None = None) -> None:
    """Aggregate as the command line says."""
    parser = argparse.ArgumentParser(description="Aggregate a graph with the reference.")
    parser.add_argument("predicted")
    parser.add_argument("repo")
    parser.add_argument("-o", "--output")
    parser.add_argument("-j", "--processes", type=int, default=1)
    parser.add_argument("--zstd-level", type=int, default=10)
    parser.add_argument("--incomplete", action="store_true")
    parser.add_argument("--promise-ingest-graph", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--mock-storage-classes", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args(arguments)
    aggregate_files(
        given.predicted,
        given.repo,
        output_path=given.output,
        n_processes=given.processes,
        zstd_level=given.zstd_level,
        incomplete=given.incomplete,
        promise_ingest_graph=given.promise_ingest_graph,
        dry_run=given.dry_run,
        mock_storage_classes=given.mock_storage_classes,
    )


if __name__ == "__main__":
    main()

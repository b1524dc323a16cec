"""Jobs of an engine that execute quanta: what runs where the engine's worker is.

Quanta run in a process below the worker, which so outlives whatever they do.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import uuid
from collections.abc import Sequence

import msgspec

from aggregator.execution import cluster_executor
from aggregator.running import execution_report, spool_directory
from aggregator.workers.engines import command_jobs, job_engine


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """What every job is told."""

    graph: str
    """The predicted graph, as workers see it."""

    repository: str
    """The repository, as workers see it."""

    log_levels: tuple[str, ...]
    """Levels of loggers, as the option ``--log-level`` takes them."""

    options: tuple[str, ...]
    """Options of ``run-quanta``."""

    lifeline: str
    """A file: when it is gone, quanta are killed; empty for none."""


def job(setup: Setup, ids: Sequence[uuid.UUID]) -> job_engine.Job:
    """Return the job that executes quanta."""
    about = f"quantum {ids[0]}" if len(ids) == 1 else f"{len(ids)} quanta from {ids[0]}"
    return job_engine.Job(run, (setup, tuple(ids)), about)


def run(setup: Setup, ids: Sequence[uuid.UUID]) -> cluster_executor.Account:
    """Execute quanta.

    Raises
    ------
    AggregatorError
        If there is no room for what goes in and out.
    """
    with spool_directory.made() as directory:
        names, report = os.path.join(directory, "quanta"), os.path.join(directory, "report.json")
        with open(names, "x", encoding="ascii") as stream:
            stream.writelines(f"{each}\n" for each in ids)
        command = [sys.executable, "-P", "-m", "aggregator"]
        command += [word for level in setup.log_levels for word in ("--log-level", level)]
        command += ["run-quanta", setup.graph, setup.repository, "--quantum-file", names]
        ended = command_jobs.run([*command, *setup.options, "--summary", report], setup.lifeline)
        try:
            with open(report, "rb") as stream:
                reports = execution_report.read(stream.read())
        except (OSError, msgspec.MsgspecError, ValueError):
            # It was killed before it could tell, or while it did.
            reports = None
        return cluster_executor.Account(ended.code, ended.stderr, reports)

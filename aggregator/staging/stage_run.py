"""Runs a policy for each of many data IDs, here or on an engine, and keeps account of it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from aggregator import repository_files
from aggregator.butler.configuration import repository_config
from aggregator.console import interruption, progress
from aggregator.schemas import argument_types, output_paths
from aggregator.stages import job_batches, job_identities, job_policies, job_reports, job_targets, policy_jobs
from aggregator.staging import stage_summary
from aggregator.storage import errors, uris
from aggregator.workers.engines import (
    descriptors,
    job_engine,
    job_engines,
    outcomes,
    processes,
    worker_jobs,
)

_MOST_AT_ONCE: Final = 16
"""Data IDs that one message to a worker may have."""

_SECONDS: Final = 0.5
"""How long one look for outcomes may take, and one message may keep a worker busy by what is known."""


class StagingError(errors.AggregatorError):
    """Jobs have failed; what others have written stays."""

    __module__ = "aggregator"


@dataclasses.dataclass(frozen=True, slots=True)
class StageConfig:
    """Options of a run of a policy."""

    where: str = ""
    """Expression that data IDs have to fulfil."""

    n_processes: int = 1
    """Number of worker processes: what a function does to its process is no harm to any other job."""

    engine: Any = None
    """Where jobs run on other hosts; see `job_engines.opened`. By default there are none."""

    dry_run: bool = False
    """Whether to look what would be done, and to do nothing."""

    interactive_status: bool | None = None
    """Whether to show progress bars; by default if standard error is a terminal."""

    log_status_interval: float | None = None
    """Seconds between progress messages where no bars are shown; 60 by default."""

    def check(self) -> None:
        """Refuse what can't be.

        Raises
        ------
        RefusedError
            If that is so.
        """
        if self.engine is not None:
            job_engines.check(self.engine)
        if type(self.n_processes) is not int or self.n_processes < 1:
            raise errors.RefusedError(f"n_processes must be a number of 1 or more, not {self.n_processes!r}.")


def run_stage(
    policy: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    config: StageConfig = StageConfig(),
    *,
    outputs: Collection[output_paths.Output] = (),
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
) -> stage_summary.StageSummary:
    """Carry a policy out for each data ID: read its input items, call its function, write its output items.

    Parameters
    ----------
    policy
        The policy file.
    repository
        The repository.
    config
        Options.
    outputs
        Files that are written afterwards; looked at before anything is done.
    on_progress
        Is told of progress; see `aggregator.aggregate_graph`.
    cancellation
        Can stop it.

    Returns
    -------
    summary
        What was done.

    Raises
    ------
    RefusedError
        If policy, repository and the rest do not fit together; nothing has been written then.
    StagingError
        If jobs have failed.
    Interrupted
        If a signal or a cancellation asked to stop; the same call goes on.
    AggregatorError
        If a repository or database can't be used at the moment.
    """
    argument_types.check(run_stage, locals())
    began = time.monotonic()
    config.check()
    loaded = repository_config.load(os.fspath(repository))
    request = job_policies.load(os.fspath(policy), uris.absolute(os.fspath(repository)))
    protection = _protection(loaded)
    output_paths.check_all(outputs, protection)
    setup = policy_jobs.Setup(
        request, protection, only_looks=config.dry_run, is_elsewhere=config.engine is not None
    )
    done = stage_summary.StageSummary(request.location, loaded.path, config.dry_run)
    with interruption.Interruption(cancellation) as stopping:
        identities = job_identities.find(loaded, request.inputs, request.outputs, config.where)
        done.n_jobs = len(identities)
        job_batches.check(setup, identities)
        try:
            with errors.explained():
                _Staging(setup, config, done, stopping).run(identities, on_progress, began)
            if done.n_not_begun:
                stopping.check()
            if done.n_failed:
                raise StagingError(_failure(done))
        except errors.AggregatorError as exc:
            done.elapsed = time.monotonic() - began
            exc.summary = done
            if isinstance(exc, errors.RefusedError):
                raise exc.as_failure() from exc
            raise
    done.elapsed = time.monotonic() - began
    return done


def _protection(loaded: repository_config.RepositoryConfig) -> output_paths.Protection:
    """Return what must stay as it is: all that is the repository's."""
    protection = repository_files.protection(loaded)
    repository_files.check_logs(protection)
    roots = dict.fromkeys(protection.roots, "where the datasets of the repository are")
    return output_paths.Protection(protection.files, {**protection.directories, **roots}, protection.roots)


def _failure(done: stage_summary.StageSummary) -> str:
    failed = "1 job has failed" if done.n_failed == 1 else f"{done.n_failed} jobs have failed"
    return f"{failed}. What others have written stays, and is not written again."


class _Staging:
    """One run.

    Parameters
    ----------
    setup
        What every job is told.
    config
        Options.
    done
        What was done.
    stopping
        Takes signals.
    """

    def __init__(
        self,
        setup: policy_jobs.Setup,
        config: StageConfig,
        done: stage_summary.StageSummary,
        stopping: interruption.Interruption,
    ) -> None:
        self._setup = setup
        self._config = config
        self._done = done
        self._stopping = stopping
        self._writers = job_targets.Writers()

    def run(
        self,
        identities: Sequence[job_identities.Identity],
        on_progress: progress.Callback | None,
        began: float,
    ) -> None:
        """Do all jobs."""
        config = self._config
        shown = progress.Progress(
            {"jobs": len(identities)},
            began,
            config.log_status_interval,
            config.interactive_status,
            on_progress,
            self._done,
        )
        try:
            with shown, self._engine() as engine:
                shown.phase("staging")
                self._stopping.told(lambda: self._do(identities, engine, shown))
        finally:
            job_batches.close_all()
            self._done.phases = shown.seconds

    @contextlib.contextmanager
    def _engine(self) -> Iterator[job_engine.JobEngine]:
        if self._config.engine is not None:
            with job_engines.opened(self._config.engine) as engine:
                yield engine
            return
        descriptors.check(self._config.n_processes)
        workers = processes.Engine(leads_groups=True)
        with contextlib.closing(worker_jobs.JobEngine(workers, self._config.n_processes)) as local:
            yield local

    def _do(
        self,
        identities: Sequence[job_identities.Identity],
        engine: job_engine.JobEngine,
        shown: progress.Progress,
    ) -> None:
        """Give the engine as much as it can do, until all is done, or somebody asks to stop."""
        running: dict[job_engine.Handle, Sequence[job_identities.Identity]] = {}
        begun, since = 0, time.monotonic()
        # What lies ready elsewhere is worth the way; here it would be waited for after a signal.
        n_ready = 1 if self._config.engine is None else 2
        while True:
            capacity = max(1, engine.capacity())
            pace = self._done.counts.total() / max(time.monotonic() - since, 1e-3) / capacity
            size = max(1, min(_MOST_AT_ONCE, int(pace * _SECONDS)))
            limit = 0 if self._stopping.is_asked else n_ready * capacity
            while begun < len(identities) and len(running) < limit:
                some = identities[begun : begun + size]
                running[engine.submit(job_batches.job(self._setup, some))] = some
                begun += len(some)
            if not running:
                return
            for handle, outcome in engine.wait(_SECONDS):
                for report in _reports(running.pop(handle), outcome):
                    self._done.add(self._writers.checked(report))
                    shown.advance("jobs", 1)
            shown.beat(lambda: f"{self._done.n_failed} have failed")


def _reports(
    identities: Sequence[job_identities.Identity], outcome: outcomes.Outcome
) -> Sequence[job_reports.Report]:
    """Return what became of some jobs; raise what has nothing to do with any of them."""
    match outcome:
        case outcomes.Result(value):
            reports: Sequence[job_reports.Report] = value
            return reports
        case outcomes.Failed(cause, _, details):
            error = errors.FatalWorkerError(f"{cause} What was written stays; run the same command again.")
            error.add_note(details)
            raise error
        case outcomes.Killed(number):
            end = f"was killed by signal {number}"
        case outcomes.Exited(code):
            end = f"ended with exit code {code}"
        case _:
            end = "can't be reached any more"
    several = f", or another of {len(identities)} that it was given" if len(identities) > 1 else ""
    problem = f"the worker {end} during this job{several}"
    return [job_reports.Report(each, job_reports.Fate.FAILED, problem) for each in identities]

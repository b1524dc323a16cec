"""Several jobs of a policy at a time, in this process or where an engine does them."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Sequence
from typing import Final

from aggregator.stages import job_identities, job_reports, job_targets, policy_jobs
from aggregator.storage import errors
from aggregator.workers.engines import job_engine


def check(setup: policy_jobs.Setup, identities: Sequence[job_identities.Identity]) -> None:
    """Look at jobs before any is done: whether they can be, and do not write in the same places.

    Raises
    ------
    RefusedError
        If a storage can't be used, or two jobs write in one place.
    AggregatorError
        If a database can't be reached.
    """
    if not identities:
        return
    # Workers may be copies of this process: nothing stays open that they would share.
    with contextlib.closing(policy_jobs.JobRunner(setup)) as runner:
        runner.outputs.rehearse(identities[0], is_elsewhere=setup.is_elsewhere)
        _check_targets(runner, identities)


def _check_targets(runner: policy_jobs.JobRunner, identities: Sequence[job_identities.Identity]) -> None:
    """Refuse two jobs, or two items, that write in one place."""
    writers = job_targets.Writers()
    for identity in identities:
        for target in runner.outputs.targets(identity):
            if problem := writers.problem(target, identity):
                raise errors.RefusedError(problem)


def job(setup: policy_jobs.Setup, identities: Sequence[job_identities.Identity]) -> job_engine.Job:
    """Return the job of an engine that does some jobs of a policy; its result is a report on each."""
    return job_engine.Job(
        run, (setup, tuple(identities)), f"{len(identities)} jobs of {setup.policy.location}"
    )


def run(setup: policy_jobs.Setup, identities: Sequence[job_identities.Identity]) -> list[job_reports.Report]:
    """Do some jobs.

    Raises
    ------
    AggregatorError
        If something is wrong that has nothing to do with them.
    """
    # Some engines have several threads in a process, and databases are open for one.
    with _lock:
        runner = _runner(setup)
        return [runner.report(identity) for identity in identities]


_lock: Final = threading.Lock()

_runners: Final[dict[uuid.UUID, policy_jobs.JobRunner]] = {}
"""The runner of this process, by its setup's token: databases stay open from call to call."""


def _runner(setup: policy_jobs.Setup) -> policy_jobs.JobRunner:
    if setup.token not in _runners:
        close_all()
        _runners[setup.token] = policy_jobs.JobRunner(setup)
    return _runners[setup.token]


def close_all() -> None:
    """Close what is open in this process."""
    while _runners:
        _runners.popitem()[1].close()

"""Jobs of a policy: for one data ID, items are read, a function is called, and items are written.

What is there already is not written again, so that a job can be done any number of times. A job is done when
all of its output items are there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
import uuid
from typing import Final

from aggregator.butler.databases import database
from aggregator.execution import surroundings
from aggregator.schemas import output_paths
from aggregator.stages import (
    item_functions,
    item_reader,
    item_writer,
    job_clipboards,
    job_identities,
    job_outputs,
    job_policies,
    job_reports,
    keeping_butler,
    persistence,
    policy_items,
    repository_butler,
)
from aggregator.stages.storages import storage_registry
from aggregator.storage import errors

_log = logging.getLogger(__name__)

_TROUBLE: Final = (errors.MachineError, database.LostError)
"""Errors that say nothing about a job: all others would have them, too."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """What every job is told."""

    policy: job_policies.JobPolicy
    """The policy."""

    protection: output_paths.Protection
    """What must not be written."""

    only_looks: bool
    """Whether nothing is to be written."""

    is_elsewhere: bool = False
    """Whether jobs are done in other places than this process and its copies."""

    token: uuid.UUID = dataclasses.field(default_factory=uuid.uuid4)
    """Tells it from all others."""


class JobRunner:
    """Does jobs in one process; holds what is open for them.

    Parameters
    ----------
    setup
        What they are told.
    """

    def __init__(self, setup: Setup) -> None:
        policy = setup.policy
        self._function = item_functions.imported(policy.function) if policy.function else None
        self._only_looks = setup.only_looks
        self._clipboards = job_clipboards.JobClipboards(policy)
        self._stack = contextlib.ExitStack()
        storages = self._stack.enter_context(storage_registry.StorageRegistry(setup.protection, keeps=True))
        self._input_names = policy_items.names(policy.inputs, "inputItems")
        self._output_names = policy_items.names(policy.outputs, "outputItems")
        source, target = self._butlers(policy)
        objects = persistence.Persistence(storages, policy.inputs.part("parameters.persistence"))
        self._reader = item_reader.ItemReader(policy.inputs, objects, source)
        objects = persistence.Persistence(storages, policy.outputs.part("parameters.persistence"))
        keeping = None if target is None else keeping_butler.KeepingButler(target)
        self._writer = item_writer.ItemWriter(policy.outputs, objects, keeping)
        self.outputs = job_outputs.JobOutputs(policy, self._clipboards, storages, target)
        """What jobs write."""

    def _butlers(
        self, policy: job_policies.JobPolicy
    ) -> tuple[repository_butler.RepositoryButler | None, repository_butler.RepositoryButler | None]:
        """Return what reads items and what writes them, where the policy has a butler."""
        made = []
        for each in [policy.inputs] if policy.outputs is policy.inputs else [policy.inputs, policy.outputs]:
            butler = None
            if "parameters.butler" in each:
                butler = repository_butler.RepositoryButler(each.part("parameters.butler"))
                self._stack.callback(butler.close)
            made.append(butler)
        return made[0], made[-1]

    def close(self) -> None:
        """Close what is open."""
        self._stack.close()

    def report(self, identity: job_identities.Identity) -> job_reports.Report:
        """Do a job, and return what became of it.

        Raises
        ------
        AggregatorError
            If something is wrong that has nothing to do with the job.
        """
        try:
            return self._done(identity)
        except _TROUBLE:
            raise
        except errors.AggregatorError as exc:
            return job_reports.Report(identity, job_reports.Fate.FAILED, str(exc))
        except (Exception, SystemExit) as exc:
            # Of a function nobody knows what it raises.
            _log.info("A job has failed: %s", dict(identity), exc_info=True)
            return job_reports.Report(identity, job_reports.Fate.FAILED, f"{type(exc).__name__}: {exc}")

    def _done(self, identity: job_identities.Identity) -> job_reports.Report:
        if self.outputs.are_there(identity):
            return job_reports.Report(identity, job_reports.Fate.EXISTING)
        if self._only_looks:
            return job_reports.Report(identity, job_reports.Fate.PENDING)
        clipboard, predefined = self._clipboards.clipboard(identity), self._clipboards.predefined(identity)
        self._reader.read(clipboard, predefined)
        if self._function is not None:
            items = {name: clipboard.get(name) for name in self._input_names if clipboard.contains(name)}
            # Results of the command go to standard output; what a function prints is none.
            with surroundings.kept(), contextlib.redirect_stdout(sys.stderr):
                made = item_functions.called(self._function, items, self._output_names)
            for name, item in made.items():
                clipboard.put(name, item)
        try:
            written = self._writer.write(clipboard, predefined)
        except errors.AggregatorError:
            # Another process may have done the same meanwhile.
            if not self.outputs.are_there(identity):
                raise
            return job_reports.Report(identity, job_reports.Fate.EXISTING)
        is_complete = len(written) == len(self._output_names)
        fate = job_reports.Fate.DONE if is_complete else job_reports.Fate.LACKING
        targets = self.outputs.late_targets(written, clipboard, predefined)
        return job_reports.Report(identity, fate, targets=tuple(targets))

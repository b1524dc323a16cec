"""Stages that read items onto clipboards, and that write them (stages.md sections 3, 7 and 8)."""

from __future__ import annotations

import contextlib
from typing import Final

from aggregator.schemas import output_paths
from aggregator.stages import (
    butlers,
    clipboards,
    item_reader,
    item_writer,
    persistence,
    repository_butler,
    stage,
    stage_dictionary,
)
from aggregator.stages.policies import policy as policy_module
from aggregator.stages.storages import storage_registry

_RUN_MODE: Final = "parameters.runMode"


class _Transfer(stage.Processing):
    """What serial and parallel parts have in common: what they read or write with."""

    def setup(self) -> None:
        """Open what the policy names."""
        self._open = contextlib.ExitStack()
        backend = storage_registry.StorageRegistry(output_paths.Protection())
        self._open.callback(backend.close)
        self._objects = persistence.Persistence(backend, self.policy.part("parameters.persistence"))
        self._butler: butlers.Butler | None = None
        if "parameters.butler" in self.policy:
            self._butler = repository_butler.RepositoryButler(self.policy.part("parameters.butler"))
            self._open.callback(self._butler.close)

    def close(self) -> None:
        """Close databases and repositories."""
        self._open.close()

    def transfer(self, clipboard: clipboards.Clipboard) -> None:
        """Read or write all items."""
        raise NotImplementedError


class _Input(_Transfer):
    def transfer(self, clipboard: clipboards.Clipboard) -> None:
        """Read all items."""
        reader = item_reader.ItemReader(self.policy, self._objects, self._butler)
        reader.read(clipboard, self.predefined())


class _Output(_Transfer):
    def transfer(self, clipboard: clipboards.Clipboard) -> None:
        """Write all items."""
        writer = item_writer.ItemWriter(self.policy, self._objects, self._butler)
        writer.write(clipboard, self.predefined())


class _Serial(_Transfer, stage.SerialProcessing):
    """Does it before or after the slices, as the policy says; without ``runMode`` never."""

    def preprocess(self, clipboard: clipboards.Clipboard) -> None:
        """Do it, if that is wanted before the slices."""
        if self.policy.get(_RUN_MODE, "") == "preprocess":
            self.transfer(clipboard)

    def postprocess(self, clipboard: clipboards.Clipboard) -> None:
        """Do it, if that is wanted after the slices."""
        if self.policy.get(_RUN_MODE, "") == "postprocess":
            self.transfer(clipboard)


class _Parallel(_Transfer, stage.ParallelProcessing):
    """Does it in each slice, whatever ``runMode`` is."""

    def process(self, clipboard: clipboards.Clipboard) -> None:
        """Do it."""
        self.transfer(clipboard)


class InputSerial(_Serial, _Input):
    """Reads items in the master."""


class InputParallel(_Parallel, _Input):
    """Reads items in each slice."""


class OutputSerial(_Serial, _Output):
    """Writes items in the master."""


class OutputParallel(_Parallel, _Output):
    """Writes items in each slice."""


def input_stage(policy: policy_module.Policy, name: str = "input") -> stage.Stage:
    """Return a stage that reads the input items of a policy onto the clipboard.

    Parameters
    ----------
    policy
        The policy; defaults are added to it.
    name
        Name of the stage.

    Raises
    ------
    RefusedError
        If it does not fit the dictionary of such stages; it has a line for each problem.
    """
    stage_dictionary.complete(policy)
    return stage.Stage(policy, InputSerial, InputParallel, name)


def output_stage(policy: policy_module.Policy, name: str = "output") -> stage.Stage:
    """Return a stage that writes the output items of a policy; parameters and errors as for `input_stage`."""
    stage_dictionary.complete(policy)
    return stage.Stage(policy, OutputSerial, OutputParallel, name)

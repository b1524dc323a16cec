"""Stages: what is done with a clipboard, in the master and in each slice (stages.md section 3)."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from aggregator.stages import clipboards
from aggregator.stages.policies import policy as policy_module

MASTER: Final = -1
"""Rank of the master."""


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a stage runs."""

    rank: int = MASTER
    """Number of the slice, from 0; `MASTER` in the master."""

    universe_size: int = 1
    """How many processes there are, the master included."""

    run_id: str = "user-driven"
    """Name of the run."""

    name: str = ""
    """Name of the stage."""

    stage_id: int = 0
    """Number of the stage, from 0."""


class Processing:
    """Part of a stage, in one process.

    Parameters
    ----------
    policy
        The policy of the stage.
    surroundings
        Where it runs.
    """

    def __init__(self, policy: policy_module.Policy, surroundings: Surroundings) -> None:
        self.policy = policy
        self.rank = surroundings.rank
        self.universe_size = surroundings.universe_size
        self.run_id = surroundings.run_id
        self.name = surroundings.name
        self.stage_id = surroundings.stage_id
        self.setup()

    def setup(self) -> None:
        """Get ready; called once, when everything else is."""

    def close(self) -> None:
        """Give back what `setup` has taken."""

    def predefined(self) -> dict[str, Any]:
        """Return additional data that is there for every stage."""
        return {"runId": self.run_id, "sliceId": self.rank, "universeSize": self.universe_size}


class SerialProcessing(Processing):
    """The part of a stage that is done once, in the master."""

    def preprocess(self, clipboard: clipboards.Clipboard) -> None:
        """Do what has to be done before the slices."""

    def postprocess(self, clipboard: clipboards.Clipboard) -> None:
        """Do what has to be done after the slices."""


class ParallelProcessing(Processing):
    """The part of a stage that is done in each slice."""

    def process(self, clipboard: clipboards.Clipboard) -> None:
        """Do it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """A stage: it can be pickled, so that its parts can be made in processes of their own."""

    policy: policy_module.Policy
    """What it is to do."""

    serial_class: type[SerialProcessing] = SerialProcessing
    """Class of its part in the master."""

    parallel_class: type[ParallelProcessing] = ParallelProcessing
    """Class of its part in slices."""

    name: str = ""
    """Its name."""

    def serial(self, surroundings: Surroundings) -> SerialProcessing:
        """Return its part in the master."""
        return self.serial_class(self.policy, dataclasses.replace(surroundings, name=self.name))

    def parallel(self, surroundings: Surroundings) -> ParallelProcessing:
        """Return its part in a slice."""
        return self.parallel_class(self.policy, dataclasses.replace(surroundings, name=self.name))

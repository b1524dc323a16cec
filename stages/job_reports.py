"""What becomes of the jobs of a policy."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from aggregator.stages import job_identities


class Fate(enum.Enum):
    """What became of a job."""

    DONE = "done"
    LACKING = "lacking"
    EXISTING = "existing"
    FAILED = "failed"
    PENDING = "pending"


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A place where a job writes: a file, rows of one key, or a dataset."""

    item: str
    """Name of the item."""

    key: tuple[Any, ...]
    """Tells it from all other places."""

    shown: str
    """What it is, for people."""

    origin: str
    """Where the policy names it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What became of one job."""

    identity: job_identities.Identity
    """Its data ID."""

    fate: Fate
    """What became of it."""

    problem: str = ""
    """Why it has failed, if so."""

    targets: tuple[Target, ...] = ()
    """Where it has written, as far as that was not known before its items were read."""

    def shown(self) -> str:
        """Return its data ID as text."""
        return ", ".join(f"{name}={value}" for name, value in self.identity.required.items())

"""What a worker that executes quanta has to do."""

from __future__ import annotations

import collections
import dataclasses
import uuid

from aggregator.execution import readiness
from aggregator.workers.engines import engine


@dataclasses.dataclass(slots=True)
class Load:
    """What a worker has been sent and has not answered."""

    quanta: collections.deque[readiness.QuantumData | None]
    """Quanta, the one that it is at first; nothing in place of one while it gets ready."""

    since: float
    """Since when it has been at the first of them."""

    killed: uuid.UUID | None = None
    """The quantum because of which it was killed by this process."""

    reason: str = ""
    """Why."""

    is_late: bool = False
    """Whether that is because it took too long."""

    @property
    def current(self) -> readiness.QuantumData | None:
        """What it is at."""
        return self.quanta[0] if self.quanta else None

    def kill(self, worker: engine.Worker, reason: str, *, is_late: bool = False) -> None:
        """Kill the worker because of the quantum that it is at, if that was not done before."""
        if self.current is not None and self.killed is None:
            self.killed, self.reason, self.is_late = self.current.id, reason, is_late
            worker.kill()

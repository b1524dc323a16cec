"""Trouble that may pass: a file system that is gone for a while, a database that is restarted."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from aggregator.console import interruption
from aggregator.storage import errors, local_files, locks

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_LIMIT_SECONDS = 3600.0
"""How long trouble may go on."""

_LONGEST_WAIT_SECONDS = 600.0
"""Time between attempts, at most."""


class Patience:
    """Attempts things, again and again as long as there is trouble.

    Parameters
    ----------
    interval
        Seconds between attempts at first.
    ownership
        What shows whether the checkpoint is still ours; without it, there is nothing to wait for.
    is_closed
        Returns whether nothing can be done any more, whatever the trouble is.
    """

    def __init__(
        self, interval: float, ownership: locks.Ownership, is_closed: Callable[[], bool] = lambda: False
    ) -> None:
        self._interval = interval
        self._ownership = ownership
        self._is_closed = is_closed
        self._n_failures = 0
        self._trouble_since = 0.0
        self.trouble = ""
        """What was wrong the last time; empty if nothing was."""

    @property
    def wait(self) -> float:
        """Seconds to wait before the next attempt."""
        longest = max(self._interval, _LONGEST_WAIT_SECONDS)
        return float(min(self._interval * 2 ** min(self._n_failures, 30), longest))

    def attempt(self, work: Callable[[], _T]) -> _T | None:
        """Return what some work returns; nothing if there was trouble that may pass.

        Raises
        ------
        AggregatorError
            What the work raises, if it does for too long, the checkpoint is not ours any more, or nothing can
            be done; and Interrupted, HeldError and ConflictError, which another attempt would not change.
            Refusals are trouble like any other: nothing was wrong at first, and what can't be looked at may
            look like another thing.
        """
        try:
            with errors.explained():
                result = work()
        except (interruption.Interrupted, errors.HeldError, errors.ConflictError):
            raise
        except errors.AggregatorError as exc:
            now = time.monotonic()
            if not self._n_failures:
                # What took hours may fail once.
                self._trouble_since = now
            if self._is_lost() or now - self._trouble_since > _LIMIT_SECONDS or self._is_closed():
                raise
            self._n_failures += 1
            self.trouble = str(exc).partition("\n")[0]
            _log.warning("%s It is tried again in %.0f s.", self.trouble, self.wait)
            return None
        self._n_failures, self.trouble = 0, ""
        return result

    def _is_lost(self) -> bool:
        """Return whether the checkpoint is somebody else's; one that is gone may come back."""
        try:
            locks.check(self._ownership)
        except errors.MachineError:
            return False
        except errors.AggregatorError:
            return local_files.exists(self._ownership.path)
        return False

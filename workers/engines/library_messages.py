"""What libraries say in a worker, on its way to the process that started it, which alone has the terminal."""

import collections
import dataclasses
import logging

_N_KEPT = 100
"""Messages to keep, at most; the last ones."""


@dataclasses.dataclass(frozen=True, slots=True)
class Logged:
    """A message that would have gone to the terminal."""

    logger: str
    """Name of the logger."""

    level: int
    """Level of the message."""

    text: str
    """The message."""


class Collector(logging.Handler):
    """Keeps warnings and errors of libraries until the next reply."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._records: collections.deque[Logged] = collections.deque(maxlen=_N_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        try:
            text = self.format(record)
        except Exception as exc:
            # As other handlers do: what can't be told must not end what it tells of.
            text = f"{record.msg!r} ({exc})"
        self._records.append(Logged(record.name, record.levelno, text))

    def take(self) -> list[Logged]:
        """Return what has come since the call before."""
        return [self._records.popleft() for _ in range(len(self._records))]

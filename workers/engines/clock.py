"""Time in which processes were running: nobody is to blame for that in which they were stopped."""

import time


class Clock:
    """Seconds in which this process was running, roughly: those in which it was stopped don't count."""

    _LONGEST_STEP = 1.0

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.monotonic()

    def tick(self) -> None:
        """Go on. This has to be called several times a second: what is longer is taken for a stop."""
        now = time.monotonic()
        self.seconds += min(now - self._last, self._LONGEST_STEP)
        self._last = now


def is_stopped(pid: int) -> bool:
    """Return whether somebody has stopped a process (SIGSTOP, SIGTSTP) and not continued it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            # The state follows the name, which may have any characters in it.
            return stream.read().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False

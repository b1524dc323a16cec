"""The program `aggregator`, also as ``python -m aggregator``.

A signal while the command line is imported ends it as any later one does.
"""

import os
import signal
import sys
from typing import NoReturn


def start() -> None:
    """Import and run the command line, which takes signals as soon as it can."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end)
    from aggregator.command_line import program

    program.run()


def _end(number: int, frame: object) -> NoReturn:
    """End before anything was done; an exception could be taken for an error of what is imported."""
    sys.stderr.write("Error: interrupted by SIGINT.\n")
    sys.stderr.flush()
    os._exit(128 + number)


if __name__ == "__main__":
    start()

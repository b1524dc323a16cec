"""The command line as a process of its own."""

import atexit
import os
import sys
import threading
from typing import NoReturn

from aggregator.command_line import main


def run() -> NoReturn:
    """Run the command line, and end the process at once.

    Python would take down one by one all that was imported, which takes as long as a tenth of a short
    command, and the system does it anyway. Where a thread still runs, or somebody measures this process, it
    ends as always.
    """
    try:
        main.main()
    except SystemExit as exc:
        is_watched = sys.gettrace() is not None or sys.getprofile() is not None
        if is_watched or threading.active_count() > 1 or not isinstance(exc.code, int):
            raise
        atexit._run_exitfuncs()
        os._exit(exc.code)
    raise AssertionError("the command line ends by SystemExit")

"""A process of the command line ends at once, but leaves nothing undone that somebody waits for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

RUN = """
import sys
from aggregator import __main__
sys.argv = ["aggregator", {word!r}]
__main__.start()
"""

TRAP = """
import os
class Trap:
    def __del__(self, write=os.write):
        write(1, b"taken down")
trap = Trap()
"""


def run(before: str, word: str = "--version") -> subprocess.CompletedProcess[str]:
    # Who measures coverage sees the end, too.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    words = [sys.executable, "-c", before + RUN.format(word=word)]
    return subprocess.run(words, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(("word", "code"), [("--version", 0), ("no-such-command", 2)])
def test_nothing_is_taken_down(word: str, code: int) -> None:
    done = run(TRAP, word)
    assert done.returncode == code
    assert "taken down" not in done.stdout
    assert bool(done.stdout) is (code == 0)


def test_somebody_who_measures_sees_the_end() -> None:
    done = run(f"{TRAP}import sys; sys.setprofile(lambda *_: None)")
    assert done.returncode == 0
    assert "taken down" in done.stdout


def test_functions_that_are_to_be_called_at_the_end_are() -> None:
    done = run("import atexit; atexit.register(lambda: print('the end', flush=True))")
    assert done.returncode == 0
    assert done.stdout.endswith("the end\n")


def test_threads_are_waited_for() -> None:
    work = "(threading.main_thread().join(), print('over'))"
    done = run(f"import threading; threading.Thread(target=lambda: {work}).start()")
    assert done.returncode == 0
    assert done.stdout.endswith("over\n")

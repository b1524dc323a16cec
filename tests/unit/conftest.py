"""Tests here need nothing but this process: one that starts another, or imports the reference, fails."""

from __future__ import annotations

import multiprocessing.util
import sys
from typing import Any

import multiprocess.util
import pytest

STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"})

_watched = False


def _fail(what: str) -> None:
    # No `Exception`, which what is tested might catch.
    pytest.fail(f"a unit test {what}; it goes into another folder")


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched:
        return
    if event in STARTS:
        _fail(f"starts a process ({event})")
    if event == "import" and arguments[0].partition(".")[0] == "lsst":
        _fail(f"imports the reference ({arguments[0]})")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def _this_process_only(monkeypatch: pytest.MonkeyPatch) -> Any:
    global _watched
    for module in (multiprocess.util, multiprocessing.util):
        # There is no event for these.
        monkeypatch.setattr(module, "spawnv_passfds", lambda *_: _fail("starts a process"))
    _watched = True
    yield
    _watched = False

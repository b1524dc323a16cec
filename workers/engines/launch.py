"""How a process begins: without the caller's main module, deaf to signals, and gone when its parent is."""

import contextlib
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from multiprocessing import connection as standard_connection
from typing import Any

import multiprocess
from aggregator.workers.engines import thread_pools
from multiprocess import resource_tracker

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that reach the whole process group; the coordinator decides when workers stop."""

_SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Keeps a new process from importing what lies in the current directory, until it has its parent's path."""


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Let a new process start with these signals blocked, until it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Keep a new process from importing the caller's main module.

    Workers need nothing of it; a script without a main guard would start all over in each of them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def start(target: Callable[..., None], arguments: tuple[Any, ...], name: str) -> Any:
    """Start a process, which has to call `settle` first.

    Parameters
    ----------
    target, arguments
        Its main function, of a module, and what that is called with.
    name
        Its name.
    """
    started = multiprocess.get_context("spawn").Process(target=target, args=arguments, name=name, daemon=True)
    with thread_pools.environment(_SAFE_PATH), thread_pools.single_threaded():
        # The first process starts Python's tracker of shared resources, which would unblock the signals.
        resource_tracker.ensure_running()
        with _hidden_main(), _blocked_signals():
            started.start()
    return started


def settle() -> None:
    """Ignore the signals that are for the parent, and end this process as soon as that is gone."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    _watch_parent()


def _watch_parent() -> None:
    """End this process as soon as its parent is gone, whatever it is doing."""
    parent = multiprocess.process.parent_process()

    def watch() -> None:
        standard_connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()

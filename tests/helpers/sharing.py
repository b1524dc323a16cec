"""What is made once in a session of tests, by whichever of its processes wants it first."""

from __future__ import annotations

import fcntl
import pathlib
import pickle
from collections.abc import Callable
from typing import TypeVar

import pytest

_Made = TypeVar("_Made")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[pathlib.Path], _Made]) -> _Made:
    """Return what a function makes in a new directory, or has made there in another process.

    Parameters
    ----------
    factory
        Its base directory belongs to this session; those of its processes lie in one directory.
    name
        Name of the directory.
    make
        Gets the directory, and returns a value that can be pickled. Nobody may change what lies there.
    """
    base = factory.getbasetemp()
    # Processes of pytest-xdist have directories of their own in that of the session.
    shared = base.parent if base.name.startswith("popen-") else base
    directory, made = shared / name, shared / f"{name}.pickle"
    with open(shared / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            # What is there was left by a process that failed.
            directory = _unused(directory)
            directory.mkdir()
            made.write_bytes(pickle.dumps(make(directory)))
        value: _Made = pickle.loads(made.read_bytes())
        return value


def _unused(directory: pathlib.Path) -> pathlib.Path:
    names = [directory, *(directory.with_name(f"{directory.name}-{number}") for number in range(1, 100))]
    return next(path for path in names if not path.exists())

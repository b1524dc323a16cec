"""Keeps numerical libraries from starting threads of their own."""

import contextlib
import importlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

_NAMES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
    "ARROW_NUM_THREADS",
)


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Set the variables that libraries read when they are first imported; restore them afterwards.

    Processes started inside inherit the setting, the caller's environment stays as it was.
    """
    with environment(dict.fromkeys(_NAMES, "1")):
        yield


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment, for what is started inside; restore them afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def import_module(name: str) -> Any:
    """Import a module whose libraries would otherwise start threads."""
    with single_threaded():
        return importlib.import_module(name)

"""Imports of heavy modules: quickly, and so that numerical libraries start no threads of their own."""

import contextlib
import gc
import importlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

SINGLE: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "ARROW_NUM_THREADS": "1",
}
"""Variables of the environment that libraries read when they are first imported."""


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment, and restore them afterwards."""
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
    with environment(SINGLE), _all_kept():
        return importlib.import_module(name)


@contextlib.contextmanager
def _all_kept() -> Iterator[None]:
    """Free nothing meanwhile, and never what there is then: to look for that takes a tenth of an import."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()

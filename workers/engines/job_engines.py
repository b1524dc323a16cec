"""Engines for jobs by what users call them, as `--engine` does; their libraries are imported only then."""

import contextlib
import importlib
from collections.abc import Iterator
from concurrent import futures
from typing import Any

from aggregator.storage import errors
from aggregator.workers.engines import future_jobs, job_engine

_KINDS = {"dask": ("dask_jobs", "connect"), "parsl": ("parsl_jobs", "start")}
"""By the word before the colon: module, and its function that takes what is after it. The word is that of the
extra, too."""

WAYS = "dask:tcp://HOST:PORT or parsl:CONFIG.py"
"""How engines are called, for people."""


def check(where: Any) -> None:
    """Refuse what is no engine, before any is started.

    Raises
    ------
    RefusedError
        If it is none.
    """
    if isinstance(where, str):
        _parts(where)
    elif not isinstance(where, job_engine.JobEngine | futures.Executor) and not _is_dask_client(where):
        raise errors.RefusedError(
            f"engine must be {WAYS}, a Dask client, or a concurrent.futures.Executor, not {where!r}"
        )


@contextlib.contextmanager
def opened(where: Any) -> Iterator[job_engine.JobEngine]:
    """Give an engine; what is started for it is ended.

    Parameters
    ----------
    where
        What it is called, an engine, a `distributed.Client`, or a `concurrent.futures.Executor`.

    Raises
    ------
    RefusedError
        If there is no such engine, or it can't be reached.
    """
    check(where)
    engine = _engine(where)
    try:
        yield engine
    finally:
        if engine is not where:
            engine.close()


def _engine(where: Any) -> job_engine.JobEngine:
    if isinstance(where, str):
        kind, rest = _parts(where)
        module, function = _KINDS[kind]
        engine: job_engine.JobEngine = getattr(_imported(module, kind, where), function)(rest)
        return engine
    if isinstance(where, job_engine.JobEngine):
        return where
    if isinstance(where, futures.Executor):
        # Executors of the standard library know how many, and have no public name for it.
        n_workers = getattr(where, "_max_workers", 1)
        return future_jobs.JobEngine(where, lambda: n_workers)
    client_engine: job_engine.JobEngine = _imported("dask_jobs", "dask", "the client").connected(where)
    return client_engine


def _is_dask_client(where: Any) -> bool:
    return any(each.__module__.partition(".")[0] == "distributed" for each in type(where).__mro__)


def _parts(where: str) -> tuple[str, str]:
    kind, _, rest = where.partition(":")
    if kind not in _KINDS or not rest:
        raise errors.RefusedError(f"{where!r} is no engine: give {WAYS}.")
    return kind, rest


def _imported(module: str, extra: str, where: str) -> Any:
    try:
        return importlib.import_module(f"aggregator.workers.engines.{module}")
    except ImportError as exc:
        raise errors.RefusedError(
            f"{where}: can't be used here ({exc}). Install this package with its extra '{extra}'."
        ) from exc

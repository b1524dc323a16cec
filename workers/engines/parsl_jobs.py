"""Jobs in what a Parsl configuration starts."""

import contextlib
import logging
import os
import runpy
import sys
from concurrent import futures
from typing import Any

import parsl
from aggregator.storage import errors
from aggregator.workers.engines import future_jobs, job_engine, outcomes, thread_pools
from parsl.dataflow import dflow
from parsl.executors.high_throughput import errors as executor_errors

_Future = futures.Future[outcomes.Result | outcomes.Failed]


class Kernel(futures.Executor):
    """What Parsl starts, as an executor; its futures can't be cancelled.

    Parameters
    ----------
    config
        What to start (`parsl.Config`). A process can have several: nothing of this is global.
    """

    def __init__(self, config: Any) -> None:
        scripts = os.path.dirname(sys.executable)
        path = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])
        with contextlib.ExitStack() as open_things:
            # Its own programs are started by name, whenever it needs more of them.
            open_things.enter_context(thread_pools.environment({"PATH": path}))
            self._kernel = dflow.DataFlowKernel(config)
            self._open_things = open_things.pop_all()

    def submit(self, function: Any, /, *arguments: Any, **keywords: Any) -> Any:
        """Return the future of a call."""
        return self._kernel.submit(function, arguments, "all", False, (), keywords)

    def capacity(self) -> int:
        """Return how many calls there are workers for when all that may be started is there."""
        return max(1, sum(_capacity(each) for each in self._kernel.executors.values()))

    def close(self) -> None:
        """End all that was started."""
        with self._open_things:
            self._kernel.cleanup()


def _capacity(executor: Any) -> int:
    if executor.label == "_parsl_internal":
        return 0
    provider = getattr(executor, "provider", None)
    # Some providers have blocks of one node only.
    n_nodes = 1 if provider is None else provider.max_blocks * (provider.nodes_per_block or 1)
    per_node = getattr(executor, "workers_per_node", 0) or getattr(executor, "max_threads", 1)
    return int(n_nodes * per_node)


def loss(exc: BaseException) -> str:
    """Return how an error shows that a worker is gone; empty for an error of the job itself."""
    lost = (executor_errors.WorkerLost, executor_errors.ManagerLost)
    return f"{type(exc).__name__}: {exc}" if isinstance(exc, lost) else ""


def start(config_path: str) -> job_engine.JobEngine:
    """Start what a configuration says, and return an engine that does jobs there.

    Parameters
    ----------
    config_path
        Python file with a `parsl.Config` that is named `config`. It is executed.

    Raises
    ------
    RefusedError
        If there is none, or it can't be started.
    """
    logger = logging.getLogger("parsl")
    if logger.level == logging.NOTSET:
        # It tells of each step of each job, unless somebody has asked for less, or for that.
        logger.setLevel(logging.WARNING)
    try:
        config = runpy.run_path(config_path)["config"]
        if not isinstance(config, parsl.Config):
            raise TypeError(f"config is no parsl.Config, but {type(config).__name__}")
        kernel = Kernel(config)
    except Exception as exc:
        reason = f"{type(exc).__name__}: {exc}"
        raise errors.RefusedError(
            f"parsl:{config_path}: can't start it ({reason}). Give a Python file with a parsl.Config that is "
            "named `config`."
        ) from exc
    return future_jobs.JobEngine(kernel, kernel.capacity, loss, kernel.close)

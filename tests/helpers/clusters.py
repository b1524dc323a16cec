"""Clusters of this host, with two workers each: one of Dask, and one that Parsl starts."""

import contextlib
import pathlib
import sys
import textwrap
from collections.abc import Iterator

import dask
import distributed

N_WORKERS = 2


@contextlib.contextmanager
def dask_cluster() -> Iterator[distributed.LocalCluster]:
    """Run a cluster; a job that kills its worker is not begun again."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0, "distributed.admin.tick.limit": "60s"}),
        distributed.LocalCluster(
            n_workers=N_WORKERS,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
    ):
        yield cluster


def parsl_configuration(directory: pathlib.Path) -> pathlib.Path:
    """Write a configuration for workers that see what this process sees, and are missed within seconds."""
    path = directory / "parsl_config.py"
    path.write_text(
        textwrap.dedent(f"""
            from parsl import Config
            from parsl.executors import HighThroughputExecutor
            from parsl.launchers import SimpleLauncher
            from parsl.providers import LocalProvider

            config = Config(
                executors=[
                    HighThroughputExecutor(
                        label="local", address="127.0.0.1", loopback_address="127.0.0.1", encrypted=False,
                        max_workers_per_node={N_WORKERS}, cores_per_worker=0.1, prefetch_capacity=0,
                        heartbeat_period=2, heartbeat_threshold=20, poll_period=10,
                        provider=LocalProvider(
                            init_blocks=1, max_blocks=1, launcher=SimpleLauncher(),
                            worker_init="export PYTHONPATH={":".join(entry for entry in sys.path if entry)}",
                        ),
                    )
                ],
                retries=0, run_dir={str(directory / "runinfo")!r}, strategy="none", usage_tracking=0,
                initialize_logging=False,
            )
        """)
    )
    return path

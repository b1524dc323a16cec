"""Aggregation with a datastore on an object store: ``python -m benchmarks.object_stores --quanta 5000``.

nginx, which has to be installed, answers from the directory of a local repository, so that the client is
what is measured. The same run is aggregated from local files, and by turns from there; its files are fetched
by the client alone, too.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import itertools
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator

from benchmarks import campaigns, latency

_CONFIGURATION = """
daemon off; pid {directory}/pid; error_log stderr crit; worker_processes {workers};
env LD_PRELOAD; env SLOW_FILES_MICROSECONDS; env SLOW_FILES_BELOW;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; etag on; keepalive_requests 1000000;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location /bucket/ {{ alias {root}/; }}
    location = /bucket {{ default_type application/xml; return 200 '{empty}'; }}
  }}
}}
"""

_DELAYED = 64
"""Processes of a server whose answers are delayed, since each can wait for one file only."""

_EMPTY = (
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><KeyCount>0</KeyCount>'
    "<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
)


@contextlib.contextmanager
def serve(run: campaigns.Run, directory: pathlib.Path, nginx: str, delay: float = 0.0) -> Iterator[str]:
    """Serve the files of a repository as the objects of a bucket; yield the server's address.

    Parameters
    ----------
    run
        Whose repository it is.
    directory
        Where the server has what it needs.
    nginx
        Path of the server.
    delay
        Milliseconds that each answer takes longer.
    """
    directory.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"user {os.environ.get('USER', 'root')};" * (os.getuid() == 0)
        + _CONFIGURATION.format(
            directory=directory, port=port, root=run.root, empty=_EMPTY, workers=_DELAYED if delay else 1
        )
    )
    variables: dict[str, str] = {}
    if delay:
        variables = latency.slow_variables(latency.compile_library(directory), run.files, delay)
    with subprocess.Popen(
        [nginx, "-p", directory, "-c", configuration], env=os.environ | variables
    ) as server:
        try:
            while subprocess.run(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"], stderr=-3).returncode:
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGTERM)


def elsewhere(run: campaigns.Run, endpoint: str) -> campaigns.Run:
    """Return the same run, whose files are objects of a bucket; the database is a copy."""
    root = run.root.with_name(f"{run.root.name}-objects")
    root.mkdir(exist_ok=True)
    text = (run.root / "butler.yaml").read_text()
    (root / "butler.yaml").write_text(text.replace("root: <butlerRoot>", "root: s3://bucket"))
    shutil.copy(run.saved_database(), root / "gen3.sqlite3")
    shutil.copy(run.predicted, root / "predicted.qg")
    variables = {
        "S3_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    return dataclasses.replace(run, root=root, predicted=root / "predicted.qg", variables=variables)


def fetch_all(run: campaigns.Run, n_threads: int) -> float:
    """Return how many logs and metadata files a second the client alone fetches."""
    from aggregator.storage import object_store

    store = object_store.ObjectStore("s3://bucket")
    names = (run.files.rglob(f"*_{kind}_*.json") for kind in ("log", "metadata"))
    keys = [str(path.relative_to(run.root)) for path in itertools.chain.from_iterable(names)]
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(n_threads) as pool:
        n_bytes = sum(len(content.data) for content in pool.map(store.read, keys) if content is not None)
    assert n_bytes
    return len(keys) / (time.monotonic() - began)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("bench-out"))
    parser.add_argument("--quanta", type=int, default=5000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--delay", type=float, default=0.0, help="milliseconds that each answer takes longer")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--nginx", default="nginx", help="path of the server")
    given = parser.parse_args(arguments)
    run = campaigns.make(given.workdir.resolve(), given.quanta)
    run.read_all()
    taken: dict[str, list[float]] = {}
    with serve(run, run.root.with_name("nginx"), given.nginx, given.delay) as endpoint:
        objects = elsewhere(run, endpoint)
        os.environ |= objects.variables
        for _ in range(given.repeat):
            for name, each, options in (
                ("local", run, ()),
                ("objects", objects, ("--requests", str(given.requests))),
            ):
                each.reset()
                done = each.aggregate("-j", str(given.processes), *options)
                figures = {"CPU ms": 1e3 * done["cpu"] / run.quanta}
                figures["files/s"] = 2 * run.quanta / done["phases"]["scanning"]
                for what, value in figures.items():
                    taken.setdefault(f"{name}: {what}", []).append(value)
            taken.setdefault("client alone: files/s", []).append(fetch_all(run, given.requests))
    for what, values in taken.items():
        print(f"{what}: {statistics.median(values):.4g}  ({', '.join(f'{v:.4g}' for v in values)})")


if __name__ == "__main__":
    main()

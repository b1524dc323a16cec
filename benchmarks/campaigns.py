"""Synthetic runs for benchmarks: made once, aggregated as often as wanted, in place."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from typing import Any

import msgspec
from aggregator.schemas.checkpoints import ledger
from aggregator.schemas.graphs import provenance_graph

from aggregator.synthesis import campaign, parameters

_CODE = """
import dataclasses, json, sys
import aggregator
given = json.loads(sys.argv[1])
config = aggregator.AggregatorConfig(**given["config"])
done = aggregator.aggregate_graph(given["predicted"], given["root"], config)
json.dump({f.name: getattr(done, f.name) for f in dataclasses.fields(done) if f.name != "counts"}, sys.stdout)
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """A synthetic run, not aggregated."""

    root: pathlib.Path
    """The repository."""

    predicted: pathlib.Path
    """The predicted graph."""

    quanta: int
    """Number of quanta."""

    counts: dict[str, Any]
    """What is in it."""

    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    """Variables that aggregations have besides those of this process."""

    @property
    def files(self) -> pathlib.Path:
        """The directory of the run's files."""
        return next(self.root.glob("u/*/*/*"))

    @property
    def output(self) -> pathlib.Path:
        """Where provenance graphs go."""
        return self.root.with_suffix(".provenance.qg")

    def saved_database(self) -> pathlib.Path:
        """Return a copy of the SQLite database as it was before the first aggregation."""
        saved = self.root.with_suffix(".sqlite3")
        if not saved.exists():
            shutil.copy(self.root / "gen3.sqlite3", saved)
        return saved

    def reset(self) -> None:
        """Bring everything back to the state before aggregation; execution files are only ever read."""
        shutil.copy(self.saved_database(), self.root / "gen3.sqlite3")
        shutil.rmtree(f"{self.predicted}.checkpoint", ignore_errors=True)
        self.output.unlink(missing_ok=True)

    def read_all(self) -> None:
        """Read all files once, so that the page cache has those that fit."""
        subprocess.run(
            f"find {self.root} -type f -print0 | xargs -0 -n 1000 cat > /dev/null", shell=True, check=True
        )

    def content(self) -> tuple[int, int]:
        """Return what stands for the content of the provenance graph and of the SQLite database.

        Sums of hashes, so that the order does not matter; times of ingest are left out.
        """
        nodes = database = 0
        with provenance_graph.ProvenanceGraph(str(self.output)) as graph:
            for node in itertools.chain(graph.quanta(), graph.datasets()):
                nodes += _hash(msgspec.json.encode(node))
        with contextlib.closing(sqlite3.connect(self.root / "gen3.sqlite3")) as connection:
            for (table,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall():
                columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
                names = ", ".join(f'"{name}"' for name in columns if name != "ingest_date")
                for row in connection.execute(f'SELECT {names} FROM "{table}"'):
                    database += _hash(repr((table, row)).encode())
        return nodes % (1 << 128), database % (1 << 128)

    def _command(self, config: dict[str, Any]) -> list[str]:
        config = {"output_path": str(self.output)} | config
        given = {"predicted": str(self.predicted), "root": str(self.root), "config": config}
        return [sys.executable, "-c", _CODE, json.dumps(given)]

    def aggregate(self, **config: Any) -> dict[str, Any]:
        """Aggregate it in a process of its own; return the summary, with the wall time seen from outside."""
        started = time.monotonic()
        done = subprocess.run(
            self._command(config), check=True, stdout=subprocess.PIPE, env=os.environ | self.environment
        )
        result: dict[str, Any] = json.loads(done.stdout)
        return result | {"wall": time.monotonic() - started}

    def kill(self, share: float, **config: Any) -> float:
        """Kill all processes of an aggregation when a share of the shards is committed; return the share.

        A shard is committed when the ledger says that its outputs are in the database.
        """
        running = subprocess.Popen(
            self._command(config),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | self.environment,
        )
        checkpoint = pathlib.Path(f"{self.predicted}.checkpoint")
        done, total = 0, 1
        while done < share * total:
            time.sleep(0.005)
            if running.poll() is not None:
                raise RuntimeError("it was complete before it could be killed; take more quanta")
            try:
                manifest = json.loads((checkpoint / "manifest.json").read_text())
            except (OSError, ValueError):
                continue
            total = 1 - (-manifest["n_quanta"] // manifest["shard_size"])
            done = len(ledger.read_all(str(checkpoint / "ledger")))
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        return done / total


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=16).digest(), "big")


def make(workdir: pathlib.Path, quanta: int, *, small: bool = False, database: str | None = None) -> Run:
    """Make a run, or return the one made before."""
    root = workdir / f"run-{quanta}{'-small' if small else ''}"
    sizes = parameters.SMALL if small else {}
    asked = parameters.SynthesisParameters(quanta=quanta, database=database, **sizes)
    workdir.mkdir(parents=True, exist_ok=True)
    made = campaign.synthesize(str(root), asked, n_processes=os.cpu_count() or 1)
    return Run(root, pathlib.Path(made.predicted), made.counts["quanta"], made.counts)

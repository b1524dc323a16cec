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
from collections.abc import Sequence
from typing import Any

import msgspec
from aggregator.schemas.checkpoints import ledger, manifest
from aggregator.schemas.graphs import provenance_graph
from aggregator.storage import errors

from aggregator.synthesis import campaign, parameters


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

    variables: dict[str, str] = dataclasses.field(default_factory=dict)
    """Variables that aggregations have besides those of this process."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables that aggregations have."""
        # What is installed is compiled; to compile it all again takes as long as the rest of a start.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return kept | self.variables

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

    def _command(self, options: Sequence[str]) -> list[str]:
        program = [sys.executable, "-m", "aggregator", "aggregate-graph", str(self.predicted), str(self.root)]
        return [*program, "-o", str(self.output), *options]

    def aggregate(self, *options: str) -> dict[str, Any]:
        """Aggregate it with options of the command; return its summary, and what it took.

        That is seen from outside: wall time (``wall``) and CPU time of all processes (``cpu``), both in s.
        """
        summary = self.root.with_suffix(".summary.json")
        started = time.monotonic()
        command = [*self._command(options), "--summary-json", str(summary)]
        running = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self.environment
        )
        assert running.stderr is not None
        said = running.stderr.read()
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
        if running.returncode:
            raise subprocess.CalledProcessError(running.returncode, command, stderr=said)
        result: dict[str, Any] = json.loads(summary.read_text())["done"]
        return result | {"wall": time.monotonic() - started, "cpu": usage.ru_utime + usage.ru_stime}

    def kill(self, share: float, *options: str) -> float:
        """Kill all processes of an aggregation when a share of the shards is committed; return the share.

        A shard is committed when the ledger says that its outputs are in the database.
        """
        running = subprocess.Popen(
            self._command(options),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment,
        )
        checkpoint = pathlib.Path(f"{self.predicted}.checkpoint")
        done, total = 0, 1
        while done < share * total:
            time.sleep(0.005)
            if running.poll() is not None:
                raise RuntimeError("it was complete before it could be killed; take more quanta")
            try:
                total = manifest.read(str(checkpoint / "manifest.json")).n_shards
            except errors.AggregatorError:
                continue
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

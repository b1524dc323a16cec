"""Synthetic runs for benchmarks: made once, aggregated as often as wanted, in place."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

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

    @property
    def output(self) -> pathlib.Path:
        """Where provenance graphs go."""
        return self.root.with_suffix(".provenance.qg")

    def reset(self) -> None:
        """Bring everything back to the state before aggregation; execution files are only ever read."""
        database = self.root / "gen3.sqlite3"
        saved = self.root.with_suffix(".sqlite3")
        if not saved.exists():
            shutil.copy(database, saved)
        database.unlink(missing_ok=True)
        shutil.copy(saved, database)
        shutil.rmtree(f"{self.predicted}.checkpoint", ignore_errors=True)
        self.output.unlink(missing_ok=True)

    def read_all(self) -> None:
        """Read all files once, so that the page cache has those that fit."""
        subprocess.run(
            f"find {self.root} -type f -print0 | xargs -0 -n 1000 cat > /dev/null", shell=True, check=True
        )

    def _command(self, config: dict[str, Any]) -> list[str]:
        config = {"output_path": str(self.output)} | config
        given = {"predicted": str(self.predicted), "root": str(self.root), "config": config}
        return [sys.executable, "-c", _CODE, json.dumps(given)]

    def aggregate(self, **config: Any) -> dict[str, Any]:
        """Aggregate it in a process of its own; return the summary, with the wall time seen from outside."""
        started = time.monotonic()
        done = subprocess.run(self._command(config), check=True, stdout=subprocess.PIPE)
        result: dict[str, Any] = json.loads(done.stdout)
        return result | {"wall": time.monotonic() - started}

    def kill(self, share: float, **config: Any) -> float:
        """Begin to aggregate it, kill all processes when a share of the shards is done, return the share."""
        running = subprocess.Popen(self._command(config), start_new_session=True, stdout=subprocess.DEVNULL)
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
            done = sum(name.endswith(".digest") for name in os.listdir(checkpoint))
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        return done / total


def make(workdir: pathlib.Path, quanta: int, *, small: bool = False, processes: int = 2) -> Run:
    """Make a run, or return the one made before."""
    root = workdir / f"run-{quanta}{'-small' if small else ''}"
    sizes = parameters.SMALL if small else {}
    made = campaign.synthesize(
        str(root), parameters.Parameters(quanta=quanta, **sizes), n_processes=processes
    )
    return Run(root, pathlib.Path(made.predicted), made.counts["quanta"], made.counts)

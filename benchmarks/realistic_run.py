"""A run of thousands of quanta with files of realistic size: ``python -m benchmarks.realistic_run DIR``.

Repository and predicted graph are made with the reference.  The files of the execution are written
directly, in the layout that an execution has, since executing so many quanta would take too long.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import json
import pathlib
import random
import shutil
from typing import Any

from oracle import runs

from benchmarks import content

FORMAT = 1
"""To be increased with every change of what is made, so that old runs are not taken for new ones."""

DETECTORS = 16
PATCHES = 8
WIDTH, HEIGHT = 32.0, 1.4
LOG_SIZE = 20_000
METADATA_SIZE = 7_000
QUANTA_PER_PROCESS = 12

FATES = {
    "ok": 0.954,
    "retried": 0.02,
    "nothing": 0.01,
    "partial": 0.008,
    "failed": 0.004,
    "without_log": 0.002,
    "crashed": 0.002,
}
"""What happens to a quantum whose inputs are there, with probabilities."""

SPARED = ("isr", "calibrate", "warp")
"""Tasks that do not fail as often, since everything below a failure is blocked."""


def make(workdir: pathlib.Path, *, quanta: int = 2000, seed: int = 1) -> runs.OracleRun:
    """Make a run, or return the one made earlier with the same parameters.

    Parameters
    ----------
    workdir
        Directory for any number of runs.
    quanta
        How many quanta there should be at least.
    seed
        Seed of all that is random but the ids.

    Returns
    -------
    run
        The executed run, not aggregated.
    """
    directory = workdir / f"run-{quanta}-{seed}"
    parameters = {"format": FORMAT, "quanta": quanta, "seed": seed}
    with contextlib.suppress(FileNotFoundError):
        if json.loads((directory / "parameters.json").read_text()) == parameters:
            return runs.load_run(directory)
    shutil.rmtree(directory, ignore_errors=True)
    run = _build(directory, quanta)
    Execution(run, seed).write_files()
    (directory / "run.json").write_text(json.dumps({"manifest": run.manifest, "marks": run.marks}))
    (directory / "parameters.json").write_text(json.dumps(parameters))
    return run


def _build(directory: pathlib.Path, quanta: int) -> runs.OracleRun:
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)
    from oracle import execution, repository

    root = (directory / "repo").resolve()
    root.mkdir(parents=True)
    visits = -(-(quanta - 4 * PATCHES - 1) // (3 * DETECTORS + 2 + PATCHES))
    size = repository.Size(max(visits, 3), DETECTORS, PATCHES, width=WIDTH, height=HEIGHT)
    graph = repository.build(root, size, {})
    order = execution.order(graph)
    manifest = execution.manifest(root, graph, order)
    with graph.make_init_qbb(str(root)) as butler:
        graph.init_output_run(butler)
    edges: dict[str, list[str]] = {str(node): [] for node in order}
    for producer, consumer in graph.quantum_only_xgraph.edges:
        edges[str(consumer)].append(str(producer))
    for entry in manifest["quanta"]:
        entry["after"] = edges[entry["id"]]
    return runs.OracleRun(directory, root, repository.RUN, repository.CHAIN, manifest, {})


class Execution:
    """An execution that only writes the files."""

    def __init__(self, run: runs.OracleRun, seed: int) -> None:
        self.run = run
        self.dice = random.Random(seed)
        self.stopped: set[str] = set()
        self.counts: collections.Counter[str] = collections.Counter()

    def write_files(self) -> None:
        """Write the files of all quanta, and note in the run's marks what happened to which."""
        clock = datetime.datetime(2026, 3, 2, tzinfo=datetime.UTC)
        for number, entry in enumerate(self.run.manifest["quanta"]):
            if number % QUANTA_PER_PROCESS == 0:
                clock += datetime.timedelta(seconds=self.dice.uniform(0, 20))
                process = content.Process(self.dice, clock, self.dice.randrange(1000, 4_000_000))
            fate = "blocked" if self.stopped.intersection(entry["after"]) else self._fate(entry)
            self.run.marks.setdefault(fate, []).append(entry["id"])
            if fate in ("failed", "blocked", "crashed"):
                self.stopped.add(entry["id"])
            if fate not in ("blocked", "crashed"):
                self._write_quantum(process, entry, fate)
            process.done.append(entry["id"])

    def _fate(self, entry: dict[str, Any]) -> str:
        [fate] = self.dice.choices(list(FATES), list(FATES.values()))
        spared = entry["task"] in SPARED and fate in ("failed", "crashed")
        return "ok" if spared and self.dice.random() < 0.7 else fate

    def _write_quantum(self, process: content.Process, entry: dict[str, Any], fate: str) -> None:
        regular = {name: v for name, v in entry["outputs"].items() if name not in ("_log", "_metadata")}
        written = {"failed": 0, "nothing": 0, "partial": 1}.get(fate, len(regular))
        found = [dataset for name in sorted(regular)[:written] for dataset in regular[name]]
        for dataset, path in found:
            self._write(path, {"dataset_id": dataset, "data_id": entry["data_id"], "run": self.run.run})
        attempts = []
        if fate in ("retried", "failed") and (fate == "retried" or self.dice.random() < 0.5):
            attempts.append(self._attempt(process, entry, failed=True))
        last = self._attempt(process, entry, failed=fate == "failed")
        records = last.pop("logs")
        log = {
            "extended": True,
            "version": 2,
            "records": records,
            **last,
            "logs": [],
            "previous_attempts": attempts,
        }
        if fate != "without_log":
            self._write(entry["outputs"]["_log"][0][1], log)
        if fate != "failed":
            caveats = {"nothing": 7, "partial": 65}.get(fate, 0)
            ids = [dataset for dataset, _ in found]
            metadata = content.metadata(process, entry, ids, METADATA_SIZE, caveats)
            self._write(entry["outputs"]["_metadata"][0][1], metadata)

    def _attempt(self, process: content.Process, entry: dict[str, Any], *, failed: bool) -> dict[str, Any]:
        records = content.records(process, entry, self.run.run, LOG_SIZE)
        exception, metadata = content.failure(process, entry, METADATA_SIZE) if failed else (None, None)
        return {
            "exception": exception,
            "metadata": metadata,
            "previous_process_quanta": list(process.done),
            "logs": records,
            "previous_attempts": [],
        }

    def _write(self, path: str, value: Any) -> None:
        target = self.run.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(value, separators=(",", ":")))


def main() -> None:
    """Make a run and print what it is like."""
    parser = argparse.ArgumentParser(description="Make a run of realistic size.")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--quanta", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    run = make(given.directory, quanta=given.quanta, seed=given.seed)
    print(json.dumps(describe(run), indent=1))


def describe(run: runs.OracleRun) -> dict[str, Any]:
    """Return counts and mean file sizes of a run."""
    sizes: dict[str, list[int]] = {"_log": [], "_metadata": []}
    for entry in run.manifest["quanta"]:
        for connection, found in sizes.items():
            with contextlib.suppress(FileNotFoundError):
                found.append(run.file(entry, connection).stat().st_size)
    return {
        "quanta": len(run.manifest["quanta"]),
        "outputs": sum(len(run.files(entry)) for entry in run.manifest["quanta"]),
        "fates": {fate: len(ids) for fate, ids in run.marks.items()},
        "mean_log_bytes": round(sum(sizes["_log"]) / len(sizes["_log"])),
        "mean_metadata_bytes": round(sum(sizes["_metadata"]) / len(sizes["_metadata"])),
        "predicted_bytes": run.predicted_path.stat().st_size,
    }


if __name__ == "__main__":
    main()

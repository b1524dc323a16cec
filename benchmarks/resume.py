"""What a restart costs: a run is killed when most shards are committed, and started again.

    python -m benchmarks.resume --quanta 20000 --workdir DIR

makes (or reuses) a realistic run, aggregates a copy without disturbance, kills all processes of a second
aggregation when 90 % of its shards have their digests, and times the same command again. The graph and the
database of the disturbed copy must equal those of the other.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import msgspec

from benchmarks import realistic_run

SHARE = 0.9
"""Share of shards whose digests are committed when the run is killed."""


def command(copy: pathlib.Path, processes: int) -> list[str]:
    """Return the command line that aggregates a copy."""
    return [
        *(sys.executable, "-m", "aggregator.command_line", "aggregate-graph"),
        *(str(copy / "predicted.qg"), str(copy), "-o", str(copy / "out.qg"), "-j", str(processes)),
        "--mock-storage-classes",
    ]


def fresh_copy(repo: pathlib.Path, name: str) -> pathlib.Path:
    """Return a copy whose execution files are links, since nobody writes them."""
    copy = repo.parent / name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(repo, copy, copy_function=os.link)
    database = copy / "gen3.sqlite3"
    database.unlink()
    shutil.copy(repo / "gen3.sqlite3", database)
    return copy


def timed(copy: pathlib.Path, processes: int) -> tuple[float, float]:
    """Aggregate a copy; return the wall time and the CPU time of all processes in seconds."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command(copy, processes), check=True, capture_output=True)
    elapsed, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def killed(copy: pathlib.Path, processes: int, share: float = SHARE) -> tuple[float, float]:
    """Start to aggregate a copy and kill it; return after how long, and the share that was committed."""
    started = time.monotonic()
    running = subprocess.Popen(
        command(copy, processes), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoint = copy / "predicted.qg.checkpoint"
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
        done = len(list(checkpoint.glob("*.digest")))
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    return time.monotonic() - started, done / total


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quanta", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("bench-out"))
    options = parser.parse_args()
    run: Any = realistic_run.make(options.workdir, quanta=options.quanta)
    full, again = [], []
    for _ in range(options.repeat):
        plain = fresh_copy(run.root, "undisturbed")
        full.append(timed(plain, options.processes))
        disturbed = fresh_copy(run.root, "disturbed")
        after, share = killed(disturbed, options.processes)
        again.append(timed(disturbed, options.processes))
        compare(plain, disturbed)
        print(
            f"full run {full[-1][0]:.2f} s ({full[-1][1]:.2f} s CPU); killed after {after:.2f} s with "
            f"{share:.0%} of the shards done; again {again[-1][0]:.2f} s ({again[-1][1]:.2f} s CPU), "
            f"{again[-1][0] / full[-1][0]:.1%} of a full run; same results",
            flush=True,
        )
    wall, cpu = (
        sorted(t[i] for t in again)[len(again) // 2] / sorted(t[i] for t in full)[len(full) // 2]
        for i in (0, 1)
    )
    print(f"medians: {wall:.1%} of a full run's wall time, {cpu:.1%} of its CPU time")


def compare(plain: pathlib.Path, disturbed: pathlib.Path) -> None:
    """Check that both copies hold the same."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
    from oracle import compare as oracle_compare

    from schemas import provenance

    oracle_compare.assert_databases_equal(plain / "gen3.sqlite3", disturbed / "gen3.sqlite3")
    contents = []
    for copy in (plain, disturbed):
        with provenance.ProvenanceGraph(str(copy / "out.qg")) as graph:
            quanta = {q.quantum_id: msgspec.json.encode(q) for q in graph.quanta()}
            datasets = {d.dataset_id: msgspec.json.encode(d) for d in graph.datasets()}
            contents.append((quanta, datasets))
    if contents[0] != contents[1]:
        raise AssertionError("the graphs differ")


if __name__ == "__main__":
    main()

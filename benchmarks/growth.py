"""How cost grows with the number of quanta: ``python -m benchmarks.growth --quanta 10000 100000``.

Time of each phase, CPU per quantum, memory of each role, and what a restart after a kill at 90 % costs.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
from typing import Any

from benchmarks import campaigns

BUDGET_MB = {"coordinator": 200, "scanner": 150, "ingester": 200, "writer": 300}
"""Peak memory that each role may have at a million quanta (design document)."""

KILLED_AT = 0.9


def roles(peaks: dict[str, int]) -> dict[str, int]:
    """Return the peak of each role, of the largest scanner for all scanners."""
    result: dict[str, int] = {}
    for name, size in peaks.items():
        role = name.partition("-")[0]
        result[role] = max(size, result.get(role, 0))
    return result


def measure(run: campaigns.Run, given: argparse.Namespace) -> dict[str, Any]:
    """Return the medians of some measurements of a run."""
    full, again = [], []
    options = ["-j", str(given.processes)]
    for _ in range(given.repeat):
        run.reset()
        full.append(run.aggregate(*options))
        print(f"{run.quanta} quanta: {full[-1]['wall']:.1f} s, {full[-1]['phases']}", flush=True)
        if given.resume:
            undisturbed = run.content()
            run.reset()
            share = run.kill(KILLED_AT, *options)
            again.append(run.aggregate(*options))
            if run.content() != undisturbed:
                raise AssertionError("the run that was killed ended in another way than the undisturbed one")
            print(
                f"  killed at {share:.1%}; again {again[-1]['wall']:.1f} s, {again[-1]['phases']}", flush=True
            )
    wall, cpu = (statistics.median(each[name] for each in full) for name in ("wall", "cpu"))
    result = {
        "quanta": run.quanta,
        "wall_s": wall,
        "quanta_per_s": run.quanta / wall,
        "cpu_ms_per_quantum": 1000 * cpu / run.quanta,
        "phases_s": {name: statistics.median(f["phases"][name] for f in full) for name in full[0]["phases"]},
        "peak_mb": {
            name: max(roles(f["peaks"])[name] for f in full) / 1e6 for name in roles(full[0]["peaks"])
        },
        "graph_mb": full[0]["provenance_graph_size"] / 1e6,
        "datasets_ingested": full[0]["datasets_ingested"],
    }
    if again:
        result["restart_s"] = statistics.median(each["wall"] for each in again)
        result["restart_share"] = result["restart_s"] / wall
        result["restart_cpu_share"] = statistics.median(each["cpu"] for each in again) / cpu
    return result


def slopes(results: list[dict[str, Any]]) -> dict[str, float]:
    """Return how many bytes a quantum adds to the peak of each role, from the two largest runs."""
    first, last = sorted(results, key=lambda result: result["quanta"])[-2:]
    more = last["quanta"] - first["quanta"]
    return {role: 1e6 * (last["peak_mb"][role] - first["peak_mb"][role]) / more for role in last["peak_mb"]}


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("bench-out"))
    parser.add_argument("--quanta", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument(
        "--small", action="store_true", help="small files, of which a million fit the page cache"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="measure a restart after a kill at 90 %%, too")
    parser.add_argument("--json", type=pathlib.Path, help="write the results to a file, too")
    given = parser.parse_args(arguments)
    results = []
    for quanta in given.quanta:
        run = campaigns.make(given.workdir.resolve(), quanta, small=given.small)
        run.read_all()
        results.append(measure(run, given))
        print(json.dumps(results[-1], indent=1), flush=True)
    report = {"results": results, "budget_mb": BUDGET_MB}
    if len(results) > 1:
        report["bytes_per_quantum"] = slopes(results)
        print(json.dumps(report["bytes_per_quantum"], indent=1))
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What a look costs at a campaign at which nothing happens: ``python -m benchmarks.following``.

The logs and metadata of some tasks are taken away, as if their quanta had not run yet. A follower aggregates
what is left; what its looks, and one more aggregation, cost after that is the CPU time of its process.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import statistics
import time
from collections.abc import Callable

from aggregator.storage import in_flight

from aggregator.aggregation import aggregate, aggregation_request, configuration
from aggregator.console import interruption
from aggregator.following import campaign_follower, pace, repeated_aggregation
from benchmarks import campaigns


def take_away(
    run: campaigns.Run, share: float, aside: pathlib.Path
) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Move the logs and metadata of the last tasks away; return where they were and are."""
    logs = sorted(run.files.glob("*_log"), key=lambda path: path.stat().st_mtime_ns)
    chosen = logs[: round(len(logs) * share)]
    aside.mkdir(exist_ok=True)
    pairs = []
    for log in chosen:
        for path in (log, log.with_name(log.name.removesuffix("_log") + "_metadata")):
            pairs.append((path, aside / path.name))
            path.rename(pairs[-1][1])
    return pairs


def timed(work: Callable[[], object], repeat: int) -> dict[str, float]:
    """Return the medians of what some work takes."""
    taken = []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        taken.append((time.perf_counter() - wall, time.process_time() - cpu))
    return {"wall_s": statistics.median(w for w, _ in taken), "cpu_s": statistics.median(c for _, c in taken)}


def measure(run: campaigns.Run, repeat: int) -> dict[str, object]:
    """Return what looks and aggregations take."""
    config = configuration.AggregatorConfig(output_path=run.output, interactive_status=False)
    with (
        interruption.Interruption() as stopping,
        aggregation_request.check(str(run.predicted), str(run.root), config) as request,
        in_flight.Requests() as requests,
    ):
        began = aggregate.Began()
        work = repeated_aggregation.RepeatedAggregation(request, stopping, began, None)
        first = timed(work.first, 1)
        follower = campaign_follower.CampaignFollower(work, pace.Pace(), stopping, began, None, requests)
        follower.look()
        looks = [follower.look()]
        look = timed(lambda: looks.append(follower.look()), repeat)
        if looks[-1]:
            raise AssertionError("something has changed at a campaign at which nothing happens")
        again = timed(follower.go_on, 3)
        n_over = follower.state.n_over
    return {"over": n_over, "first": first, "look": look, "again": again}


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("bench-out"))
    parser.add_argument("--quanta", type=int, default=100_000)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.5, 1.0], help="that have not run")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path, help="write the results to a file, too")
    given = parser.parse_args(arguments)
    given.workdir.mkdir(parents=True, exist_ok=True)
    run = campaigns.make(given.workdir.resolve(), given.quanta, small=True)
    results = {}
    for share in given.shares:
        run.reset()
        aside = given.workdir.resolve() / "aside"
        pairs = take_away(run, share, aside)
        try:
            results[str(share)] = measure(run, given.repeat)
        finally:
            for path, place in pairs:
                place.rename(path)
            aside.rmdir()
        print(json.dumps({share: results[str(share)]}), flush=True)
    run.reset()
    if given.json:
        given.json.write_text(json.dumps({"quanta": run.quanta, "shares": results}, indent=1) + "\n")
    shutil.rmtree(f"{run.predicted}.checkpoint", ignore_errors=True)


if __name__ == "__main__":
    main()

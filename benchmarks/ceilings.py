"""What each role can do alone, on one core: ``python -m benchmarks.ceilings --quanta 20000``.

All roles work in this process, one after the other, on the same run: the scanner without anybody to wait for,
the ingester and the writer fed from digests that are ready.  With enough cores and scanners, the slowest of
ingester and writer limits a run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from aggregator.schemas import messages
from aggregator.schemas import verdicts as codes
from aggregator.workers.roles.ingesting import ingester
from aggregator.workers.roles.scanning import scanner
from aggregator.workers.roles.writing import writer

import aggregator
from aggregator.aggregation import aggregation_request, aggregation_summary, judgement, preparation
from benchmarks import campaigns

TABLES_PER_DATASET = 4
"""Rows of a dataset with one file: dataset, tags, location, records."""


class Clock:
    """Takes the wall and the CPU time of steps."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}

    def take(self, name: str, step: Callable[[], Any]) -> Any:
        """Carry out a step; steps of one name are added up."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = step()
        taken = self.steps.setdefault(name, {"wall_s": 0.0, "cpu_s": 0.0})
        taken["wall_s"] += time.perf_counter() - wall
        taken["cpu_s"] += time.process_time() - cpu
        return result


def measure(run: campaigns.Run, level: int) -> dict[str, dict[str, float]]:
    """Return what each role needs for a run."""
    clock, log = Clock(), logging.getLogger("ceilings")
    config = aggregator.AggregatorConfig(output_path=str(run.output), zstd_level=level)
    with aggregation_request.check(str(run.predicted), str(run.root), config) as asked:
        prepared = clock.take("preparation", lambda: preparation.prepare(asked))
        division, setup = prepared.division, prepared.setup
        judge = judgement.Judge(division.producers, division.starts, incomplete=False)
        scans, writes, ingests = (
            scanner.Scanner(setup, log),
            writer.Writer(setup, log),
            ingester.Ingester(setup, log),
        )
        commits = []
        for shard in range(division.n_shards):
            found = clock.take("scanner", lambda shard=shard: scans.handle(division.request(shard)))
            statuses = aggregation_summary.statuses_of(found)
            judged = (
                judge.judge(division.begin(shard), statuses)
                if shard
                else np.full(len(statuses), codes.ACCEPTED)
            )
            commits.append(messages.CommitShard(shard, judged.astype(np.int8).tobytes()))
        replies = [clock.take("ingester", lambda commit=commit: ingests.handle(commit)) for commit in commits]
        replies.append(clock.take("ingester", lambda: ingests.handle(messages.Flush())))
        for commit in commits:
            clock.take("writer", lambda commit=commit: writes.handle(commit))
        n_edges = n_shared = 0
        consumers = division.consumers()
        for commit in commits:
            readers = consumers.of(commit.shard).tobytes()
            wanted = messages.BuildOutputs(commit.shard, commit.verdicts, readers)
            built = clock.take("scanner: outputs", lambda wanted=wanted: scans.handle(wanted))
            n_edges, n_shared = n_edges + built.n_edges, n_shared + built.n_shared
        plan = clock.take("writer", lambda: writes.handle(messages.PlanInputs(n_edges, n_shared)))
        bounds = [b"", *plan.bounds, b""]
        for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
            part = messages.BuildInputs(number, begin, end, plan.careful, division.n_shards)
            clock.take("scanner: inputs", lambda part=part: scans.handle(part))
        for last in (messages.CopyBlocks(), messages.FinishGraph(len(bounds) - 1), messages.PublishGraph()):
            clock.take("writer", lambda last=last: writes.handle(last))
        for role in (scans, writes, ingests):
            role.close()
        asked.checkpoint.remove()
    n_datasets = sum(reply.n_ingested for reply in replies)
    for name, taken in clock.steps.items():
        taken["quanta_per_s"] = run.quanta / taken["wall_s"]
        taken["cpu_us_per_quantum"] = 1e6 * taken["cpu_s"] / run.quanta
        if name == "ingester":
            taken["rows_per_s"] = n_datasets * TABLES_PER_DATASET / taken["wall_s"]
    return clock.steps


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("bench-out"))
    parser.add_argument("--quanta", type=int, default=20_000)
    parser.add_argument("--level", type=int, default=3, help="compression level")
    parser.add_argument("--json", type=pathlib.Path, help="write the results to a file, too")
    given = parser.parse_args(arguments)
    run = campaigns.make(given.workdir.resolve(), given.quanta)
    run.reset()
    run.read_all()
    results = measure(run, given.level)
    for name, taken in results.items():
        print(f"{name:20}" + "  ".join(f"{key}={value:,.4g}" for key, value in taken.items()))
    if given.json:
        given.json.write_text(
            json.dumps({"quanta": run.quanta, "level": given.level, "roles": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()

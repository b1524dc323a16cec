"""What reading a provenance graph costs: time of questions, and memory, which must not depend on its size.

    python -m benchmarks.reading --quanta 100000 --workdir DIR

makes (or reuses) a synthetic run, aggregates it, and asks its graph; ``--graph FILE`` takes another graph.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import msgspec
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import provenance_graph
from aggregator.workers.engines import memory

import aggregator
from aggregator.reading import causes

N_QUESTIONS = 200
"""Quanta that are asked about."""


def make_graph(workdir: pathlib.Path, n_quanta: int) -> pathlib.Path:
    """Return the provenance graph of a synthetic run, made unless it is there."""
    run = workdir / f"reading-{n_quanta}"
    graph = run / "provenance.qg"
    if not graph.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        call("synthesize", str(run), "--quanta", str(n_quanta), "--small-files", "-j", "2")
        call("aggregate-graph", str(run / "predicted.qg"), str(run), "-o", str(graph), "-j", "2")
    return graph


def call(*arguments: str) -> tuple[float, float]:
    """Run our command line; return its wall and CPU time in seconds."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "aggregator", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class _Quantum(msgspec.Struct):
    quantum_id: str
    task_label: str
    attempts: list[Any]


def choose(graph: pathlib.Path) -> list[str]:
    """Return the ids of some quanta that ran, anywhere in the graph."""
    chance, chosen, seen = random.Random(1), [], 0
    with provenance_graph.ProvenanceGraph(str(graph)) as opened:
        for _, _, quantum in opened.placed_quanta(msgspec.json.Decoder(_Quantum).decode):
            if quantum.attempts:
                seen += 1
                if len(chosen) < N_QUESTIONS:
                    chosen.append(quantum.quantum_id)
                elif (place := chance.randrange(seen)) < N_QUESTIONS:
                    chosen[place] = quantum.quantum_id
    return chosen


def timed(question: Callable[[Any], object], arguments: list[Any]) -> list[float]:
    """Return median, 95th percentile and maximum of the milliseconds that a question takes."""
    found = []
    for argument in arguments:
        started = time.perf_counter()
        question(argument)
        found.append((time.perf_counter() - started) * 1e3)
    found.sort()
    return [statistics.median(found), found[int(0.95 * (len(found) - 1))], found[-1]]


def ask(graph: str, ids: list[str]) -> dict[str, list[float]]:
    """Return what questions take, in milliseconds."""
    with aggregator.Provenance(graph) as asked:
        quanta = [asked.quantum(quantum_id) for quantum_id in ids]
        wanted = [(q.task_label, asked.data_id(q)) for q in quanta]
        outputs = [next(iter(q.outputs.values()))[0] for q in quanta]
        partial = [(t, dict(list(data_id.items())[1:2])) for t, data_id in wanted]
        blocked = list(itertools.islice(asked.quanta(status=statuses.BLOCKED), N_QUESTIONS))
        failed = frozenset(causes.BLOCKING)
        return {
            "quantum by id": timed(asked.quantum, ids),
            "dataset by id": timed(asked.dataset, outputs),
            "log": timed(asked.logs, ids),
            "metadata": timed(asked.metadata, ids),
            "quantum by task and data ID": timed(lambda w: list(asked.quanta(*w)), wanted),
            "first ten by part of the data ID": timed(
                lambda w: list(itertools.islice(asked.quanta(*w), 10)), partial
            ),
            "what happened to a dataset": timed(asked.explain, outputs),
            "upstream, 4 steps": timed(lambda i: list(asked.upstream(i, 4)), ids[:50]),
            "downstream, 2 steps": timed(lambda i: list(asked.downstream(i, 2)), ids[:50]),
            "first cause of a blocked quantum": timed(asked.cause, blocked or quanta[:1]),
            "numbers by task and status": timed(lambda _: asked.counts(), [None] * 5),
            "all that failed": timed(lambda _: list(asked.quanta(status=failed)), [None]),
            "50 failures with causes": timed(lambda _: list(asked.failures(limit=50)), [None]),
            "all failures with causes": timed(lambda _: sum(1 for _ in asked.failures()), [None]),
        }


def in_child(part: str, graph: pathlib.Path, ids: list[str], cache: str) -> dict[str, Any]:
    """Run a part in a process of its own, so that its memory can be measured."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reading", "--part", part, "--graph", str(graph)],
        input=json.dumps(ids),
        env={**os.environ, "XDG_CACHE_HOME": cache},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def run_part(part: str, graph: str) -> None:
    """Do a part and print what it took."""
    ids, started = json.load(sys.stdin), time.process_time()
    result: dict[str, Any] = {}
    if part == "questions":
        result["questions"] = ask(graph, ids)
    else:
        with aggregator.Provenance(graph) as asked:
            if part == "index":
                asked.counts()
            else:
                for quantum_id in ids:
                    asked.quantum(quantum_id)
    result["cpu"] = time.process_time() - started
    result["memory"] = memory.peak(os.getpid())
    print(json.dumps(result))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quanta", type=int, default=100_000)
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("bench-out"))
    parser.add_argument("--graph", type=pathlib.Path)
    parser.add_argument("--part", choices=["index", "ids", "questions"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        run_part(options.part, str(options.graph))
        return
    graph = options.graph or make_graph(options.workdir, options.quanta)
    ids = choose(graph)
    with tempfile.TemporaryDirectory() as cache:
        plain = in_child("ids", graph, ids, cache)
        index = in_child("index", graph, ids, cache)
        questions = in_child("questions", graph, ids, cache)
        (file,) = pathlib.Path(cache).rglob("*.index")
        os.environ["XDG_CACHE_HOME"] = cache
        print(f"{graph}: {graph.stat().st_size / 1e9:.2f} GB")
        print(f"{N_QUESTIONS} quanta by id: peak memory {plain['memory'] / 1e6:.0f} MB")
        print(
            f"index: {index['cpu']:.1f} s CPU, peak memory {index['memory'] / 1e6:.0f} MB, "
            f"{file.stat().st_size / 1e6:.1f} MB on disk"
        )
        print(f"all questions: peak memory {questions['memory'] / 1e6:.0f} MB")
        print(f"{'milliseconds':34} {'median':>9} {'95 %':>9} {'max':>9}")
        for name, figures in questions["questions"].items():
            print(f"{name:34}", *(f"{figure:9.2f}" for figure in figures))
        for arguments in ([str(graph)], [str(graph), "--quantum", ids[0]], [str(graph), "--failed"]):
            wall, cpu = call("show", *arguments)
            print(f"show {' '.join(arguments[1:2]) or 'GRAPH':30} {wall:.2f} s, {cpu:.2f} s CPU")


if __name__ == "__main__":
    main()

"""Making a synthetic run from beginning to end."""

import dataclasses
import functools
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from aggregator import ranges
from aggregator.console import interruption, progress
from aggregator.schemas import argument_types, summary_document
from aggregator.schemas.graphs import blocks as block_format
from aggregator.storage import errors, uris
from aggregator.synthesis import (
    chunk_workers,
    graph,
    node_numbers,
    parameters,
    quantum_blocks,
    quantum_outcomes,
    repository,
    state,
    survey,
    survey_pipeline,
)
from aggregator.workers.engines import memory

_log = logging.getLogger(__name__)

GRAPH = "predicted.qg"
"""The predicted graph's name in the repository."""


@dataclasses.dataclass(frozen=True, slots=True)
class Campaign:
    """A complete synthetic run."""

    root: str
    """The repository."""

    counts: dict[str, Any]
    """Numbers of quanta (in all, by task, by fate), datasets, and edges."""

    seconds: float
    """Time that was needed; 0 if it was there already."""

    phases: dict[str, float] = dataclasses.field(default_factory=dict)
    """Seconds that each phase took, in order."""

    outcome = "complete"
    """It is complete whenever it is one."""

    @property
    def predicted(self) -> str:
        """The predicted graph."""
        return os.path.join(self.root, GRAPH)

    def lines(self) -> list[str]:
        """Return the numbers as text."""
        counts = self.counts
        special = ", ".join(f"{n} {name}" for name, n in counts["fates"].items() if n)
        made = f"in {self.seconds:.1f} s" if self.seconds else "earlier"
        return [
            f"Made {made}: {counts['quanta']} quanta of {len(counts['tasks'])} tasks in {self.root}",
            f"Quanta: {special}",
            f"Datasets: {counts['datasets']}, inputs and outputs of quanta: {counts['edges']}",
        ]

    def document(self) -> summary_document.Synthesis:
        """Return them as programs read them."""
        peaks = {"coordinator": memory.peak(os.getpid()), "workers": memory.largest_child()}
        return summary_document.Synthesis(
            repository=self.root,
            predicted_graph=self.predicted,
            quanta=self.counts["quanta"],
            tasks=self.counts["tasks"],
            outcomes=self.counts["fates"],
            datasets=self.counts["datasets"],
            edges=self.counts["edges"],
            phases=self.phases,
            peaks={name: size for name, size in peaks.items() if size},
        )


def synthesize(
    root: str | os.PathLike[str],
    options: parameters.SynthesisParameters,
    *,
    n_processes: int = 1,
    interactive_status: bool | None = None,
    on_progress: progress.Callback | None = None,
    cancellation: interruption.Cancellation | None = None,
) -> Campaign:
    """Make a synthetic run, or go on with one that was interrupted; a complete one is left as it is.

    Parameters
    ----------
    root
        Directory of the run, or a URI; it becomes a repository, with the predicted graph in it.
    options
        What the run shall be like.
    n_processes
        Number of processes.
    interactive_status
        Whether to show progress bars; by default if standard error is a terminal.
    on_progress
        Is told of progress; see `aggregator.aggregate_graph`.
    cancellation
        Can stop it.

    Raises
    ------
    RefusedError
        Raised if the parameters make no run, or the directory holds something else.
    Interrupted
        Raised if a signal or a cancellation asked to stop; calling again goes on.
    """
    argument_types.check(synthesize, locals())
    show = functools.partial(
        progress.Progress, interval=None, interactive=interactive_status, callback=on_progress
    )
    with interruption.Interruption(cancellation) as stopping:
        # It goes on after whatever it was killed at, so one signal is enough.
        done = stopping.attempt(
            lambda: _synthesize(_place(os.fspath(root)), options, n_processes, stopping, show)
        )
        if done is None:
            stopping.check()
            raise RuntimeError("given up without a signal")
        return done


def _place(root: str) -> str:
    return root.rstrip("/") if uris.is_remote(root) else os.path.abspath(root)


def _synthesize(
    root: str,
    options: parameters.SynthesisParameters,
    n_processes: int,
    stopping: interruption.Interruption,
    show: Callable[..., progress.Progress],
) -> Campaign:
    started = time.monotonic()
    parameters.check(options)
    ranges.COUNT.check("n_processes", n_processes)
    # What can't be made is refused before anything is written.
    chosen = quantum_outcomes.choose(options, node_numbers.Nodes(survey.plan(options.quanta), options.seed))
    with state.State(root, options) as held:
        if held.counts is not None:
            return Campaign(root, held.counts, 0.0)
        try:
            repository.create(root, options)
        except errors.RefusedError:
            held.undo()
            raise
        with errors.after_changes():
            plan = chunk_workers.Plan(root, options)
            begin(plan, held, chosen)
            totals = {"inputs": _n_inputs(plan.graph), "quanta": plan.graph.n_quanta}
            with show(totals, started) as shown:
                _make_files(root, plan, held, n_processes, stopping, shown)
                shown.phase("writing the graph")
                graph.write(
                    os.path.join(root, GRAPH),
                    options,
                    plan.graph,
                    plan.datasets,
                    plan.pipeline_json,
                    held.parts,
                )
            held.finish(count(plan.graph, held.parts.read_fates()))
        return Campaign(root, held.counts or {}, time.monotonic() - started, shown.seconds)


def begin(plan: chunk_workers.Plan, held: state.State, chosen: quantum_outcomes.Fates) -> None:
    """Keep what everything else is made with, unless that was done before."""
    if not held.parts.has_begun:
        held.parts.write_fates(chosen)
        samples = graph.sample(plan.graph, plan.blocks)
        held.parts.write_dictionary(block_format.train_dictionary(samples, graph.DICTIONARY_SIZE))


def _n_inputs(made: node_numbers.Nodes) -> int:
    return sum(made.counts[each.name] for each in survey_pipeline.OVERALL_INPUTS)


def _make_files(
    root: str,
    plan: chunk_workers.Plan,
    held: state.State,
    n_processes: int,
    stopping: interruption.Interruption,
    shown: progress.Progress,
) -> None:
    if held.parts.has_inputs:
        shown.advance("inputs", _n_inputs(plan.graph))
    else:
        shown.phase("adding inputs")
        with repository.open_registry(root) as opened:
            repository.insert_dimension_records(opened, plan.graph)
            repository.add_inputs(opened, plan.graph, plan.datasets, lambda n: shown.advance("inputs", n))
        repository.write_init_outputs(plan.graph, plan.datasets)
        held.parts.note_inputs()
    shown.phase("writing files")
    chunks = plan.graph.chunks()
    missing = [chunk.number for chunk in chunks if not held.parts.has_part(chunk.number)]
    done = plan.graph.n_quanta - sum(chunks[number].end - chunks[number].begin for number in missing)
    shown.advance("quanta", done)
    for number in chunk_workers.make_all(root, plan.options, missing, n_processes):
        shown.advance("quanta", chunks[number].end - chunks[number].begin)
        shown.beat(lambda: f"{n_processes} processes")
        stopping.check()


def count(made: node_numbers.Nodes, chosen: quantum_outcomes.Fates) -> dict[str, Any]:
    """Return the numbers that describe a run."""
    numbers = np.bincount(chosen, minlength=len(quantum_outcomes.NAMES)).tolist()
    labels = [task.label for task in survey_pipeline.TASKS]
    return {
        "quanta": made.n_quanta,
        "tasks": dict(zip(labels, made.task_counts, strict=True)),
        "fates": dict(zip(quantum_outcomes.NAMES, numbers, strict=True)),
        "datasets": made.n_datasets,
        "edges": quantum_blocks.count_edges(made),
    }

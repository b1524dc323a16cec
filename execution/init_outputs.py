"""What a run has before its first quantum: configurations, versions of packages, init outputs of tasks."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from aggregator.butler import quantum as quantum_module
from aggregator.butler import quantum_backed_butler
from aggregator.execution import graph_context
from aggregator.schemas.graphs import pipeline
from aggregator.storage import errors

_log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class Counts:
    """What became of the init outputs of a run."""

    n_written: int = 0
    """Datasets written."""

    n_kept: int = 0
    """Datasets that were there."""


def write(context: graph_context.GraphContext) -> Counts:
    """Write the init outputs of a graph; those that are there are kept.

    Raises
    ------
    RefusedError
        If a configuration is there that differs from the graph's, or a task can't be imported.
    AggregatorError
        If one can't be made or written.
    """
    quanta = [context.init_quantum(block) for block in context.init_blocks]
    for quantum in quanta:
        if quantum.task_label:
            # All of them are looked at before the first is written.
            _check_configuration(context, quantum)
    counts = Counts()
    # Those that use another's outputs come later in the graph.
    for quantum in quanta:
        with _butler(context, quantum) as butler:
            there = butler.stored_many(quantum.predicted_outputs())
            missing = {name: refs[0] for name, refs in quantum.outputs.items() if refs and not there[refs[0]]}
            counts.n_kept += len(there) - len(missing)
            for name, value in _objects(context, quantum, missing, butler):
                butler.put(value, missing[name])
                counts.n_written += 1
    _compare_packages(context, quanta)
    return counts


def _butler(
    context: graph_context.GraphContext, quantum: quantum_module.Quantum
) -> quantum_backed_butler.QuantumBackedButler:
    return quantum_backed_butler.QuantumBackedButler.initialize(
        context.files, quantum, dataset_types=context.dataset_types
    )


def _check_configuration(context: graph_context.GraphContext, quantum: quantum_module.Quantum) -> None:
    for ref in quantum.outputs.get(pipeline.CONFIG_CONNECTION, ()):
        with _butler(context, quantum) as butler:
            if butler.stored(ref) and butler.get(ref) != context.definitions[quantum.task_label].config_text:
                raise errors.RefusedError(
                    f"{butler.getURI(ref)}: differs from the configuration of task {quantum.task_label!r} in "
                    "the graph. A run has one configuration: build the graph with another output run."
                )


def _objects(
    context: graph_context.GraphContext,
    quantum: quantum_module.Quantum,
    missing: Mapping[str, Any],
    butler: quantum_backed_butler.QuantumBackedButler,
) -> Iterator[tuple[str, Any]]:
    """Yield the objects that are to be written, by connection."""
    if not quantum.task_label:
        for name in missing:
            yield name, package_versions()
        return
    if pipeline.CONFIG_CONNECTION in missing:
        yield pipeline.CONFIG_CONNECTION, context.definitions[quantum.task_label].config_text
    names = [name for name in missing if name != pipeline.CONFIG_CONNECTION]
    if names:
        task = context.task(quantum.task_label)
        init_inputs = {name: butler.get(refs[0]) for name, refs in quantum.inputs.items()}
        try:
            instance = task.make(init_inputs)
            made = {name: instance.init_output(name) for name in names}
        except Exception as exc:
            raise errors.AggregatorError(
                f"Task {quantum.task_label!r}: can't be made ({type(exc).__name__}: {exc})."
            ) from exc
        yield from made.items()


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of all distributions that are in use, by name."""
    imported = {name.partition(".")[0] for name in sys.modules}
    names = {
        distribution
        for module, distributions in importlib.metadata.packages_distributions().items()
        if module in imported
        for distribution in distributions
    }
    # As the reference has it, which refuses to go on with another one.
    return {"python": sys.version} | {name: importlib.metadata.version(name) for name in sorted(names)}


def _compare_packages(context: graph_context.GraphContext, quanta: list[quantum_module.Quantum]) -> None:
    """Warn if versions differ from those that the run was begun with."""
    now = package_versions()
    for quantum in quanta:
        for ref in quantum.outputs.get(pipeline.PACKAGES_TYPE, ()) if not quantum.task_label else ():
            with _butler(context, quantum) as butler:
                before = butler.get(ref)
            for name in sorted(before.keys() & now.keys()):
                if before[name] != now[name]:
                    _log.warning(
                        "Version of %s is %s; the run was begun with %s", name, now[name], before[name]
                    )

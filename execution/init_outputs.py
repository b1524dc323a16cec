"""What a run has before its first quantum: configurations, versions of packages, init outputs of tasks."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from aggregator.butler import artifacts, dataset_refs, quantum_backed_butler
from aggregator.butler import quantum as quantum_module
from aggregator.execution import graph_context, leftover_files
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
    # All of them are looked at before the first is written.
    missing = [_missing(context, quantum) for quantum in quanta]
    counts, leftovers = Counts(), leftover_files.LeftoverFiles()
    before: dict[dataset_refs.DatasetRef, Mapping[str, str]] = {}
    # Those that use another's outputs come later in the graph.
    for quantum, refs in zip(quanta, missing, strict=True):
        with _butler(context, quantum) as butler:
            counts.n_kept += len(list(quantum.predicted_outputs())) - len(refs)
            for ref in refs.values():
                for files in context.files.predicted(ref, ref.datasetType.storage_class):
                    leftovers.remove(files)
            if not quantum.task_label and not refs:
                before = {ref: butler.get(ref) for ref in quantum.outputs.get(pipeline.PACKAGES_TYPE, ())}
            butler.replaces = False
            for name, value in _objects(context, quantum, refs, butler):
                try:
                    butler.put(value, refs[name])
                    counts.n_written += 1
                except artifacts.TakenError:
                    # Another process writes them, too.
                    counts.n_kept += 1
    for versions in before.values():
        _compare_packages(versions)
    return counts


def _butler(
    context: graph_context.GraphContext, quantum: quantum_module.Quantum
) -> quantum_backed_butler.QuantumBackedButler:
    return quantum_backed_butler.QuantumBackedButler.initialize(
        context.files, quantum, dataset_types=context.dataset_types
    )


def _missing(
    context: graph_context.GraphContext, quantum: quantum_module.Quantum
) -> dict[str, dataset_refs.DatasetRef]:
    """Return outputs of an init quantum that are to be written, after importing the task that makes them."""
    if quantum.task_label:
        _check_configuration(context, quantum)
    with _butler(context, quantum) as butler:
        there = butler.stored_many(quantum.predicted_outputs())
    missing = {name: refs[0] for name, refs in quantum.outputs.items() if refs and not there[refs[0]]}
    if missing.keys() - {pipeline.CONFIG_CONNECTION}:
        # Versions are told of the packages of all tasks.
        labels = context.graph.header.n_task_quanta
        for label in (
            [quantum.task_label] if quantum.task_label else [each for each in labels if labels[each]]
        ):
            context.task(label)
    return missing


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
        for module, distributions in _installed(tuple(map(_version_of_directory, sys.path))).items()
        if module in imported
        for distribution in distributions
    }
    # As the reference has it, which refuses to go on with another one.
    return {"python": sys.version} | {name: importlib.metadata.version(name) for name in sorted(names)}


@functools.lru_cache(maxsize=1)
def _installed(_places: tuple[tuple[str, int], ...]) -> Mapping[str, list[str]]:
    """Return the distributions of each module; to look for them takes long, so places tell what is new."""
    return importlib.metadata.packages_distributions()


def _version_of_directory(path: str) -> tuple[str, int]:
    try:
        return path, os.stat(path or os.curdir).st_mtime_ns
    except OSError:
        return path, 0


def _compare_packages(before: Mapping[str, str]) -> None:
    """Warn if versions differ from those that the run was begun with."""
    now = package_versions()
    for name in sorted(before.keys() & now.keys()):
        if before[name] != now[name]:
            _log.warning("Version of %s is %s; the run was begun with %s", name, now[name], before[name])

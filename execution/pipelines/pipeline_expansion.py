"""From the documents of a pipeline to one: imports, and the part that a fragment names."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Mapping

from aggregator.execution.pipelines import yaml_pipelines
from aggregator.storage import errors, local_files

Reader = Callable[[str], yaml_pipelines.PipelineText]
"""Reads a document."""


def load(location: str, reader: Reader = yaml_pipelines.read) -> yaml_pipelines.PipelineText:
    """Return a pipeline without imports.

    Parameters
    ----------
    location
        Path of its YAML file; ``path#labels`` for a part of it: a label, a subset, several of them with
        commas between, or a range ``first..last``.
    reader
        Reads documents.

    Raises
    ------
    RefusedError
        If it can't be read, or contradicts itself.
    """
    return _load(location, reader, ())


def _load(location: str, reader: Reader, above: tuple[str, ...]) -> yaml_pipelines.PipelineText:
    # What is there is meant, whatever it is called.
    is_there = local_files.is_taken(location.partition("#")[0])
    path, _, fragment = (location if is_there else os.path.expandvars(location)).partition("#")
    place = os.path.abspath(path)
    if place in above:
        raise errors.RefusedError(f"{path}: imports itself, through {', '.join(above)}.")
    whole = _merged(reader(path), path, reader, (*above, place))
    _check(whole, path)
    return whole if not fragment else _part(whole, _named(whole, fragment, path), shrinks=False)


def _merged(
    own: yaml_pipelines.PipelineText, path: str, reader: Reader, above: tuple[str, ...]
) -> yaml_pipelines.PipelineText:
    """Return a pipeline together with those that it imports; its own entries win."""
    tasks: dict[str, yaml_pipelines.TaskEntry] = {}
    merged = dataclasses.replace(own, tasks={}, imports=())
    for each in own.imports:
        part = _imported(each, path, reader, above)
        if twice := sorted(tasks.keys() & part.tasks.keys()):
            raise errors.RefusedError(
                f"{path}: task {twice[0]!r} is in several imported pipelines; exclude or rename it."
            )
        tasks |= part.tasks
        merged = dataclasses.replace(
            merged,
            parameters={**part.parameters, **merged.parameters},
            subsets={**part.subsets, **merged.subsets},
            contracts=(*part.contracts, *merged.contracts) if each.takes_contracts else merged.contracts,
            steps=_steps(merged.steps, part.steps, path) if each.takes_steps else merged.steps,
            instrument=_instrument(merged, part, path) if each.takes_instrument else merged.instrument,
        )
    for label, entry in own.tasks.items():
        before = tasks.get(label)
        if before is not None and before.task_class == entry.task_class:
            entry = dataclasses.replace(entry, blocks=before.blocks + entry.blocks)
        tasks[label] = entry
    return dataclasses.replace(merged, tasks=tasks)


def _instrument(
    merged: yaml_pipelines.PipelineText, part: yaml_pipelines.PipelineText, path: str
) -> str | None:
    if merged.instrument and part.instrument and merged.instrument != part.instrument:
        raise errors.RefusedError(
            f"{path}: has two instruments, {merged.instrument} and {part.instrument}; import one without."
        )
    return merged.instrument or part.instrument


def _steps(
    own: tuple[yaml_pipelines.Step, ...], others: tuple[yaml_pipelines.Step, ...], path: str
) -> tuple[yaml_pipelines.Step, ...]:
    by_label = {step.label: step for step in own}
    for step in others:
        if by_label.setdefault(step.label, step).dimensions != step.dimensions:
            raise errors.RefusedError(f"{path}: step {step.label!r} is imported with other dimensions.")
    return tuple(by_label.values())


def _imported(
    entry: yaml_pipelines.Import, path: str, reader: Reader, above: tuple[str, ...]
) -> yaml_pipelines.PipelineText:
    """Return what an import takes of another pipeline."""
    whole = _load(entry.location, reader, above)
    labels = set(whole.tasks)
    if entry.include:
        labels = _labels(whole, entry.include, path)
    elif entry.exclude:
        labels -= _labels(whole, entry.exclude, path)
    return _renamed(_part(whole, labels, shrinks=entry.shrinks_subsets), entry.rename, path)


def _labels(whole: yaml_pipelines.PipelineText, names: Iterable[str], path: str) -> set[str]:
    """Return the labels that are meant by labels and subsets."""
    labels: set[str] = set()
    for name in names:
        if name in whole.subsets:
            labels |= whole.subsets[name].labels
        elif name in whole.tasks:
            labels.add(name)
        else:
            raise errors.RefusedError(f"{path}: there is neither a task nor a subset {name!r}.")
    return labels


def _named(whole: yaml_pipelines.PipelineText, fragment: str, path: str) -> set[str]:
    first, dots, last = fragment.partition("..")
    if not dots:
        return _labels(whole, fragment.split(","), path)
    order = list(whole.tasks)
    ends = [first if first else order[0], last if last else order[-1]]
    _labels(whole, ends, path)
    if not set(ends) <= set(order):
        raise errors.RefusedError(f"{path}: the ends of {fragment!r} have to be tasks.")
    return set(order[order.index(ends[0]) : order.index(ends[1]) + 1])


def _part(
    whole: yaml_pipelines.PipelineText, labels: set[str], *, shrinks: bool
) -> yaml_pipelines.PipelineText:
    """Return a pipeline with some of its tasks."""
    subsets = {
        name: dataclasses.replace(subset, labels=subset.labels & labels)
        for name, subset in whole.subsets.items()
        if subset.labels & labels and (shrinks or subset.labels <= labels)
    }
    return dataclasses.replace(
        whole,
        tasks={label: entry for label, entry in whole.tasks.items() if label in labels},
        subsets=subsets,
        steps=tuple(step for step in whole.steps if step.label in subsets),
        contracts=tuple(each for each in whole.contracts if not _concerns(each, set(whole.tasks) - labels)),
    )


def _concerns(contract: yaml_pipelines.Contract, labels: set[str]) -> bool:
    """Return whether a contract names one of some tasks."""
    return any(re.search(rf"\b{re.escape(label)}\.", contract.expression) for label in labels)


def _renamed(
    part: yaml_pipelines.PipelineText, names: Mapping[str, str], path: str
) -> yaml_pipelines.PipelineText:
    for old, new in names.items():
        if old not in part.tasks:
            raise errors.RefusedError(f"{path}: there is no task {old!r} to be renamed.")
        if new in part.tasks or new in part.subsets:
            raise errors.RefusedError(f"{path}: {old!r} can't be renamed to {new!r}, which is taken.")
    subsets = {name: each for name, each in part.subsets.items() if each.labels.isdisjoint(names)}
    return dataclasses.replace(
        part,
        tasks={names.get(label, label): entry for label, entry in part.tasks.items()},
        subsets=subsets,
        steps=tuple(step for step in part.steps if step.label in subsets),
    )


def _check(whole: yaml_pipelines.PipelineText, path: str) -> None:
    for name, subset in whole.subsets.items():
        if name in whole.tasks:
            raise errors.RefusedError(f"{path}: {name!r} is both a task and a subset.")
        if unknown := sorted(subset.labels - whole.tasks.keys()):
            raise errors.RefusedError(f"{path}: subset {name!r} has {unknown[0]!r}, which is no task.")
    for step in whole.steps:
        if step.label not in whole.subsets:
            raise errors.RefusedError(f"{path}: step {step.label!r} is no subset.")

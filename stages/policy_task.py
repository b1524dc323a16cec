"""A task of a pipeline made of a policy and a plain function (stages.md section 11).

    Measure = stages.task("measure.yaml", measure)

The policy's input items are what the function is called with, its output items are what it returns. The task
is like any other: graphs are built of it, executed, aggregated, and reported on. Its configuration holds the
policy as it was when the graph was built.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from aggregator.execution import connected_refs, plain_tasks
from aggregator.execution import quantum_context as context_module
from aggregator.stages import item_functions, job_policies, mappers, policy_items, stage_dictionary
from aggregator.stages.policies import policy as policy_module
from aggregator.stages.policies import policy_files, yaml_policies
from aggregator.storage import errors

_POLICY: Final = "policy"
"""Field of the configuration: the policy, as YAML."""


class PolicyTask:
    """A task that reads and writes what a policy says; `task` makes classes of it.

    Parameters
    ----------
    config
        The configuration.
    init_inputs
        None.
    """

    config: ClassVar[Mapping[str, Any]]
    function: ClassVar[item_functions.Function]

    def __init__(self, config: Mapping[str, Any], init_inputs: Mapping[str, Any]) -> None:
        _, self._outputs = _parsed(config)

    @staticmethod
    def dimensions(config: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the dimensions of quanta: all keys that items have of the identity of a job."""
        return tuple(
            dict.fromkeys(
                name
                for policy in _parsed(config)
                for name in mappers.dimensions(policy, policy_items.job_keys(policy)).values()
            )
        )

    @staticmethod
    def connections(config: Mapping[str, Any]) -> dict[str, dict[str, plain_tasks.Connection]]:
        """Return a connection for each item."""
        inputs, outputs = (
            {name: _connection(policy, group, name) for name in policy_items.names(policy, group)}
            for policy, group in zip(_parsed(config), ("inputItems", "outputItems"), strict=True)
        )
        if not outputs:
            raise errors.RefusedError("The policy of a task has no outputItems: nothing is written.")
        _check_outputs(_parsed(config)[1], inputs, outputs)
        return {"inputs": inputs, "outputs": outputs}

    def run_quantum(
        self,
        butler: context_module.QuantumContext,
        inputs: connected_refs.ConnectedRefs,
        outputs: connected_refs.ConnectedRefs,
    ) -> None:
        """Call the function with what is read, and write what it returns."""
        items = {name: item for name, item in butler.get(inputs).items() if item is not None}
        made = item_functions.called(type(self).function, items, list(outputs.keys()))
        for name, ref in outputs:
            if made.get(name) is not None:
                butler.put(made[name], ref)
            elif (item := policy_items.settings(self._outputs, "outputItems", name)).get("required", False):
                raise policy_module.complaint(item.origin, item.name, f"Missing output item: {name}.")


def task(
    policy: str | os.PathLike[str] | policy_module.Policy, function: item_functions.Function
) -> type[Any]:
    """Return the class of a task.

    Parameters
    ----------
    policy
        The policy, or its file; a relative path is relative to the module of the function. It has the
        policies ``input`` and ``output``, or is both itself.
    function
        Called with the input items by name; those that are not required may be left out. It returns a mapping
        with output items by name, or the only one; nothing for none.

    Returns
    -------
    task_class
        The class; a pipeline names it by the variable that it is put into, as ``module.Variable``.

    Raises
    ------
    RefusedError
        If the policy can't be read, its items are no datasets, or the function can't be called with them.
    """
    if not isinstance(policy, policy_module.Policy):
        home = os.path.dirname(os.path.abspath(getattr(function, "__globals__", {}).get("__file__", "")))
        policy = policy_files.read(os.path.join(home, os.fspath(policy)))
    inputs, outputs = job_policies.parts(policy)
    for part in (inputs, outputs):
        stage_dictionary.complete(part)
    item_functions.check(function, inputs)
    text = yaml_policies.text_of(policy)
    config = {_POLICY: text}
    PolicyTask.connections(config)
    attributes = {"config": config, "function": staticmethod(function), "__module__": function.__module__}
    return type(item_functions.shown(function).rpartition(".")[2], (PolicyTask,), attributes)


def _check_outputs(
    policy: policy_module.Policy,
    inputs: Mapping[str, plain_tasks.Connection],
    outputs: Mapping[str, plain_tasks.Connection],
) -> None:
    """Refuse output items that could not be told from others."""
    writers: dict[str, str] = {}
    read = {each.dataset_type: name for name, each in inputs.items()}
    for name, connection in outputs.items():
        kind, item, problem = connection.dataset_type, policy_items.settings(policy, "outputItems", name), ""
        if name in inputs:
            problem = "is both read and written; give what is written another name."
        elif kind in read:
            problem = f"is of dataset type {kind!r}, which item {read[kind]} reads; write another one."
        elif kind in writers:
            problem = f"is of dataset type {kind!r}, as item {writers[kind]} is; write another one."
        if problem:
            raise policy_module.complaint(item.origin, item.name, problem)
        writers[kind] = name


def _parsed(config: Mapping[str, Any]) -> tuple[policy_module.Policy, policy_module.Policy]:
    """Return the policies of input and output items of a configuration."""
    policy = policy_module.Policy(policy_module.Origin("policy of the task"))
    yaml_policies.parse(config[_POLICY], policy)
    return job_policies.parts(policy)


def _connection(policy: policy_module.Policy, group: str, name: str) -> plain_tasks.Connection:
    """Return the connection of an item; refuse what a quantum can't have."""
    item = policy_items.settings(policy, group, name)
    for what in ("storagePolicy", "datasetId.set"):
        if what in item:
            raise policy_module.complaint(
                item.origin_of(what),
                item.full_name(what),
                "a quantum reads and writes datasets, and nothing else; the command 'stage' is for files and "
                "rows.",
            )
    dataset = policy_items.dataset(policy, group, name)
    if not dataset.storage_class:
        raise policy_module.complaint(
            item.origin,
            item.full_name("storageClass"),
            "is missing; it says in which form the function has the item.",
        )
    if not dataset.keys or (group == "outputItems" and dataset.is_multiple):
        problem = "has to have the keys of one dataset (fromJobIdentity)."
        raise policy_module.complaint(item.origin, item.full_name("datasetId"), problem)
    return plain_tasks.Connection(
        dataset.dataset_type,
        dataset.storage_class,
        tuple(mappers.dimensions(policy, dataset.keys).values()),
        multiple=dataset.is_multiple,
        minimum=1 if dataset.is_required or group == "outputItems" else 0,
    )

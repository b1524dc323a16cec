"""Policies of jobs: what is read, which function is called, what is written."""

from __future__ import annotations

import dataclasses

from aggregator.stages import item_functions, policy_items, stage_dictionary
from aggregator.stages.policies import policy as policy_module
from aggregator.stages.policies import policy_files
from aggregator.storage import uris


@dataclasses.dataclass(frozen=True, slots=True)
class JobPolicy:
    """A policy of jobs."""

    location: str
    """Its file."""

    inputs: policy_module.Policy
    """Policy of the input items."""

    outputs: policy_module.Policy
    """Policy of the output items."""

    function: str
    """Qualified name of the function; "" if items are written as they are read."""


def load(location: str, repository: str) -> JobPolicy:
    """Read a policy of jobs.

    The file has the policies ``input`` and ``output``; or it is both itself, with ``parameters.inputItems``
    and ``parameters.outputItems``. Besides, it may name a ``function``.

    Parameters
    ----------
    location
        The file.
    repository
        The repository of its butlers, if they do not name it themselves.

    Raises
    ------
    RefusedError
        If it can't be read or does not fit the dictionary, has no output items, names another repository, or
        the function can't be imported, or called with them.
    """
    policy = policy_files.read(location)
    inputs, outputs = parts(policy)
    if not policy_items.names(outputs, "outputItems"):
        raise policy_module.complaint(
            outputs.origin, "parameters.outputItems", "is missing: nothing is written."
        )
    if not policy_items.names(inputs, "inputItems"):
        raise policy_module.complaint(inputs.origin, "parameters.inputItems", "is missing: nothing is read.")
    for each in dict.fromkeys((id(inputs), id(outputs))):
        _name_repository(inputs if each == id(inputs) else outputs, repository)
    function = policy.get("function", "")
    if function:
        item_functions.check(item_functions.imported(function), inputs)
    return JobPolicy(location, inputs, outputs, function)


def _name_repository(policy: policy_module.Policy, repository: str) -> None:
    """Let the butler of a policy have a repository."""
    if "parameters.butler" not in policy:
        return
    butler = policy.part("parameters.butler")
    if "repository" not in butler:
        butler.add("repository", repository)
    elif uris.absolute(butler.required("repository", str)) != repository:
        raise policy_module.complaint(
            butler.origin_of("repository"),
            butler.full_name("repository"),
            f"is another repository than {repository}; leave it out.",
        )


def parts(policy: policy_module.Policy) -> tuple[policy_module.Policy, policy_module.Policy]:
    """Return the policies of input and output items that a policy has, or is, with all defaults.

    Raises
    ------
    RefusedError
        If they do not fit the dictionary; it has a line for each problem.
    """
    if "input" in policy or "output" in policy:
        stage_dictionary.complete_parts(policy)
        return policy.required("input", policy_module.Policy), policy.required("output", policy_module.Policy)
    stage_dictionary.complete(policy)
    return policy, policy

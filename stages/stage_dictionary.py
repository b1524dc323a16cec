"""What may be in the policy of a stage, or of jobs; `stage_policy.paf` and its neighbours say so."""

from __future__ import annotations

import functools
import os.path

from aggregator.stages import policy_items
from aggregator.stages.policies import dictionaries, dictionary_files
from aggregator.stages.policies import policy as policy_module


@functools.cache
def _dictionary(name: str) -> dictionaries.Dictionary:
    return dictionary_files.read(os.path.join(os.path.dirname(__file__), name))


def complete(policy: policy_module.Policy) -> None:
    """Add defaults to a policy with input and output items, and refuse it if anything is wrong.

    Parameters
    ----------
    policy
        The policy, which is changed.

    Raises
    ------
    RefusedError
        If so; it has a line for each problem, with file, line and name.
    """
    _dictionary("stage_policy.paf").complete(policy)
    _check_keys(policy)


def complete_parts(policy: policy_module.Policy) -> None:
    """Do the same with a policy that has policies ``input`` and ``output``; errors as for `complete`."""
    # Defaults would make one that is missing.
    parts = [policy.required(name, policy_module.Policy) for name in ("input", "output")]
    _dictionary("job_policy.paf").complete(policy)
    for part in parts:
        _check_keys(part)


def _check_keys(policy: policy_module.Policy) -> None:
    """Refuse items whose keys have both of their names."""
    for group in ("inputItems", "outputItems"):
        for name in policy_items.names(policy, group):
            policy_items.keys(policy_items.settings(policy, group, name))

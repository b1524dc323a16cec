"""What a job has on its clipboard before it begins, and as additional data."""

from __future__ import annotations

from typing import Any, Final

from aggregator.stages import clipboards, job_identities, job_policies, mappers, policy_items, stage

_IDENTITY: Final = "jobIdentity"
"""Key of the data ID on the clipboard, unless the policy says another one."""


class JobClipboards:
    """Makes clipboards of jobs.

    Parameters
    ----------
    policy
        The policy.
    """

    def __init__(self, policy: job_policies.JobPolicy) -> None:
        self._renamed = {
            key: name
            for each in (policy.inputs, policy.outputs)
            for key, name in mappers.dimensions(each, policy_items.job_keys(each)).items()
            if key != name
        }
        self.keys = {each.get("inputKeys.jobIdentity", _IDENTITY) for each in (policy.inputs, policy.outputs)}
        """Keys of what is on the clipboard: the data ID."""

    def clipboard(self, identity: job_identities.Identity) -> clipboards.Clipboard:
        """Return the clipboard of a job: its data ID is there, and nothing else."""
        clipboard = clipboards.Clipboard()
        for key in self.keys:
            clipboard.put(key, self._values(identity))
        return clipboard

    def _values(self, identity: job_identities.Identity) -> dict[str, Any]:
        """Return the values of a data ID, also under other names that the policy has for some of them."""
        values = dict(identity)
        return values | {key: values[name] for key, name in self._renamed.items() if name in values}

    def predefined(self, identity: job_identities.Identity) -> dict[str, Any]:
        """Return additional data that every item has."""
        master = stage.Surroundings()
        return {
            **self._values(identity),
            "runId": master.run_id,
            "sliceId": master.rank,
            "universeSize": master.universe_size,
        }

"""Looks whether anything of a campaign can have changed, without looking at each file."""

import os
from collections.abc import Mapping, Sequence

from aggregator.following import campaign_survey
from aggregator.workers.roles.scanning import execution_files


class ChangeWatch:
    """Looks at directories of files that are missing, and at files that are there and may be replaced.

    Parameters
    ----------
    files
        Looks at files.
    others
        Paths of files that are looked at as well, as records of jobs.
    """

    def __init__(self, files: execution_files.ExecutionFiles, others: Sequence[str] = ()) -> None:
        self._files = files
        self._others = others
        self._directories: Mapping[tuple[int, str], bytes] = {}
        self._states: Mapping[str, tuple[int, int, int] | None] = {}
        self._had_changed = False

    def look(self, survey: campaign_survey.CampaignSurvey) -> bool:
        """Return whether there may be something new since the survey.

        Something can come right after a look, in the same tick of a clock of the file system: the time of the
        directory does not tell of it then. So what has changed at one look counts as changed at the next one.

        Parameters
        ----------
        survey
            What is known already; all that changed before the call before this one is in it.

        Raises
        ------
        MachineError, OSError
            If the machine is in trouble.
        """
        directories = self._files.directory_tags(survey.directories)
        states = {path: _state(path) for path in self._others}
        has_changed = states != self._states or any(
            self._directories.get(place) != tag for place, tag in directories.items()
        )
        self._directories, self._states = directories, states
        had_changed, self._had_changed = self._had_changed, has_changed
        return has_changed or had_changed or self._is_marked_anew(survey)

    def _is_marked_anew(self, survey: campaign_survey.CampaignSurvey) -> bool:
        tags = self._files.tags([name for name, _ in survey.marked])
        return any(
            not self._files.is_same(name, before, now)
            for (name, before), now in zip(survey.marked, tags, strict=True)
        )


def _state(path: str) -> tuple[int, int, int] | None:
    """Return what tells whether a file has stayed the same; nothing if it is not there."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size

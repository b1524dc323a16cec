"""A workflow: all jobs of a campaign, from the init outputs to the provenance graph, for any batch system."""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from aggregator.execution.workflows import clusters as clusters_module
from aggregator.storage import errors

LOGS = "logs"
"""Directory of what jobs print."""

ELEMENT = 0
"""In place of a line: that of the number that the job has in its array."""

FINAL_CODES = (0, 2, 20, 21)
"""Exit codes of jobs after which no other attempt is of use; all others are worth one."""

_NOT_IN_LINES = ("Cc", "Cs", "Zl", "Zp")
"""Categories of characters that can't stand in a line of a file: those that end it, or have no encoding."""


@dataclasses.dataclass(frozen=True, slots=True)
class Resources:
    """What jobs ask for."""

    memory: int = 2048
    """Megabytes of a job that executes quanta."""

    memories: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """The same for quanta of some tasks, by label."""

    max_memory: int = 491520
    """Megabytes that no job asks for more than, after too little."""

    retries: int = 5
    """Attempts of a job after the first."""

    final_processes: int = 4
    """Processes, and processors, of the final job."""

    final_memory: int = 4096
    """Megabytes of the final job."""

    def of(self, labels: Sequence[str]) -> int:
        """Return the megabytes that quanta of some tasks need: the most that one of them does."""
        return max(self.memories.get(label, self.memory) for label in labels)


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where the quanta of a job are named."""

    file: str
    """File with ids, relative to the workflow's directory."""

    line: int
    """Which line of it; 1 is the first, or `ELEMENT`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Workflow:
    """All jobs of a campaign."""

    directory: str
    """The directory of the workflow."""

    program: tuple[str, ...]
    """Words that call the command line."""

    graph: str
    """The predicted graph."""

    repository: str
    """The repository."""

    provenance: str
    """The provenance graph that the final job makes."""

    clusters: Sequence[clusters_module.Cluster]
    """Quanta of all jobs, none before those that it needs."""

    arrays: Sequence[clusters_module.Array]
    """The same in arrays, none before those that it needs."""

    resources: Resources
    """What jobs ask for."""

    def init(self) -> list[str]:
        """Return the command of the first job."""
        return [*self.program, "init-run", self.graph, self.repository]

    def payload(self) -> list[str]:
        """Return the command of a job that executes quanta, but for which."""
        command = [*self.program, "run-quanta", self.graph, self.repository]
        # Each failure is on record, and dependants look themselves: no other job needs to be stopped.
        return [*command, "--continue-on-failure"]

    def final(self, *options: str) -> list[str]:
        """Return the command of the last job, with more options."""
        command = [*self.program, "aggregate-graph", self.graph, self.repository, "-o", self.provenance]
        return [*command, "-j", str(self.resources.final_processes), "--register-dataset-types", *options]

    def places(self) -> dict[int, Place]:
        """Return where the quanta of each cluster are named, by its position."""
        return {
            member: Place(ids_file(array), line)
            for array in self.arrays
            for line, member in enumerate(array.members, 1)
        }

    def id_files(self) -> Iterator[tuple[str, str]]:
        """Yield path and content of the files with ids: one for each array, with a line for each cluster."""
        for array in self.arrays:
            lines = (",".join(map(str, self.clusters[member].quanta)) for member in array.members)
            yield ids_file(array), "".join(f"{line}\n" for line in lines)

    def check(self) -> None:
        """Refuse paths that can't stand in a line of a file.

        Raises
        ------
        RefusedError
            If there is one.
        """
        for path in (self.directory, *self.program, self.graph, self.repository, self.provenance):
            if any(unicodedata.category(character) in _NOT_IN_LINES for character in path):
                raise errors.RefusedError(
                    f"{json.dumps(path)}: a path with such characters can't stand in a workflow."
                )


def ids_file(array: clusters_module.Array) -> str:
    """Return the file that names the quanta of an array, relative to the workflow's directory."""
    return f"quanta/{array.name}.ids"

"""Which quanta a job was to execute, from its record and the files of its workflow, be it one of bps."""

from __future__ import annotations

import functools
import os
import re
import shlex
import uuid
from collections.abc import Collection, Iterator

from aggregator.execution.workflows import slurm_workflow, submit_files, workflow
from aggregator.schemas.jobs import condor_jobs, job_records
from aggregator.storage import local_files, machine_trouble

_UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_NAMED_AFTER = re.compile(f"({_UUID})(?![0-9a-fA-F])")
_IDS = re.compile(f"--(?:qgraph-node-id|quantum)[= ]+'?({_UUID}(?:,{_UUID})*)")

Places = dict[str, workflow.Place | tuple[uuid.UUID, ...]]
"""Where the quanta of jobs are named, or which they are, by the names of jobs."""


class JobQuanta:
    """Knows the quanta of jobs.

    Parameters
    ----------
    directory
        Where the records are that tell of the jobs: maybe in the directory of a workflow, or in one in it.
    names
        Names of the jobs that will be asked for.
    """

    def __init__(self, directory: str, names: Collection[str]) -> None:
        self._near = (directory, os.path.dirname(directory))
        self._names = names
        self._places = functools.lru_cache(64)(self._read_places)
        self._lines = functools.lru_cache(64)(_read_lines)

    def of(self, record: job_records.JobRecord, others: Collection[int]) -> Iterator[uuid.UUID] | None:
        """Return the ids of the quanta of a job; nothing if that is not on record.

        Parameters
        ----------
        record
            What is on record of it.
        others
            Elements of its array that have records of their own, if it is what is left of an array.
        """
        if told := _ids(record.command):
            return iter(told)
        if (match := _NAMED_AFTER.match(record.name)) is not None:
            return iter([uuid.UUID(match[1])])
        # A job of a workflow elsewhere may have the same name as one of the workflow here.
        for directory in (record.directory,) if record.directory not in ("", *self._near) else self._near:
            place = self._places(record.system, directory).get(record.name)
            if isinstance(place, workflow.Place):
                return self._listed(os.path.join(directory, place.file), place.line, record.element, others)
            if place is not None:
                return iter(place)
        return None

    def _listed(
        self, path: str, line: int, element: int | None, others: Collection[int]
    ) -> Iterator[uuid.UUID]:
        """Yield the ids in a line of a file, or in those of all elements but some."""
        lines = self._lines(path)
        numbers = [line]
        if line == workflow.ELEMENT:
            numbers = (
                [n for n in range(1, len(lines) + 1) if n not in others] if element is None else [element]
            )
        for number in numbers:
            if 0 < number <= len(lines):
                yield from _parse(lines[number - 1])

    def _read_places(self, system: str, directory: str) -> Places:
        if system != condor_jobs.SYSTEM:
            script = "\n".join(_read_lines(os.path.join(directory, slurm_workflow.SUBMIT)))
            return dict(slurm_workflow.submitted(script))
        places: Places = {}
        for name in sorted(_names(directory)):
            if name.endswith(".dag"):
                places |= self._read_dag(directory, os.path.join(directory, name))
        return places

    def _read_dag(self, directory: str, path: str) -> Places:
        """Return the jobs of a DAG that will be asked for; lines that are of no use are passed over."""
        submits: dict[str, str] = {}
        macros: dict[str, dict[str, str]] = {}
        for line in _read_lines(path):
            keyword, _, rest = line.strip().partition(" ")
            name = rest.strip().partition(" ")[0]
            if keyword.upper() not in ("JOB", "VARS") or name not in self._names:
                continue
            words = _words(rest)[1:]
            if keyword.upper() == "VARS":
                macros.setdefault(name, {}).update(word.partition("=")[::2] for word in words)
            elif words:
                folder = words[2] if len(words) > 2 and words[1].upper() == "DIR" else ""
                submits[name] = os.path.join(directory, folder, words[0])
        places: Places = {}
        for name, submit in submits.items():
            values = macros.get(name, {})
            if values.get("quantum_line", "").isdigit() and "quantum_file" in values:
                places[name] = workflow.Place(values["quantum_file"], int(values["quantum_line"]))
            elif told := _ids(submit_files.arguments("\n".join(_read_lines(submit)), values)):
                places[name] = told
        return places


def _ids(command: str) -> tuple[uuid.UUID, ...]:
    """Return the ids that the options of a command name."""
    return tuple(uuid.UUID(each) for match in _IDS.finditer(command) for each in match[1].split(","))


def _parse(line: str) -> Iterator[uuid.UUID]:
    for text in line.replace(",", " ").split():
        if re.fullmatch(_UUID, text):
            yield uuid.UUID(text)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _names(directory: str) -> list[str]:
    try:
        return machine_trouble.attempt(directory, os.listdir, directory)
    except OSError:
        return []


def _read_lines(path: str) -> list[str]:
    """Return the lines of a file; none if there is no such file."""
    try:
        return local_files.read(path).decode("utf-8", "replace").splitlines()
    except (OSError, local_files.UnusableError):
        return []

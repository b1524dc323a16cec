"""Submit files of HTCondor: what a job runs, what it asks for, and when it is tried again."""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Mapping, Sequence

from aggregator.execution.workflows import workflow
from aggregator.storage import errors

_CODES = re.compile(r"member\(ExitCode, \{([\d, ]*)\}\)")
_MACRO = re.compile(r"\$\(([^()]*)\)")
_PLAIN = frozenset(string.ascii_letters + string.digits + "_@%+=:,./-^~")

_OUT_OF_MEMORY = "(HoldReasonCode =?= 34 || (HoldReasonCode =?= 3 && HoldReasonSubCode =?= 34))"
"""Held by the pool for too much memory, or by `on_exit_hold` below."""

_HOLD_REASON = (
    'ExitBySignal == true ? strcat("the job was ended by signal ", ExitSignal) : '
    'strcat("the job ended with exit code ", ExitCode)'
)
"""Held jobs have no event that says how they ended."""

LOG = "workflow.nodes.log"
"""Event log of all jobs, relative to the workflow's directory."""


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """What a submit file is about."""

    command: Sequence[str]
    """Words of its command; the first is the program."""

    directory: str
    """Directory of the workflow, which other files are relative to."""

    executes_quanta: bool = False
    """Whether macros say which quanta it executes: the file with their ids, and the line in it."""

    memory: int = 2048
    """Megabytes."""

    processes: int = 1
    """Processors."""

    lines: tuple[str, ...] = ()
    """Other lines."""


def write(job: Job, resources: workflow.Resources) -> str:
    """Return the text of a file.

    Raises
    ------
    RefusedError
        If there is a path that can't stand in it.
    """
    was_out = _OUT_OF_MEMORY.replace("Hold", "LastHold")
    more = f"min({{int({job.memory} * pow(2, NumJobStarts)), {resources.max_memory}}})"
    codes = ", ".join(map(str, workflow.FINAL_CODES))
    arguments = " ".join(map(_quoted, job.command[1:]))
    if job.executes_quanta:
        # Jobs begin in a directory of their own.
        arguments += f" --quantum-file '{_inner(job.directory)}/$(quantum_file)' --line $(quantum_line)"
    lines = [
        "universe = vanilla",
        f"executable = {_value(job.command[0])}",
        f'arguments = "{arguments}"',
        "transfer_executable = False",
        "getenv = True",
        "should_transfer_files = YES",
        "when_to_transfer_output = ON_EXIT_OR_EVICT",
        'transfer_output_files = ""',
        f"request_cpus = {job.processes}",
        "# After too little memory, twice as much.",
        f"request_memory = {was_out} ? {more} : {job.memory}",
        "# Killed, or with something that is worth another attempt: that may have been for want of memory.",
        "on_exit_hold = (ExitBySignal == true) || (ExitCode > 128) || (ExitCode == 1)",
        "on_exit_hold_subcode = 34",
        f"on_exit_hold_reason = {_HOLD_REASON}",
        f"periodic_release = JobStatus == 5 && NumJobStarts <= JobMaxRetries && {_OUT_OF_MEMORY}",
        "periodic_remove = JobStatus == 5 && NumJobStarts > JobMaxRetries",
        f"max_retries = {resources.retries}",
        f"retry_until = member(ExitCode, {{{codes}}})",
        f"initialdir = {_value(job.directory)}",
        f"output = {workflow.LOGS}/$(job_name).$(Cluster).out",
        f"error = {workflow.LOGS}/$(job_name).$(Cluster).err",
        f"log = {LOG}",
        *job.lines,
        "queue",
    ]
    return "".join(f"{line}\n" for line in lines)


def _value(path: str) -> str:
    """Return a path as it stands alone in a line.

    Raises
    ------
    RefusedError
        If it would not be read as it is.
    """
    if path.endswith((" ", "\\")):
        raise errors.RefusedError(f"{path!r}: a path with such an end can't stand in a file for HTCondor.")
    return _literal(path)


def _literal(text: str) -> str:
    """Return a text without macros."""
    return text.replace("$", "$(DOLLAR)")


def _quoted(word: str) -> str:
    """Return a word as it stands between the double quotes of arguments."""
    return word if word and _PLAIN.issuperset(word) else f"'{_inner(word)}'"


def _inner(text: str) -> str:
    """Return a text as it stands between single quotes there."""
    return _literal(text).replace('"', '""').replace("'", "''")


@dataclasses.dataclass(frozen=True, slots=True)
class Submit:
    """A submit file, as far as it is needed to execute its job here."""

    lines: Mapping[str, str]
    """Values by key in lower case."""

    def command(self, variables: Mapping[str, str]) -> list[str]:
        """Return the words of the command, with values of macros."""
        arguments = self._expanded("arguments", variables)
        return [self._expanded("executable", variables), *_words(arguments)]

    def output(self, key: str, variables: Mapping[str, str]) -> str:
        """Return the file for what is printed, "output" or "error"; empty if there is none."""
        return self._expanded(key, variables)

    @property
    def retries(self) -> int:
        """Attempts after the first."""
        return int(self.lines.get("max_retries", "0"))

    @property
    def final_codes(self) -> frozenset[int]:
        """Exit codes after which there is no other attempt."""
        match = _CODES.fullmatch(self.lines.get("retry_until", "member(ExitCode, {0})"))
        if match is None:
            raise ValueError("retry_until is no list of exit codes: member(ExitCode, {0, ...})")
        return frozenset(int(code) for code in match[1].split(",") if code.strip())

    def _expanded(self, key: str, variables: Mapping[str, str]) -> str:
        values = {name.lower(): value for name, value in variables.items()} | {"dollar": "$"}
        return _MACRO.sub(lambda match: values.get(match[1].lower(), ""), self.lines.get(key, ""))


def arguments(text: str, variables: Mapping[str, str]) -> str:
    """Return the arguments that any submit file has, as they stand there, with values of macros."""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip().lower() == "arguments":
            return Submit({"arguments": value.strip()}).output("arguments", variables)
    return ""


def _words(arguments: str) -> list[str]:
    """Return the words of arguments between double quotes."""
    text, words, is_quoted, is_word = arguments.strip()[1:-1].replace('""', '"'), [""], False, False
    position = 0
    while position < len(text):
        character = text[position]
        if character == "'" and is_quoted and text[position + 1 : position + 2] == "'":
            words[-1] += "'"
            position += 1
        elif character == "'":
            is_quoted, is_word = not is_quoted, True
        elif character.isspace() and not is_quoted:
            if is_word:
                words.append("")
            is_word = False
        else:
            words[-1] += character
            is_word = True
        position += 1
    return words if is_word else words[:-1]


def read(text: str) -> Submit:
    """Return a file's content.

    Raises
    ------
    ValueError
        If there is something wrong with it, or the job could not be executed here.
    """
    lines: dict[str, str] = {}
    n_queued = 0
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if line.strip().lower() == "queue":
            n_queued += 1
        elif separator and key.strip():
            lines[key.strip().lower()] = value.strip()
        elif line.strip() and not line.lstrip().startswith("#"):
            raise ValueError(f"{line.strip()!r} is no key with a value")
    submit = Submit(lines)
    if n_queued != 1:
        raise ValueError("it has to queue one job")
    if not submit.lines.get("executable"):
        raise ValueError("it has no executable")
    if not re.fullmatch(r'"[^\n]*"|', submit.lines.get("arguments", "")):
        raise ValueError("arguments are not in double quotes")
    if not submit.lines.get("max_retries", "0").isdigit():
        raise ValueError("max_retries is no number")
    submit.final_codes  # noqa: B018  (looked at before anything is run)
    return submit

"""The command that comes after another one, ready to be copied."""

import dataclasses
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aggregator.storage import errors

if TYPE_CHECKING:
    from aggregator.aggregation import aggregation_summary

_GRAPH = "provenance.qg"
"""Name of a graph, where none was given."""

_PREDICTED_GRAPH = "predicted.qg"
"""Name of a graph that is still to be made."""

_RESUMABLE = frozenset(
    {"aggregate-graph", "build", "ingest-graph", "synthesize", "create", "init-run", "run", "run-quanta"}
    | {"follow", "run-workflow", "scan", "pack", "unpack", "collect", "deliver", "stage"}
)
"""Commands that go on where they were, or begin anew, if they are given again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Next:
    """A command that may come next."""

    text: str
    """The command, quoted for a shell."""

    purpose: str
    """What it is for."""


@dataclasses.dataclass(slots=True)
class Command:
    """The command that was given."""

    program: tuple[str, ...]
    """How the program was called."""

    arguments: tuple[str, ...]
    """Everything after that."""

    prefix: str = ""
    """What the names of commands begin with where another program offers them."""

    name: str | None = None
    """Which of the program's commands it is, when that is known."""

    def other(self, name: str, *words: str) -> str:
        """Return another command of this program."""
        return shlex.join([*self.program, self.prefix + name, *words])

    def again(self, *more: str, without: str | None = None, has_begun: bool = True) -> str:
        """Return the same command, with more options or without one that takes no value.

        If it has begun, it goes on with the checkpoint, so nothing is to be made afresh.
        """
        left_out = {without, "--fresh"} if has_begun else {without}
        words = [word for word in self.arguments if word not in left_out]
        end = words.index("--") if "--" in words else len(words)
        return shlex.join([*self.program, *words[:end], *more, *words[end:]])

    def after(self, error: errors.AggregatorError) -> list[Next]:
        """Return what may come after a failure; nothing after a refusal, which is useless to repeat."""
        if error.exit_code == errors.RefusedError.exit_code or self.name not in _RESUMABLE:
            return []
        if isinstance(error, errors.HeldError) and self.name in ("aggregate-graph", "follow"):
            return [
                Next(self.again(), "when the files are repaired"),
                Next(self.again("--unreadable=failed"), "to record these quanta as failed"),
            ]
        return [Next(self.again(has_begun=error.summary is not None), "to go on")]


def after_aggregation(command: Command, repository: str, done: "aggregation_summary.Summary") -> list[Next]:
    """Return what may come after an aggregation that has done what it could."""
    if done.dry_run:
        # One that a file of options asks for is not undone on the command line.
        is_given = "--dry-run" in command.arguments
        return [Next(command.again(without="--dry-run"), "to do it")] if is_given else []
    graph = () if done.wants_graph else ("-o", _GRAPH)
    if done.incomplete:
        complete = () if "--incomplete" in command.arguments else ("--complete",)
        return [
            Next(command.again(), "when more quanta have run"),
            Next(command.again(*graph, *complete, without="--incomplete"), "when all have run"),
        ]
    if done.graph_path is None:
        return [Next(command.again(*graph), "to have a provenance graph, too")]
    return [
        *after_graph(command, done.graph_path, failures=done.n_failed > 0),
        Next(
            command.other("ingest-graph", repository, done.graph_path), "to keep the graph in the repository"
        ),
    ]


def after_creation(command: Command, repository: str) -> list[Next]:
    """Return what comes after a repository was made."""
    text = command.other("run", _PREDICTED_GRAPH, repository)
    return [Next(text, "when it has dimension records, inputs, and a graph was built for it")]


def after_execution(command: Command, graph: str, repository: str) -> list[Next]:
    """Return what comes after an execution in which no quantum has failed."""
    return [Next(command.other("aggregate-graph", graph, repository, "-o", _GRAPH), "to ingest the outputs")]


def after_graph(command: Command, *place: str, failures: bool) -> list[Next]:
    """Return what may come when a provenance graph is at a place: its path, or repository and run."""
    failed = [Next(command.other("show", *place, "--failed"), "what failed, and why")] if failures else []
    return [*failed, Next(command.other("provenance-report", *place), "the run in numbers")]


def given(arguments: Sequence[str] | None = None, program: str | None = None, prefix: str = "") -> Command:
    """Return the command that this process was given.

    Parameters
    ----------
    arguments
        What was given to the program; by default what this process was given.
    program
        How that was called, if it is known.
    prefix
        What the names of commands begin with.
    """
    words = sys.argv[1:] if arguments is None else arguments
    return Command((program,) if program else _program(), tuple(words), prefix)


def _program() -> tuple[str, ...]:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return sys.executable, "-m", spec.name.removesuffix(".__main__")
    path = sys.argv[0]
    name = os.path.basename(path)
    # A shell that finds it by its name gives the whole path.
    return (name,) if shutil.which(name) == path else (path,)


def lines(commands: Sequence[Next]) -> list[str]:
    """Return commands as text, one a line, with what each is for as a comment."""
    heads = ["Next:", *["     "] * len(commands)]
    return [f"{head} {each.text}  # {each.purpose}" for head, each in zip(heads, commands, strict=False)]

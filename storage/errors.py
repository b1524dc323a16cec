"""The errors of this project: one base class, and the exit code that each kind leads to."""

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol


class Account(Protocol):
    """What was done so far."""

    def lines(self) -> list[str]:
        """Return it as text."""

    @property
    def outcome(self) -> str:
        """What it is called if nothing went wrong: "complete", or what else was asked for."""

    def document(self) -> Any:
        """Return it as programs read it (a `Details` of docs/outputs.md)."""


class AggregatorError(Exception):
    """A failure that is explained to the user by its message.

    The message says what is wrong, with which file, and what to do next. `summary` is what was done until
    then, if anything was begun: an `aggregator.Summary` of an aggregation, an `aggregator.IngestionSummary`
    of an ingestion.
    """

    # Errors are known by the name under which users import them.
    __module__ = "aggregator"

    exit_code = 1
    """Exit code of the command line: 1 is worth retrying, 2 never is."""

    summary: Account | None = None
    """What was done until then, if anything was begun."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # The default would call the constructor with the message; nothing is lost by going around it.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(
    kind: type[AggregatorError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> AggregatorError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class RefusedError(AggregatorError):
    """The request can't be carried out as it is; retrying it unchanged is useless."""

    __module__ = "aggregator"

    exit_code = 2

    def as_failure(self) -> AggregatorError:
        """Return the same for when something was changed already, which nothing that is refused does."""
        failure = AggregatorError(str(self))
        failure.summary = self.summary
        return failure


class HeldError(AggregatorError):
    """Quanta are left for another run because files can't be read; everything else is saved."""

    __module__ = "aggregator"


class ConflictError(AggregatorError):
    """The database contradicts datasets, which are left out; everything else is saved."""

    __module__ = "aggregator"


class InUseError(AggregatorError):
    """Another process works on the same thing; the request can be carried out when that has finished."""

    __module__ = "aggregator"


class FormatError(AggregatorError):
    """A file is truncated, of a wrong type or of an unknown version.

    Parameters
    ----------
    path
        File that can't be used.
    member
        Member of the file (of a graph), or "" for the file as a whole.
    problem
        What is wrong with it.
    """

    __module__ = "aggregator"

    def __init__(self, path: str, member: str, problem: str) -> None:
        self.path = path
        self.member = member
        self.problem = problem
        place = f"{path}[{member}]" if member else path
        super().__init__(f"{place}: {problem}")


class FatalWorkerError(AggregatorError):
    """A worker failed or died; what was committed stays, the run can be resumed."""

    __module__ = "aggregator"


@contextlib.contextmanager
def after_changes() -> Iterator[None]:
    """Turn a refusal into a failure: nothing may be called refused once something was changed.

    Raises
    ------
    AggregatorError
        In place of a RefusedError, with its message.
    """
    try:
        yield
    except RefusedError as exc:
        raise exc.as_failure() from exc


def of_system(exc: OSError) -> AggregatorError:
    """Return an error of the system, which nothing has explained where it was met, with what to do."""
    place = f"{exc.filename}: " if exc.filename else ""
    return AggregatorError(f"{place}{exc.strerror or exc}. Mend that, and run the same command again.")


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn errors of the system that nothing has explained where they were met.

    Raises
    ------
    AggregatorError
        In place of an OSError.
    """
    try:
        yield
    except OSError as exc:
        raise of_system(exc) from exc


class MachineError(AggregatorError):
    """The machine is in trouble, which says nothing about the file in question; worth retrying.

    Parameters
    ----------
    path
        What could not be looked at.
    reason
        What the system says.
    """

    __module__ = "aggregator"

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"{path}: {reason}. That is trouble of the machine or its file system and tells nothing about "
            "the file: run the same command again. If it stays, mend the file system, or replace the file."
        )

"""How tasks tell that there is nothing to do, or what went wrong.

Classes of the Rubin middleware mean the same as those here. They are known by their names, so nobody has to
import them.
"""

from __future__ import annotations

import builtins
import importlib
from typing import Any, ClassVar, Final

from aggregator.schemas.execution import caveats, task_metadata

REPEATABLE_EXIT_CODE: Final = 20
INVALID_EXIT_CODE: Final = 21

KILLED: Final = "aggregator.QuantumKilled"
"""Type of the exception of a quantum whose process was killed or ended."""

TIMED_OUT: Final = "aggregator.QuantumTimeout"
"""Type of the exception of a quantum that took too long."""

IN_USE: Final = "aggregator.InUseError"
"""Type of the exception of a quantum that another process executes, too; that is not on record."""


class NoWork(BaseException):
    """There is nothing to do, which is a success.

    It is no `Exception`, so that a task that handles all of them does not take it for a failure.
    """

    caveats: ClassVar[int] = caveats.NO_WORK


class UpstreamFailure(NoWork):
    """There is nothing to do because a task before has written too little."""

    caveats = caveats.NO_WORK | caveats.UPSTREAM_FAILURE_NO_WORK


class Unprocessable(NoWork):
    """There is nothing to do because the data can't be processed."""

    caveats = caveats.NO_WORK | caveats.UNPROCESSABLE_DATA


class PartialOutputs(Exception):
    """Some outputs could not be written; raised from the error that is the reason."""


class Repeatable(Exception):
    """The quantum would fail again in the same way."""

    exit_code: ClassVar[int] = REPEATABLE_EXIT_CODE


class InvalidQuantum(Exception):
    """The quantum should not be in the graph."""

    exit_code: ClassVar[int] = INVALID_EXIT_CODE


_CAVEATS: Final = {
    "NoWork": NoWork.caveats,
    "NoWorkFound": NoWork.caveats,
    "UpstreamFailure": UpstreamFailure.caveats,
    "UpstreamFailureNoWorkFound": UpstreamFailure.caveats,
    "Unprocessable": Unprocessable.caveats,
    "UnprocessableDataError": Unprocessable.caveats,
}
_PARTIAL: Final = {"PartialOutputs", "AnnotatedPartialOutputsError"}
_EXIT_CODES: Final = {
    "Repeatable": REPEATABLE_EXIT_CODE,
    "RepeatableQuantumError": REPEATABLE_EXIT_CODE,
    "InvalidQuantum": INVALID_EXIT_CODE,
    "InvalidQuantumError": INVALID_EXIT_CODE,
}


def _names(exc: BaseException) -> list[str]:
    return [kind.__name__ for kind in type(exc).__mro__]


def no_work_caveats(exc: BaseException) -> int | None:
    """Return the caveats of a quantum that had nothing to do; nothing if an exception says otherwise."""
    return next((_CAVEATS[name] for name in _names(exc) if name in _CAVEATS), None)


def is_partial(exc: BaseException) -> bool:
    """Return whether an exception tells that some outputs could not be written."""
    return not _PARTIAL.isdisjoint(_names(exc))


def exit_code(exc: BaseException) -> int:
    """Return the exit code that an exception asks for."""
    return next((_EXIT_CODES[name] for name in _names(exc) if name in _EXIT_CODES), 1)


def type_name(exc: BaseException) -> str:
    """Return the name of an exception's class as logs have it.

    It has no module if it is built in, and none of the private parts of a module by which it can't be
    imported only.
    """
    kind = type(exc)
    if hasattr(builtins, kind.__qualname__):
        return kind.__qualname__
    whole = f"{kind.__module__}.{kind.__qualname__}"
    public = ".".join(part for part in whole.split(".") if not part.startswith("_"))
    if public != whole:
        module, _, name = public.rpartition(".")
        try:
            namesake: Any = getattr(importlib.import_module(module), name)
        except Exception:
            return whole
        if namesake is not kind:
            return whole
    return public


def information(exc: BaseException) -> task_metadata.ExceptionInfo | None:
    """Return what logs tell of an exception; as in the reference, nothing if it asks the process to end."""
    if not isinstance(exc, Exception):
        return None
    return task_metadata.ExceptionInfo(type_name(exc), message(exc), {})


def message(exc: BaseException) -> str:
    """Return the text of an exception, whatever that takes."""
    try:
        return str(exc)
    except Exception as failure:
        return f"(its text can't be had: {type(failure).__name__})"
